"""The one border check that overlap and surface metrics share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

BoolArray = NDArray[np.bool_]


def mask_pair(prediction: ArrayLike, truth: ArrayLike) -> tuple[BoolArray, BoolArray]:
    """Two boolean masks of one shape.

    Integer arrays of zeros and ones are taken as boolean. A label map is refused, because reading "any label"
    as foreground would be a wrong number rather than an error.

    Raises:
        ValueError: shapes differ, or an array holds something else than false and true.
    """
    masks = tuple(_as_bool(name, array) for name, array in (("prediction", prediction), ("truth", truth)))
    if masks[0].shape != masks[1].shape:
        raise ValueError(
            f"prediction has shape {masks[0].shape} and truth {masks[1].shape}; "
            "bring both to one grid before comparing them"
        )
    return masks[0], masks[1]


def _as_bool(name: str, array: ArrayLike) -> BoolArray:
    mask = np.asarray(array)
    if mask.dtype == np.bool_:
        return mask
    if mask.size and not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"{name} must be a boolean mask, found values from {mask.min()} to {mask.max()}; "
            "compare one structure at a time: (labels == code)"
        )
    return mask.astype(np.bool_)
