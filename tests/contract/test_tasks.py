"""The contract that every registered kind of task keeps; a new one needs a line in NEEDED."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from medmtl.data.dataset import open_dataset
from medmtl.data.prepare import PreparedCase
from medmtl.engine.setup import Ready
from medmtl.inference.predictor import Context, predict_prepared
from medmtl.registry import Registry
from medmtl.tasks import TASKS, CaseResult, Task, build_task, task_losses
from medmtl.types import Batch, ConfigError
from tests.helpers.study import SECTIONS, make_batches, make_job, make_ready, write_study

NEEDED: dict[str, dict[str, Any]] = {
    "segmentation": {"target": "anatomy"},
    "tissue": {"target": "tissue", "inside": "host.MYO"},
    "dense_regression": {"target": "t1"},
    "classification": {"target": "disease", "hidden": 8},
    "regression": {"targets": ["LV_EDV", "LV_EF"], "hidden": 8},
}
"""Options that a kind cannot do without, on the tiny study; `host` is a segmentation of the anatomy."""

KINDS = list(TASKS)


@pytest.fixture(scope="module")
def ready_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ready]:
    """A network with a task called ``it`` of a kind, and the host that some kinds read."""
    dataset = open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))
    made: dict[str, Ready] = {}

    def ready(kind: str) -> Ready:
        if kind not in made:
            tasks = {"host": SECTIONS["anatomy"], "it": {"type": kind, **NEEDED[kind]}}
            made[kind] = make_ready(make_job(dataset, dataset.root / "run", tasks))
        return copy.deepcopy(made[kind])

    return ready


@pytest.fixture(params=KINDS)
def ready(request: pytest.FixtureRequest, ready_of: Callable[[str], Ready]) -> Ready:
    return ready_of(request.param)


def first_batch(ready: Ready) -> Batch:
    return make_batches(ready, 3).batch(0)


def output_of(ready: Ready, batch: Batch) -> Any:
    ready.model.network.eval()
    return ready.model.network(batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)["it"]


def loss_of(ready: Ready, output: Any, batch: Batch) -> Tensor:
    return ready.model.tasks["it"].loss(output, batch)


def tensors_of(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def without_label(case: PreparedCase, task: Task) -> PreparedCase:
    kept = {
        part: {name: value for name, value in getattr(case, part).items() if name not in task.targets}
        for part in ("masks", "maps", "labelled", "values")
    }
    return replace(case, **kept)


def hide(batch: Batch, task: Task, case: int) -> Batch:
    """The batch with one case's labels of a task taken away."""
    targets = dict(batch.targets)
    for name in task.targets:
        target = targets[name].clone()
        unknown = {"mask": 255, "map": torch.nan, "category": -1, "value": torch.nan}[task.columns[name].kind]
        target[batch.case_of_frame == case if target.ndim > 1 else case] = unknown
        targets[name] = target
    return replace(batch, targets=targets)


def results_of(ready: Ready) -> tuple[list[CaseResult], list[PreparedCase]]:
    context = Context(
        ready.model.network.eval(), ready.model.tasks, ready.model.preparation, torch.device("cpu")
    )
    cases = ready.val
    return [predict_prepared(context, case, ["it"], on_source_grid=False) for case in cases], cases


def test_every_registered_kind_is_tried_here() -> None:
    assert isinstance(TASKS, Registry)
    assert set(NEEDED) == set(KINDS)


def test_the_loss_is_a_finite_scalar_whose_gradient_reaches_the_trunk_or_the_head(ready: Ready) -> None:
    batch = first_batch(ready)
    loss = loss_of(ready, output_of(ready, batch), batch)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert loss > 0
    loss.backward()
    gradients = [p.grad for p in ready.model.network.head("it").parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)
    assert any(g.abs().sum() > 0 for g in gradients)


def test_a_gradient_step_on_the_output_lowers_the_loss(ready: Ready) -> None:
    batch = first_batch(ready)
    output = output_of(ready, batch)
    leaves = [t.detach().requires_grad_() for t in tensors_of(output)]
    asked = leaves[0] if isinstance(output, Tensor) else leaves
    loss = loss_of(ready, asked, batch)
    loss.backward()
    moved = [leaf.detach() - 0.1 * leaf.grad / leaf.grad.norm() for leaf in leaves if leaf.grad is not None]
    assert loss_of(ready, moved[0] if isinstance(output, Tensor) else moved, batch) < loss


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_the_label_counts_0_and_is_never_asked(
    ready_of: Callable[[str], Ready], kind: str
) -> None:
    ready = ready_of(kind)
    task = ready.model.tasks["it"]
    assert task.label_count(first_batch(ready)) > 0
    ready.train = [without_label(case, task) for case in ready.train]
    batch = first_batch(ready)
    assert task.label_count(batch) == 0
    losses, counts = task_losses({"it": task}, {}, batch)
    assert losses == {}
    assert counts == {"it": 0}


def test_what_is_said_of_an_unlabelled_case_changes_neither_loss_nor_gradient(ready: Ready) -> None:
    whole = first_batch(ready)
    task = ready.model.tasks["it"]
    batch = hide(whole, task, case=1)
    output = [t.detach() for t in tensors_of(output_of(ready, batch))]
    found = []
    for noise in (0.0, 7.0):
        leaves = []
        for tensor in output:
            changed = tensor.clone()
            changed[batch.case_of_frame == 1 if tensor.ndim > 2 else 1] += noise
            leaves.append(changed.requires_grad_())
        loss = loss_of(ready, leaves[0] if not task.dense else leaves, batch)
        loss.backward()
        found.append((loss.item(), [leaf.grad for leaf in leaves]))
    (quiet, quiet_gradients), (loud, loud_gradients) = found
    assert quiet == loud
    for before, after in zip(quiet_gradients, loud_gradients, strict=True):
        assert before is not None
        assert after is not None
        torch.testing.assert_close(before, after, rtol=0, atol=0)
        hidden = after[batch.case_of_frame == 1 if after.ndim > 2 else 1]
        assert hidden.abs().sum() == 0
    assert quiet != loss_of(ready, output[0] if not task.dense else output, whole).item()


def test_fit_raises_when_no_training_case_has_the_label(ready: Ready) -> None:
    task = ready.model.tasks["it"]
    with pytest.raises(ConfigError, match=r"'it' learns from .* none of the 5 training cases has that label"):
        task.fit([without_label(case, task) for case in ready.train])


def test_state_goes_through_yaml_and_back(ready: Ready) -> None:
    model = ready.model
    fitted = model.tasks["it"]
    state = yaml.safe_load(yaml.safe_dump(fitted.state()))
    again = build_task("it", model.task_sections["it"], model.columns)
    again.load_state(state)
    assert again.state() == fitted.state()


def test_a_scaled_task_needs_its_state_and_others_have_none(ready: Ready) -> None:
    task = ready.model.tasks["it"]
    assert bool(task.state()) == (task.kind in ("regression", "dense_regression"))


def test_validate_scores_between_0_and_1(ready: Ready) -> None:
    results, cases = results_of(ready)
    metrics = ready.model.tasks["it"].validate(results, cases)
    assert 0 <= metrics["score"] <= 1
    assert len(metrics) > 1
    assert all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())


def test_validate_says_nothing_without_labels(ready: Ready) -> None:
    task = ready.model.tasks["it"]
    results, cases = results_of(ready)
    assert task.validate(results, [without_label(case, task) for case in cases]) == {}
    assert task.validate([], []) == {}


def test_validate_looks_at_labelled_cases_only(ready: Ready) -> None:
    task = ready.model.tasks["it"]
    results, cases = results_of(ready)
    mixed = [cases[0], *(without_label(case, task) for case in cases[1:])]
    assert task.validate(results, mixed) == task.validate(results[:1], cases[:1])


def test_describe_is_plain_data_that_names_kind_and_target(ready: Ready) -> None:
    task = ready.model.tasks["it"]
    entry = task.describe()
    assert yaml.safe_load(yaml.safe_dump(entry)) == json.loads(json.dumps(entry)) == entry
    assert entry["kind"] == task.kind
    assert tuple(entry.get("targets", [entry.get("target")])) == task.targets


def test_a_dense_task_decodes_to_labels_or_values_and_a_case_task_to_named_outputs(ready: Ready) -> None:
    task = ready.model.tasks["it"]
    results, cases = results_of(ready)
    if task.dense:
        assert results[0].values == {}
        assert set(results[0].dense) == {"it"}
        volume = results[0].dense["it"]
        assert volume.shape == (2, 16, 16, 4)
        assert volume.dtype == (np.float32 if task.kind == "dense_regression" else np.uint8)
        with pytest.raises(TypeError, match="dense"):
            task.decode_case(torch.zeros(1, 2))
    else:
        assert results[0].dense == {}
        assert set(results[0].values) == {"it"}
        assert len(results[0].values["it"]) >= 2
        with pytest.raises(TypeError, match="not dense"):
            task.decode_dense(torch.zeros(1, 1, 2, 2, 2), {})
    assert len(results) == len(cases)


def test_labels_are_not_looked_at_when_predicting(ready: Ready) -> None:
    task = ready.model.tasks["it"]
    results, _ = results_of(ready)
    ready.val = [without_label(case, task) for case in ready.val]
    blind, _ = results_of(ready)
    assert [r.values for r in blind] == [r.values for r in results]
    for one, other in zip(blind, results, strict=True):
        for name, volume in other.dense.items():
            np.testing.assert_array_equal(one.dense[name], volume)


def test_an_unknown_option_is_named_with_the_nearest_one(ready: Ready) -> None:
    model = ready.model
    option = next(iter(NEEDED[model.tasks["it"].kind]))
    section = {**model.task_sections["it"], f"{option}x": 1}
    with pytest.raises(ConfigError, match=f"tasks.it.{option}x: unknown key; did you mean '{option}'"):
        build_task("it", section, model.columns)


def test_a_column_of_another_kind_is_refused(ready: Ready) -> None:
    model = ready.model
    task = model.tasks["it"]
    columns = {
        name: replace(column, kind="value" if column.kind == "mask" else "mask")
        for name, column in model.columns.items()
    }
    with pytest.raises(ConfigError, match=f"'it' \\({task.kind}\\) needs a "):
        build_task("it", model.task_sections["it"], columns)


def test_a_column_that_is_not_there_is_refused_with_the_nearest_name(ready: Ready) -> None:
    model = ready.model
    target = model.tasks["it"].targets[0]
    columns = {name if name != target else f"{name}2": column for name, column in model.columns.items()}
    with pytest.raises(ConfigError, match=f"no column {target!r}; did you mean '{target}2'"):
        build_task("it", model.task_sections["it"], columns)
