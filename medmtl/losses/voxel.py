"""Losses per voxel; unlabelled voxels are left out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medmtl.types import UNLABELLED


def masked_cross_entropy(logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over labelled voxels; 0 when there are none.

    Args:
        logits: ``(N, K, ...)``.
        target: ``(N, ...)`` class indices, 255 = unlabelled.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
    """
    total = functional.cross_entropy(
        logits, target, ignore_index=UNLABELLED, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (target != UNLABELLED).sum().clamp_min(1)


def masked_focal_loss(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Mean focal loss (Lin et al. 2017): cross-entropy times (1 - p)^gamma, p the true class's probability.

    Args:
        logits: ``(N, K, ...)``.
        target: ``(N, ...)`` class indices, 255 = unlabelled.
        gamma: how much less voxels count that are right already; 0 is cross-entropy.

    Returns:
        ``()``; 0 when nothing is labelled.
    """
    cost = functional.cross_entropy(logits, target, ignore_index=UNLABELLED, reduction="none")
    return ((1 - (-cost).exp()) ** gamma * cost).sum() / (target != UNLABELLED).sum().clamp_min(1)


def masked_absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over voxels where ``target`` is not NaN; shapes alike."""
    known = torch.isfinite(target)
    error = torch.where(known, (prediction.float() - torch.where(known, target, 0.0)).abs(), 0.0)
    return error.sum() / known.sum().clamp_min(1)


def masked_huber(prediction: Tensor, target: Tensor, *, delta: float = 1.0) -> Tensor:
    """Mean Huber loss (1964) over voxels where ``target`` is not NaN: square below ``delta``, then a line."""
    known = torch.isfinite(target)
    cost = functional.huber_loss(
        prediction.float(), torch.where(known, target, 0.0), delta=delta, reduction="none"
    )
    return torch.where(known, cost, 0.0).sum() / known.sum().clamp_min(1)


def coarser_target(target: Tensor, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Labels or values ``(N, X, Y, Z)`` at the nearest voxels of a coarser level of ``shape``."""
    if tuple(target.shape[1:]) == tuple(shape):
        return target
    if all(t % s == 0 for s, t in zip(shape, target.shape[1:], strict=True)):
        x, y, z = (t // s for s, t in zip(shape, target.shape[1:], strict=True))
        return target[:, ::x, ::y, ::z]
    index = [
        torch.arange(s, device=target.device) * t // s for s, t in zip(shape, target.shape[1:], strict=True)
    ]
    return target[:, index[0]][:, :, index[1]][:, :, :, index[2]]
