"""Weights that no medmtl wrote: a file of tensors by name, or a MONAI bundle, for a backbone of ours.

Names are matched by themselves: a wrapper's prefix (``module.``, ``backbone.``) falls away, and MONAI's names
of a network's parts become ours. A part of the backbone is taken whole or not at all, so that no block is
half trained and half random.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from medmtl.engine.freeze import encoder_names
from medmtl.inference.numbers import load_numbers
from medmtl.models import Backbone
from medmtl.types import ConfigError

BUNDLED = Path("models") / "model.pt"
"""Where a MONAI bundle keeps its weights."""
SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "network_weights", "weights", "model", "net")
"""Keys below which a training script may have put the tensors."""


def weights_file(origin: Path) -> Path | None:
    """The file of weights that a path names, in itself or as a MONAI bundle; None for anything else."""
    if origin.is_dir():
        return origin / BUNDLED if (origin / BUNDLED).is_file() else None
    return origin if origin.suffix in SUFFIXES else None


def foreign_weights(
    file: Path, backbone: Backbone, channels: int, *, where: str
) -> tuple[dict[str, Tensor], str, bool]:
    """The tensors of a file under the backbone's names.

    Args:
        file: of PyTorch or safetensors; nothing in it is executed.
        backbone: that shall start from them.
        channels: of the image.
        where: what stands before every sentence.

    Returns:
        the tensors, in words what they are, and whether all of the encoder is among them.

    Raises:
        ConfigError: the file cannot be read, has nothing for this encoder, or tensors of other shapes.
    """
    found = _read(file, where)
    wanted = backbone.state_dict()
    renamed = _matched(found, wanted, backbone.foreign_names)
    encoder = encoder_names(backbone, channels)
    parts: dict[str, list[str]] = {}
    for name in wanted:
        parts.setdefault(name.partition(".")[0], []).append(name)
    taken: dict[str, Tensor] = {}
    missing: list[str] = []
    for part, names in parts.items():
        absent = [name for name in names if name not in renamed]
        wrong = [name for name in names if name in renamed and renamed[name].shape != wanted[name].shape]
        if wrong:
            raise ConfigError(
                f"{where}: {file}: {wrong[0]} is {tuple(renamed[wrong[0]].shape)} there and "
                f"{tuple(wanted[wrong[0]].shape)} here; change the backbone, or its input channels, to "
                f"those of the file{_of_bundle(file)}"
            )
        if absent and len(absent) < len(names):
            raise ConfigError(
                f"{where}: {file}: has no {absent[0]}, of a part that it has otherwise; change the backbone "
                f"to that of the file{_of_bundle(file)}"
            )
        if absent:
            missing.append(part)
        else:
            taken.update({name: renamed[name] for name in names})
    if not encoder & set(taken):
        raise ConfigError(
            f"{where}: {file}: has no weights of the encoder of {type(backbone).__name__} (its first is "
            f"{next(iter(found))!r}); name a file of the same network{_of_bundle(file)}"
        )
    says = f"{len(taken)} of the backbone's {len(wanted)} tensors"
    says += f"; {', '.join(missing)} of it begin anew" if missing else ""
    return taken, says, encoder <= set(taken)


def _read(file: Path, where: str) -> dict[str, Tensor]:
    found = load_numbers(file, where=where)
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inner = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = found[inner]
    tensors = found.items() if isinstance(found, Mapping) else ()
    named = {str(name): tensor for name, tensor in tensors if isinstance(tensor, Tensor)}
    if not named:
        raise ConfigError(f"{where}: {file}: holds no tensors by name, such as a network's state_dict")
    return named


def _matched(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], foreign: Mapping[str, str]
) -> dict[str, Tensor]:
    """The tensors under our names, by the prefix to leave out, or to put before, that fits most of them."""
    first = next(iter(found)).split(".")
    strips = {"", *(".".join(first[:n]) + "." for n in range(1, len(first)))}
    strips |= {f"{name.partition('.')[0]}." for name in found}
    best: dict[str, Tensor] = {}
    most = (-1, 0)
    for strip in sorted(strips):
        for before in ("", *foreign):
            names = {before + n.removeprefix(strip): t for n, t in found.items() if n.startswith(strip)}
            renamed = {_ours(name, foreign): tensor for name, tensor in names.items()}
            known = {name: tensor for name, tensor in renamed.items() if name in wanted}
            fitting = sum(tensor.shape == wanted[name].shape for name, tensor in known.items())
            if (fitting, len(known)) > most:
                best, most = known, (fitting, len(known))
    return best


def _ours(name: str, foreign: Mapping[str, str]) -> str:
    for theirs, ours in foreign.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _of_bundle(file: Path) -> str:
    """What a MONAI bundle says of its network, for whoever has to write it into a config."""
    for name in ("inference.json", "train.json"):
        path = file.parent.parent / "configs" / name
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            network = config.get("network_def") or config.get("network")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(network, Mapping):
            said = ", ".join(f"{key}: {value}" for key, value in network.items())
            return f"; {path} says {said:.300}"
    return ""
