"""Config sections -> tasks -> the network that learns them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from medmtl.data.dataset import Column, Cycle
from medmtl.models import BACKBONES, MultiTaskNetwork
from medmtl.registry import nearest
from medmtl.tasks.base import TASKS, HeadContext, Task
from medmtl.types import Batch, ConfigError


def build_task(name: str, section: Mapping[str, Any], columns: Mapping[str, Column]) -> Task:
    """One task from its config section (``type`` and its options).

    Raises:
        ConfigError: unknown type or option, wrong value, or a column that the dataset does not have.
    """
    options = dict(section)
    if "type" not in options:
        raise ConfigError(f"tasks.{name}: needs `type`, one of {', '.join(TASKS)}")
    cls = TASKS.get(str(options.pop("type")))
    try:
        parsed = cls.Options.model_validate(options)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(readable(f"tasks.{name}", error, list(cls.Options.model_fields)))
        ) from error
    return cls(name, parsed, columns)


def readable(where: str, error: ValidationError, known: list[str]) -> list[str]:
    """One sentence per problem that pydantic found."""
    lines = []
    for problem in error.errors():
        path = ".".join([where, *(str(part) for part in problem["loc"])]).strip(".")
        if problem["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key{nearest(str(problem['loc'][-1]), known)}")
        elif problem["type"] == "missing":
            lines.append(f"{path}: is missing")
        else:
            lines.append(f"{path}: {problem['msg'].lower()}, found {problem['input']!r}")
    return lines


def build_network(
    backbone: Mapping[str, Any],
    tasks: Mapping[str, Task],
    *,
    in_channels: int,
    n_covariates: int = 0,
    cycle: Cycle | None = None,
    seed: int = 0,
) -> MultiTaskNetwork:
    """The network for a set of tasks, initialized from ``seed``.

    Args:
        backbone: ``type`` and the arguments of a registered backbone.
        tasks: by name.
        in_channels: image channels.
        n_covariates: scalar inputs.
        cycle: what finds ED and ES among frames.
        seed: of the initial weights; the caller's random state is left alone.

    Raises:
        ConfigError: unknown backbone or arguments, or tasks that read each other in a circle or nothing.
    """
    options = dict(backbone)
    cls: Any = BACKBONES.get(str(options.pop("type", "unet")))
    for task in tasks.values():
        for other in task.reads:
            if other not in tasks:
                raise ConfigError(
                    f"task {task.name!r} reads {other!r}, which is no task{nearest(other, list(tasks))}"
                )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            trunk = cls(in_channels=in_channels, **options)
        except TypeError as error:
            raise ConfigError(f"backbone: {error}") from error
        context = HeadContext(trunk, tasks, cycle, n_covariates)
        return MultiTaskNetwork(trunk, {name: task.build_head(context) for name, task in tasks.items()})


def task_losses(
    tasks: Mapping[str, Task], outputs: Mapping[str, Any], batch: Batch
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Losses and label counts of the tasks that the batch has labels for; the others are left out."""
    counts = {name: task.label_count(batch) for name, task in tasks.items()}
    losses = {name: task.loss(outputs[name], batch) for name, task in tasks.items() if counts[name] > 0}
    return losses, counts
