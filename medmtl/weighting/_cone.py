"""Small quadratic problems over the nonnegative cone, solved exactly by scipy's Lawson-Hanson solver.

They stand in for quadprog, which is under the GPL, and for TorchJD's Frank-Wolfe loop, which ends at its
first short step: with 12 tasks whose gradients' norms span two decades its direction can be against one.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor


def square_root(gramian: Tensor | np.ndarray) -> np.ndarray:
    """A ``(P, P)`` matrix A with A^T A equal to a positive semidefinite one; rounding below 0 counts as 0."""
    values, vectors = np.linalg.eigh(np.asarray(gramian, dtype=np.float64))
    return np.sqrt(values.clip(0))[:, None] * vectors.T


def nonnegative_least_squares(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The x >= 0 with the smallest |matrix x - target|."""
    from scipy.optimize import nnls

    solution: np.ndarray = nnls(matrix, target, maxiter=100 * matrix.shape[1])[0]
    return solution


def smallest_convex_combination(matrix: np.ndarray) -> np.ndarray:
    """Weights w ``(P,)`` >= 0 with sum 1 and the smallest |matrix w|; columns are points.

    The x >= 0 that minimizes |matrix x|^2 + (sum x - 1)^2 is w times a number (Lawson and Hanson 1974,
    chapter 23).
    """
    count = matrix.shape[1]
    x = nonnegative_least_squares(np.vstack([matrix, np.ones(count)]), np.append(np.zeros(len(matrix)), 1.0))
    return x / x.sum()
