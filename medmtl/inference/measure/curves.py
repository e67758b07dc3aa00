"""Volumes of structures over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def volume_curves(
    mask: NDArray[Any], labels: Mapping[str, int], voxel_ml: float
) -> dict[str, NDArray[np.float64]]:
    """Volume of every structure in every frame.

    Args:
        mask: ``(T, X, Y, Z)`` uint8.
        labels: voxel value of each structure.
        voxel_ml: volume of a voxel in mL.

    Returns:
        ``(T,)`` mL by structure.
    """
    counts = np.stack([np.bincount(frame.reshape(-1), minlength=256) for frame in mask])
    return {name: counts[:, value].astype(np.float64) * voxel_ml for name, value in labels.items()}
