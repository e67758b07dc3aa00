"""Losses on the overlap of soft masks with the truth; unlabelled voxels are left out."""

from __future__ import annotations

import torch
from torch import Tensor

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
    return tversky_loss(
        probabilities, target, alpha=0.5, beta=0.5, skip=skip, together=together, epsilon=epsilon
    )


def tversky_loss(
    probabilities: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    skip: int = 1,
    together: bool = False,
    epsilon: float = 1e-5,
) -> Tensor:
    """One minus the mean Tversky index (Salehi et al. 2017): TP / (TP + alpha FP + beta FN).

    With alpha = beta = 1/2 it is the Dice loss; beta above alpha makes missed voxels dearer than added ones.

    Args:
        probabilities: ``(N, K, X, Y, Z)``.
        target: ``(N, X, Y, Z)`` class indices, 255 = unlabelled.
        alpha: weight of false positives.
        beta: weight of false negatives.
        skip: leading classes left out.
        together: one index per class over the whole batch.
        epsilon: keeps an absent class that nobody predicts at an index of 1.

    Returns:
        ``()`` in 0..1; 0 when nothing is labelled.
    """
    p, t, labelled = _flat(probabilities, target, skip)
    overlap = 2 * (p * t).sum(2)
    size = torch.add(2 * alpha * p.sum(2), t.sum(2), alpha=2 * beta)
    if alpha + beta != 1:
        size = size + (1 - alpha - beta) * overlap
    if together:
        return 1 - ((overlap.sum(0) + epsilon) / (size.sum(0) + epsilon)).mean()
    index = (overlap + epsilon) / (size + epsilon)
    weight = labelled.to(index.dtype)[:, None]
    return ((1 - index) * weight).sum() / (weight.sum() * index.shape[1]).clamp_min(1)


def generalized_dice_loss(
    probabilities: Tensor, target: Tensor, *, skip: int = 1, together: bool = False, epsilon: float = 1e-5
) -> Tensor:
    """One minus the generalized Dice (Sudre et al. 2017): classes weighed by one over their squared volume.

    A class that a sample does not have takes the weight of the smallest one that it has, so that a false
    positive still costs something and nothing is divided by 0.

    Args:
        probabilities: ``(N, K, X, Y, Z)``.
        target: ``(N, X, Y, Z)`` class indices, 255 = unlabelled.
        skip: leading classes left out.
        together: one Dice over the whole batch.
        epsilon: keeps samples without any structure at a Dice of 1 where none is predicted.

    Returns:
        ``()`` in 0..1; 0 when nothing is labelled.
    """
    p, t, labelled = _flat(probabilities, target, skip)
    overlap, size, volume = (p * t).sum(2), p.sum(2) + t.sum(2), t.sum(2)
    if together:
        overlap, size, volume = (x.sum(0, keepdim=True) for x in (overlap, size, volume))
        labelled = labelled.any(0, keepdim=True)
    weight = torch.where(volume > 0, 1 / volume.clamp_min(1).square(), 0.0)
    largest = weight.amax(1, keepdim=True)
    weight = torch.where(volume > 0, weight, torch.where(largest > 0, largest, 1.0))
    weight = weight / weight.sum(1, keepdim=True)
    dice = (2 * (weight * overlap).sum(1) + epsilon) / ((weight * size).sum(1) + epsilon)
    counted = labelled.to(dice.dtype)
    return ((1 - dice) * counted).sum() / counted.sum().clamp_min(1)


def _flat(probabilities: Tensor, target: Tensor, skip: int) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and one-hot truth ``(N, K - skip, V)``, 0 where unlabelled; which samples have labels."""
    known = target != UNLABELLED
    classes = torch.arange(skip, probabilities.shape[1], device=target.device)
    t = (target[:, None] == classes[:, None, None, None]).flatten(2).to(probabilities.dtype)
    p = torch.where(known[:, None], probabilities[:, skip:], 0.0).flatten(2)
    return p, t, known.flatten(1).any(1)
