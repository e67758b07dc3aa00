"""Losses per case that leave unlabelled cases and values out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medmtl.types import NO_CLASS


def case_cross_entropy(logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over labelled cases.

    Args:
        logits: ``(B, K)``.
        target: ``(B,)`` class indices, -1 = unlabelled.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
    """
    total = functional.cross_entropy(
        logits.float(), target, ignore_index=NO_CLASS, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (target != NO_CLASS).sum().clamp_min(1)


def case_smooth_l1(prediction: Tensor, target: Tensor, *, beta: float = 0.5) -> Tensor:
    """Mean smooth L1 (Girshick 2015) over the values that are known.

    Args:
        prediction: ``(B, K)`` in standard deviations.
        target: ``(B, K)``, NaN = unlabelled.
        beta: where the square turns into a line.
    """
    known = torch.isfinite(target)
    filled = torch.where(known, target, 0.0)
    per_value = functional.smooth_l1_loss(prediction.float(), filled, beta=beta, reduction="none")
    return torch.where(known, per_value, 0.0).sum() / known.sum().clamp_min(1)
