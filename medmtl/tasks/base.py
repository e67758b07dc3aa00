"""A task binds target, head, loss, validation metric and decoding; one file per kind of task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from medmtl.data.dataset import Column, Cycle
from medmtl.data.prepare import PreparedCase
from medmtl.models import Backbone, Head
from medmtl.registry import Registry, nearest
from medmtl.types import Batch, ConfigError

Output = Tensor | list[Tensor]
CaseValues = dict[str, str | float]


class TaskOptions(BaseModel):
    """Options that every kind of task understands; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class HeadContext:
    """What a task may look at when it builds its head.

    Attributes:
        backbone: the shared trunk.
        tasks: all tasks of the model by name.
        cycle: mask column and structure that find ED and ES, if the dataset has frames.
        n_covariates: number of scalar inputs of the model.
        overview: whether case tasks may look at whole volumes that are larger than the patch.
    """

    backbone: Backbone
    tasks: Mapping[str, Task]
    cycle: Cycle | None
    n_covariates: int
    overview: bool = False


@dataclass
class CaseResult:
    """What the model says of one case.

    Attributes:
        dense: by task, labels ``(T, X, Y, Z)`` uint8 or values ``(T, X, Y, Z)`` float32.
        values: by task, named outputs such as ``class``, ``probability.DCM`` or ``LV_EF [%]``.
        spread: by task, how far the members of an ensemble are apart: 1 - Dice of each structure, standard
            deviation of each value; empty for a single network.
    """

    dense: dict[str, np.ndarray] = field(default_factory=dict)
    values: dict[str, CaseValues] = field(default_factory=dict)
    spread: dict[str, dict[str, float]] = field(default_factory=dict)


class Task(ABC):
    """One thing to learn.

    Args:
        name: the task's name, also in every output.
        options: its section of the config.
        columns: the dataset's columns.

    Attributes:
        kind: name of this kind in configs and in `outputs.yaml`.
        Options: pydantic model of its section.
        dense: whether it says something per voxel (else per case).
        structures: names of the soft masks that other heads can read; empty for tasks without masks.
        outside: value of each stitched channel where the organ is not looked for; NaN when empty.
    """

    kind: ClassVar[str]
    Options: ClassVar[type[TaskOptions]]
    dense: ClassVar[bool]
    structures: tuple[str, ...] = ()
    outside: tuple[float, ...] = ()

    def __init__(self, name: str, options: Any, columns: Mapping[str, Column]) -> None:
        self.name = name
        self.options = options
        self.columns = {target: self._column(target, columns) for target in self.targets}

    @property
    @abstractmethod
    def targets(self) -> tuple[str, ...]:
        """Dataset columns that this task learns from."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Tasks whose masks this task reads."""
        return ()

    @abstractmethod
    def build_head(self, context: HeadContext) -> Head:
        """The task's own part of the network."""

    @abstractmethod
    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Loss over the labels that there are, ``()`` float32; only called when there is at least one."""

    @abstractmethod
    def validate(self, results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> dict[str, float]:
        """Metrics on the network's grid; ``score`` in 0..1 (higher is better); empty without labels."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The task's entry in `outputs.yaml`."""

    def label_count(self, batch: Batch) -> int:
        """How many labelled frames or cases a batch has for this task."""
        return max(batch.counts.get(target, 0) for target in self.targets)

    def fit(self, cases: Sequence[PreparedCase]) -> None:
        """Take what is needed from the training cases, such as scales.

        Raises:
            ConfigError: a target of this task is labelled in no training case.
        """
        for target in self.targets:
            if not any(target in c.values or any(c.labelled.get(target, ())) for c in cases):
                raise ConfigError(
                    f"task {self.name!r} learns from {target}, but none of the {len(cases)} training cases "
                    "has that label; fill the column in cases.csv or remove it from the task"
                )

    def state(self) -> dict[str, Any]:
        """What `fit` found, as plain data for `model.yaml`."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most tasks have nothing to restore
        """Restore what `state` gave."""

    def stitchable(self, output: Output) -> Tensor:
        """Dense tasks: what can be averaged over windows and resampled, ``(N, C, X, Y, Z)`` float32."""
        raise TypeError(f"task {self.name!r} is not dense")

    def decode_dense(self, stitched: Tensor, dense: Mapping[str, np.ndarray]) -> np.ndarray:
        """Dense tasks: ``(T, C, X, Y, Z)`` -> ``(T, X, Y, Z)``; ``dense`` has the tasks it reads."""
        raise TypeError(f"task {self.name!r} is not dense")

    def decode_case(self, output: Tensor) -> list[CaseValues]:
        """Case tasks: ``(B, K)`` -> one dict of named outputs, in physical units, per case."""
        raise TypeError(f"task {self.name!r} is dense")

    def combine(self, members: Sequence[CaseValues]) -> CaseValues:
        """What an ensemble says of a case: the mean of what its members say."""
        return {
            name: value if isinstance(value, str) else float(np.mean([member[name] for member in members]))
            for name, value in members[0].items()
        }

    def _column(self, target: str, columns: Mapping[str, Column]) -> Column:
        if target not in columns:
            raise ConfigError(
                f"task {self.name!r}: the dataset has no column {target!r}{nearest(target, list(columns))}"
            )
        return columns[target]

    def _expect(self, kind: Literal["mask", "map", "category", "value"]) -> None:
        for column in self.columns.values():
            if column.kind != kind:
                raise ConfigError(
                    f"task {self.name!r} ({self.kind}) needs a {kind} column, but {column.name!r} is a "
                    f"{column.kind}"
                )


TASKS: Registry[Task] = Registry("task type", Task)
