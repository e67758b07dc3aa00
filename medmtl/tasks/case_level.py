"""What classification and regression of cases share: the options of what their head reads, and the head."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medmtl.models import CaseHead, CaseInputs, ring_of
from medmtl.models.case_head import Pooling, Temporal, View
from medmtl.registry import nearest
from medmtl.tasks.base import HeadContext, Task, TaskOptions
from medmtl.types import ConfigError


class CaseTaskOptions(TaskOptions):
    """What the head of a case-level task reads."""

    view: Literal["auto", "local", "global"] = Field(
        default="auto",
        description="where the features come from: local, the patch; global, the whole volume, coarser; "
        "auto: global where the plan has an overview",
    )
    features: bool = Field(default=True, description="read pooled features of the encoder's coarsest level")
    masks: tuple[str, ...] | None = Field(
        default=None,
        description="tasks whose soft volumes and shapes are read; every task with masks by default",
    )
    covariates: bool = Field(default=True, description="read the model's scalar inputs")
    wall: str = Field(
        default="MYO", description="structure whose thickness around `cavity` is described, where there"
    )
    cavity: str = Field(default="LV", description="structure inside `wall`")
    pooling: Pooling = Field(default="attention", description="of the features over space")
    temporal: Temporal = Field(default="extremes", description="of the features over frames")
    hidden: int = Field(default=64, ge=1, description="width of the head's hidden layer")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="before the head's last layer")


def chosen_view(task: Task, *, overview: bool) -> View:
    """What a case task's features are of; a task that reads no features has no view of its own.

    Raises:
        ConfigError: it asks for whole volumes and the plan has none.
    """
    options: CaseTaskOptions = task.options
    if options.view == "global" and not overview:
        raise ConfigError(
            f"task {task.name!r}: view: global needs preparation.overview; leave that on auto, or name its "
            "voxels"
        )
    return "global" if overview and options.view != "local" and options.features else "local"


def build_case_head(task: Task, out_features: int, context: HeadContext) -> CaseHead:
    """The head of a case-level task.

    Raises:
        ConfigError: a named task has no masks, or the head would read nothing.
    """
    options: CaseTaskOptions = task.options
    providers = {name: other.structures for name, other in context.tasks.items() if other.structures}
    names = tuple(providers) if options.masks is None else options.masks
    for name in names:
        if name not in providers:
            raise ConfigError(
                f"task {task.name!r}: masks: {name!r} makes no masks{nearest(name, list(providers))}"
            )
    structures = {name: providers[name] for name in names}
    together = [structure for group in structures.values() for structure in group]
    cycle = (
        together.index(context.cycle.structure)
        if context.cycle and context.cycle.structure in together
        else None
    )
    covariates = context.n_covariates if options.covariates else 0
    if not (options.features or structures or covariates):
        raise ConfigError(f"task {task.name!r} reads nothing; turn on features, masks or covariates")
    if options.pooling == "mask" and not structures:
        raise ConfigError(
            f"task {task.name!r}: pooling: mask needs at least one task with masks; use attention or mean"
        )
    view = chosen_view(task, overview=context.overview)
    if view == "global" and options.pooling == "mask":
        raise ConfigError(
            f"task {task.name!r}: pooling: mask weighs features by masks, which are made in patches, but its "
            "view is global; use attention or mean, or view: local"
        )
    inputs = CaseInputs(
        bottleneck_channels=context.backbone.pyramid_channels[-1] if options.features else 0,
        structures=structures,
        covariates=covariates,
        ring=ring_of(together, options.wall, options.cavity),
        cycle=cycle,
        view=view,
    )
    return CaseHead(
        inputs,
        out_features,
        pooling=options.pooling,
        temporal=options.temporal,
        hidden=options.hidden,
        dropout=options.dropout,
    )
