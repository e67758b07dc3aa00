"""Weights that bring every loss to the size of a reference task's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from medmtl.weighting._bad_losses import Domain
from medmtl.weighting._checks import check_tasks, position_of
from medmtl.weighting._normalizers import NoNormalizer
from medmtl.weighting._raw import RawWeights
from medmtl.weighting._raw_normalized import RawNormalized


class ReferenceRatio(RawWeights):
    """A known loss of the reference task over a task's own.

    Args:
        n_tasks: number of tasks K.
        reference: position of the reference task.
    """

    undo_units = True
    domain: Domain = "non-negative"

    def __init__(self, n_tasks: int, reference: int) -> None:
        super().__init__()
        self.reference = reference

    @abstractmethod
    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The ratios ``(P,)``, 1 until both losses are known."""


class ReferenceWeights(RawNormalized):
    """The ratios to a reference task as they are.

    Args:
        tasks: names of the K tasks.
        reference: the task whose weight is 1.
        importance: ``{task: factor}``; tasks not named have 1.
        imbalance: a second such factor, for priors that follow from label counts.

    Attributes:
        ratio: which losses are compared.

    Raises:
        ConfigError: the reference is none of the tasks, or a factor cannot be used.
    """

    ratio: ClassVar[type[ReferenceRatio]]

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        reference: str,
        importance: Mapping[str, float] | None = None,
        imbalance: Mapping[str, float] | None = None,
    ) -> None:
        names = check_tasks(tasks)
        super().__init__(
            names,
            raw=self.ratio(len(names), position_of("reference", reference, names)),
            normalizer=NoNormalizer(),
            importance=importance,
            imbalance=imbalance,
        )
