"""The collapse alarm names the task, and only then."""

from __future__ import annotations

import pytest
import torch

from medmtl.weighting import Weighting, build_weighting
from medmtl.weighting._alarm import PATIENCE

ACDC = {"anatomy": 0.4, "disease": 0.8, "function": 0.02}


def repeat(weighting: Weighting, losses: dict[str, float], steps: int) -> None:
    for _ in range(steps):
        weighting({task: torch.tensor(loss) for task, loss in losses.items()})


def test_the_collapse_of_uw_so_on_acdc_is_named_after_a_hundred_steps() -> None:
    weighting = build_weighting("uw-so", tuple(ACDC), temperature=5.0)
    repeat(weighting, ACDC, PATIENCE - 1)
    assert weighting.collapsed() is None
    repeat(weighting, ACDC, 1)
    assert weighting.collapsed() == "function"


def test_one_step_of_other_weights_starts_the_count_anew() -> None:
    weighting = build_weighting("uw-so", tuple(ACDC), temperature=5.0)
    repeat(weighting, ACDC, PATIENCE - 1)
    repeat(weighting, dict.fromkeys(ACDC, 0.5), 1)
    repeat(weighting, ACDC, PATIENCE - 1)
    assert weighting.collapsed() is None


def test_steps_on_which_only_one_task_has_a_loss_do_not_count_and_do_not_reset() -> None:
    weighting = build_weighting("uw-so", tuple(ACDC), temperature=5.0)
    repeat(weighting, {"function": 0.02}, 2 * PATIENCE)
    repeat(weighting, {"function": 0.02, "anatomy": float("nan")}, PATIENCE)
    assert weighting.collapsed() is None
    repeat(weighting, ACDC, PATIENCE // 2)
    repeat(weighting, {"anatomy": 0.4}, 3)
    repeat(weighting, ACDC, PATIENCE // 2)
    assert weighting.collapsed() == "function"


@pytest.mark.parametrize("name", ["ew", "uw-o", "balanced"])
def test_losses_of_very_unlike_units_are_no_collapse(name: str) -> None:
    weighting = build_weighting(name, tuple(ACDC))
    repeat(weighting, {"anatomy": 400.0, "disease": 0.8, "function": 0.00002}, PATIENCE)
    assert weighting.collapsed() is None


def test_a_learned_weight_that_lets_one_loss_dominate_is_named() -> None:
    weighting = build_weighting("uw", ("anatomy", "function"))
    repeat(weighting, {"anatomy": 1000.0, "function": 1.0}, PATIENCE)
    assert weighting.collapsed() == "anatomy"


def test_the_count_goes_on_after_loading() -> None:
    weighting = build_weighting("uw-so", tuple(ACDC), temperature=5.0)
    repeat(weighting, ACDC, PATIENCE - 1)
    resumed = build_weighting("uw-so", tuple(ACDC), temperature=5.0)
    resumed.load_state_dict(weighting.state_dict())
    repeat(resumed, ACDC, 1)
    assert resumed.collapsed() == "function"
