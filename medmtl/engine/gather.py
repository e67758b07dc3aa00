"""The cases of a training: in memory where they fit, in a store on the disk otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from medmtl.data.dataset import Case, Column
from medmtl.data.load import prepare_cases
from medmtl.data.prepare import Preparation, PreparedCase
from medmtl.data.room import free_memory, readable
from medmtl.data.store import MEMORY_SHARE, Recipe, Store, prepared_bytes
from medmtl.engine.job import Job
from medmtl.types import ConfigError, Finding

LOG = logging.getLogger("medmtl.train")
GPU_CACHE_SHARE = 0.3
"""Prepared cases live on the GPU while they take less than this share of its memory."""
Progress = Callable[[int, int], None]


@dataclass
class Gathered:
    """Prepared cases and where they are.

    Attributes:
        cases: in the order in which they were asked for.
        refused: cases that could not be used.
        store: where they are, if not in memory; open as long as they are used.
    """

    cases: list[PreparedCase]
    refused: list[Finding]
    store: Store | None = None


def gather(
    job: Job,
    preparation: Preparation,
    cases: Sequence[Case],
    columns: Mapping[str, Column],
    device: torch.device,
    progress: Progress | None = None,
) -> Gathered:
    """Prepare cases, in memory or on the disk, as `training.store` asks or as they fit.

    Raises:
        ConfigError: they do not fit where they are to be; says the numbers.
        OutputError: the store cannot be written.
    """
    wanted = {name: column for name, column in columns.items() if column.kind in ("mask", "map")}
    recipe = Recipe(preparation, wanted)
    size = sum(prepared_bytes(job.dataset, case, recipe) for case in cases)
    if not _on_disk(job.training.store, size):
        prepared, refused = prepare_cases(
            job.dataset,
            cases,
            preparation,
            covariates=job.covariates,
            wanted=tuple(columns),
            progress=progress,
        )
        return Gathered(prepared, refused)
    folder = store_folder(job)
    store = Store(folder, job.dataset, recipe)
    store.prepare(cases, progress=progress)
    found, refused = store.open(cases, columns=columns, covariates=job.covariates, device=device)
    LOG.info("%d cases (%s) are read from %s", len(found), readable(size), folder)
    return Gathered(found, refused, store)


def store_folder(job: Job) -> Path:
    """Where the store of a job lies: where it says, next to the dataset, or next to the run."""
    if job.training.store_folder is not None:
        return Path(job.training.store_folder)
    root = job.dataset.root.absolute()
    if os.access(root.parent, os.W_OK):
        return root.with_name(f"{root.name}.store")
    output = job.output.absolute()
    return output.with_name(f"{output.name}.store")


def _on_disk(asked: str, size: int) -> bool:
    """Whether cases of so many bytes go to the disk.

    Raises:
        ConfigError: memory was asked for, and has no room.
    """
    free = free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # every rank has them all
    if asked == "memory" and size > 0.9 * free:
        raise ConfigError(
            f"training.store: the prepared cases take {readable(size)}, and {readable(free)} of memory are "
            "free; use disk or auto"
        )
    return asked == "disk" or (asked == "auto" and size > MEMORY_SHARE * free)


def move(cases: Sequence[PreparedCase], device: torch.device) -> list[PreparedCase]:
    """Put prepared cases in memory on a GPU where they fit; leave them where they are otherwise."""
    if device.type != "cuda":
        return list(cases)
    total = sum(
        tensor.nbytes for case in cases for tensor in (case.image, *case.masks.values(), *case.maps.values())
    )
    if total > GPU_CACHE_SHARE * torch.cuda.get_device_properties(device).total_memory:
        LOG.info("%.1f GB of prepared cases stay in main memory", total / 1e9)
        return list(cases)

    def on_device(tensors: dict[str, Any]) -> dict[str, Any]:
        return {name: tensor.to(device) for name, tensor in tensors.items()}

    return [
        replace(
            case,
            image=case.image.to(device),
            masks=on_device(case.masks),
            maps=on_device(case.maps),
            coarse=None if case.coarse is None else case.coarse.to(device),
        )
        for case in cases
    ]
