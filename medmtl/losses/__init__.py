"""Losses of single tasks; every one leaves out what nobody labelled."""

from medmtl.losses.boundary import boundary_loss
from medmtl.losses.case import (
    balanced_class_weights,
    case_cross_entropy,
    case_gaussian_nll,
    case_ordinal,
    case_smooth_l1,
    case_squared_error,
    ordinal_probabilities,
)
from medmtl.losses.overlap import generalized_dice_loss, soft_dice_loss, tversky_loss
from medmtl.losses.segmentation import SegmentationLoss, dice_cross_entropy, segmentation_loss
from medmtl.losses.voxel import (
    coarser_target,
    masked_absolute_error,
    masked_cross_entropy,
    masked_focal_loss,
    masked_huber,
)

__all__ = [
    "SegmentationLoss",
    "balanced_class_weights",
    "boundary_loss",
    "case_cross_entropy",
    "case_gaussian_nll",
    "case_ordinal",
    "case_smooth_l1",
    "case_squared_error",
    "coarser_target",
    "dice_cross_entropy",
    "generalized_dice_loss",
    "masked_absolute_error",
    "masked_cross_entropy",
    "masked_focal_loss",
    "masked_huber",
    "ordinal_probabilities",
    "segmentation_loss",
    "soft_dice_loss",
    "tversky_loss",
]
