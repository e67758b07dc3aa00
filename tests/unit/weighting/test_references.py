"""Handcrafted weights and dynamic scaling: for K tasks, and with a reference task that may be absent."""

from __future__ import annotations

import pytest

from medmtl.types import ConfigError
from medmtl.weighting import build_weighting
from tests.helpers.losses import weigh

TASKS = ("anatomy", "disease", "function")
FIRST = {"anatomy": 0.4, "disease": 0.8, "function": 0.02}


def without(task: str, losses: dict[str, float]) -> dict[str, float]:
    return {name: loss for name, loss in losses.items() if name != task}


@pytest.mark.parametrize("method", ["handcrafted", "dynamic-scaling"])
def test_a_reference_that_is_no_task_is_named_with_the_nearest_one(method: str) -> None:
    with pytest.raises(ConfigError, match="reference is an unknown task 'anatomie'; did you mean 'anatomy'"):
        build_weighting(method, TASKS, reference="anatomie")


@pytest.mark.parametrize("method", ["handcrafted", "dynamic-scaling"])
def test_a_reference_must_be_named(method: str) -> None:
    with pytest.raises(ConfigError, match="needs the option 'reference'"):
        build_weighting(method, TASKS)


def test_handcrafted_weights_bring_all_first_losses_to_that_of_the_reference_and_stay() -> None:
    """Leang et al. 2020, for K tasks: w_i = L_ref(0) / L_i(0)."""
    weighting = build_weighting("handcrafted", TASKS, reference="disease")
    weights = weigh(weighting, FIRST)
    assert weights == pytest.approx({"anatomy": 2.0, "disease": 1.0, "function": 40.0})
    assert {task: weights[task] * FIRST[task] for task in TASKS} == pytest.approx(dict.fromkeys(TASKS, 0.8))
    assert weigh(weighting, {"anatomy": 0.1, "disease": 9.0, "function": 3.0}) == pytest.approx(weights)


def test_handcrafted_weights_are_1_until_the_reference_has_had_its_first_loss() -> None:
    weighting = build_weighting("handcrafted", TASKS, reference="disease")
    for _ in range(2):
        assert weigh(weighting, without("disease", FIRST)) == {"anatomy": 1.0, "function": 1.0}
    assert weigh(weighting, FIRST)["function"] == pytest.approx(40.0)


def test_handcrafted_weights_do_not_need_the_reference_after_its_first_loss() -> None:
    weighting = build_weighting("handcrafted", TASKS, reference="disease")
    weigh(weighting, FIRST)
    assert weigh(weighting, without("disease", FIRST)) == pytest.approx({"anatomy": 2.0, "function": 40.0})


def test_a_task_that_appears_late_is_scaled_by_its_own_first_loss() -> None:
    weighting = build_weighting("handcrafted", TASKS, reference="disease")
    weigh(weighting, without("function", FIRST))
    assert weigh(weighting, FIRST | {"function": 0.1})["function"] == pytest.approx(8.0)


def test_a_first_loss_of_0_is_no_first_loss() -> None:
    weighting = build_weighting("handcrafted", TASKS, reference="disease")
    assert weigh(weighting, FIRST | {"function": 0.0})["function"] == 1.0
    assert weigh(weighting, FIRST)["function"] == pytest.approx(40.0)


def test_dynamic_scaling_uses_the_means_of_the_last_epoch_and_weighs_1_in_the_first() -> None:
    """Leang et al. 2020, for K tasks: w_i(t) = M_ref(t - 1) / M_i(t - 1)."""
    weighting = build_weighting("dynamic-scaling", TASKS, reference="anatomy")
    for losses in (FIRST, {task: 3 * loss for task, loss in FIRST.items()}):
        assert weigh(weighting, losses) == dict.fromkeys(TASKS, 1.0)
    weighting.end_epoch()
    for losses in ({"anatomy": 1.0, "disease": 4.0, "function": 0.5}, FIRST):
        assert weigh(weighting, losses) == pytest.approx({"anatomy": 1.0, "disease": 0.5, "function": 20.0})
    weighting.end_epoch()
    means = {"anatomy": 0.7, "disease": 2.4, "function": 0.26}
    expected = {task: 0.7 / mean for task, mean in means.items()}
    assert weigh(weighting, FIRST) == pytest.approx(expected)


def test_dynamic_scaling_goes_by_the_last_epoch_that_had_the_reference() -> None:
    weighting = build_weighting("dynamic-scaling", TASKS, reference="anatomy")
    weigh(weighting, FIRST)
    weighting.end_epoch()
    weigh(weighting, without("anatomy", FIRST))
    weighting.end_epoch()
    assert weigh(weighting, FIRST) == pytest.approx({"anatomy": 1.0, "disease": 0.5, "function": 20.0})


def test_dynamic_scaling_weighs_1_while_no_epoch_has_had_the_reference() -> None:
    weighting = build_weighting("dynamic-scaling", TASKS, reference="anatomy")
    for _ in range(3):
        assert weigh(weighting, without("anatomy", FIRST)) == {"disease": 1.0, "function": 1.0}
        weighting.end_epoch()


def test_importance_and_imbalance_multiply_the_weights() -> None:
    weighting = build_weighting(
        "handcrafted", TASKS, reference="disease", importance={"anatomy": 3.0}, imbalance={"function": 0.5}
    )
    assert weigh(weighting, FIRST) == pytest.approx({"anatomy": 6.0, "disease": 1.0, "function": 20.0})


@pytest.mark.parametrize(
    ("raw", "named", "options"),
    [
        ("first-loss", "handcrafted", {"reference": "disease"}),
        ("epoch-loss", "dynamic-scaling", {"reference": "disease"}),
        ("random", "rlw", {"seed": 3}),
    ],
)
def test_normalized_has_the_same_raw_weights_under_every_normalizer(
    raw: str, named: str, options: dict[str, str | int]
) -> None:
    one = build_weighting(named, TASKS, **options)
    other = build_weighting("normalized", TASKS, raw=raw, normalizer="sum-to-k", **options)
    for losses in (FIRST, {task: loss / 2 for task, loss in FIRST.items()}):
        weigh(one, losses)
        weights = weigh(other, losses)
        for weighting in (one, other):
            weighting.end_epoch()
        assert other.raw_weights == one.raw_weights
        assert sum(weights.values()) == pytest.approx(3)


def test_normalized_dwa_is_the_softmax_of_its_rates() -> None:
    one = build_weighting("dwa", TASKS, temperature=2.0)
    other = build_weighting(
        "normalized", TASKS, raw="descent-rate", normalizer="temperature-softmax", temperature=2.0
    )
    for scale in (1.0, 0.5, 0.4):
        losses = FIRST | {"anatomy": 0.4 * scale}
        expected = weigh(one, losses)
        assert {task: 3 * weight for task, weight in weigh(other, losses).items()} == pytest.approx(expected)
        for weighting in (one, other):
            weighting.end_epoch()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"raw": "first-loss"}, "first-loss raw weights need the option 'reference'"),
        ({"raw": "inverse", "reference": "anatomy"}, "inverse raw weights take criteria, not 'reference'"),
        ({"raw": "epoch-loss", "seed": 1}, "epoch-loss raw weights take reference, not 'seed'"),
        ({"raw": "epoch-loss", "reference": "anatomi"}, "did you mean 'anatomy'"),
    ],
)
def test_raw_weights_that_cannot_be_built_are_refused(options: dict[str, str | int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_weighting("normalized", TASKS, normalizer="sum-to-1", **options)
