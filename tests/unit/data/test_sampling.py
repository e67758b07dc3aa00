"""Which cases a pass sees."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medmtl.data.sampling import case_weights, one_pass
from tests.unit.data.test_batch import make_case


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 40), st.integers(0, 1000))
def test_equal_weights_show_every_case_once(n: int, seed: int) -> None:
    assert sorted(one_pass([2.5] * n, generator(seed))) == list(range(n))


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=30), st.integers(0, 1000))
def test_a_case_is_seen_as_often_as_its_share_says_to_within_one(weights: list[float], seed: int) -> None:
    seen = Counter(one_pass(weights, generator(seed)))
    assert sum(seen.values()) == len(weights)
    for case, weight in enumerate(weights):
        wanted = len(weights) * weight / sum(weights)
        assert abs(seen[case] - wanted) < 1 + 1e-9


def test_over_many_passes_the_shares_are_exact() -> None:
    weights = [5.0, 5.0, *[1.0] * 8]
    seen = Counter(case for seed in range(600) for case in one_pass(weights, generator(seed)))
    assert seen[0] / 6000 == pytest.approx(5 / 18, abs=0.006)
    assert seen[7] / 6000 == pytest.approx(1 / 18, abs=0.006)


def test_rare_labels_count_by_how_rare_they_are() -> None:
    cases = [make_case(str(i), 2) for i in range(10)]
    for i, case in enumerate(cases):
        case.masks.clear()
        case.maps.clear()
        case.values.clear()
        case.labelled.clear()
        case.values["disease"] = 1.0
        if i < 2:
            case.labelled["anatomy"] = (False, True)
        if i == 9:
            case.labelled["anatomy"] = (False, False)
        if i == 5:
            case.values["EF"] = 60.0
    weights = case_weights(cases, ["anatomy", "disease", "EF", "nobody has it"])
    assert weights == [5, 5, 1, 1, 1, 10, 1, 1, 1, 1]
    assert case_weights(cases, ["disease"]) == [1] * 10
