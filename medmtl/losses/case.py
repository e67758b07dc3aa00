"""Losses per case that leave unlabelled cases and values out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medmtl.types import NO_CLASS


def case_cross_entropy(
    logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over labelled cases.

    Args:
        logits: ``(B, K)``.
        target: ``(B,)`` class indices, -1 = unlabelled.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
        class_weights: ``(K,)`` weight of a case by its class, for rare classes; the mean is over cases, so
            that weights with a mean of 1 over the training cases leave the loss's size as it is.
    """
    cost = functional.cross_entropy(
        logits.float(), target, ignore_index=NO_CLASS, reduction="none", label_smoothing=label_smoothing
    )
    known = target != NO_CLASS
    if class_weights is not None:
        cost = cost * class_weights.to(cost.device)[torch.where(known, target, 0)]
    return torch.where(known, cost, 0.0).sum() / known.sum().clamp_min(1)


def balanced_class_weights(counts: Tensor, *, beta: float = 0.99) -> Tensor:
    """Weights of classes by the effective number of their cases (Cui et al. 2019, eq. 4), mean 1 over cases.

    Args:
        counts: ``(K,)`` cases of each class; a class without any weighs nothing.
        beta: 0 weighs all classes alike, towards 1 by one over their counts.
    """
    counts = counts.double()
    effective = (1 - beta**counts) / (1 - beta)
    weights = torch.where(counts > 0, 1 / effective.clamp_min(1e-12), 0.0)
    return (weights * counts.sum() / (weights * counts).sum().clamp_min(1e-12)).float()


def case_ordinal(logits: Tensor, target: Tensor) -> Tensor:
    """CORN loss for classes in an order (Shi et al. 2021, eq. 3).

    One question per threshold, asked of the cases that reach it: does the case lie above class k?

    Args:
        logits: ``(B, K - 1)``, one per threshold between neighbouring classes.
        target: ``(B,)`` class indices in their order, -1 = unlabelled.

    Returns:
        Mean over all questions that were asked of labelled cases, ``()``.
    """
    threshold = torch.arange(logits.shape[1], device=logits.device)
    asked = (target[:, None] >= threshold) & (target != NO_CLASS)[:, None]
    above = (target[:, None] > threshold).float()
    cost = functional.binary_cross_entropy_with_logits(logits.float(), above, reduction="none")
    return torch.where(asked, cost, 0.0).sum() / asked.sum().clamp_min(1)


def ordinal_probabilities(logits: Tensor) -> Tensor:
    """Probability of each of K ordered classes ``(B, K)`` from CORN's logits ``(B, K - 1)``."""
    above = logits.float().sigmoid().cumprod(1)
    ones, zeros = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
    return torch.cat([ones, above], 1) - torch.cat([above, zeros], 1)


def case_smooth_l1(prediction: Tensor, target: Tensor, *, beta: float = 0.5) -> Tensor:
    """Mean smooth L1 (Girshick 2015) over the values that are known; ``beta`` = 0 is the absolute error.

    Args:
        prediction: ``(B, K)`` in standard deviations.
        target: ``(B, K)``, NaN = unlabelled.
        beta: where the square turns into a line.
    """
    known, filled = _known(target)
    cost = functional.smooth_l1_loss(prediction.float(), filled, beta=beta, reduction="none")
    return torch.where(known, cost, 0.0).sum() / known.sum().clamp_min(1)


def case_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the values that are known; shapes as in `case_smooth_l1`."""
    known, filled = _known(target)
    cost = (prediction.float() - filled).square()
    return torch.where(known, cost, 0.0).sum() / known.sum().clamp_min(1)


def case_gaussian_nll(prediction: Tensor, log_variance: Tensor, target: Tensor) -> Tensor:
    """Mean negative log-likelihood of a Gaussian whose spread is predicted too (Kendall and Gal 2017, eq. 8).

    The constant ln(2 pi) / 2 is left out; the loss may be negative.

    Args:
        prediction: ``(B, K)`` in standard deviations.
        log_variance: ``(B, K)``; taken between -10 and 10.
        target: ``(B, K)``, NaN = unlabelled.
    """
    known, filled = _known(target)
    log_variance = log_variance.float().clamp(-10, 10)
    cost = 0.5 * ((prediction.float() - filled).square() * (-log_variance).exp() + log_variance)
    return torch.where(known, cost, 0.0).sum() / known.sum().clamp_min(1)


def _known(target: Tensor) -> tuple[Tensor, Tensor]:
    known = torch.isfinite(target)
    return known, torch.where(known, target, 0.0)
