"""Asynchronous backpropagation and warm-up, on top of any method."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from medmtl.types import ConfigError
from medmtl.weighting import Weighting, build_weighting
from tests.helpers.losses import tensors

TASKS = ("anatomy", "disease", "function")
LOSSES = {"anatomy": 0.4, "disease": 0.8, "function": 0.02}


def took_part(weighting: Weighting, steps: int, present: Sequence[str] = TASKS) -> list[set[str]]:
    """The tasks that had a weight, per step."""
    found = []
    for _ in range(steps):
        weighting(tensors({task: LOSSES[task] for task in present}))
        found.append(set(weighting.weights))
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": {"diseas": 3}}, "every has an unknown task 'diseas'; did you mean 'disease'"),
        ({"every": {"disease": 0}}, r"every\['disease'\] must be a whole number of at least 1; found 0"),
        ({"every": {"disease": 1.5}}, "must be a whole number of at least 1; found 1.5"),
        ({"every": {"disease": True}}, "must be a whole number of at least 1; found True"),
        ({"every": 3}, r"every must be \{task: n\}, such as \{anatomy: 3\}; found 3"),
        ({"per": "epoch"}, "per says what `every` counts"),
        ({"every": {"disease": 2}, "per": "epochs"}, "unknown per 'epochs'; did you mean 'epoch'"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number of at least 0; found -1"),
        ({"warmup_steps": 1, "warmup_epochs": 1}, "warmup_steps or warmup_epochs, not both"),
        ({"evry": {"disease": 2}}, "no option 'evry'; did you mean 'every'"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_weighting("ew", TASKS, **options)


def test_a_task_with_a_period_takes_part_in_every_so_many_steps() -> None:
    """Leang et al. 2020: task k is backpropagated every nu_k iterations."""
    weighting = build_weighting("uw-so", TASKS, temperature=20.0, every={"disease": 3, "function": 2})
    assert took_part(weighting, 7) == [
        {"anatomy", "disease", "function"},
        {"anatomy"},
        {"anatomy", "function"},
        {"anatomy", "disease"},
        {"anatomy", "function"},
        {"anatomy"},
        {"anatomy", "disease", "function"},
    ]


def test_on_a_step_without_it_the_task_is_absent() -> None:
    scheduled = build_weighting("uw-so", TASKS, temperature=20.0, every={"disease": 3})
    fewer = build_weighting("uw-so", ("anatomy", "function"), temperature=20.0)
    took_part(scheduled, 1)
    losses, others = tensors(LOSSES), tensors({"anatomy": 0.4, "function": 0.02})
    total, expected = scheduled(losses), fewer(others)
    total.backward()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(scheduled.weights, fewer.weights)
    assert losses["disease"].grad is None


def test_a_step_on_which_no_task_is_due_moves_nothing() -> None:
    trunk = torch.nn.Linear(2, 1)
    weighting = build_weighting("uw", ("a", "b"), every={"a": 2, "b": 2})
    optimizer = torch.optim.AdamW([*trunk.parameters(), *weighting.parameters()], lr=0.1, weight_decay=0.1)
    moved = []
    for _ in range(4):
        before = copy.deepcopy([*trunk.parameters(), *weighting.parameters()])
        optimizer.zero_grad(set_to_none=True)
        loss = trunk(torch.ones(2)).square().sum()
        total = weighting({"a": loss, "b": 2 * loss})
        total.backward()
        optimizer.step()
        after = [*trunk.parameters(), *weighting.parameters()]
        moved.append(any(not torch.equal(old, new) for old, new in zip(before, after, strict=True)))
        assert bool(total == 0) == (weighting.weights == {})
    assert moved == [True, False, True, False]


def test_a_task_whose_labels_come_seldom_takes_part_when_they_come() -> None:
    """Its labels fall between its turns: it is due once enough steps have passed, not on fixed numbers."""
    weighting = build_weighting("ew", TASKS, every={"disease": 2})
    assert took_part(weighting, 1, ["anatomy"]) == [{"anatomy"}]
    assert took_part(weighting, 1) == [set(TASKS)]
    assert took_part(weighting, 1) == [{"anatomy", "function"}]
    assert took_part(weighting, 2, ["anatomy"]) == [{"anatomy"}] * 2
    assert took_part(weighting, 1) == [set(TASKS)]


def test_per_epoch_a_task_takes_part_in_whole_epochs() -> None:
    weighting = build_weighting("ew", TASKS, every={"disease": 2}, per="epoch")
    found = []
    for _ in range(4):
        found.append([("disease" in names) for names in took_part(weighting, 3)])
        weighting.end_epoch()
    assert found == [[True] * 3, [False] * 3, [True] * 3, [False] * 3]


def test_the_first_steps_weigh_all_tasks_equally_while_the_method_watches() -> None:
    warmed = build_weighting("uw-so", TASKS, temperature=5.0, normalize_losses="first", warmup_steps=2)
    plain = build_weighting("uw-so", TASKS, temperature=5.0, normalize_losses="first")
    for scale in (1.0, 0.5):
        losses = {task: scale * loss for task, loss in LOSSES.items()}
        total = warmed(tensors(losses))
        plain(tensors(losses))
        assert {task: weight.item() for task, weight in warmed.weights.items()} == dict.fromkeys(TASKS, 1.0)
        assert total.item() == pytest.approx(sum(losses.values()))
    warmed(tensors(LOSSES))
    plain(tensors(LOSSES))
    assert warmed.weights == plain.weights  # it knew the first losses


def test_warm_up_may_be_told_in_epochs() -> None:
    weighting = build_weighting("uw-o", TASKS, warmup_epochs=1)
    equal = []
    for _ in range(2):
        for _ in range(2):
            weighting(tensors(LOSSES))
            equal.append(all(weight == 1 for weight in weighting.weights.values()))
        weighting.end_epoch()
    assert equal == [True, True, False, False]


def test_learned_weights_wait_for_the_end_of_the_warm_up() -> None:
    weighting = build_weighting("uw", TASKS, warmup_steps=1)
    total = weighting(tensors(LOSSES))
    total.backward()
    assert total.item() == pytest.approx(sum(LOSSES.values()))
    assert all(parameter.grad is None for parameter in weighting.parameters())
    weighting(tensors(LOSSES)).backward()
    assert all(parameter.grad is not None for parameter in weighting.parameters())


def test_both_schedules_go_together() -> None:
    weighting = build_weighting("uw-o", TASKS, every={"function": 2}, warmup_steps=2)
    weighting(tensors(LOSSES))
    weighting(tensors(LOSSES))
    assert {task: w.item() for task, w in weighting.weights.items()} == {"anatomy": 1.0, "disease": 1.0}
    weighting(tensors(LOSSES))
    assert weighting.weights["function"].item() == pytest.approx(50.0)


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5])
def test_a_resumed_schedule_goes_on_where_it_was(stop_at: int) -> None:
    def build() -> Weighting:
        return build_weighting("dwa", TASKS, every={"disease": 3, "function": 2}, warmup_epochs=1)

    whole, stopped = build(), build()
    for weighting in (whole, stopped):
        for step in range(stop_at):
            took_part(weighting, 1)
            if step == 1:
                weighting.end_epoch()
    resumed = build()
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    assert took_part(resumed, 6) == took_part(whole, 6)
    assert resumed.weights == whole.weights
    assert all(isinstance(value, Tensor) for value in resumed.state_dict().values())


def test_without_a_schedule_there_is_no_state_of_one() -> None:
    assert build_weighting("ew", TASKS).schedule is None
    assert not any("schedule" in key for key in build_weighting("ew", TASKS).state_dict())


def test_the_tasks_that_are_due_can_be_asked_for_before_the_step() -> None:
    weighting = build_weighting("ew", TASKS, every={"disease": 2})
    assert weighting.due(TASKS) == list(TASKS)
    took_part(weighting, 1)
    assert weighting.due(TASKS) == ["anatomy", "function"]
    assert weighting.due(TASKS) == ["anatomy", "function"]  # asking moves no clock
