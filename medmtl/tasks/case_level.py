"""What classification and regression of cases share: the options of what their head reads, and the head."""

from __future__ import annotations

from pydantic import Field

from medmtl.models import CaseHead, CaseInputs, ring_of
from medmtl.models.case_head import Pooling, Temporal
from medmtl.registry import nearest
from medmtl.tasks.base import HeadContext, Task, TaskOptions
from medmtl.types import ConfigError


class CaseTaskOptions(TaskOptions):
    """What the head of a case-level task reads."""

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
    inputs = CaseInputs(
        bottleneck_channels=context.backbone.pyramid_channels[-1] if options.features else 0,
        structures=structures,
        covariates=covariates,
        ring=ring_of(together, options.wall, options.cavity),
        cycle=cycle,
    )
    return CaseHead(
        inputs,
        out_features,
        pooling=options.pooling,
        temporal=options.temporal,
        hidden=options.hidden,
        dropout=options.dropout,
    )
