"""Plain data between ranks: the trees that checkpoints are made of, as safetensors bytes over gloo.

What travels are tensors, numbers and strings; nothing that a receiver could be made to execute. Without
`torch.distributed` everything here returns what it was given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medmtl.engine.checkpoint import dump_tree, parse_tree
from medmtl.engine.ranks import rank, world_size
from medmtl.types import DatasetError


@lru_cache(maxsize=1)
def _over_the_host(default: dist.ProcessGroup) -> dist.ProcessGroup:
    """A group that exchanges what is in main memory; NCCL itself cannot."""
    return default if dist.get_backend(default) == "gloo" else dist.new_group(backend="gloo")


def _group() -> dist.ProcessGroup:
    default = dist.group.WORLD
    assert default is not None
    return _over_the_host(default)


def from_first(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``make`` gives on rank 0, on every rank; the others do not call it."""
    if world_size() == 1:
        return make()
    data = torch.frombuffer(bytearray(dump_tree(make())), dtype=torch.uint8) if rank() == 0 else None
    size = torch.tensor([0 if data is None else len(data)])
    dist.broadcast(size, 0, group=_group())
    if data is None:
        data = torch.empty(int(size), dtype=torch.uint8)
    dist.broadcast(data, 0, group=_group())
    return parse_tree(data.numpy().tobytes())


def gathered(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The trees of all ranks in their order, on rank 0; an empty list on the others."""
    if world_size() == 1:
        return [tree]
    data = torch.frombuffer(bytearray(dump_tree(tree)), dtype=torch.uint8)
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(data)]), group=_group())
    if rank() > 0:
        dist.send(data, 0, group=_group())
        return []
    trees = [tree]
    for source, size in enumerate(
        sizes[1:], start=1
    ):  # one after another, so that one at a time is in memory
        received = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(received, source, group=_group())
        trees.append(parse_tree(received.numpy().tobytes()))
    return trees


def check_alike(facts: Mapping[str, str]) -> None:
    """Wait for all ranks, and refuse to go on with ranks that do not see the same data.

    Args:
        facts: what has to be the same, by what a person calls it.

    Raises:
        DatasetError: a fact of some rank is another than rank 0's; on every rank.
    """
    if world_size() == 1:
        return
    digests = {what: hashlib.sha256(text.encode()).hexdigest() for what, text in facts.items()}
    told = from_first(lambda: digests)
    others = [what for what in facts if digests[what] != told[what]]
    answers = gathered({"other": others})
    verdict = from_first(
        lambda: {"wrong": [[r, *answer["other"]] for r, answer in enumerate(answers) if answer["other"]]}
    )["wrong"]
    if verdict:
        number, *differ = verdict[0]
        raise DatasetError(
            f"rank {number} does not see the same {' and '.join(differ)} as rank 0; give every "
            "machine the same dataset, config and versions"
        )


def share_weights(module: nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers, whatever a third party's initialization drew."""
    if world_size() > 1:
        for value in module.state_dict().values():
            if isinstance(value, Tensor) and value.numel():
                dist.broadcast(value, 0)
