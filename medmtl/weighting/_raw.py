"""Raw weights: what a task's weight would be before the tasks are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medmtl.weighting._bad_losses import Domain
from medmtl.weighting._checks import criterion_of
from medmtl.weighting._slots import pick
from medmtl.weighting._weighed import TINY

GAMMA = {"l1": 1.0, "l2": 0.5, "cross-entropy": 0.5}
"""gamma of the optimal uncertainty weight gamma / L by criterion (w L at the optimum of Kendall's total)."""


class RawWeights(nn.Module, ABC):
    """Raw weights of the tasks present on a step, with whatever state they need.

    Attributes:
        undo_units: a loss in other units has a weight in the inverse units, so that a share of the weight
            says nothing unless the weights are normalized.
        domain: losses that it can take.
    """

    undo_units = False
    domain: Domain = "finite"

    @abstractmethod
    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """Raw weights ``(P,)`` from detached float32 losses ``(P,)`` of the tasks at ``present``."""

    def never(self, position: int) -> bool:
        """Whether the task at this position has a raw weight of 0 for good."""
        return False

    def end_epoch(self) -> None:
        """Called after each epoch."""
        return


class Constant(RawWeights):
    """The same number for a task on every step.

    Args:
        values: K numbers, at least 0.
    """

    values: Tensor

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        self.zero = [value == 0 for value in values]
        self.register_buffer("values", torch.tensor(values, dtype=torch.float32))

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The given numbers."""
        return pick(self.values, present)

    def never(self, position: int) -> bool:
        """Whether the given number is 0."""
        return self.zero[position]


class Inverse(RawWeights):
    """gamma / L: the weight at which a learned uncertainty would settle; losses count as at least 1e-20.

    Args:
        gamma: K numbers, above 0.
    """

    undo_units = True
    domain: Domain = "positive"

    gamma: Tensor

    def __init__(self, gamma: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("gamma", torch.tensor(gamma, dtype=torch.float32))

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """Gamma over loss."""
        return pick(self.gamma, present) / losses.clamp_min(TINY)


def gamma_of(criteria: Mapping[str, str] | None, tasks: tuple[str, ...]) -> list[float]:
    """Gamma of each task: by its criterion where one is named, else 1.

    Raises:
        ConfigError: an unknown task or criterion.
    """
    named = criterion_of(criteria, tasks, list(GAMMA))
    return [GAMMA[named[task]] if task in named else 1.0 for task in tasks]


def ratio_where_known(above: Tensor, below: Tensor) -> Tensor:
    """One loss over another; 1 where either is not known yet, which a loss of at most 1e-20 says."""
    return torch.where((above > TINY) & (below > TINY), above / below.clamp_min(TINY), 1.0)
