"""What is said of means, ranks and differences, and what is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medmtl.evaluation.comparison.statistics import (
    PairedTest,
    corrected,
    mean_ranks,
    over_seeds,
    signed_rank,
    spread,
    wins,
)


def test_nothing_has_no_mean_and_one_number_no_spread() -> None:
    assert spread([]).n == spread([math.nan, math.inf]).n == 0
    assert math.isnan(spread([]).mean)
    one = spread([2.5, math.nan])
    assert (one.mean, one.n) == (2.5, 1)
    assert math.isnan(one.sd)
    assert math.isnan(one.low)


def test_the_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    found = spread(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.sd == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("differences", [[], [0.3], [0.1, -0.2, 0.3, 0.4, 0.1], [0.0] * 20 + [0.1] * 5])
def test_too_few_cases_that_differ_say_nothing(differences: list[float]) -> None:
    found = signed_rank("uw", "anatomy", np.array(differences), family=1)
    assert math.isnan(found.p)
    assert "too few cases" in found.remark
    assert found.n == len(differences)


def test_the_more_tests_there_are_the_more_cases_are_needed() -> None:
    six = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert signed_rank("uw", "anatomy", six, family=1).p == pytest.approx(2 / 2**6)
    assert "for 2 tests" in signed_rank("uw", "anatomy", six, family=2).remark


def test_no_difference_at_all_is_said_to_be_none() -> None:
    found = signed_rank("uw", "disease", np.zeros(30), family=3)
    assert found.p == 1.0
    assert found.remark == "no case differs"


def test_the_test_over_cases_is_wilcoxons() -> None:
    rng = np.random.default_rng(3)
    differences = rng.normal(0.3, 1.0, 25)
    found = signed_rank("uw", "anatomy", differences, family=4)
    assert found.p == pytest.approx(float(stats.wilcoxon(differences).pvalue))
    assert found.difference == pytest.approx(differences.mean())
    assert signed_rank("uw", "anatomy", -differences, family=4).p == pytest.approx(found.p)


def test_ties_of_right_and_wrong_classes_can_be_tested_without_a_warning() -> None:
    differences = np.array([1.0] * 12 + [-1.0] * 2 + [0.0] * 30)
    found = signed_rank("uw", "disease", differences, family=1)
    assert 0 < found.p < 0.05


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_too_few_seeds_say_nothing(values: list[float]) -> None:
    found = over_seeds("uw", np.array(values))
    assert math.isnan(found.p)
    assert f"too few seeds ({len(values)}" in found.remark


def test_the_test_over_seeds_is_students() -> None:
    first, second = np.array([1.0, 2.0, 4.0, 3.0]), np.array([2.0, 2.5, 4.2, 3.9])
    found = over_seeds("uw", second - first)
    assert found.p == pytest.approx(float(stats.ttest_rel(second, first).pvalue))
    assert math.isnan(over_seeds("uw", np.array([2.0, 2.0, 2.0])).p)


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    p = [0.01, 0.04, 0.03, math.nan, 0.5]
    tests = [PairedTest("uw", "anatomy", "", 9, 0.0, value) for value in p]
    assert [t.holm for t in corrected(tests)] == pytest.approx([0.04, 0.09, 0.09, math.nan, 0.5], nan_ok=True)


@given(st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=8))
def test_a_corrected_p_is_never_smaller_and_at_most_one(p: list[float]) -> None:
    tests = corrected([PairedTest("uw", "a", "", 9, 0.0, value) for value in p])
    assert all(value <= test.holm <= 1 for value, test in zip(p, tests, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff([tests[i].holm for i in order]) >= 0).all()


def test_ranks_are_means_over_places_and_equals_share_one() -> None:
    values = {"ew": [1.0, 2.0, 5.0], "uw": [2.0, 2.0, 4.0], "dwa": [3.0, 9.0, math.nan]}
    assert mean_ranks(values) == pytest.approx({"ew": (1 + 1.5 + 2) / 3, "uw": (2 + 1.5 + 1) / 3, "dwa": 3.0})


def test_a_place_with_one_method_ranks_nobody() -> None:
    ranks = mean_ranks({"ew": [1.0, math.nan], "uw": [math.nan, math.nan]})
    assert all(math.isnan(rank) for rank in ranks.values())


def test_wins_count_places_and_equals_win_together_unless_all_are_equal() -> None:
    values = {"ew": [1.0, 2.0, 5.0, 3.0], "uw": [2.0, 2.0, 4.0, 3.0], "dwa": [math.nan, 9.0, math.nan, 3.0]}
    assert wins(values) == {"ew": 2, "uw": 2, "dwa": 0}
