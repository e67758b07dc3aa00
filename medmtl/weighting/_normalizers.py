"""Normalizers: how raw weights of the tasks present become weights.

Each takes raw weights ``(P,)`` and ``usable`` ``(P,)`` bool, and gives ``(P,)``; a task that is not usable
(its loss is NaN or infinite) gets 0, and the rest get what they would get without it. "Sum to K" means the
number of usable tasks present on the step, not the number declared, so that K tasks with one absent are the
(K-1)-task problem.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medmtl.registry import nearest
from medmtl.types import ConfigError
from medmtl.weighting._checks import number, positive
from medmtl.weighting._effective import spread_softmax
from medmtl.weighting._weighed import TINY

HUGE = 1e30
"""Largest logit: two infinite ones would give NaN."""


class Normalizer(ABC):
    """Weights from raw weights.

    Attributes:
        bounded: the weights sum to a fixed number, so that a floor and a share of the weight have a meaning.
        keeps_zero: a raw weight of 0 gives a weight of 0.
    """

    bounded = True
    keeps_zero = False

    @abstractmethod
    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        """Weights ``(P,)`` from raw weights ``(P,)``."""


class NoNormalizer(Normalizer):
    """The raw weights as they are."""

    bounded = False
    keeps_zero = True

    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        return torch.where(usable, raw, 0.0)


class SumTo1(Normalizer):
    """raw_i / sum raw."""

    keeps_zero = True

    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        kept = torch.where(usable, raw, 0.0)
        scaled = kept / kept.max().clamp_min(TINY)
        return scaled / scaled.sum().clamp_min(TINY)


class SumToK(SumTo1):
    """K raw_i / sum raw with K the number of usable tasks present."""

    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        return super().__call__(raw, usable) * usable.sum()


class Softmax(Normalizer):
    """softmax(raw / T); T = 1 is the plain softmax."""

    def __init__(self, *, temperature: float = 1.0) -> None:
        self.temperature = positive("temperature", temperature)

    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        logits = torch.where(usable, (raw / self.temperature).clamp_max(HUGE), -torch.inf)
        return torch.where(usable, torch.softmax(logits, dim=0), 0.0)


class TemperatureSoftmax(Softmax):
    """softmax(raw / T) with a temperature that must be given."""

    def __init__(self, *, temperature: float) -> None:
        super().__init__(temperature=temperature)


class EffectiveSoftmax(Normalizer):
    """softmax(raw / T) with T found on each step so that the weights spread over so many tasks."""

    def __init__(self, *, effective_tasks: float) -> None:
        self.effective_tasks = number("effective_tasks", effective_tasks)
        if self.effective_tasks < 1:
            raise ConfigError(f"effective_tasks must be at least 1; found {effective_tasks!r}")

    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        return torch.where(usable, spread_softmax(raw, usable, self.effective_tasks), 0.0)


class SoftMarginSoftmax(Normalizer):
    """exp(z_i - m) / (exp(z_i - m) + sum_{j != i} exp z_j) with z = raw / T, then divided by their sum."""

    def __init__(self, *, margin: float, temperature: float = 1.0) -> None:
        self.margin = number("margin", margin)
        self.temperature = positive("temperature", temperature)

    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        logits = torch.where(usable, (raw / self.temperature).clamp_max(HUGE), -torch.inf)
        own = torch.eye(len(raw), dtype=torch.bool, device=raw.device)
        others = torch.where(own, -torch.inf, logits).logsumexp(dim=1)
        kept = torch.where(usable, torch.sigmoid(logits - self.margin - others), 0.0)
        return kept / kept.sum().clamp_min(TINY)


class TaylorSoftmax(Normalizer):
    """t_i / sum t with t = 1 + z + z^2 / 2 and z = raw / T: the exponential cut after its second term."""

    def __init__(self, *, temperature: float = 1.0) -> None:
        self.temperature = positive("temperature", temperature)

    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        logits = torch.where(usable, (raw / self.temperature).clamp_max(HUGE), 0.0)
        unit = 1 / logits.abs().max().clamp_min(1.0)  # keeps the square of a huge logit finite
        scaled = logits * unit
        kept = torch.where(usable, unit * unit + scaled * unit + scaled * scaled / 2, 0.0)
        return kept / kept.sum().clamp_min(TINY)


NORMALIZERS: dict[str, Callable[..., Normalizer]] = {
    "none": NoNormalizer,
    "sum-to-k": SumToK,
    "sum-to-1": SumTo1,
    "softmax": Softmax,
    "temperature-softmax": TemperatureSoftmax,
    "effective-softmax": EffectiveSoftmax,
    "soft-margin-softmax": SoftMarginSoftmax,
    "taylor-softmax": TaylorSoftmax,
}
OPTIONS: dict[str, tuple[str, ...]] = {
    "temperature-softmax": ("temperature",),
    "effective-softmax": ("effective_tasks",),
    "soft-margin-softmax": ("margin", "temperature"),
    "taylor-softmax": ("temperature",),
}


def build_normalizer(name: str, **options: Any) -> Normalizer:
    """A normalizer by name; options that are None count as not given.

    Raises:
        ConfigError: the name is unknown, or an option is missing, unknown or out of range.
    """
    if name not in NORMALIZERS:
        raise ConfigError(f"unknown normalizer {name!r}{nearest(str(name), list(NORMALIZERS))}")
    given = {option: value for option, value in options.items() if value is not None}
    takes = OPTIONS.get(name, ())
    for option in given:
        if option not in takes:
            raise ConfigError(
                f"normalizer {name!r} has no option {option!r}; it takes {', '.join(takes) or 'none'}"
            )
    needed = {
        "temperature-softmax": "temperature",
        "effective-softmax": "effective_tasks",
        "soft-margin-softmax": "margin",
    }
    if name in needed and needed[name] not in given:
        raise ConfigError(f"normalizer {name!r} needs the option {needed[name]!r}")
    return NORMALIZERS[name](**given)
