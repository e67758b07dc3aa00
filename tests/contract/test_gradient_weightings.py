"""The contract that every registered weighting of gradients keeps; a new one is picked up by itself.

Every test gives it an explicit Jacobian, a row per task.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medmtl.types import ConfigError
from medmtl.weighting import WEIGHTINGS, Gradients, GradientWeighting, UnusableLossError, build_weighting

NAMES = [name for name in WEIGHTINGS if issubclass(WEIGHTINGS.get(name), GradientWeighting)]
TASKS = ("anatomy", "disease", "function", "tissue")
SIZE = 50


def make(name: str, tasks: Sequence[str] = TASKS, **options: Any) -> GradientWeighting:
    weighting = build_weighting(name, tasks, **options)
    assert isinstance(weighting, GradientWeighting)
    return weighting


def jacobian(n_tasks: int, seed: int = 0, size: int = SIZE) -> Tensor:
    """Rows with a common part, so that some agree and some conflict, and of unlike norms."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn((n_tasks, size), generator=generator, dtype=torch.float64)
    rows += 0.3 * torch.randn(size, generator=generator, dtype=torch.float64)
    return rows * torch.logspace(-1, 1, n_tasks, dtype=torch.float64)[:, None]


def gradients_of(rows: Tensor, tasks: Sequence[str] = TASKS) -> Gradients:
    """As of one convolution of 5 filters."""
    return Gradients.of({task: [row.reshape(5, -1, 1, 1, 1)] for task, row in zip(tasks, rows, strict=True)})


def losses_of(tasks: Sequence[str] = TASKS, step: int = 0) -> dict[str, Tensor]:
    """One loss per task, by its name, that falls from step to step."""
    return {task: torch.tensor((1 + len(task) / 10) * 0.9 ** (step * len(task))) for task in tasks}


def walk(weighting: GradientWeighting, steps: Sequence[int], tasks: Sequence[str] = TASKS) -> list[float]:
    """Takes steps on which some tasks are present; the totals."""
    totals = []
    for step in steps:
        rows = jacobian(len(TASKS), seed=step)[[TASKS.index(task) for task in tasks]]
        total = weighting(losses_of(tasks, step), gradients=gradients_of(rows, tasks))
        totals.append(total.item())
        weighting.end_epoch()
    return totals


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def test_there_are_those_that_the_documentation_names() -> None:
    assert set(NAMES) == {
        "aligned-mtl", "cagrad", "dualproj", "gradnorm", "imtl-g", "mgda", "nash-mtl", "pcgrad", "upgrad",
    }  # fmt: skip


def test_losses_without_gradients_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="by their gradients, which losses do not carry"):
        make(name)(losses_of())


def test_a_loss_without_a_gradient_is_refused(name: str) -> None:
    rows = gradients_of(jacobian(3), TASKS[:3])
    with pytest.raises(ConfigError, match="gradients has no row for 'tissue'"):
        make(name)(losses_of(), gradients=rows)


def test_an_unknown_place_to_compare_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown on 'last_layer'; did you mean 'last_layers'"):
        make(name, on="last_layer")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_spoils_the_total_but_no_other_weight(name: str, bad: float, what: str) -> None:
    spoiled, clean = make(name), make(name)
    rows, losses = jacobian(4), losses_of()
    others = [task for task in TASKS if task != "disease"]
    clean({t: losses[t] for t in others}, gradients=gradients_of(rows[[0, 2, 3]], others))
    if what == "loss":
        losses["disease"] = torch.tensor(bad)
    else:
        rows[1, 7] = bad
    assert not torch.isfinite(spoiled(losses, gradients=gradients_of(rows)))
    for task in others:
        torch.testing.assert_close(spoiled.weights[task], clean.weights[task])
    assert walk(spoiled, [1, 2]) == pytest.approx(walk(clean, [1, 2]), rel=1e-6)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_drop_task_leaves_a_bad_task_out_and_goes_on(name: str, what: str) -> None:
    weighting = make(name, on_bad_loss="drop-task")
    rows, losses = jacobian(4), losses_of()
    if what == "loss":
        losses["disease"] = torch.tensor(torch.nan)
    else:
        rows[1, 0] = torch.inf
    assert torch.isfinite(weighting(losses, gradients=gradients_of(rows)))
    assert set(weighting.weights) == {"anatomy", "function", "tissue"}


def test_steps_that_are_all_skipped_end_in_an_error_that_names_the_task(name: str) -> None:
    weighting = make(name, on_bad_loss="skip-step")
    rows = jacobian(4)
    rows[1, 0] = torch.nan
    for _ in range(99):
        assert weighting(losses_of(), gradients=gradients_of(rows)).item() == 0
        assert weighting.weights == {}
    with pytest.raises(UnusableLossError, match="'disease' had no loss that can be trained on"):
        weighting(losses_of(), gradients=gradients_of(rows))


@settings(max_examples=25, deadline=None)
@given(n_tasks=st.integers(2, 40), seed=st.integers(0, 10**6), spread=st.floats(0, 4))
@pytest.mark.parametrize("method", NAMES)
def test_two_to_forty_tasks_of_unlike_norms_give_finite_weights(
    method: str, n_tasks: int, seed: int, spread: float
) -> None:
    tasks = [f"task{i}" for i in range(n_tasks)]
    weighting = make(method, tasks)
    scales = torch.logspace(-spread, spread, n_tasks, dtype=torch.float64)[:, None]
    total = weighting(losses_of(tasks), gradients=gradients_of(jacobian(n_tasks, seed) * scales, tasks))
    assert total.shape == ()
    assert torch.isfinite(total)
    assert list(weighting.weights) == tasks
    for weight in weighting.weights.values():
        assert weight.shape == ()
        assert weight.dtype == torch.float32
        assert torch.isfinite(weight)
        assert not weight.requires_grad


def test_permuting_the_tasks_permutes_the_weights(name: str) -> None:
    one, other = make(name), make(name, TASKS[::-1])
    for step in range(3):
        rows = jacobian(4, seed=step)
        one(losses_of(step=step), gradients=gradients_of(rows))
        turned = dict(reversed(losses_of(step=step).items()))
        other(turned, gradients=gradients_of(rows.flip(0), TASKS[::-1]))
        for task in TASKS:
            torch.testing.assert_close(one.weights[task], other.weights[task])


@pytest.mark.parametrize("absent", TASKS)
def test_an_absent_task_is_the_problem_without_it(name: str, absent: str) -> None:
    present = [task for task in TASKS if task != absent]
    with_absent, fewer = make(name), make(name, present)
    assert walk(with_absent, range(4), present) == pytest.approx(walk(fewer, range(4), present), rel=1e-6)
    for task, weight in fewer.weights.items():
        torch.testing.assert_close(with_absent.weights[task], weight)


def test_a_step_without_a_task_leaves_its_state_untouched(name: str) -> None:
    weighting = make(name)
    walk(weighting, [0, 1])
    before = {key: value.clone() for key, value in weighting.state_dict().items()}
    walk(weighting, [2], TASKS[:3])
    for key, value in weighting.state_dict().items():
        if value.shape == (len(TASKS),) and not key.startswith("alarm"):
            assert value[3] == before[key][3], key


def test_saving_and_loading_makes_the_next_step_identical(name: str) -> None:
    weighting = make(name)
    walk(weighting, range(3))
    resumed = make(name)
    resumed.load_state_dict(copy.deepcopy(weighting.state_dict()))
    assert walk(resumed, range(3, 6)) == walk(weighting, range(3, 6))
    assert resumed.weights == weighting.weights


def test_every_state_is_a_tensor_so_that_it_is_saved_without_pickle(name: str) -> None:
    assert all(isinstance(value, Tensor) for value in make(name).state_dict().values())


def test_torchs_random_state_is_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    walk(make(name), range(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_task_whose_gradient_does_not_reach_the_shared_weights_has_no_say(name: str) -> None:
    """A head that reads covariates alone: its row is 0, and would be the shortest vector there is."""
    weighting, without = make(name), make(name, TASKS[:3])
    rows = jacobian(4)
    rows[3] = 0
    weighting(losses_of(), gradients=gradients_of(rows))
    without(losses_of(TASKS[:3]), gradients=gradients_of(rows[:3], TASKS[:3]))
    for task in TASKS[:3]:
        torch.testing.assert_close(weighting.weights[task], without.weights[task])
    assert torch.isfinite(weighting.weights["tissue"])


def test_gradients_that_are_all_0_give_finite_weights(name: str) -> None:
    weighting = make(name)
    assert torch.isfinite(weighting(losses_of(), gradients=gradients_of(torch.zeros(4, SIZE))))


def test_exactly_opposed_gradients_give_finite_weights_and_nearly_no_step(name: str) -> None:
    weighting = make(name, TASKS[:2])
    row = jacobian(1)
    opposed = torch.cat([row, -row])
    weighting(losses_of(TASKS[:2]), gradients=gradients_of(opposed, TASKS[:2]))
    weights = torch.stack(list(weighting.weights.values())).double()
    assert torch.isfinite(weights).all()
    assert torch.linalg.vector_norm(weights @ opposed) <= 1e-3 * weights.abs().max() * row.norm()


def test_one_task_alone_keeps_its_direction(name: str) -> None:
    weighting = make(name, ["anatomy"])
    weighting(losses_of(["anatomy"]), gradients=gradients_of(jacobian(1), ["anatomy"]))
    assert weighting.weights["anatomy"] > 0


def test_a_warm_up_has_equal_weights(name: str) -> None:
    weighting = make(name, warmup_steps=1)
    walk(weighting, [0])
    assert {weight.item() for weight in weighting.weights.values()} == {1.0}
    walk(weighting, [1])
    assert len({weight.item() for weight in weighting.weights.values()}) > 1


def test_the_module_of_each_weighting_says_formula_source_when_cost_and_failure(name: str) -> None:
    doc = sys.modules[WEIGHTINGS.get(name).__module__].__doc__ or ""
    for word in ("Formula", "Source", "When:", "Costs", "Fails:"):
        assert word in doc, word
