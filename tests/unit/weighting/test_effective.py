"""The temperature search: exact, scale-free, and steady at its edges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medmtl.weighting._effective import effective_number, spread_softmax

LOGITS = st.lists(st.floats(1e-8, 1e8), min_size=2, max_size=40)


def spread(logits: list[float], target: float, **options: bool) -> torch.Tensor:
    values = torch.tensor(logits)
    return spread_softmax(values, torch.ones(len(logits), dtype=torch.bool), target, **options)


@settings(max_examples=200, deadline=None)
@given(logits=LOGITS, part=st.floats(0.0, 1.0))
def test_the_weights_have_the_wanted_effective_number(logits: list[float], part: float) -> None:
    values = torch.tensor(logits)
    near = values.max() - values < 1e-3 * (values.max() - values.min())
    assume(near.sum() == 1)
    target = 1.001 + part * (len(logits) - 1.002)
    weights = spread(logits, target)
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)
    assert effective_number(weights).item() == pytest.approx(target, rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(logits=LOGITS, scale=st.sampled_from([2.0**-20, 2.0**20]))
def test_multiplying_all_logits_changes_nothing(logits: list[float], scale: float) -> None:
    """A power of two, so that float32 has no rounding to be seen through."""
    one, other = spread(logits, 1.5), spread([scale * value for value in logits], 1.5)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_adding_a_number_to_all_logits_changes_nothing() -> None:
    torch.testing.assert_close(spread([1.0, 2.0, 4.0], 1.5), spread([101.0, 102.0, 104.0], 1.5))


def test_equal_logits_give_equal_weights_whatever_the_target() -> None:
    torch.testing.assert_close(spread([3.0, 3.0, 3.0], 1.0), torch.full((3,), 1 / 3))


def test_tasks_that_tie_for_the_first_place_share_it() -> None:
    torch.testing.assert_close(spread([3.0, 3.0, 1.0], 1.5), torch.tensor([0.5, 0.5, 0.0]))


def test_a_target_of_all_tasks_gives_equal_weights() -> None:
    torch.testing.assert_close(spread([1.0, 2.0, 3.0], 3.0), torch.full((3,), 1 / 3))
    torch.testing.assert_close(spread([1.0, 2.0, 3.0], 99.0), torch.full((3,), 1 / 3))


def test_a_target_of_one_task_takes_the_largest_logit() -> None:
    torch.testing.assert_close(spread([1.0, 2.0, 3.0], 1.0), torch.tensor([0.0, 0.0, 1.0]))


def test_one_task_alone_has_all_the_weight() -> None:
    assert spread([0.3], 1.0).tolist() == [1.0]


def test_a_task_that_is_not_usable_changes_nothing_for_the_rest() -> None:
    usable = torch.tensor([True, False, True, True])
    weights = spread_softmax(torch.tensor([1.0, torch.nan, 2.0, 5.0]), usable, 2.0)
    torch.testing.assert_close(weights[usable], spread([1.0, 2.0, 5.0], 2.0))
    assert weights[1] == 0


def test_at_least_leaves_logits_that_hardly_differ_nearly_equal() -> None:
    """A target alone would tell apart by force what differs by noise."""
    torch.testing.assert_close(
        spread([1.0, 1.001, 0.999], 2.0, at_least=True), torch.softmax(torch.tensor([1.0, 1.001, 0.999]), 0)
    )
    assert spread([1.0, 1.001, 0.999], 2.0).max() > 0.6


def test_at_least_spreads_logits_that_differ_too_much() -> None:
    weights = spread([1.0, 9.0, 2.0], 2.0, at_least=True)
    assert effective_number(weights).item() == pytest.approx(2.0, abs=1e-3)
