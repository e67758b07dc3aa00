"""Losses per voxel that leave unlabelled voxels out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medmtl.types import UNLABELLED


def soft_dice_loss(
    probabilities: Tensor, target: Tensor, *, skip: int = 1, together: bool = False, epsilon: float = 1e-5
) -> Tensor:
    """One minus the mean soft Dice over samples and classes (Milletari et al. 2016), on labelled voxels.

    Args:
        probabilities: ``(N, K, X, Y, Z)``.
        target: ``(N, X, Y, Z)`` class indices, 255 = unlabelled.
        skip: leading classes left out (1 leaves the background out).
        together: one Dice per class over the whole batch, for classes that most samples do not have.
        epsilon: keeps an absent class that nobody predicts at a Dice of 1.

    Returns:
        ``()`` in 0..1; 0 when nothing is labelled.
    """
    known = target != UNLABELLED
    classes = probabilities.shape[1]
    one_hot = functional.one_hot(torch.where(known, target, 0), classes).movedim(-1, 1)
    keep = known[:, None]
    p = torch.where(keep, probabilities, 0.0)[:, skip:].flatten(2)
    t = torch.where(keep, one_hot, 0)[:, skip:].flatten(2).to(p.dtype)
    overlap, size = (p * t).sum(2), p.sum(2) + t.sum(2)
    if together:
        return 1 - ((2 * overlap.sum(0) + epsilon) / (size.sum(0) + epsilon)).mean()
    dice = (2 * overlap + epsilon) / (size + epsilon)
    labelled = known.flatten(1).any(1)
    weight = labelled.to(dice.dtype)[:, None]
    return ((1 - dice) * weight).sum() / (weight.sum() * dice.shape[1]).clamp_min(1)


def masked_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over labelled voxels; 0 when there are none.

    Args:
        logits: ``(N, K, ...)``.
        target: ``(N, ...)`` class indices, 255 = unlabelled.
    """
    total = functional.cross_entropy(logits, target, ignore_index=UNLABELLED, reduction="sum")
    return total / (target != UNLABELLED).sum().clamp_min(1)


def dice_cross_entropy(logits: Tensor, target: Tensor, *, skip: int = 1, together: bool = False) -> Tensor:
    """Soft Dice loss plus cross-entropy (Isensee et al. 2021), in float32, on labelled voxels."""
    logits = logits.float()
    return soft_dice_loss(logits.softmax(1), target, skip=skip, together=together) + masked_cross_entropy(
        logits, target
    )


def masked_absolute_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over voxels where ``target`` is not NaN; shapes alike."""
    known = torch.isfinite(target)
    error = torch.where(known, (prediction.float() - torch.where(known, target, 0.0)).abs(), 0.0)
    return error.sum() / known.sum().clamp_min(1)


def coarser_target(target: Tensor, shape: Sequence[int]) -> Tensor:
    """Labels or values ``(N, X, Y, Z)`` at the nearest voxels of a coarser level of ``shape``."""
    if tuple(target.shape[1:]) == tuple(shape):
        return target
    index = [
        torch.arange(s, device=target.device) * t // s for s, t in zip(shape, target.shape[1:], strict=True)
    ]
    return target[:, index[0]][:, :, index[1]][:, :, :, index[2]]
