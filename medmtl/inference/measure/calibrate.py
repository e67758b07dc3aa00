"""Probabilities that mean what they say, by temperature scaling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST = 10
"""Labelled cases below which nothing is fitted."""
LIMITS = (0.2, 10.0)
_TINY = 1e-12


def calibrated(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """``(N, K)`` class probabilities at a temperature: softmax(log p / T).

    For probabilities that are a softmax this is temperature scaling of its logits (Guo et al. 2017).
    """
    logits = np.log(np.maximum(probabilities, _TINY)) / temperature
    logits -= logits.max(1, keepdims=True)
    scaled = np.exp(logits)
    found: NDArray[np.float64] = scaled / scaled.sum(1, keepdims=True)
    return found


def fit_temperature(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """The temperature under which the true classes are most likely.

    A weak prior on log T (standard normal) keeps it finite where all cases are classified rightly.

    Args:
        probabilities: ``(N, K)``.
        truth: ``(N,)`` class indices.

    Returns:
        T between 0.2 and 10; 1 where there are fewer than 10 cases.
    """
    from scipy.optimize import minimize_scalar

    if len(truth) < FEWEST:
        return 1.0

    def loss(log_t: float) -> float:
        p = calibrated(probabilities, float(np.exp(log_t)))[np.arange(len(truth)), truth]
        return float(-np.log(np.maximum(p, _TINY)).sum()) + 0.5 * log_t**2

    found = minimize_scalar(loss, bounds=tuple(np.log(LIMITS)), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))
