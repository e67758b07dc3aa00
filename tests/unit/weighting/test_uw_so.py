"""What uw-so does beyond its formula, and only when asked."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.types import ConfigError
from medmtl.weighting import Weighting, build_weighting
from tests.helpers.losses import weigh

ACDC = {"anatomy": 0.4, "disease": 0.8, "function": 0.02}


def build(**options: Any) -> Weighting:
    return build_weighting("uw-so", tuple(ACDC), **options)


@settings(max_examples=50, deadline=None)
@given(
    losses=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=40),
    temperature=st.floats(0.1, 100),
    scale=st.floats(0.1, 10),
)
def test_losses_times_c_and_temperature_over_c_give_the_same_weights(
    losses: list[float], temperature: float, scale: float
) -> None:
    """And a smaller loss never has the smaller weight, and the weights sum to 1."""
    tasks = [f"task{i}" for i in range(len(losses))]
    one = weigh(
        build_weighting("uw-so", tasks, temperature=temperature), dict(zip(tasks, losses, strict=True))
    )
    scaled = dict(zip(tasks, (scale * loss for loss in losses), strict=True))
    other = weigh(build_weighting("uw-so", tasks, temperature=temperature / scale), scaled)
    assert list(one.values()) == pytest.approx(list(other.values()), rel=0.02, abs=1e-5)
    assert sum(one.values()) == pytest.approx(1, abs=1e-5)
    order = sorted(tasks, key=lambda task: scaled[task])
    assert all(one[a] >= one[b] - 1e-6 for a, b in itertools.pairwise(order))


def test_a_high_temperature_is_equal_and_a_low_one_takes_the_smallest_loss() -> None:
    assert list(weigh(build(temperature=1e6), ACDC).values()) == pytest.approx([1 / 3] * 3, abs=1e-4)
    assert list(weigh(build(temperature=1e-6), ACDC).values()) == [0.0, 0.0, 1.0]


def test_a_floor_keeps_a_share_for_every_task() -> None:
    weights = weigh(build(temperature=5.0, floor=0.1), ACDC)
    assert weights == pytest.approx({"anatomy": 0.1, "disease": 0.1, "function": 0.8}, abs=1e-3)
    assert sum(weights.values()) == pytest.approx(1)


def test_effective_tasks_is_the_perplexity_of_the_weights_whatever_the_scale() -> None:
    weights = weigh(build(effective_tasks=2.0), ACDC)
    vector = torch.tensor(list(weights.values()))
    assert torch.special.entr(vector).sum().exp().item() == pytest.approx(2.0, abs=1e-4)
    scaled = weigh(build(effective_tasks=2.0), {task: 1000 * loss for task, loss in ACDC.items()})
    assert scaled == pytest.approx(weights, abs=1e-5)


def test_effective_tasks_of_fewer_present_tasks_are_at_most_their_number() -> None:
    assert weigh(build(effective_tasks=2.5), {"anatomy": 0.4, "function": 0.02}) == {
        "anatomy": 0.5,
        "function": 0.5,
    }


def test_normalizing_by_the_first_loss_weighs_what_is_left_of_each_loss() -> None:
    weighting = build(temperature=5.0, normalize_losses="first")
    weigh(weighting, ACDC)
    weights = weigh(weighting, {"anatomy": 0.2, "disease": 0.8, "function": 0.02})
    more = math.exp(1 / 5)  # of half of the first loss: 1 / (5 x 0.5) is 1/5 above 1 / (5 x 1)
    shares = {"anatomy": more / (more + 2), "disease": 1 / (more + 2), "function": 1 / (more + 2)}
    assert {task: weights[task] * ACDC[task] for task in ACDC} == pytest.approx(shares)


def test_the_first_loss_is_that_of_the_tasks_own_first_appearance_above_zero() -> None:
    weighting = build(temperature=5.0, normalize_losses="first")
    weigh(weighting, {"anatomy": 0.4, "disease": 0.8})
    assert weigh(weighting, {"anatomy": 0.4, "function": 0.0}) == {"anatomy": 2.5, "function": 0.0}
    weights = weigh(weighting, {"anatomy": 0.4, "function": 0.02})
    assert weights == pytest.approx({"anatomy": 0.5 / 0.4, "function": 0.5 / 0.02})


def test_normalizing_by_a_trivial_predictors_loss_uses_the_given_ones() -> None:
    weighting = build(temperature=5.0, normalize_losses="trivial", trivial_losses=dict(ACDC))
    assert weigh(weighting, ACDC) == pytest.approx({task: 1 / 3 / loss for task, loss in ACDC.items()})


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_a_half_precision_loss_near_zero_gives_no_nan(precision: torch.dtype) -> None:
    """Computed in float16, the softmax of its inverse would be NaN."""
    weighting = build(temperature=2.0)
    total = weighting(
        {"anatomy": torch.tensor(6e-8, dtype=precision), "disease": torch.tensor(1.0, dtype=precision)}
    )
    assert torch.isfinite(total)
    assert weighting.weights["anatomy"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a temperature"),
        ({"temperature": 0.0}, "temperature must be greater than 0; found 0.0"),
        ({"temperature": -1}, "temperature must be greater than 0; found -1"),
        ({"temperature": "hot"}, "temperature must be a finite number; found 'hot'"),
        ({"temperature": float("nan")}, "temperature must be a finite number"),
        ({"temperature": True}, "temperature must be a finite number"),
        ({"temperature": 5.0, "effective_tasks": 2.0}, "not both"),
        ({"effective_tasks": 0.5}, r"effective_tasks must lie in 1\.\.3"),
        ({"effective_tasks": 4}, r"effective_tasks must lie in 1\.\.3"),
        ({"temperature": 5.0, "floor": 1 / 3}, "floor must be at least 0 and less than 1/3"),
        ({"temperature": 5.0, "floor": -0.1}, "floor must be at least 0"),
        ({"temperature": 5.0, "normalize_losses": "frist"}, "did you mean 'first'"),
        ({"temperature": 5.0, "normalize_losses": "trivial"}, "belong together"),
        ({"temperature": 5.0, "trivial_losses": {"anatomy": 1.0}}, "belong together"),
        (
            {"temperature": 5.0, "normalize_losses": "trivial", "trivial_losses": {"anatomy": 1.0}},
            "trivial_losses has no number for 'disease', 'function'",
        ),
        (
            {"temperature": 5.0, "normalize_losses": "trivial", "trivial_losses": ACDC | {"anatomy": 0}},
            "trivial_losses must be greater than 0",
        ),
        (
            {"temperature": 5.0, "criteria": {"anatomy": "l3"}},
            "unknown criterion 'l3'; known are cross-entropy, l1, l2",
        ),
        ({"temperature": 5.0, "criteria": {"anatomi": "l1"}}, "did you mean 'anatomy'"),
        ({"temperature": 5.0, "criteria": "l1"}, "criteria must be"),
        ({"temperature": 5.0, "importance": dict.fromkeys(ACDC, 0)}, "importance are all 0"),
        ({"temprature": 5.0}, "no option 'temprature'; did you mean 'temperature'"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_in_one_sentence(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)
