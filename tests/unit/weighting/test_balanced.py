"""medmtl's default: scale-free, bounded, no collapse."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.types import ConfigError
from medmtl.weighting import Weighting, build_weighting
from medmtl.weighting._alarm import PATIENCE
from medmtl.weighting._effective import effective_number

TASKS = ("anatomy", "disease", "function")
START = {"anatomy": 1.6, "disease": 1.61, "function": 0.5}
END = {"anatomy": 0.4, "disease": 0.8, "function": 0.02}
SPEED = {"anatomy": 400.0, "disease": 1500.0, "function": 150.0}


def acdc(step: int) -> dict[str, float]:
    """Losses that fall at different rates to where UW-SO collapsed on ACDC."""
    return {task: END[task] + (START[task] - END[task]) * math.exp(-step / SPEED[task]) for task in TASKS}


def take(weighting: Weighting, losses: dict[str, float]) -> dict[str, float]:
    """Takes a step; each task's share of the weight on its loss over its start."""
    weighting({task: torch.tensor(loss) for task, loss in losses.items()})
    starts = dict(zip(weighting.tasks, weighting.state_dict()["start"].tolist(), strict=True))
    return {task: weight.item() * starts[task] / len(losses) for task, weight in weighting.weights.items()}


ROOT = {"power": 0.5}
"""The default, said aloud."""


def test_the_power_is_one_half_by_default() -> None:
    one, other = build_weighting("balanced", TASKS), build_weighting("balanced", TASKS, **ROOT)
    for step in range(0, 3500, 50):
        assert take(one, acdc(step)) == take(other, acdc(step))


def test_with_power_0_a_task_counts_as_at_its_start_however_far_it_has_come() -> None:
    weighting = build_weighting("balanced", TASKS, power=0.0)
    for step in range(0, 3500, 50):
        shares = take(weighting, acdc(step))
        assert all(share == pytest.approx(1 / 3, rel=1e-5) for share in shares.values())


def test_the_first_step_counts_every_task_as_one() -> None:
    weighting = build_weighting("balanced", TASKS)
    total = weighting({task: torch.tensor(loss) for task, loss in START.items()})
    assert total.item() == pytest.approx(3.0)
    for task, weight in weighting.weights.items():
        assert weight.item() * START[task] == pytest.approx(1.0)


def test_no_task_collapses_where_uw_so_did() -> None:
    balanced = build_weighting("balanced", TASKS, **ROOT)
    uw_so = build_weighting("uw-so", TASKS, temperature=5.0)
    shares = []
    for step in range(0, 3500, 5):
        shares.append(take(balanced, acdc(step)))
        uw_so({task: torch.tensor(loss) for task, loss in acdc(step).items()})
    assert uw_so.collapsed() == "function"
    assert balanced.collapsed() is None
    assert min(min(share.values()) for share in shares) > 0.1
    assert max(max(share.values()) for share in shares) < 0.75


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.lists(st.floats(1e-8, 1e8), min_size=5, max_size=5), min_size=1, max_size=40),
    present=st.integers(2, 5),
)
def test_shares_stay_within_bounds_whatever_the_losses_do(steps: list[list[float]], present: int) -> None:
    names = [f"task{i}" for i in range(present)]
    weighting = build_weighting("balanced", [f"task{i}" for i in range(5)], **ROOT)
    for values in steps:
        weighting({task: torch.tensor(value) for task, value in zip(names, values, strict=False)})
        weights = torch.stack(list(weighting.weights.values())).double()
        shares = weights * weighting.state_dict()["start"][:present].double() / present
        assert shares.sum().item() == pytest.approx(1, rel=1e-4)
        assert shares.min() >= 0.0999 / present
        assert effective_number(shares) >= 0.799 * present


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("scaled", TASKS)
def test_a_loss_in_other_units_changes_nothing(scaled: str, scale: float) -> None:
    """The factor of its weight is exactly that of its unit, so every gradient is the same."""
    one, other = build_weighting("balanced", TASKS, **ROOT), build_weighting("balanced", TASKS, **ROOT)
    for step in range(0, 1500, 10):
        losses = acdc(step)
        take(one, losses)
        take(other, losses | {scaled: scale * losses[scaled]})
    for task in TASKS:
        unit = scale if task == scaled else 1.0
        torch.testing.assert_close(other.weights[task] * unit, one.weights[task], rtol=2e-4, atol=0)


def test_where_nothing_is_out_of_bounds_shares_follow_the_root_of_what_is_left() -> None:
    weighting = build_weighting("balanced", ("a", "b"), floor=0.0, **ROOT)
    for loss in [1.0] * 20 + [0.5] * 600:
        weighting({"a": torch.tensor(1.0), "b": torch.tensor(loss)})
    weights = weighting.weights
    assert (weights["b"] / weights["a"]).item() == pytest.approx(math.sqrt(2), rel=1e-4)


def test_noise_on_equal_losses_leaves_the_shares_nearly_equal() -> None:
    weighting = build_weighting("balanced", TASKS, **ROOT)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        noise = (1 + 0.05 * torch.randn(3, generator=generator)).tolist()
        shares = take(weighting, {task: START[task] * n for task, n in zip(TASKS, noise, strict=True)})
    assert max(shares.values()) < 0.36


def test_an_absent_task_keeps_its_start_and_returns_where_it_left() -> None:
    weighting = build_weighting("balanced", TASKS, **ROOT)
    for step in range(30):
        take(weighting, acdc(step))
    before = weighting.state_dict()["start"][1].item(), weighting.state_dict()["recent"][1].item()
    for step in range(30, 60):
        take(weighting, {task: loss for task, loss in acdc(step).items() if task != "disease"})
    assert (weighting.state_dict()["start"][1].item(), weighting.state_dict()["recent"][1].item()) == before
    assert take(weighting, acdc(60))["disease"] > 0.2


def test_a_task_that_starts_late_is_scaled_by_its_own_start() -> None:
    weighting = build_weighting("balanced", ("a", "b"))
    for _ in range(500):
        weighting({"a": torch.tensor(0.01)})
    weighting({"a": torch.tensor(0.01), "b": torch.tensor(70.0)})
    assert weighting.weights["b"].item() * 70 == pytest.approx(weighting.weights["a"].item() * 0.01, rel=1e-3)


def test_a_first_loss_of_zero_gives_no_scale_and_no_weight() -> None:
    weighting = build_weighting("balanced", ("a", "b"))
    weighting({"a": torch.tensor(0.5), "b": torch.tensor(0.0)})
    assert [weight.item() for weight in weighting.weights.values()] == pytest.approx([2.0, 0.0])
    weighting({"a": torch.tensor(0.5), "b": torch.tensor(4.0)})
    assert weighting.weights["b"].item() == pytest.approx(0.25, rel=1e-3)


def test_importance_multiplies_the_share() -> None:
    weighting = build_weighting("balanced", ("a", "b"), importance={"a": 3.0})
    weighting({"a": torch.tensor(1.0), "b": torch.tensor(1.0)})
    assert [weight.item() for weight in weighting.weights.values()] == pytest.approx([1.5, 0.5])


def test_a_task_learned_to_nothing_does_not_take_the_rest_with_it() -> None:
    weighting = build_weighting("balanced", TASKS, **ROOT)
    for step in range(3 * PATIENCE):
        shares = take(weighting, START | {"function": 0.5 * 0.9**step})
    assert weighting.collapsed() is None
    assert min(shares.values()) > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"power": 1.5}, "power must lie between 0 and 1; found 1.5"),
        ({"floor": -0.1}, "floor must lie between 0 and 1"),
        ({"effective_share": 0}, "effective_share must be greater than 0"),
        ({"importance": {"anatomie": 1}}, "did you mean 'anatomy'"),
        ({"importance": {"anatomy": -1}}, "importance must not be negative"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_weighting("balanced", TASKS, **options)
