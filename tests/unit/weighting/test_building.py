"""Building weightings by name, and everything that can be wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medmtl.types import ConfigError
from medmtl.weighting import WEIGHTINGS, EqualWeights, build_weighting, options_of

TASKS = ("anatomy", "disease")


def test_the_methods_of_this_release_have_their_papers_names() -> None:
    assert {"balanced", "ew", "scalarization", "uw", "uw-o", "uw-so"} <= set(WEIGHTINGS)


def test_an_unknown_weighting_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="unknown weighting 'uwso'; did you mean 'uw-so'"):
        build_weighting("uwso", TASKS)


def test_ones_own_weighting_is_built_from_its_module_and_class() -> None:
    assert isinstance(build_weighting("medmtl.weighting.ew:EqualWeights", TASKS), EqualWeights)


def test_the_weighting_of_the_docs_is_built_and_weighs() -> None:
    weighting = build_weighting("docs.examples.inverse_root:InverseRoot", TASKS, on_bad_loss="drop-task")
    weighting({"anatomy": torch.tensor(4.0), "disease": torch.tensor(0.25)})
    assert [weight.item() for weight in weighting.weights.values()] == pytest.approx([0.5, 2.0])
    weighting({"anatomy": torch.tensor(4.0), "disease": torch.tensor(0.0)})
    assert set(weighting.weights) == {"anatomy"}


def test_something_that_is_no_weighting_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not a weighting"):
        build_weighting("collections:Counter", TASKS)


def test_options_are_listed_by_name() -> None:
    assert options_of("scalarization") == ("weights",)
    assert options_of("ew") == ()


def test_a_method_without_options_says_so() -> None:
    with pytest.raises(ConfigError, match="'ew' has no option 'temperature'; it takes no options"):
        build_weighting("ew", TASKS, temperature=5.0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"anatomy": 1.0}, "weights has no number for 'disease'"),
        ({"anatomy": 0.0, "disease": 0.0}, "weights are all 0"),
        ({"anatomy": -1.0, "disease": 2.0}, "weights must not be negative"),
        ({"anatomy": 1.0, "diseas": 2.0}, "unknown task 'diseas'; did you mean 'disease'"),
        ({"anatomy": 1.0, "disease": float("inf")}, "must be a finite number"),
        ([1.0, 2.0], "must give a number for each task"),
    ],
)
def test_scalarization_weights_that_cannot_be_used_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_weighting("scalarization", TASKS, weights=weights)


def test_a_needed_option_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="'scalarization' needs the option 'weights'"):
        build_weighting("scalarization", TASKS)


def test_learned_weights_come_as_a_group_without_weight_decay() -> None:
    weighting = build_weighting("uw", TASKS)
    (group,) = weighting.parameter_groups()
    assert group["weight_decay"] == 0
    assert len(group["params"]) == 2
    optimizer = torch.optim.AdamW([{"params": torch.nn.Linear(1, 1).parameters()}, group], weight_decay=0.1)
    with torch.no_grad():
        group["params"][0].fill_(1.0)
    group["params"][0].grad = torch.zeros(())
    optimizer.step()
    assert group["params"][0].item() == 1.0


def test_no_optimizer_moves_the_learned_weight_of_an_absent_task() -> None:
    weighting = build_weighting("uw", TASKS)
    optimizer = torch.optim.Adam(weighting.parameter_groups(), lr=0.1)
    for losses in ({"anatomy": 0.1, "disease": 3.0}, {"anatomy": 0.1}, {"anatomy": 0.1}):
        before = weighting.state_dict()["log_variance.1"].item()
        optimizer.zero_grad(set_to_none=True)
        weighting({task: torch.tensor(loss) for task, loss in losses.items()}).backward()
        optimizer.step()
        assert (weighting.state_dict()["log_variance.1"].item() == before) == ("disease" not in losses)


def test_methods_that_learn_nothing_have_no_group() -> None:
    assert build_weighting("ew", TASKS).parameter_groups() == []


def test_observed_losses_decide_the_weights_and_local_losses_the_gradient() -> None:
    weighting = build_weighting("uw-o", TASKS)
    local = torch.tensor(0.3, requires_grad=True)
    observed = {"anatomy": torch.tensor(0.5), "disease": torch.tensor(2.0)}
    total = weighting({"anatomy": local}, observed=observed)
    total.backward()
    assert total.item() == pytest.approx(0.6)
    assert local.grad is not None
    assert local.grad.item() == pytest.approx(2.0)
    assert set(weighting.weights) == set(TASKS)


def test_a_rank_without_any_label_still_takes_the_step_of_the_others() -> None:
    weighting = build_weighting("balanced", TASKS)
    assert weighting({}, observed={"anatomy": torch.tensor(0.5)}).item() == 0
    assert weighting.state_dict()["seen"].tolist() == [1.0, 0.0]


def test_observed_losses_must_cover_the_local_ones() -> None:
    with pytest.raises(ConfigError, match="observed has no loss for 'disease'"):
        build_weighting("ew", TASKS)({"disease": torch.tensor(1.0)}, observed={"anatomy": torch.tensor(1.0)})


def test_weights_are_empty_before_the_first_call() -> None:
    assert build_weighting("ew", TASKS).weights == {}
