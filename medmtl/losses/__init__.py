"""Losses of single tasks; every one leaves out what nobody labelled."""

from medmtl.losses.case import case_cross_entropy, case_smooth_l1
from medmtl.losses.dense import (
    coarser_target,
    dice_cross_entropy,
    masked_absolute_error,
    masked_cross_entropy,
    soft_dice_loss,
)

__all__ = [
    "case_cross_entropy",
    "case_smooth_l1",
    "coarser_target",
    "dice_cross_entropy",
    "masked_absolute_error",
    "masked_cross_entropy",
    "soft_dice_loss",
]
