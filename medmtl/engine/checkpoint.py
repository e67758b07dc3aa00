"""Checkpoints: one safetensors file each, written whole or not at all, read without executing anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from medmtl.types import ConfigError


def save_tree(path: Path, tree: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors, numbers, strings, booleans and None as one file.

    The tensors become a safetensors file; everything else lies in its header as JSON.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _take_tensors(tree, tensors)
    temporary = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(tensors, temporary, metadata={"tree": json.dumps(skeleton)})
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def dump_tree(tree: dict[str, Any]) -> bytes:
    """The bytes that `save_tree` would write."""
    tensors: dict[str, Tensor] = {}
    skeleton = _take_tensors(tree, tensors)
    return save(tensors, metadata={"tree": json.dumps(skeleton)})


def parse_tree(data: bytes) -> dict[str, Any]:
    """Read what `dump_tree` gave; only for bytes of our own."""
    length = int.from_bytes(data[:8], "little")
    skeleton = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["tree"])
    found = _put_tensors(skeleton, load(data))
    assert isinstance(found, dict)
    return found


def load_tree(path: Path) -> dict[str, Any]:
    """Read what `save_tree` wrote, onto the CPU.

    Raises:
        ConfigError: the file is missing, truncated or not a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            skeleton = json.loads(metadata["tree"])
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
        found = _put_tensors(skeleton, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"{path}: is not a whole checkpoint ({error}); resume from another or start anew"
        ) from error
    assert isinstance(found, dict)
    return found


def _take_tensors(node: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree with every tensor replaced by its number; dict keys keep whether they were ints."""
    if isinstance(node, Tensor):
        key = str(len(tensors))
        tensors[key] = node.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(node, dict):
        return {"dict": [[key, _take_tensors(value, tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return {"list": [_take_tensors(value, tensors) for value in node]}
    assert node is None or isinstance(node, bool | int | float | str), f"cannot save a {type(node).__name__}"
    return {"value": node}


def _put_tensors(node: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    if "tensor" in node:
        return tensors[node["tensor"]]
    if "dict" in node:
        return {key: _put_tensors(value, tensors) for key, value in node["dict"]}
    if "list" in node:
        return [_put_tensors(value, tensors) for value in node["list"]]
    return node["value"]


def random_state() -> dict[str, Any]:
    """Torch's random state on the CPU and every GPU."""
    gpus = list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "gpu": gpus}


def restore_random_state(state: dict[str, Any]) -> None:
    """Set what `random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available() and state["gpu"]:
        torch.cuda.set_rng_state_all(state["gpu"])
