"""Intervals: when there is none, and that 95 % of them cover."""

import math

import numpy as np
import pytest

from medmtl.metrics import bootstrap_interval, pearson, wilson_interval


def test_one_case_has_no_interval() -> None:
    assert all(math.isnan(end) for end in bootstrap_interval(np.mean, [1.0]))


def test_a_statistic_that_is_never_defined_has_no_interval() -> None:
    assert all(math.isnan(end) for end in bootstrap_interval(lambda _: math.nan, [1.0, 2.0], n=10))


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="one length, found"):
        bootstrap_interval(pearson, [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="need an array"):
        bootstrap_interval(np.mean)
    with pytest.raises(ValueError, match="need an array"):
        bootstrap_interval(np.mean, [1, 2], confidence=95)


def test_resamples_on_which_the_statistic_is_undefined_are_left_out() -> None:
    interval = bootstrap_interval(lambda x: math.nan if np.ptp(x) == 0 else x.mean(), [0.0, 1.0], n=200)
    assert interval == (0.5, 0.5)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(0).normal(size=20)
    assert bootstrap_interval(np.mean, values, seed=1) == bootstrap_interval(np.mean, values, seed=1)
    assert bootstrap_interval(np.mean, values, seed=1) != bootstrap_interval(np.mean, values, seed=2)


def test_cases_are_drawn_together() -> None:
    values = np.arange(12.0)
    interval = bootstrap_interval(lambda a, b: float(np.abs(a - b).max()), values, values + 3, n=50)
    assert interval == (3.0, 3.0)


def test_the_interval_of_a_mean_covers_it_about_95_times_in_100() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_interval(np.mean, generator.normal(5.0, 2.0, 40), n=300, seed=seed)
        covered += low <= 5.0 <= high
    assert 178 <= covered <= 198


def test_the_interval_is_that_of_scipy_within_the_noise_of_resampling() -> None:
    from scipy import stats

    values = np.random.default_rng(0).gamma(2.0, size=50)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert bootstrap_interval(np.mean, values, n=9999) == pytest.approx(tuple(expected), abs=0.03)


def test_wilson_stays_within_zero_and_one_and_is_undefined_without_cases() -> None:
    assert wilson_interval(0, 10).low == 0
    assert wilson_interval(10, 10).high == 1
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
    with pytest.raises(ValueError, match="found 3 of 2"):
        wilson_interval(3, 2)


def test_wilson_is_the_one_worked_out_by_hand() -> None:
    # 48 of 50, z = 1.959964: centre (0.96 + z^2/100) / (1 + z^2/50), half width z sqrt(...) / (1 + z^2/50).
    z, share, n = 1.959964, 0.96, 50
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert wilson_interval(48, 50) == pytest.approx((centre - half, centre + half), rel=1e-6)
