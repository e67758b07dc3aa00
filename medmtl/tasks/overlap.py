"""Mean Dice of labelled frames, for validation while training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from medmtl.metrics import dice
from medmtl.types import UNLABELLED


def mean_dice(
    predictions: Sequence[np.ndarray], truths: Sequence[Tensor | None], labels: Mapping[str, int]
) -> dict[str, float]:
    """Dice of each structure over all labelled frames, their mean as ``dice`` and ``score``.

    Args:
        predictions: per case ``(T, X, Y, Z)`` voxel values.
        truths: per case ``(T, X, Y, Z)`` voxel values with 255 = unlabelled, or None.
        labels: structure -> voxel value.
    """
    found: dict[str, list[float]] = {name: [] for name in labels}
    for prediction, truth in zip(predictions, truths, strict=True):
        if truth is None:
            continue
        for predicted, true in zip(prediction, truth.cpu().numpy(), strict=True):
            known = true != UNLABELLED
            if not known.any():
                continue
            for name, value in labels.items():
                found[name].append(dice((predicted == value) & known, true == value))
    means = {f"dice.{name}": float(np.nanmean(v)) for name, v in found.items() if v and not np.isnan(v).all()}
    if not means:
        return {}
    mean = float(np.mean(list(means.values())))
    return {**means, "dice": mean, "score": mean}
