"""Config sections -> tasks -> the network that learns them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, Field, create_model
from torch import Tensor, nn

from medmtl.data.dataset import Column, Cycle
from medmtl.models import BACKBONES, Backbone, MultiTaskNetwork
from medmtl.registry import nearest
from medmtl.strict import options_model, parse_options
from medmtl.tasks.base import TASKS, HeadContext, Task, TaskOptions
from medmtl.tasks.sharing import SharingSettings, build_trunk, parse_sharing
from medmtl.types import Batch, ConfigError

TASK_NAME = re.compile("[A-Za-z][A-Za-z0-9_-]*")
"""What a task's name looks like: it names files, table columns and parts of the network."""


def build_task(name: str, section: Mapping[str, Any], columns: Mapping[str, Column]) -> Task:
    """One task from its config section (``type`` and its options).

    Raises:
        ConfigError: unknown type or option, wrong value, or a column that the dataset does not have.
    """
    cls, options = parse_task(name, section)
    return cls(name, options, columns)


def parse_task(name: str, section: Mapping[str, Any]) -> tuple[type[Task], TaskOptions]:
    """The kind and the options of a task; needs no dataset.

    Raises:
        ConfigError: a name that cannot be used, an unknown type or option, or a wrong value.
    """
    if not TASK_NAME.fullmatch(name) or hasattr(nn.ModuleDict(), name):
        raise ConfigError(
            f"tasks.{name}: cannot be used as a name; begin with a letter, use letters, digits, '_' and '-', "
            "and none of PyTorch's own words, such as train or values"
        )
    if "type" not in section:
        raise ConfigError(f"tasks.{name}: needs `type`, one of {', '.join(TASKS)}")
    try:
        cls = TASKS.get(str(section["type"]))
    except ConfigError as error:
        raise ConfigError(f"tasks.{name}.type: {error}") from error
    options = {key: value for key, value in section.items() if key != "type"}
    return cls, parse_options(cls.Options, options, f"tasks.{name}.")


def parse_backbone(section: Mapping[str, Any]) -> type[Backbone]:
    """The class of a backbone, once its arguments are of the right types; the plan may fill in the others.

    Raises:
        ConfigError: an unknown type or argument, or a wrong value.
    """
    if "type" not in section:
        raise ConfigError(f"backbone: needs `type`, one of {', '.join(BACKBONES)}")
    cls = BACKBONES.get(str(section["type"]))
    parse_options(backbone_options(cls), {k: v for k, v in section.items() if k != "type"}, "backbone.")
    return cls


def backbone_options(cls: type[Backbone]) -> type[BaseModel]:
    """What a config may say of a backbone."""
    own = options_model(cls, leave_out=("in_channels",), complete=False)
    sharing = (
        SharingSettings,
        Field(default=SharingSettings(), description="which tasks share which layers"),
    )
    return create_model(own.__name__, __base__=own, sharing=sharing)


def build_network(
    backbone: Mapping[str, Any],
    tasks: Mapping[str, Task],
    *,
    in_channels: int,
    n_covariates: int = 0,
    cycle: Cycle | None = None,
    seed: int = 0,
    overview: bool = False,
) -> MultiTaskNetwork:
    """The network for a set of tasks, initialized from ``seed``.

    Args:
        backbone: ``type`` and the arguments of a registered backbone, and ``sharing``.
        tasks: by name.
        in_channels: image channels.
        n_covariates: scalar inputs.
        cycle: what finds ED and ES among frames.
        seed: of the initial weights; the caller's random state is left alone.
        overview: whether there are whole volumes for tasks with a global view.

    Raises:
        ConfigError: unknown backbone or arguments, or tasks that read each other in a circle or nothing.
    """
    cls: Any = parse_backbone(backbone)
    options = {key: value for key, value in backbone.items() if key not in ("type", "sharing")}
    sharing = parse_sharing(backbone.get("sharing"), tuple(tasks))
    for task in tasks.values():
        for other in task.reads:
            if other not in tasks:
                raise ConfigError(
                    f"task {task.name!r} reads {other!r}, which is no task{nearest(other, list(tasks))}"
                )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            trunk = build_trunk(lambda: cls(in_channels=in_channels, **options), sharing)
        except TypeError as error:
            raise ConfigError(f"backbone: {error}") from error
        context = HeadContext(trunk, tasks, cycle, n_covariates, overview)
        return MultiTaskNetwork(trunk, {name: task.build_head(context) for name, task in tasks.items()})


def task_losses(
    tasks: Mapping[str, Task], outputs: Mapping[str, Any], batch: Batch
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Losses and label counts of the tasks that the batch has labels for; the others are left out."""
    counts = {name: task.label_count(batch) for name, task in tasks.items()}
    losses = {name: task.loss(outputs[name], batch) for name, task in tasks.items() if counts[name] > 0}
    return losses, counts
