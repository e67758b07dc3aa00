"""From a job to everything that training needs: prepared cases, plan, tasks, network, statistics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from medmtl.data.dataset import Case, Column
from medmtl.data.load import prepare_cases
from medmtl.data.prepare import PreparedCase
from medmtl.engine.job import Job
from medmtl.engine.planning import plan_job
from medmtl.engine.start_from import starting_weights
from medmtl.engine.statistics import fit_case_heads
from medmtl.inference.model import Model
from medmtl.plan import Plan, plan_text
from medmtl.registry import nearest
from medmtl.tasks import build_network, build_task
from medmtl.types import ConfigError, DatasetError, Finding

LOG = logging.getLogger("medmtl.train")
GPU_CACHE_SHARE = 0.3
"""Prepared cases live on the GPU while they take less than this share of its memory."""


@dataclass
class Ready:
    """What `set_up` made.

    Attributes:
        model: untrained, on the device.
        plan: how the data are prepared and the network is shaped.
        plan_text: the same for people, with reasons.
        train: prepared training cases.
        val: prepared validation cases.
        label_columns: columns that the tasks learn from.
        refused: training and validation cases that could not be used.
    """

    model: Model
    plan: Plan
    plan_text: str
    train: list[PreparedCase]
    val: list[PreparedCase]
    label_columns: dict[str, Column]
    refused: list[Finding]


def set_up(job: Job, device: torch.device, progress: Callable[[int, int], None] | None = None) -> Ready:
    """Build tasks and network first (config errors come before any work), then prepare the cases.

    Raises:
        ConfigError: the config does not fit the dataset, or the model to start from does not fit the config.
        DatasetError: no usable training case.
    """
    train, val = job.dataset.select("train"), job.dataset.select("val")
    if not train:
        raise DatasetError(
            f"{job.dataset.root / 'cases.csv'}: no case has split = train; fill the split column"
        )
    columns = job.dataset.columns
    tasks = {name: build_task(name, section, columns) for name, section in job.tasks.items()}
    if not tasks:
        raise ConfigError("tasks: is empty; name at least one task")
    for name in job.covariates:
        if name not in columns or columns[name].kind != "value":
            values = [c.name for c in columns.values() if c.kind == "value"]
            raise ConfigError(
                f"covariates: {name!r} is no value column of the dataset{nearest(name, values)}"
            )
    planned = plan_job(job, tasks, device, progress)
    plan = planned.plan
    network = build_network(
        plan.backbone,
        tasks,
        in_channels=len(job.dataset.channels),
        n_covariates=len(job.covariates),
        cycle=job.dataset.cycle,
        seed=job.seed,
    )
    origin = job.training.start_from
    start = None if origin is None else starting_weights(origin, network, job, allow=job.third_party)
    label_columns = {target: columns[target] for task in tasks.values() for target in task.targets}
    prepared, refused = _prepare(job, plan, [*train, *val], label_columns, progress)
    ids = {case.case_id for case in train}
    ready_train = [case for case in prepared if case.case_id in ids]
    ready_val = [case for case in prepared if case.case_id not in ids]
    if not ready_train:
        raise DatasetError(
            f"{job.dataset.root}: no training case could be used; the first: {refused[0].message}"
        )
    for task in tasks.values():
        task.fit(ready_train)
    ready_train = move(ready_train, device)
    network.to(device)
    fit_case_heads(network, tasks, ready_train)
    if start is not None:
        network.load_state_dict(start)
    model = Model(
        network=network,
        tasks=tasks,
        task_sections={name: dict(section) for name, section in job.tasks.items()},
        backbone=plan.backbone,
        preparation=plan.preparation,
        channels=job.dataset.channels,
        columns=_model_columns(columns, label_columns, job.covariates),
        covariates=job.covariates,
        cycle=job.dataset.cycle,
    )
    text = plan_text(plan, planned.found, job.dataset.name)
    return Ready(model, plan, text, ready_train, ready_val, label_columns, refused)


def _prepare(
    job: Job,
    plan: Plan,
    cases: Sequence[Case],
    label_columns: Mapping[str, Column],
    progress: Callable[[int, int], None] | None,
) -> tuple[list[PreparedCase], list[Finding]]:
    prepared, refused = prepare_cases(
        job.dataset,
        cases,
        plan.preparation,
        covariates=job.covariates,
        wanted=tuple(label_columns),
        progress=progress,
    )
    return prepared, refused


def _model_columns(
    columns: Mapping[str, Column], labels: Mapping[str, Column], covariates: Sequence[str]
) -> dict[str, Column]:
    """Columns that a model must know later: labels, covariates, and what follows from its masks."""
    masks = {name for name, column in labels.items() if column.kind == "mask"}
    return {
        name: column
        for name, column in columns.items()
        if name in labels
        or name in covariates
        or (column.derived is not None and column.derived.mask in masks)
    }


def move(cases: Sequence[PreparedCase], device: torch.device) -> list[PreparedCase]:
    """Put prepared cases on a GPU where they fit; leave them where they are otherwise."""
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
        replace(case, image=case.image.to(device), masks=on_device(case.masks), maps=on_device(case.maps))
        for case in cases
    ]
