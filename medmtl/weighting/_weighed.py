"""What a method decides for one step, and the arithmetic of weights and losses that all share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

TINY = 1e-20
"""Losses are taken as at least this when one is divided by, so that a loss of 0 gives a number, not NaN."""


@dataclass(frozen=True)
class Weighed:
    """What a method decided for the P tasks present on one step.

    Attributes:
        raw: ``(P,)`` raw weights, before any normalizer.
        weights: ``(P,)`` factors of the losses; carry a gradient only if they are learned.
        share: ``(P,)`` share of each task in the total, summing to 1, for the collapse alarm. Of the weight
            where weights can be compared, of the weighted loss where a weight may only undo its loss's unit,
            which is no collapse. Or what finds it, called once the weights are in use.
    """

    raw: Tensor
    weights: Tensor
    share: Tensor | Callable[[], Tensor]


def finite(values: Tensor) -> Tensor:
    """`torch.isfinite` in two launches instead of four."""
    return values.abs() < math.inf


def share_of(parts: Tensor, usable: Tensor) -> Tensor:
    """Shares ``(P,)`` of parts >= 0 that sum to 1; tasks that are not usable hold nothing."""
    kept = torch.where(usable, parts, 0.0)
    largest = kept.max().clamp_min(TINY)
    return kept / largest / (kept / largest).sum().clamp_min(TINY)


def weighted_sum(weights: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> Tensor:
    """sum_i w_i L_i, at least in float32."""
    widest = torch.float32
    for loss in losses.values():
        widest = torch.promote_types(widest, loss.dtype)
    factors = torch.stack([weights[name] for name in losses])
    return (factors * torch.stack([loss.to(widest) for loss in losses.values()])).sum()
