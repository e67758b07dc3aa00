"""Agreement statistics: too few pairs, missing numbers, values worked out by hand or printed in a paper."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.metrics import bland_altman, icc, mean_absolute_error, pearson

SHROUT_FLEISS_1979_TABLE_2 = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
pairs = st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=3, max_size=20)


def test_without_a_pair_everything_is_undefined_and_n_is_zero() -> None:
    agreement = bland_altman([], [])
    assert agreement.n == 0
    assert all(
        math.isnan(value) for value in (agreement.bias, agreement.sd, agreement.lower, agreement.upper)
    )
    for estimate in (mean_absolute_error([], []), pearson([], []), icc([], [])):
        assert math.isnan(estimate)
        assert estimate.n == 0


def test_one_pair_has_a_bias_but_no_limits() -> None:
    agreement = bland_altman([3.0], [1.0])
    assert (agreement.bias, agreement.n) == (2.0, 1)
    assert math.isnan(agreement.sd)
    assert math.isnan(agreement.upper_ci.high)


def test_arrays_of_different_lengths_are_refused() -> None:
    for function in (bland_altman, mean_absolute_error, pearson):
        with pytest.raises(ValueError, match=r"found \(2,\) and \(3,\)"):
            function([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="of one length"):
        icc([1, 2], [1, 2, 3])


def test_one_rater_has_no_icc() -> None:
    with pytest.raises(ValueError, match="at least two raters, found 1"):
        icc([1.0, 2.0, 3.0])


def test_an_unknown_form_of_the_icc_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'ICC\(2,1\)' or 'ICC\(3,1\)', found 'ICC\(1,k\)'"):
        icc([1, 2], [1, 2], form="ICC(1,k)")


def test_a_pair_with_a_missing_number_is_left_out_and_counted() -> None:
    method, reference = [1.0, math.nan, 3.0, 4.0, 5.5], [1.5, 2.0, math.nan, 5.0, 5.0]
    kept = ([1.0, 4.0, 5.5], [1.5, 5.0, 5.0])
    assert bland_altman(method, reference) == bland_altman(*kept)
    assert bland_altman(method, reference).n == 3
    for function in (mean_absolute_error, pearson, icc):
        assert function(method, reference) == function(*kept)
        assert function(method, reference).n == 3


def test_a_method_that_never_varies_has_no_correlation() -> None:
    assert math.isnan(pearson([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]))
    assert math.isnan(icc([2.0, 2.0], [2.0, 2.0]))


def test_limits_and_their_intervals_are_those_worked_out_by_hand() -> None:
    # Differences 0, 1, 2, 3: mean 1.5, sum of squares 5, sd sqrt(5/3); t(.975, 3) = 3.182446;
    # se of the bias = sd / 2; se of a limit = sd * sqrt(1/4 + 1.959964^2 / 6) = sd * 0.943527.
    agreement = bland_altman([1, 2, 3, 4], [1, 1, 1, 1])
    sd = math.sqrt(5 / 3)
    assert agreement.bias == pytest.approx(1.5)
    assert agreement.sd == pytest.approx(sd)
    assert agreement.lower == pytest.approx(1.5 - 1.959964 * sd)
    assert agreement.upper == pytest.approx(1.5 + 1.959964 * sd)
    assert agreement.bias_ci == pytest.approx((1.5 - 3.182446 * sd / 2, 1.5 + 3.182446 * sd / 2))
    half = 3.182446 * sd * 0.943527
    assert agreement.lower_ci == pytest.approx((agreement.lower - half, agreement.lower + half), rel=1e-5)
    assert agreement.upper_ci == pytest.approx((agreement.upper - half, agreement.upper + half), rel=1e-5)
    assert agreement.n == 4


def test_the_interval_of_the_sd_is_the_chi_square_one() -> None:
    # sqrt(3 * 5/3 / 9.348404) and sqrt(3 * 5/3 / 0.2157953), chi-square quantiles on 3 degrees of freedom.
    interval = bland_altman([1, 2, 3, 4], [1, 1, 1, 1]).sd_ci
    assert interval == pytest.approx((math.sqrt(5 / 9.348404), math.sqrt(5 / 0.2157953)), rel=1e-5)


@pytest.mark.parametrize(
    ("form", "printed", "interval"),
    [("ICC(2,1)", 0.29, (0.019, 0.761)), ("ICC(3,1)", 0.71, (0.342, 0.946))],
)
def test_icc_is_the_one_printed_by_shrout_and_fleiss(
    form: str, printed: float, interval: tuple[float, float]
) -> None:
    # Values: Shrout and Fleiss 1979, table 4. Intervals: as R's psych::ICC prints for the same table.
    value = icc(SHROUT_FLEISS_1979_TABLE_2, form=form)
    assert value == pytest.approx(printed, abs=0.005)
    assert value.ci == pytest.approx(interval, abs=0.0006)
    assert value.n == 6


def test_raters_as_columns_or_as_arrays_are_the_same() -> None:
    assert icc(*SHROUT_FLEISS_1979_TABLE_2.T) == icc(SHROUT_FLEISS_1979_TABLE_2)


def test_a_bias_lowers_agreement_but_not_consistency_nor_correlation() -> None:
    reference = np.array([50.0, 60.0, 40.0, 55.0])
    assert icc(reference + 20, reference) < 0.5
    assert icc(reference + 20, reference, form="ICC(3,1)") == pytest.approx(1)
    assert pearson(reference + 20, reference) == pytest.approx(1)


def test_pearson_and_its_interval_equal_scipy() -> None:
    from scipy import stats

    generator = np.random.default_rng(3)
    reference = generator.normal(size=30)
    method = reference + generator.normal(size=30)
    expected = stats.pearsonr(method, reference)
    value = pearson(method, reference)
    assert value == pytest.approx(expected.statistic)
    assert value.ci == pytest.approx(tuple(expected.confidence_interval()))


def test_mean_absolute_error_is_the_mean_of_distances() -> None:
    assert mean_absolute_error([1.0, 5.0], [2.0, 2.0]) == 2.0


def test_an_estimate_keeps_its_interval_and_n_when_copied() -> None:
    value = pearson([1.0, 2.0, 4.0, 3.0], [1.0, 2.0, 3.0, 4.0])
    copied = copy.deepcopy(value)
    assert (copied, copied.ci, copied.n) == (value, value.ci, 4)
    assert "n=4" in repr(value)


@given(pairs)
def test_swapping_the_methods_turns_the_sign_of_the_bias_and_swaps_the_limits(
    values: list[tuple[float, float]],
) -> None:
    method, reference = np.array(values).T
    one, other = bland_altman(method, reference), bland_altman(reference, method)
    np.testing.assert_allclose(
        (one.bias, one.lower, one.upper), (-other.bias, -other.upper, -other.lower), atol=1e-9
    )


@given(pairs, st.floats(-100, 100))
def test_a_shift_of_both_methods_changes_no_agreement(
    values: list[tuple[float, float]], shift: float
) -> None:
    method, reference = np.array(values).T
    np.testing.assert_allclose(
        bland_altman(method + shift, reference + shift).sd, bland_altman(method, reference).sd, atol=1e-9
    )
