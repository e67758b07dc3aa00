"""Ranks as torchrun starts them: their devices, and the process group around a training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import ignite.distributed as idist
import torch
import torch.distributed as dist

from medmtl.inference.device import choose_device
from medmtl.types import ConfigError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun says in the environment of a rank."""
TIMEOUT = timedelta(minutes=30)
"""A rank that hears nothing from the others for so long stops; preparing cases may differ by minutes."""


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return all(name in os.environ for name in VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


def speaks() -> bool:
    """Whether this process tells people how a training went; rank 0 does."""
    return not launched() or int(os.environ["RANK"]) == 0


def ranks_here() -> int:
    """Ranks on this machine, which share its processors."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if launched() else 1


def device_of_rank(name: str) -> torch.device:
    """The device that a name means for this process: each rank on a machine has a GPU of its own.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, or ``cuda:N`` where there is one process.

    Raises:
        ConfigError: as `choose_device`, or there are fewer GPUs than ranks.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    on_gpu = name.startswith("cuda") or (name == "auto" and count > 0)
    if not launched() or not on_gpu:
        return choose_device(name)
    if name.startswith("cuda:"):
        raise ConfigError(
            f"device: {name!r} is one GPU, but there are {ranks_here()} ranks on this machine; use cuda"
        )
    if count < ranks_here():
        fewer = f"start torchrun with --nproc-per-node {count}, or " if count else ""
        raise ConfigError(
            f"device: {ranks_here()} ranks on this machine need as many GPUs, but PyTorch sees {count}; "
            f"{fewer}use device=cpu"
        )
    choose_device(name)
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """All ranks know each other while the block runs; without torchrun, or inside another, nothing happens.

    Args:
        device: as `device_of_rank` takes it; NCCL connects GPUs, gloo connects CPUs.

    Raises:
        ConfigError: there are fewer GPUs than ranks.
    """
    if not launched() or dist.is_initialized():
        yield
        return
    found = device_of_rank(device)
    if found.type == "cuda":
        torch.cuda.set_device(found)
    # Not by idist.initialize: it takes a GPU for every rank even where they are to compute on CPUs.
    dist.init_process_group("nccl" if found.type == "cuda" else "gloo", timeout=TIMEOUT)
    idist.sync()
    try:
        yield
    finally:
        idist.finalize()
