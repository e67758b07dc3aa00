"""Scales that losses are divided by, so that their units stop mattering."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medmtl.registry import nearest
from medmtl.types import ConfigError
from medmtl.weighting._checks import per_task
from medmtl.weighting._slots import pick, put
from medmtl.weighting._weighed import TINY, finite


class LossScale(nn.Module, ABC):
    """Scale of each present task's loss."""

    @abstractmethod
    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """Scales ``(P,)`` of detached float32 losses ``(P,)``; 0 where none is known yet."""


class UnitScale(LossScale):
    """Losses as they are."""

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """Ones."""
        return torch.ones_like(losses)


class FirstLoss(LossScale):
    """The loss of each task on its own first appearance; one of 0, NaN or inf does not count."""

    first: Tensor

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.register_buffer("first", torch.zeros(n_tasks))

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The first losses, taking note of those that come now."""
        known = pick(self.first, present)
        scale = torch.where((known == 0) & finite(losses) & (losses > TINY), losses, known)
        put(self.first, present, scale)
        return scale


class TrivialLoss(LossScale):
    """The loss of a predictor that has learned nothing (class frequencies, the mean), given per task."""

    trivial: Tensor

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("trivial", torch.tensor(values, dtype=torch.float32))

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The given losses."""
        return pick(self.trivial, present)


SCALES = ("none", "first", "trivial")


def build_scale(name: str, tasks: tuple[str, ...], trivial_losses: Mapping[str, float] | None) -> LossScale:
    """A loss scale by name.

    Args:
        name: ``none``, ``first`` or ``trivial``.
        tasks: the declared tasks.
        trivial_losses: ``{task: loss of a trivial predictor}``, for ``trivial`` only.

    Raises:
        ConfigError: an unknown name, or trivial losses that are missing, not wanted or not above 0.
    """
    if name not in SCALES:
        raise ConfigError(f"unknown normalize_losses {name!r}{nearest(str(name), list(SCALES))}")
    if (name == "trivial") != (trivial_losses is not None):
        raise ConfigError(
            "normalize_losses: trivial and trivial_losses: {task: loss} belong together; give both or none"
        )
    if name == "none":
        return UnitScale()
    if name == "first":
        return FirstLoss(len(tasks))
    values = per_task("trivial_losses", trivial_losses, tasks)
    if min(values) < TINY:
        raise ConfigError(f"trivial_losses must be greater than 0; found {trivial_losses!r}")
    return TrivialLoss(values)
