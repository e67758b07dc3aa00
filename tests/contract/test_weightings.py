"""The contract that every registered weighting of losses keeps; a new one is picked up by itself.

Permutation, absent tasks, resume and ranks; a scalar total whose gradient is the weights; no wait for the
device.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from medmtl.types import ConfigError
from medmtl.weighting import WEIGHTINGS, GradientWeighting, Weighting, build_weighting

NAMES = [name for name in WEIGHTINGS if not issubclass(WEIGHTINGS.get(name), GradientWeighting)]
LOSSES = st.lists(st.floats(min_value=1e-8, max_value=1e8), min_size=2, max_size=40)
TRAJECTORY = (
    {"anatomy": 1.4, "disease": 1.6, "function": 0.5, "tissue": 0.9},
    {"anatomy": 1.0, "disease": 1.5, "function": 0.2, "tissue": 1.1},
    {"anatomy": 0.7, "disease": 1.2, "function": 0.05, "tissue": 0.6},
)
TASKS = tuple(TRAJECTORY[0])
REFERENCE = "tissue"


def needed_options(name: str, tasks: Sequence[str]) -> dict[str, Any]:
    """Options that a method cannot do without."""
    reference = REFERENCE if REFERENCE in tasks or not tasks else tasks[0]
    table: dict[str, dict[str, Any]] = {
        "scalarization": {"weights": {task: 1.0 + len(task) for task in tasks}},
        "uw-so": {"temperature": 5.0},
        "normalized": {"raw": "inverse", "normalizer": "sum-to-k"},
        "handcrafted": {"reference": reference},
        "dynamic-scaling": {"reference": reference},
    }
    return table.get(name, {})


def make(name: str, tasks: Sequence[str] = TASKS) -> Weighting:
    return build_weighting(name, tasks, **needed_options(name, tasks))


def tensors(losses: dict[str, float]) -> dict[str, Tensor]:
    return {task: torch.tensor(loss, requires_grad=True) for task, loss in losses.items()}


def walk(weighting: Weighting, steps: Sequence[dict[str, float]]) -> list[float]:
    """Takes steps, learning what is learned; the totals."""
    groups = weighting.parameter_groups()
    optimizer = torch.optim.Adam(groups, lr=0.1) if groups else None
    totals = []
    for losses in steps:
        total = weighting(tensors(losses))
        totals.append(total.item())
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
        weighting.end_epoch()
    return totals


def without(task: str, steps: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: loss for name, loss in losses.items() if name != task} for losses in steps]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@settings(max_examples=40, deadline=None)
@given(losses=LOSSES)
@pytest.mark.parametrize("method", NAMES)
def test_any_losses_give_a_finite_scalar_total_and_finite_weights(method: str, losses: list[float]) -> None:
    tasks = [f"task{i}" for i in range(len(losses))]
    weighting = make(method, tasks)
    for step in (losses, losses[::-1], losses):
        total = weighting(tensors(dict(zip(tasks, step, strict=True))))
        assert total.shape == ()
        assert total.dtype == torch.float32
        assert torch.isfinite(total)
        assert list(weighting.weights) == tasks
        assert all(torch.isfinite(w) and w >= 0 for w in weighting.weights.values())


@settings(max_examples=15, deadline=None)
@given(losses=LOSSES)
@pytest.mark.parametrize("method", NAMES)
def test_any_losses_in_another_order_give_the_same_weights(method: str, losses: list[float]) -> None:
    tasks = [f"task{i}" for i in range(len(losses))]
    options = needed_options(method, tasks)
    one, other = (build_weighting(method, names, **options) for names in (tasks, tasks[::-1]))
    for step in (losses, losses[::-1]):
        for weighting in (one, other):
            weighting(tensors(dict(zip(tasks, step, strict=True))))
            weighting.end_epoch()
        for task in tasks:
            torch.testing.assert_close(one.weights[task], other.weights[task], rtol=1e-3, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(losses=LOSSES)
@pytest.mark.parametrize("method", NAMES)
def test_any_losses_with_one_task_absent_are_the_problem_without_it(method: str, losses: list[float]) -> None:
    tasks = [f"task{i}" for i in range(len(losses) + 1)]
    options = needed_options(method, tasks[:-1])
    if method == "scalarization":
        options = needed_options(method, tasks)
    with_absent = build_weighting(method, tasks, **options)
    fewer = make(method, tasks[:-1])
    for step in (losses, losses[::-1]):
        given_losses = dict(zip(tasks[:-1], step, strict=True))
        totals = [weighting(tensors(given_losses)) for weighting in (with_absent, fewer)]
        torch.testing.assert_close(*totals, rtol=1e-4, atol=1e-6)
        for weighting in (with_absent, fewer):
            weighting.end_epoch()


def test_weights_are_detached_float32_scalars_of_the_tasks_present(name: str) -> None:
    weighting = make(name)
    weighting(tensors({"anatomy": 0.4, "function": 0.02}))
    for weights in (weighting.weights, weighting.raw_weights):
        assert set(weights) == {"anatomy", "function"}
        for weight in weights.values():
            assert not weight.requires_grad
            assert weight.dtype == torch.float32
            assert weight.shape == ()


def test_the_gradient_of_the_total_by_a_loss_is_its_weight(name: str) -> None:
    weighting = make(name)
    walk(weighting, TRAJECTORY[:2])
    losses = tensors(TRAJECTORY[2])
    weighting(losses).backward()
    for task, loss in losses.items():
        torch.testing.assert_close(loss.grad, weighting.weights[task])


def test_weights_handed_out_do_not_change_on_the_next_step(name: str) -> None:
    weighting = make(name)
    walk(weighting, TRAJECTORY[:1])
    handed = weighting.weights
    before = {task: weight.item() for task, weight in handed.items()}
    walk(weighting, TRAJECTORY[1:])
    assert {task: weight.item() for task, weight in handed.items()} == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_total_is_at_least_float32_whatever_the_losses_are(name: str, dtype: torch.dtype) -> None:
    weighting = make(name)
    losses = {task: torch.tensor(loss, dtype=dtype) for task, loss in TRAJECTORY[2].items()}
    losses["function"] = torch.tensor(6e-8, dtype=dtype)  # the smallest float16 above 0
    total = weighting(losses)
    assert total.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.isfinite(total)


def test_permuting_the_tasks_permutes_the_weights(name: str) -> None:
    one, other = make(name), make(name, TASKS[::-1])
    totals = walk(one, TRAJECTORY)
    turned = walk(other, [dict(reversed(losses.items())) for losses in TRAJECTORY])
    assert totals == pytest.approx(turned, rel=1e-5)
    for task in TASKS:
        torch.testing.assert_close(one.weights[task], other.weights[task])


@pytest.mark.parametrize("absent", TASKS)
def test_an_absent_task_is_the_problem_without_it(name: str, absent: str) -> None:
    with_absent = make(name)
    fewer = make(name, [task for task in TASKS if task != absent])
    steps = without(absent, TRAJECTORY)
    if absent == needed_options(name, TASKS).get("reference"):  # then there is no such problem without it
        walk(with_absent, steps)
        assert all(weight == 1 for weight in with_absent.weights.values())
        return
    assert walk(with_absent, steps) == pytest.approx(walk(fewer, steps), rel=1e-6)
    assert with_absent.weights.keys() == fewer.weights.keys()
    for task, weight in fewer.weights.items():
        torch.testing.assert_close(with_absent.weights[task], weight)


def test_a_step_without_a_task_leaves_its_state_and_parameters_untouched(name: str) -> None:
    weighting = make(name)
    walk(weighting, TRAJECTORY[:2])
    before = {key: value.clone() for key, value in weighting.state_dict().items() if key != "_extra_state"}
    for parameter in weighting.parameters():
        parameter.grad = None
    weighting(tensors({"anatomy": 3.0})).backward()
    for key, value in weighting.state_dict().items():
        if key in before and value.shape == (len(TASKS),):
            assert torch.equal(value[1:], before[key][1:]), key
    untouched = [p for p in weighting.parameters() if p.grad is None]
    assert len(untouched) >= len(list(weighting.parameters())) // len(TASKS) * (len(TASKS) - 1)


def test_a_task_that_appears_late_can_join(name: str) -> None:
    weighting = make(name)
    walk(weighting, [*without("tissue", TRAJECTORY), TRAJECTORY[0]])
    assert set(weighting.weights) == set(TASKS)
    assert all(weight > 0 for weight in weighting.weights.values())


def test_saving_and_loading_makes_the_next_step_identical(name: str) -> None:
    weighting = make(name)
    walk(weighting, TRAJECTORY[:2])
    resumed = make(name)
    resumed.load_state_dict(copy.deepcopy(weighting.state_dict()))
    assert walk(resumed, TRAJECTORY[2:]) == walk(weighting, TRAJECTORY[2:])
    assert resumed.weights == weighting.weights


def test_every_state_is_a_tensor_so_that_it_is_saved_without_pickle(name: str) -> None:
    assert all(isinstance(value, Tensor) for value in make(name).state_dict().values())


def test_a_state_of_other_tasks_is_refused(name: str) -> None:
    state = make(name).state_dict()
    with pytest.raises(ConfigError, match="saved for tasks"):
        make(name, TASKS[::-1]).load_state_dict(state)


def test_the_same_losses_give_the_same_totals(name: str) -> None:
    assert walk(make(name), TRAJECTORY) == walk(make(name), TRAJECTORY)


def test_a_loss_of_zero_gives_no_nan(name: str) -> None:
    weighting = make(name)
    for losses in (
        {"anatomy": 0.0, "disease": 0.5},
        {"anatomy": 0.5, "disease": 0.0},
        {"anatomy": 0.0, "disease": 0.0},
    ):
        assert torch.isfinite(weighting(tensors(losses)))
        assert all(torch.isfinite(weight) for weight in weighting.weights.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("first", [True, False])
def test_a_loss_that_is_not_finite_spoils_the_total_but_no_other_weight(
    name: str, bad: float, first: bool
) -> None:
    """So that the trainer stops on the total and can name the task, and the next step is not poisoned."""
    spoiled, clean = make(name), make(name)
    for weighting in (spoiled, clean):
        walk(weighting, [] if first else TRAJECTORY[:2])
    total = spoiled(tensors(TRAJECTORY[2] | {"function": bad}))
    clean(tensors(without("function", TRAJECTORY)[2]))
    assert not torch.isfinite(total)
    for task, weight in clean.weights.items():
        torch.testing.assert_close(spoiled.weights[task], weight)
    spoiled(tensors(TRAJECTORY[2]))
    clean(tensors(TRAJECTORY[2]))
    for task, weight in clean.weights.items():
        torch.testing.assert_close(spoiled.weights[task], weight)


def test_one_task_alone_can_be_trained(name: str) -> None:
    weighting = make(name, ["anatomy"])
    assert all(total > 0 for total in walk(weighting, [{"anatomy": 1.4}, {"anatomy": 0.7}]))
    assert weighting.collapsed() is None


def test_a_step_never_waits_for_the_device(name: str) -> None:
    """A fake tensor has no value, so that reading one (.item(), an if on a tensor) raises."""
    with FakeTensorMode():
        weighting = make(name)
        for losses in (TRAJECTORY[0], {"anatomy": 0.3, "tissue": 0.1}):
            total = weighting({task: torch.full((), loss) for task, loss in losses.items()})
            assert total.shape == ()


def test_ranks_together_have_the_gradient_of_one_big_batch(name: str) -> None:
    """Two ranks of equal size; the second has no label for disease, so the first's mean counts twice."""
    big, ranks = make(name), (make(name), make(name))
    for shift in (0.0, 0.3):
        observed = {task: torch.tensor(loss + shift) for task, loss in TRAJECTORY[0].items()}
        local = (
            {
                "anatomy": 1.0 + shift,
                "disease": 2 * (1.6 + shift),
                "function": 0.4 + shift,
                "tissue": 0.5 + shift,
            },
            {"anatomy": 1.8 + shift, "function": 0.6 + shift, "tissue": 1.3 + shift},
        )
        expected = big(observed)
        totals = [r(tensors(part), observed=observed) for r, part in zip(ranks, local, strict=True)]
        torch.testing.assert_close((totals[0] + totals[1]) / 2, expected)
        for rank in ranks:
            assert rank.weights == big.weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_losses_are_weighed_as_the_same_numbers_in_float32(
    name: str, dtype: torch.dtype
) -> None:
    half, full = make(name), make(name)
    for losses in TRAJECTORY:
        rounded = {task: torch.tensor(loss, dtype=dtype) for task, loss in losses.items()}
        total, expected = half(rounded), full({task: loss.float() for task, loss in rounded.items()})
        torch.testing.assert_close(total, expected)
        assert half.weights == full.weights
        half.end_epoch()
        full.end_epoch()


def test_a_task_that_a_schedule_leaves_out_is_absent_on_that_step(name: str) -> None:
    options = needed_options(name, TASKS)
    scheduled = build_weighting(name, TASKS, every={"disease": 2}, **options)
    plain = build_weighting(name, TASKS, **options)
    for number, losses in enumerate(TRAJECTORY):
        given, others = (
            tensors(losses),
            tensors(losses if number % 2 == 0 else without("disease", [losses])[0]),
        )
        total, expected = scheduled(given), plain(others)
        torch.testing.assert_close(total, expected)
        assert scheduled.weights == plain.weights
        total.backward()
        assert (given["disease"].grad is None) == (number % 2 == 1)
        scheduled.end_epoch()
        plain.end_epoch()


def test_saving_and_loading_keeps_a_schedule_on_top_of_the_method(name: str) -> None:
    def build() -> Weighting:
        return build_weighting(
            name, TASKS, every={"disease": 2, "function": 3}, warmup_steps=1, **needed_options(name, TASKS)
        )

    weighting, resumed = build(), build()
    walk(weighting, TRAJECTORY[:2])
    resumed.load_state_dict(copy.deepcopy(weighting.state_dict()))
    assert walk(resumed, TRAJECTORY) == walk(weighting, TRAJECTORY)
    assert resumed.weights == weighting.weights


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_drop_task_is_the_step_without_the_task(name: str, bad: float) -> None:
    dropping, plain = (
        build_weighting(name, TASKS, on_bad_loss=policy, **needed_options(name, TASKS))
        for policy in ("drop-task", "stop")
    )
    for broken, losses in zip((False, True, False), TRAJECTORY, strict=True):
        fewer = without("disease", [losses])[0]
        total = dropping(tensors(losses | {"disease": bad} if broken else losses))
        torch.testing.assert_close(total, plain(tensors(fewer if broken else losses)))
        assert dropping.weights == plain.weights
        dropping.end_epoch()
        plain.end_epoch()


def test_a_step_that_is_skipped_leaves_the_method_as_it_was(name: str) -> None:
    weighting = build_weighting(name, TASKS, on_bad_loss="skip-step", **needed_options(name, TASKS))
    walk(weighting, TRAJECTORY[:1])
    before = copy.deepcopy(weighting.state_dict())
    total = weighting(tensors(TRAJECTORY[1] | {"function": float("nan")}))
    total.backward()
    assert total == 0
    assert weighting.weights == {}
    for key, value in weighting.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_compiled_loss_and_weighting_give_what_they_give_uncompiled(name: str) -> None:
    """Without fullgraph: reading losses by name and drawing on the host may break the graph."""

    def step(weighting: Weighting, x: Tensor) -> Tensor:
        return weighting({task: (x * (i + 1)).square().mean() for i, task in enumerate(TASKS)})

    plain, compiled = make(name), make(name)
    graph = torch.compile(step, backend="aot_eager")
    for scale in (1.0, 0.5):
        leaves = [torch.full((4,), scale, requires_grad=True) for _ in range(2)]
        totals = [step(plain, leaves[0]), graph(compiled, leaves[1])]
        torch.testing.assert_close(*totals)
        for total in totals:
            total.backward()
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad)
        torch.testing.assert_close(plain.weights, compiled.weights)


def test_an_unknown_task_is_named_with_the_nearest_known_one(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown task 'anatomie'; did you mean 'anatomy'"):
        make(name)({"anatomie": torch.tensor(1.0)})


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({}, "no task has a loss"),
        ({"anatomy": torch.ones(3)}, r"scalar tensor; found shape \(3,\)"),
        ({"anatomy": 1.0}, "scalar tensor; found float"),
        ({"anatomy": torch.tensor(1)}, "floating-point tensor; found torch.int64"),
    ],
)
def test_losses_that_cannot_be_weighed_are_refused(name: str, losses: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(name)(losses)


@pytest.mark.parametrize("tasks", [[], ["a", "a"], "anatomy", [""], [3]])
def test_task_names_that_cannot_be_used_are_refused(name: str, tasks: Any) -> None:
    with pytest.raises(ConfigError, match="task"):
        build_weighting(name, tasks, **needed_options(name, []))


def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="has no option 'wieghts'"):
        build_weighting(name, TASKS, wieghts={})


def test_the_callers_losses_are_left_as_they_were(name: str) -> None:
    losses = tensors(TRAJECTORY[0])
    before = {task: loss.item() for task, loss in losses.items()}
    make(name)(losses)
    assert {task: loss.item() for task, loss in losses.items()} == before


@pytest.mark.parametrize("method", list(WEIGHTINGS))
def test_the_docstring_of_each_method_makes_a_page(method: str) -> None:
    """Weightings of gradients, too: title, formula, source, when, cost and failure, none of them empty."""
    path = Path(__file__).parents[2] / "docs" / "_ext" / "weighting_pages.py"
    spec = importlib.util.spec_from_file_location("weighting_pages", path)
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    title, parts = pages.split_docstring(sys.modules[WEIGHTINGS.get(method).__module__].__doc__ or "")
    assert title
    assert all(parts[part] for part in pages.PARTS)
