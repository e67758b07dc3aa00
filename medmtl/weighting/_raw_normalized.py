"""Task weights = raw weights x priors, through a normalizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmtl.types import ConfigError
from medmtl.weighting._base import Weighting
from medmtl.weighting._checks import number, per_task
from medmtl.weighting._normalizers import Normalizer
from medmtl.weighting._raw import RawWeights
from medmtl.weighting._scales import LossScale, UnitScale
from medmtl.weighting._slots import pick
from medmtl.weighting._weighed import Weighed, finite, share_of


class RawNormalized(Weighting):
    """Weights from raw weights and a normalizer, with a stop-gradient: the part that most methods share.

    With losses L' = L / scale, raw weights r(L') and normalizer n: u = n(priors * r), floored, and
    total = sum_i u_i L'_i. The factor of the loss itself, in :attr:`weights`, is therefore u_i / scale_i.

    Args:
        tasks: names of the K tasks.
        raw: raw weights of the scaled losses.
        normalizer: how raw weights become weights.
        scale: what losses are divided by; 1 when None.
        importance: ``{task: factor of its raw weight}``; tasks not named have 1.
        imbalance: a second such factor, for priors that follow from label counts.
        floor: least share of the weight, mixed in as floor + (1 - P floor) u, where the weights sum to a
            fixed number and P is the number of tasks present; at least 0 and less than 1 / K.

    Raises:
        ConfigError: tasks, priors or floor that cannot be used.
    """

    priors: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        raw: RawWeights,
        normalizer: Normalizer,
        scale: LossScale | None = None,
        importance: Mapping[str, float] | None = None,
        imbalance: Mapping[str, float] | None = None,
        floor: float = 0.0,
    ) -> None:
        super().__init__(tasks)
        self.raw = raw
        self.normalizer = normalizer
        self.scale = UnitScale() if scale is None else scale
        one = per_task("importance", importance, self.tasks, default=1.0)
        two = per_task("imbalance", imbalance, self.tasks, default=1.0)
        priors = [a * b for a, b in zip(one, two, strict=True)]
        if sum(priors) == 0:
            raise ConfigError("importance times imbalance is 0 for every task, so nothing would be learned")
        self.register_buffer("priors", torch.tensor(priors, dtype=torch.float32))
        if normalizer.keeps_zero and not floor:
            still = [raw.never(position) or prior == 0 for position, prior in enumerate(priors)]
            self.mute = frozenset(task for task, never in zip(self.tasks, still, strict=True) if never)
        self.domain = raw.domain
        self.floor = number("floor", floor)
        if not 0 <= self.floor < 1 / len(self.tasks):
            raise ConfigError(
                f"floor must be at least 0 and less than 1/{len(self.tasks)} (one over the number of tasks); "
                f"found {floor!r}"
            )
        if self.floor and not normalizer.bounded:
            raise ConfigError(
                "a floor needs weights that sum to a fixed number; this method does not normalize them"
            )

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """Normalized raw weights of the scaled losses."""
        scale = self.scale(losses, present)
        usable = finite(losses) & (scale > 0)
        scale = torch.where(usable, scale, 1.0)
        scaled = losses / scale
        raw = torch.where(usable, self.raw(scaled, present) * pick(self.priors, present), 0.0)
        weights = self.normalizer(raw, usable)
        if self.floor:
            weights = torch.where(
                usable, self.floor * weights.sum() + (1 - self.floor * usable.sum()) * weights, 0.0
            )
        undone = self.raw.undo_units and not self.normalizer.bounded
        share = share_of(weights * scaled if undone else weights, usable)
        return Weighed(raw, weights / scale, share)

    def end_epoch(self) -> None:
        """Passes the end of an epoch on to the raw weights."""
        super().end_epoch()
        self.raw.end_epoch()
