"""Overlap of two masks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from medmtl.metrics._masks import mask_pair


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Dice similarity coefficient, 2 |P and T| / (|P| + |T|).

    Args:
        prediction: boolean mask of any shape.
        truth: boolean mask of the same shape.

    Returns:
        0 to 1. Both masks empty is 0/0 and gives ``nan`` (leave it out of means, and count it); one empty
        gives 0.

    Raises:
        ValueError: shapes differ or an array is not a mask.

    Source: Dice, Ecology 1945; for empty masks Reinke et al., Nature Methods 2024 ("Understanding
    metric-related pitfalls in image analysis validation").

    >>> dice([True, True, False], [True, False, False])
    0.6666666666666666
    """
    predicted, true = mask_pair(prediction, truth)
    size = np.count_nonzero(predicted) + np.count_nonzero(true)
    if size == 0:
        return math.nan
    return 2.0 * float(np.count_nonzero(predicted & true)) / float(size)
