"""Which way the metric rises, from the configurations that were tried."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WIDTH = 0.35
"""How far, in units of the range, a tried point still counts for much in one dimension."""
RIDGE = 1e-2
"""Keeps the estimate finite where points leave a direction open."""
LEAST_POINTS = 3


def uphill(
    places: np.ndarray,
    values: Sequence[float],
    centre: np.ndarray,
    groups: Sequence[int] | None = None,
) -> np.ndarray | None:
    """Direction of steepest ascent at a point: a plane through the tried points, near ones counting more.

    Args:
        places: ``(N, D)`` tried points, every coordinate 0 to 1.
        values: ``(N,)`` objective, more is better.
        centre: ``(D,)`` where the direction is wanted.
        groups: ``(N,)`` round of each point. When given, rounds may lie at different heights: where each
            round trains on from the last one's model, the objective rises with the rounds by itself.

    Returns:
        ``(D,)`` of length 1; None with fewer than 3 points, or where no direction can be told.
    """
    if len(places) < LEAST_POINTS or places.shape[1] == 0:
        return None
    found = np.asarray(values, float)
    near = np.exp(-((places - centre) ** 2).sum(1) / (2 * WIDTH**2 * places.shape[1]))
    height = np.ones((len(places), 1))
    if groups is not None:
        height = (np.asarray(groups)[:, None] == np.unique(groups)[None]).astype(float)
    # The heights are taken out first, so that the ridge draws the slope alone towards 0.
    slopes, rest = (_without(height, part, near) for part in (places - centre, found[:, None]))
    root = np.sqrt(near)[:, None]
    gram = (root * slopes).T @ (root * slopes)
    scale = np.trace(gram) / len(gram)
    if not scale > 0:
        return None
    slope = np.linalg.solve(gram + RIDGE * scale * np.eye(len(gram)), (near[:, None] * slopes).T @ rest)
    length = float(np.linalg.norm(slope))
    return slope[:, 0] / length if length > 1e-12 else None


def _without(height: np.ndarray, part: np.ndarray, near: np.ndarray) -> np.ndarray:
    """``(N, M)`` with the weighted mean of each group taken out."""
    shares = height * near[:, None]
    means = (shares.T @ part) / np.maximum(shares.sum(0), 1e-300)[:, None]
    rest: np.ndarray = part - height @ means
    return rest
