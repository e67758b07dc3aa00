"""NaN, infinite, negative and zero losses: the task is named, and the policy is kept."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from medmtl.types import ConfigError
from medmtl.weighting import UnusableLossError, Weighting, build_weighting
from medmtl.weighting._bad_losses import PATIENCE
from tests.helpers.losses import tensors

TASKS = ("anatomy", "disease", "function")
LOSSES = {"anatomy": 0.4, "disease": 0.8, "function": 0.02}
NAN, INF = float("nan"), float("inf")
DIVIDES = ["uw-o", "gls"]
"""Methods that cannot weigh a loss of 0."""
NEGATIVE = [*DIVIDES, "balanced", "dwa", "imtl-l", "uw", "uw-revised"]
"""Methods that cannot weigh a negative loss."""
ANY = ["ew", "rlw", "weight-learning"]


def step(weighting: Weighting, **changed: float) -> Tensor:
    return weighting(tensors(LOSSES | changed))


def test_an_unknown_policy_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown on_bad_loss 'skip'; did you mean 'skip-step'"):
        build_weighting("ew", TASKS, on_bad_loss="skip")


# ---- stop


@pytest.mark.parametrize("method", [*NEGATIVE, *ANY])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_stop_makes_the_total_nan_and_counts_the_task(method: str, bad: float) -> None:
    weighting = build_weighting(method, TASKS)
    assert not torch.isfinite(step(weighting, disease=bad))
    assert weighting.bad_loss_steps() == {"disease": 1}
    assert weighting.objection(bad) == "was not finite"


@pytest.mark.parametrize("method", NEGATIVE)
def test_stop_objects_to_a_negative_loss_where_the_method_cannot_weigh_it(method: str) -> None:
    weighting = build_weighting(method, TASKS)
    total = step(weighting, disease=-0.3)
    assert torch.isnan(total)
    assert weighting.weights["disease"] == 0  # not 1e20, as one over the smallest loss would be
    assert weighting.bad_loss_steps() == {"disease": 1}
    assert weighting.objection(-0.3) == "was negative (-0.3), which this weighting cannot weigh"


@pytest.mark.parametrize("method", ANY)
def test_a_negative_loss_is_fine_where_losses_are_only_added(method: str) -> None:
    """Such as a log-likelihood."""
    weighting = build_weighting(method, TASKS)
    assert torch.isfinite(step(weighting, disease=-0.3))
    assert weighting.weights["disease"] > 0
    assert weighting.bad_loss_steps() == {}
    assert weighting.objection(-0.3) is None


@pytest.mark.parametrize("method", DIVIDES)
def test_stop_objects_to_a_loss_of_0_where_the_method_divides_by_it(method: str) -> None:
    weighting, fewer = build_weighting(method, TASKS), build_weighting(method, ("anatomy", "function"))
    total = step(weighting, disease=0.0)
    expected = fewer(tensors({"anatomy": 0.4, "function": 0.02}))
    torch.testing.assert_close(total, expected)  # no NaN, and nobody else's weight suffers
    assert weighting.weights["disease"] == 0
    assert weighting.bad_loss_steps() == {"disease": 1}
    assert weighting.objection(0.0) == "was 0, which this weighting cannot divide by"


@pytest.mark.parametrize("method", ["balanced", "dwa", "imtl-l", "uw", "uw-revised", *ANY])
def test_a_loss_of_0_is_fine_elsewhere(method: str) -> None:
    weighting = build_weighting(method, TASKS)
    step(weighting)
    assert torch.isfinite(step(weighting, disease=0.0))
    assert weighting.bad_loss_steps() == {}
    assert weighting.objection(0.0) is None


def test_the_domain_of_normalized_is_that_of_its_raw_weights() -> None:
    inverse = build_weighting("normalized", TASKS, raw="inverse", normalizer="sum-to-k")
    constant = build_weighting("normalized", TASKS, raw="constant", normalizer="sum-to-k")
    assert inverse.objection(0.0) is not None
    assert constant.objection(-1.0) is None


# ---- skip-step and drop-task


@pytest.mark.parametrize("method", [*NEGATIVE, *ANY])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_drop_task_makes_the_task_absent_on_that_step(method: str, bad: float) -> None:
    weighting, fewer = (
        build_weighting(method, tasks, on_bad_loss="drop-task") for tasks in (TASKS, ("anatomy", "function"))
    )
    for _ in range(2):
        losses = tensors(LOSSES | {"disease": bad})
        total, expected = weighting(losses), fewer(tensors({"anatomy": 0.4, "function": 0.02}))
        if method != "weight-learning":  # of two declared tasks it learns one number, of three three
            torch.testing.assert_close(total, expected)
        total.backward()
        assert losses["disease"].grad is None
        assert set(weighting.weights) == {"anatomy", "function"}
    assert torch.isfinite(step(weighting))
    assert weighting.objection(bad) is None


@pytest.mark.parametrize("method", DIVIDES)
@pytest.mark.parametrize("bad", [0.0, -0.3])
def test_drop_task_drops_what_the_method_cannot_weigh(method: str, bad: float) -> None:
    weighting = build_weighting(method, TASKS, on_bad_loss="drop-task")
    assert torch.isfinite(step(weighting, disease=bad))
    assert set(weighting.weights) == {"anatomy", "function"}


@pytest.mark.parametrize("method", [*NEGATIVE, *ANY])
def test_skip_step_lets_no_optimizer_move(method: str) -> None:
    weighting = build_weighting(method, TASKS, on_bad_loss="skip-step")
    trunk = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.AdamW([trunk, *weighting.parameters()], lr=0.1, weight_decay=0.5)
    for bad in (1.0, NAN, 1.0):
        before = [trunk.clone(), *(parameter.clone() for parameter in weighting.parameters())]
        optimizer.zero_grad(set_to_none=True)
        losses = {task: loss * trunk.square() for task, loss in LOSSES.items()}
        losses["disease"] = losses["disease"] * bad
        weighting(losses).backward()
        optimizer.step()
        after = [trunk, *weighting.parameters()]
        still = all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
        assert still == (bad != 1.0)


def test_drop_task_with_no_other_task_skips_the_step() -> None:
    weighting = build_weighting("uw-o", TASKS, on_bad_loss="drop-task")
    total = weighting(tensors({"disease": NAN}))
    assert total.item() == 0
    total.backward()
    assert weighting.weights == {}


@pytest.mark.parametrize(
    ("policy", "what"),
    [("skip-step", "the step is skipped"), ("drop-task", "the step goes on without the task")],
)
def test_the_task_is_named_in_the_log_without_flooding_it(
    policy: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    weighting = build_weighting("ew", TASKS, on_bad_loss=policy)
    with caplog.at_level(logging.WARNING, logger="medmtl.weighting"):
        for _ in range(9):
            step(weighting, disease=NAN)
    assert [record.getMessage() for record in caplog.records] == [
        f"the loss of task 'disease' cannot be used, for the {n}. time: {what}" for n in (1, 2, 4, 8)
    ]
    assert weighting.bad_loss_steps() == {"disease": 9}


@pytest.mark.parametrize("policy", ["skip-step", "drop-task"])
def test_a_run_that_can_take_no_step_any_more_ends_with_the_tasks_name(policy: str) -> None:
    weighting = build_weighting("ew", TASKS, on_bad_loss=policy)
    bad = dict.fromkeys(TASKS, NAN) if policy == "drop-task" else {"function": INF}
    for _ in range(PATIENCE - 1):
        step(weighting, **bad)
    with pytest.raises(UnusableLossError, match=r"no step in the last 100 could be taken: .*'function'"):
        step(weighting, **bad)


def test_one_good_step_starts_the_patience_anew() -> None:
    weighting = build_weighting("ew", TASKS, on_bad_loss="skip-step")
    for _ in range(2):
        for _ in range(PATIENCE - 1):
            step(weighting, disease=NAN)
        step(weighting)
    assert weighting.bad_loss_steps() == {"disease": 2 * (PATIENCE - 1)}


def test_a_bad_loss_of_a_task_that_is_not_due_is_nobodys_business() -> None:
    weighting = build_weighting("ew", TASKS, every={"disease": 2})
    step(weighting)
    assert torch.isfinite(step(weighting, disease=NAN))
    assert weighting.bad_loss_steps() == {}


# ---- weights of 0, and labels that never come


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("scalarization", {"weights": {"anatomy": 1.0, "disease": 0.0, "function": 0.0}}),
        ("uw-o", {"importance": {"disease": 0.0, "function": 0.0}}),
        ("balanced", {"importance": {"disease": 0.0, "function": 0.0}}),
    ],
)
def test_a_step_on_which_only_tasks_of_weight_0_have_labels_moves_nothing(
    method: str, options: dict[str, Any]
) -> None:
    weighting = build_weighting(method, TASKS, **options)
    assert torch.isfinite(step(weighting))
    assert weighting.weights["disease"] == 0
    losses = tensors({"disease": 0.8, "function": 0.02})
    weighting(losses).backward()
    assert all(loss.grad is None for loss in losses.values())


def test_tasks_that_never_had_a_loss_are_named() -> None:
    weighting = build_weighting("balanced", TASKS)
    assert weighting.never_seen() == TASKS
    weighting(tensors({"anatomy": 0.4, "function": 0.02}))
    assert weighting.never_seen() == ("disease",)


# ---- a state of other tasks


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (("anatomy", "disease", "t1"), "function only there; t1 only here"),
        (("anatomy", "disease"), "function only there$"),
        ((*TASKS, "t1"), "cannot go on with anatomy, disease, function, t1: t1 only here"),
        (("disease", "anatomy", "function"), "the order differs"),
    ],
)
def test_a_state_of_another_set_of_tasks_says_which_differ(tasks: tuple[str, ...], message: str) -> None:
    state = build_weighting("ew", TASKS).get_extra_state()
    with pytest.raises(ConfigError, match=message):
        build_weighting("ew", tasks).set_extra_state(state)
