"""Any pure metric as an Ignite metric. Importing this module loads torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import ignite.distributed as idist
import numpy as np
import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from numpy.typing import NDArray

__all__ = ["CaseMetric"]


class CaseMetric(Metric):
    """Collects arrays over the cases of an epoch and applies a pure function to them at the end.

    ``output_transform`` turns the engine's output into a sequence of arrays or tensors whose first axis is
    the case, one for each argument of ``function``; a batch without a labelled case may give ``None``. With
    several ranks, the cases of all of them are gathered first, so the value is that of one big epoch.

    Args:
        function: such as :func:`medmtl.metrics.pearson`; arrays ``(N, ...)`` in, one number out.
        output_transform: engine output to arrays.
        device: where ranks exchange tensors (``cuda`` under NCCL).

    Raises:
        NotComputableError: at compute, when no case was seen on any rank.

    >>> from medmtl.metrics import mean_absolute_error
    >>> metric = CaseMetric(mean_absolute_error)
    >>> metric.update((torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])))
    >>> metric.compute()
    1.0
    """

    def __init__(
        self,
        function: Callable[..., float],
        output_transform: Callable[[Any], Any] = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        self.function = function
        super().__init__(output_transform=output_transform, device=device, skip_unrolling=True)

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget every case."""
        self._batches: list[tuple[NDArray[Any], ...]] = []

    @reinit__is_reduced
    def update(self, output: Sequence[Any] | None) -> None:
        """Add the cases of one batch.

        Raises:
            ValueError: the arrays of one batch do not have one length.
        """
        if output is None:
            return
        arrays = tuple(_to_array(part) for part in output)
        if len({len(array) for array in arrays}) != 1:
            raise ValueError(
                f"one batch must have one number of cases, found {[len(array) for array in arrays]}"
            )
        if len(arrays[0]):
            self._batches.append(arrays)

    def compute(self) -> float:
        """Value over every case of every rank."""
        batches = _gather(self._batches)
        if not batches:
            raise NotComputableError("CaseMetric saw no case; a task without labels has no metric")
        return float(self.function(*(np.concatenate(parts) for parts in zip(*batches, strict=True))))


def _to_array(part: Any) -> NDArray[Any]:
    if isinstance(part, torch.Tensor):
        return np.asarray(part.detach().float().cpu() if part.is_floating_point() else part.detach().cpu())
    return np.asarray(part)


def _gather(batches: list[tuple[NDArray[Any], ...]]) -> list[tuple[NDArray[Any], ...]]:
    if idist.get_world_size() == 1:
        return batches
    of_rank = cast("list[list[tuple[NDArray[Any], ...]]]", idist.all_gather(batches))
    return [batch for rank in of_rank for batch in rank]
