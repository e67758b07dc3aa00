"""Agreement of two ways to measure the same quantity: differences, limits of agreement, correlation, ICC.

A pair with a missing number (``nan``) on either side is left out, and ``n`` tells how many are left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medmtl.metrics.estimate import NO_INTERVAL, Estimate, Interval

FloatArray = NDArray[np.float64]
IccForm = Literal["ICC(2,1)", "ICC(3,1)"]


@dataclass(frozen=True)
class BlandAltman:
    """Bias and limits of agreement, in the unit of the measurement.

    Attributes:
        bias: mean of method - reference.
        sd: standard deviation of the differences (n - 1 in the denominator).
        lower: bias - 1.96 sd.
        upper: bias + 1.96 sd.
        bias_ci, sd_ci, lower_ci, upper_ci: their confidence intervals.
        n: number of pairs.
    """

    bias: float
    sd: float
    lower: float
    upper: float
    bias_ci: Interval
    sd_ci: Interval
    lower_ci: Interval
    upper_ci: Interval
    n: int


def bland_altman(method: ArrayLike, reference: ArrayLike, confidence: float = 0.95) -> BlandAltman:
    """Bias and 95 % limits of agreement, each with its confidence interval.

    The standard error of the bias is sd / sqrt(n), that of a limit sd sqrt(1/n + 1.96^2 / (2 (n - 1))), both
    with Student's t on n - 1 degrees of freedom; that of sd is exact for normal differences (chi-square).

    Args:
        method: ``(N,)`` values of the method under test.
        reference: ``(N,)`` values to compare with, same unit.
        confidence: coverage of the intervals.

    Returns:
        The numbers in the unit of the measurement; ``nan`` where there are too few pairs (none for the bias,
        one for sd and limits).

    Raises:
        ValueError: the arrays are not one-dimensional or differ in length.

    Source: Bland and Altman, Statistical Methods in Medical Research 1999;8:135-160, sections 2.1 and 2.2.
    """
    from scipy.stats import chi2, norm, t

    values, true = _pairs(method, reference)
    n = len(values)
    difference = values - true
    bias = float(difference.mean()) if n else math.nan
    if n < 2:
        nothing = (NO_INTERVAL,) * 4
        return BlandAltman(bias, math.nan, math.nan, math.nan, *nothing, n)
    sd = float(difference.std(ddof=1))
    z = float(norm.ppf(0.975))
    student = float(t.ppf((1 + confidence) / 2, n - 1))
    bias_half = student * sd / math.sqrt(n)
    limit_half = student * sd * math.sqrt(1 / n + z**2 / (2 * (n - 1)))
    lower, upper = bias - z * sd, bias + z * sd
    tail = (1 - confidence) / 2
    sd_ends = [sd * math.sqrt((n - 1) / float(chi2.ppf(level, n - 1))) for level in (1 - tail, tail)]
    return BlandAltman(
        bias=bias,
        sd=sd,
        lower=lower,
        upper=upper,
        bias_ci=Interval(bias - bias_half, bias + bias_half),
        sd_ci=Interval(*sd_ends),
        lower_ci=Interval(lower - limit_half, lower + limit_half),
        upper_ci=Interval(upper - limit_half, upper + limit_half),
        n=n,
    )


def mean_absolute_error(method: ArrayLike, reference: ArrayLike) -> Estimate:
    """Mean of abs(method - reference), in the unit of the measurement.

    It has no interval of its own; take :func:`medmtl.metrics.bootstrap_interval`.

    Args:
        method: ``(N,)`` values.
        reference: ``(N,)`` values, same unit.

    Raises:
        ValueError: the arrays are not one-dimensional or differ in length.
    """
    values, true = _pairs(method, reference)
    return Estimate(float(np.abs(values - true).mean()) if len(values) else math.nan, n=len(values))


def pearson(method: ArrayLike, reference: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Pearson's correlation with Fisher's z interval.

    It is blind to bias and scale: read it beside :func:`bland_altman` or :func:`icc`.

    Args:
        method: ``(N,)`` values.
        reference: ``(N,)`` values.
        confidence: coverage of the interval, which needs four pairs.

    Returns:
        -1 to 1; ``nan`` with fewer than two pairs or where one side does not vary.

    Raises:
        ValueError: the arrays are not one-dimensional or differ in length.
    """
    from scipy.stats import norm

    values, true = _pairs(method, reference)
    n = len(values)
    if n < 2 or _constant(values) or _constant(true):
        return Estimate(math.nan, n=n)
    centred, true_centred = values - values.mean(), true - true.mean()
    length = float(np.linalg.norm(centred) * np.linalg.norm(true_centred))
    r = float(np.clip(centred @ true_centred / length, -1.0, 1.0))
    if n < 4 or abs(r) >= 1:
        return Estimate(r, n=n)
    z, half = math.atanh(r), float(norm.ppf((1 + confidence) / 2)) / math.sqrt(n - 3)
    return Estimate(r, Interval(math.tanh(z - half), math.tanh(z + half)), n)


def icc(*ratings: ArrayLike, form: IccForm = "ICC(2,1)", confidence: float = 0.95) -> Estimate:
    """Intraclass correlation of single measurements, two-way model.

    ``ICC(2,1)`` is absolute agreement with raters drawn from many, so a bias between two methods lowers it;
    ``ICC(3,1)`` is consistency of exactly these raters.

    Args:
        ratings: one ``(N, K)`` array of N subjects by K raters, or K arrays ``(N,)``, such as method and
            reference.
        form: which of the two.
        confidence: coverage of the F-based interval.

    Returns:
        At most 1; ``nan`` with fewer than two complete subjects or where nothing varies.

    Raises:
        ValueError: fewer than two raters, different lengths, or an unknown form.

    Source: Shrout and Fleiss, Psychological Bulletin 1979;86:420-428; intervals as in McGraw and Wong 1996.
    """
    if form not in ("ICC(2,1)", "ICC(3,1)"):
        raise ValueError(f"form must be 'ICC(2,1)' or 'ICC(3,1)', found {form!r}")
    table_NK = _ratings_table(ratings)
    n, k = table_NK.shape
    if n < 2 or np.ptp(table_NK) == 0:
        return Estimate(math.nan, n=n)
    grand = table_NK.mean()
    of_subject, of_rater = table_NK.mean(axis=1), table_NK.mean(axis=0)
    between = k * float(((of_subject - grand) ** 2).sum()) / (n - 1)
    raters = n * float(((of_rater - grand) ** 2).sum()) / (k - 1)
    residual_NK = table_NK - of_subject[:, None] - of_rater[None, :] + grand
    error = float((residual_NK**2).sum()) / ((n - 1) * (k - 1))
    if form == "ICC(3,1)":
        value = (between - error) / (between + (k - 1) * error)
        return Estimate(value, _consistency_interval(between, error, n, k, confidence), n)
    value = (between - error) / (between + (k - 1) * error + k * (raters - error) / n)
    return Estimate(value, _agreement_interval(value, between, raters, error, n, k, confidence), n)


def _consistency_interval(between: float, error: float, n: int, k: int, confidence: float) -> Interval:
    from scipy.stats import f

    if error <= 0:
        return NO_INTERVAL
    level, df_error = (1 + confidence) / 2, (n - 1) * (k - 1)
    low = between / error / float(f.ppf(level, n - 1, df_error))
    high = between / error * float(f.ppf(level, df_error, n - 1))
    return Interval((low - 1) / (low + k - 1), (high - 1) / (high + k - 1))


def _agreement_interval(
    value: float, between: float, raters: float, error: float, n: int, k: int, confidence: float
) -> Interval:
    from scipy.stats import f

    if error <= 0:
        return NO_INTERVAL
    ratio = raters / error
    a = k * value * ratio
    b = n * (1 + (k - 1) * value) - k * value
    freedom = (k - 1) * (n - 1) * (a + b) ** 2 / ((n - 1) * a**2 + b**2)
    level = (1 + confidence) / 2
    f_low, f_high = float(f.ppf(level, n - 1, freedom)), float(f.ppf(level, freedom, n - 1))
    rest = k * raters + (k * n - k - n) * error
    low = n * (between - f_low * error) / (f_low * rest + n * between)
    high = n * (f_high * between - error) / (rest + n * f_high * between)
    return Interval(low, high)


def _ratings_table(ratings: tuple[ArrayLike, ...]) -> FloatArray:
    columns = [np.asarray(rating, dtype=np.float64) for rating in ratings]
    if len(columns) == 1 and columns[0].ndim == 2:
        table_NK = columns[0]
    elif columns and all(column.ndim == 1 and len(column) == len(columns[0]) for column in columns):
        table_NK = np.stack(columns, axis=1)
    else:
        raise ValueError(
            f"ratings must be one (N, K) array or K arrays of one length, found {[c.shape for c in columns]}"
        )
    if table_NK.shape[1] < 2:
        raise ValueError(f"an ICC needs at least two raters, found {table_NK.shape[1]}")
    return np.asarray(table_NK[~np.isnan(table_NK).any(axis=1)])


def _pairs(method: ArrayLike, reference: ArrayLike) -> tuple[FloatArray, FloatArray]:
    values, true = np.asarray(method, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if values.ndim != 1 or values.shape != true.shape:
        raise ValueError(f"method and reference must be (N,) and (N,), found {values.shape} and {true.shape}")
    kept = ~(np.isnan(values) | np.isnan(true))
    return values[kept], true[kept]


def _constant(values: FloatArray) -> bool:
    return bool(np.ptp(values) == 0)
