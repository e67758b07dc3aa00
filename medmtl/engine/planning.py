"""The plan of a training: what the config leaves open, from the data and from what the tasks carry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from medmtl.data.dataset import Dataset
from medmtl.data.normalize import parse_normalization
from medmtl.engine.job import Job
from medmtl.engine.ranks import world_size
from medmtl.engine.settings import TrainingSettings
from medmtl.engine.trainer import autocast_dtype
from medmtl.inference.device import choose_device, fast_dtype
from medmtl.plan import (
    Fingerprint,
    Load,
    Plan,
    Wishes,
    budget_of,
    plan_dataset,
    plan_text,
    planned_cases,
    read_plan,
    same_channels,
)
from medmtl.tasks import CaseTaskOptions, Task
from medmtl.types import ConfigError

FRAMES_OF_A_CINE = 2
"""Frames of a case in every step, where it has as many: end diastole and end systole."""


@dataclass(frozen=True)
class Planned:
    """A plan and what it was made from."""

    plan: Plan
    found: Fingerprint


def plan_job(
    job: Job,
    tasks: Mapping[str, Task],
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Planned:
    """Plan what a job leaves open, for the device that it runs on.

    Raises:
        ConfigError: what is asked for does not fit the data or the memory; names the number to change.
        DatasetError: no case is in training or validation.
    """
    precision = autocast_dtype(job.training.precision, device)
    budget = budget_of(device, half=precision is not None, asked_gib=job.memory_gib)
    load = load_of(job, tasks)
    wishes = Wishes(
        job.spacing_mm,
        job.patch,
        job.normalization,
        job.backbone,
        job.training.batch_size,
        job.slices,
        job.overview,
        views_of(tasks),
    )
    plan, found = plan_dataset(job.dataset, wishes, budget, load, progress=progress)
    return Planned(plan, found)


def plan_for_people(
    dataset: Dataset,
    slices: str,
    memory_gib: float | None,
    device: str,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """The text of a plan for a dataset whose tasks nobody has named yet: all columns are taken for tasks.

    Raises:
        ConfigError: an unknown device or rule, or nothing fits the memory.
    """
    if slices not in ("keep", "resample"):
        raise ConfigError(f"--slices: {slices!r} is not known; use keep or resample")
    where = torch.device("cuda") if device == "cuda" else choose_device(device)
    half = where.type == "cuda" or fast_dtype(where) is not None
    columns = dataset.columns.values()
    voxelwise = [len(c.labels) + 1 if c.kind == "mask" else 1 for c in columns if c.kind in ("mask", "map")]
    load = Load(_frames_per_case(dataset, TrainingSettings().random_frames), sum(voxelwise), len(voxelwise))
    plan, found = plan_dataset(
        dataset,
        Wishes(
            slices="keep" if slices == "keep" else "resample",
            views=frozenset({"auto"} if any(c.kind in ("category", "value") for c in columns) else ()),
        ),
        budget_of(where, half=half, asked_gib=memory_gib),
        load,
        read_voxels=True,
        progress=progress,
    )
    return plan_text(plan, found, dataset.name)


def views_of(tasks: Mapping[str, Task]) -> frozenset[str]:
    """The views that tasks which read features ask for; dense tasks have none to ask for."""
    options = [task.options for task in tasks.values() if isinstance(task.options, CaseTaskOptions)]
    return frozenset(option.view for option in options if option.features)


def load_of(job: Job, tasks: Mapping[str, Task]) -> Load:
    """What the tasks of a job add to the memory of a step."""
    dense = [task for task in tasks.values() if task.dense]
    channels = sum(
        len(column.labels) + 1 if column.kind == "mask" else 1
        for task in dense
        for column in task.columns.values()
    )
    return Load(_frames_per_case(job.dataset, job.training.random_frames), channels, len(dense), world_size())


def _frames_per_case(dataset: Dataset, n_random: float) -> float:
    """Frames of a case in a step, on average."""
    frames = [dataset.geometry[case.case_id].frames for case in planned_cases(dataset)]
    return sum(min(n, FRAMES_OF_A_CINE + n_random) for n in frames) / len(frames)


def with_plan(job: Job, plan: Path | str) -> Job:
    """The job with what a `plan.yaml` says.

    Raises:
        ConfigError: the file is no plan, was made for other channels, or config and plan say different
        things.
    """
    read = read_plan(plan)
    same_channels(read, job.dataset.channels, plan)
    known: dict[str, tuple[Any, Any]] = {
        "preparation.spacing_mm": (job.spacing_mm, read.spacing_mm),
        "preparation.patch": (job.patch, read.patch),
        "preparation.normalization": (_given(job.normalization), _given(read.normalization)),
        "preparation.overview": (None if job.overview == "auto" else job.overview, read.overview),
        "training.batch_size": (job.training.batch_size, read.batch_size),
        **{f"backbone.{key}": (job.backbone.get(key), value) for key, value in read.backbone.items()},
    }
    for key, (ours, planned) in known.items():
        if ours is not None and _plain(ours) != _plain(planned):
            raise ConfigError(
                f"{key}: the config says {_plain(ours)}, {plan} says {_plain(planned)}; leave it out of "
                "the config, or change the plan"
            )
    return replace(
        job,
        spacing_mm=read.spacing_mm,
        patch=read.patch,
        normalization=read.normalization,
        overview=read.overview,
        backbone={**read.backbone, **job.backbone},
        training=job.training.model_copy(update={"batch_size": read.batch_size}),
    )


def continued(job: Job, plan: Path) -> Job:
    """A job that goes on with the plan it was started with, whatever the machine would lead to now.

    Raises:
        ConfigError: as `with_plan` does.
    """
    return with_plan(job, plan) if plan.is_file() else job


def as_config(job: Job) -> dict[str, Any]:
    """The resolved config of a job whose plan came from a file: complete without that file."""
    resolved = dict(job.resolved)
    resolved["plan"] = None
    resolved["backbone"] = dict(job.backbone)
    resolved["training"] = {**resolved["training"], "batch_size": job.training.batch_size}
    resolved["preparation"] = {
        **resolved["preparation"],
        "spacing_mm": list(job.spacing_mm or ()),
        "patch": list(job.patch or ()),
        "normalization": job.normalization,
        "overview": job.overview if isinstance(job.overview, str) else list(job.overview),
    }
    return resolved


def _given(normalization: Any) -> Any:
    """A normalization that leaves nothing to the data, or None."""
    parsed = parse_normalization(normalization)
    if parsed is None or not all(entry.is_complete for entry in parsed):
        return None
    return [entry.as_plain() for entry in (parsed if len(set(parsed)) > 1 else parsed[:1])]


def _plain(value: Any) -> str:
    """How YAML writes it, on one line."""
    data = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(data, default_flow_style=True, width=math.inf).strip()
    return text.removesuffix("...").strip()
