"""How well classes are told apart, and how far the probabilities can be believed.

Classes are names (or any labels that compare equal); probabilities are ``(N, C)`` with columns in the order
of ``classes``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medmtl.metrics.estimate import Estimate

FloatArray = NDArray[np.float64]
LabelArray = NDArray[Any]


def accuracy(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Share of cases whose class is right.

    Args:
        predicted: ``(N,)`` class names.
        truth: ``(N,)`` class names.

    Returns:
        0 to 1, ``nan`` without cases.

    Raises:
        ValueError: lengths differ.
    """
    guess, true = _label_pair(predicted, truth)
    return float((guess == true).mean()) if len(true) else math.nan


def balanced_accuracy(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean over the classes that occur in the truth of the share of its cases that is right.

    Args:
        predicted: ``(N,)`` class names.
        truth: ``(N,)`` class names.

    Returns:
        0 to 1, ``nan`` without cases.

    Raises:
        ValueError: lengths differ.
    """
    guess, true = _label_pair(predicted, truth)
    if not len(true):
        return math.nan
    _, index = np.unique(true, return_inverse=True)
    return float((np.bincount(index, weights=guess == true) / np.bincount(index)).mean())


def confusion_matrix(predicted: ArrayLike, truth: ArrayLike, classes: Sequence[Any]) -> NDArray[np.int64]:
    """Counts of cases, rows by true class and columns by predicted class.

    Args:
        predicted: ``(N,)`` class names.
        truth: ``(N,)`` class names.
        classes: the C names, in the order of rows and columns.

    Returns:
        ``(C, C)`` counts.

    Raises:
        ValueError: lengths differ, or a name is not among ``classes``.
    """
    guess, true = _label_pair(predicted, truth)
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(matrix, (_class_index(true, classes), _class_index(guess, classes)), 1)
    return matrix


def one_vs_rest_auc(probabilities: ArrayLike, truth: ArrayLike, classes: Sequence[Any]) -> dict[Any, float]:
    """Area under the ROC curve of each class against the rest.

    Args:
        probabilities: ``(N, C)``, columns in the order of ``classes``; any score that orders cases will do.
        truth: ``(N,)`` class names.
        classes: the C names.

    Returns:
        By class, 0 to 1; ``nan`` for a class that no case or every case has.

    Raises:
        ValueError: shapes do not fit, a probability is not finite, or a name is not among ``classes``.

    Source: Mann-Whitney U over the number of pairs (Hanley and McNeil 1982); ties count one half.
    """
    scores_NC, index = _scores(probabilities, truth, classes)
    return {name: _auc(scores_NC[:, column], index == column) for column, name in enumerate(classes)}


def macro_auc(probabilities: ArrayLike, truth: ArrayLike, classes: Sequence[Any]) -> Estimate:
    """Mean one-versus-rest AUC over the classes for which it is defined.

    Args:
        probabilities: ``(N, C)``, columns in the order of ``classes``.
        truth: ``(N,)`` class names.
        classes: the C names.

    Returns:
        0 to 1, with ``n`` the number of *classes* in the mean (fewer than C: some were undefined and left
        out); ``nan`` when no class is defined.

    Raises:
        ValueError: as :func:`one_vs_rest_auc`.
    """
    by_class = one_vs_rest_auc(probabilities, truth, classes)
    defined = [value for value in by_class.values() if not math.isnan(value)]
    return Estimate(float(np.mean(defined)) if defined else math.nan, n=len(defined))


def expected_calibration_error(
    probabilities: ArrayLike, truth: ArrayLike, classes: Sequence[Any], bins: int = 15
) -> float:
    """Mean gap between the confidence in the likeliest class and how often it is right, in equal-width bins.

    Args:
        probabilities: ``(N, C)``, columns in the order of ``classes``.
        truth: ``(N,)`` class names.
        classes: the C names.
        bins: number of bins over 0 to 1, each closed above.

    Returns:
        0 (calibrated) to 1; ``nan`` without cases.

    Raises:
        ValueError: as :func:`one_vs_rest_auc`, or fewer than one bin.

    Source: Guo et al., ICML 2017, equation 3.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, found {bins}")
    scores_NC, index = _scores(probabilities, truth, classes)
    if not len(index):
        return math.nan
    confidence = scores_NC.max(axis=1)
    right = scores_NC.argmax(axis=1) == index
    bin_of_case = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(bin_of_case, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(index))


def _auc(score: FloatArray, positive: NDArray[np.bool_]) -> float:
    """Mann-Whitney U over the pairs; scikit-learn's is the oracle, this one is quick to bootstrap."""
    from scipy.stats import rankdata

    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not (n_positive and n_negative):
        return math.nan
    rank_sum = float(rankdata(score)[positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def _scores(
    probabilities: ArrayLike, truth: ArrayLike, classes: Sequence[Any]
) -> tuple[FloatArray, NDArray[np.int64]]:
    scores_NC, true = np.asarray(probabilities, dtype=np.float64), np.asarray(truth)
    if true.ndim != 1 or scores_NC.shape != (len(true), len(classes)):
        raise ValueError(
            f"probabilities must be ({len(true)}, {len(classes)}) for {len(true)} cases and "
            f"{len(classes)} classes, found {scores_NC.shape}"
        )
    if not np.isfinite(scores_NC).all():
        raise ValueError("probabilities hold nan or inf; leave out the cases that have none")
    return scores_NC, _class_index(true, classes)


def _class_index(labels: LabelArray, classes: Sequence[Any]) -> NDArray[np.int64]:
    position = {name: index for index, name in enumerate(classes)}
    unknown = sorted({str(label) for label in labels.tolist() if label not in position})
    if unknown:
        raise ValueError(f"class {unknown[0]!r} is not among {list(classes)}")
    return np.array([position[label] for label in labels.tolist()], dtype=np.int64)


def _label_pair(predicted: ArrayLike, truth: ArrayLike) -> tuple[LabelArray, LabelArray]:
    guess, true = np.asarray(predicted), np.asarray(truth)
    if guess.ndim != 1 or guess.shape != true.shape:
        raise ValueError(f"predicted and truth must be (N,) and (N,), found {guess.shape} and {true.shape}")
    return guess, true
