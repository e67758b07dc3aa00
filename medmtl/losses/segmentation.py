"""What a segmentation is trained with: an overlap loss plus a loss per voxel, by name."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medmtl.losses.overlap import generalized_dice_loss, soft_dice_loss, tversky_loss
from medmtl.losses.voxel import masked_cross_entropy, masked_focal_loss

SegmentationLoss = Literal["dice_ce", "dice_focal", "tversky_ce", "generalized_dice_ce"]


def dice_cross_entropy(logits: Tensor, target: Tensor, *, skip: int = 1, together: bool = False) -> Tensor:
    """Soft Dice loss plus cross-entropy (Isensee et al. 2021), in float32, on labelled voxels."""
    return segmentation_loss("dice_ce", logits, target, skip=skip, together=together)


def segmentation_loss(
    name: SegmentationLoss,
    logits: Tensor,
    target: Tensor,
    *,
    skip: int = 1,
    together: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """An overlap loss plus a loss per voxel, both in float32 and on labelled voxels.

    Args:
        name: ``dice_ce`` (Isensee et al. 2021), ``dice_focal`` (Zhu et al. 2019), ``tversky_ce`` (Salehi et
            al. 2017, missed voxels dearer than added ones) or ``generalized_dice_ce`` (Sudre et al. 2017).
        logits: ``(N, K, X, Y, Z)``.
        target: ``(N, X, Y, Z)`` class indices, 255 = unlabelled.
        skip: leading classes that the overlap leaves out (1 leaves the background out).
        together: one overlap per class over the whole batch ("batch Dice").
        label_smoothing: of the cross-entropy; the focal loss has none.

    Returns:
        ``()``; 0 when nothing is labelled.
    """
    logits = logits.float()
    probabilities = torch.softmax(logits, 1)
    overlap = {
        "dice_ce": soft_dice_loss,
        "dice_focal": soft_dice_loss,
        "tversky_ce": tversky_loss,
        "generalized_dice_ce": generalized_dice_loss,
    }[name](probabilities, target, skip=skip, together=together)
    if name == "dice_focal":
        return overlap + masked_focal_loss(logits, target)
    return overlap + masked_cross_entropy(logits, target, label_smoothing=label_smoothing)
