"""One training step: who moves, who does not, and that an absent task is a task that is not there."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from medmtl.data.dataset import Dataset
from medmtl.engine import train_step
from medmtl.engine.setup import Ready
from medmtl.tasks import build_network, build_task
from medmtl.types import Batch
from medmtl.weighting import WEIGHTINGS, Weighting, build_weighting
from tests.helpers.study import SECTIONS, make_batches, make_job, make_ready, sections

NEEDED: dict[str, Any] = {
    "scalarization": {"weights": dict.fromkeys(SECTIONS, 0.3)},
    "uw-so": {"temperature": 5.0},
    "normalized": {"raw": "inverse", "normalizer": "sum-to-k"},
    "handcrafted": {"reference": "anatomy"},
    "dynamic-scaling": {"reference": "anatomy"},
}
METHODS = sorted(WEIGHTINGS)


@pytest.fixture(scope="module")
def ready(study: Dataset) -> Ready:
    return make_ready(make_job(study, study.root / "run"))


@pytest.fixture(scope="module")
def batch(ready: Ready) -> Batch:
    return make_batches(ready).batch(0)


class Learner:
    """A copy of a network with a weighting and an optimizer, dropout off so that steps can be compared."""

    def __init__(self, ready: Ready, method: str = "ew", tasks: Sequence[str] = tuple(SECTIONS)) -> None:
        self.tasks = {name: ready.model.tasks[name] for name in tasks}
        self.network = copy.deepcopy(ready.model.network)
        for module in self.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        options = dict(NEEDED.get(method, {}))
        if method == "scalarization":
            options["weights"] = dict.fromkeys(tasks, 0.3)
        self.weighting: Weighting = build_weighting(method, tuple(tasks), **options)
        groups = [{"params": list(self.network.parameters())}, *self.weighting.parameter_groups()]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1)

    def step(self, batch: Batch) -> Any:
        self.network.train()
        return train_step(
            self.network, batch, self.tasks, self.weighting, self.optimizer, max_gradient_norm=5.0
        )

    def head(self, name: str) -> dict[str, Tensor]:
        return {key: value.clone() for key, value in self.network.head(name).state_dict().items()}

    def adamw(self, name: str) -> list[dict[str, Tensor]]:
        return [
            {key: value.clone() for key, value in self.optimizer.state[p].items()}
            for p in self.network.head(name).parameters()
            if p in self.optimizer.state
        ]


def drop(batch: Batch, *columns: str) -> Batch:
    return replace(
        batch,
        targets={name: target for name, target in batch.targets.items() if name not in columns},
        counts={name: 0 if name in columns else count for name, count in batch.counts.items()},
    )


TARGETS = {
    "anatomy": ("anatomy",),
    "tissue": ("tissue",),
    "t1": ("t1",),
    "disease": ("disease",),
    "function": ("LV_EDV", "LV_EF"),
}


def test_train_step_has_at_most_40_lines_and_knows_no_engine() -> None:
    source = inspect.getsource(train_step)
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    documentation = function.body[0]
    assert documentation.end_lineno is not None
    assert function.end_lineno is not None
    assert function.end_lineno - documentation.end_lineno <= 40
    assert len(source.splitlines()) <= 60
    module = inspect.getmodule(train_step)
    assert module is not None
    assert "ignite" not in inspect.getsource(module)


def test_a_step_moves_trunk_and_every_head_and_reports_losses_and_counts(ready: Ready, batch: Batch) -> None:
    learner = Learner(ready)
    before = {name: value.clone() for name, value in learner.network.named_parameters()}
    output = learner.step(batch)
    after = dict(learner.network.named_parameters())
    assert set(output.losses) == set(SECTIONS)
    assert output.counts == {"anatomy": 4, "tissue": 4, "t1": 4, "disease": 2, "function": 2}
    assert output.total.item() == pytest.approx(sum(loss.item() for loss in output.losses.values()))
    assert not output.total.requires_grad
    assert output.gradient_norm > 0
    for part in ("backbone.encoder", "backbone.decoder", *(f"heads.{name}" for name in SECTIONS)):
        assert any(not torch.equal(before[n], p) for n, p in after.items() if n.startswith(part)), part


@pytest.mark.parametrize("method", ["uw", "pcgrad"])
@pytest.mark.parametrize("absent", list(SECTIONS))
def test_an_absent_tasks_head_keeps_no_gradient_and_its_parameters_and_adamw_state(
    ready: Ready, batch: Batch, absent: str, method: str
) -> None:
    learner = Learner(ready, method)
    learner.step(batch)  # so that AdamW has momentum, which moves a parameter whose gradient is 0
    head, state = learner.head(absent), learner.adamw(absent)
    assert state
    for _ in range(2):
        output = learner.step(drop(batch, *TARGETS[absent]))
    readers = {"anatomy": ("tissue", "disease", "function"), "tissue": ("disease", "function")}
    assert output.counts[absent] == 0
    assert absent not in output.losses
    after = learner.adamw(absent)
    for name, parameter in learner.network.head(absent).named_parameters():
        assert parameter.grad is None, f"{absent}.{name}, which {readers.get(absent)} read"
    assert all(torch.equal(value, learner.head(absent)[name]) for name, value in head.items())
    assert len(after) == len(state)
    for old, new in zip(state, after, strict=True):
        assert all(torch.equal(old[key], new[key]) for key in old)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_without_any_label_changes_nothing(ready: Ready, batch: Batch, method: str) -> None:
    learner = Learner(ready, method)
    learner.step(batch)
    network = copy.deepcopy(learner.network.state_dict())
    weighting = copy.deepcopy(learner.weighting.state_dict())
    optimizer = copy.deepcopy(learner.optimizer.state_dict())
    output = learner.step(drop(batch, *batch.targets))
    assert output.total is None
    assert output.losses == {}
    assert output.counts == dict.fromkeys(SECTIONS, 0)
    assert all(p.grad is None for p in learner.network.parameters())
    torch.testing.assert_close(learner.network.state_dict(), network, rtol=0, atol=0)
    torch.testing.assert_close(learner.weighting.state_dict(), weighting, rtol=0, atol=0)
    torch.testing.assert_close(learner.optimizer.state_dict(), optimizer, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("absent", ["t1", "disease"])
def test_tasks_with_one_absent_are_the_problem_without_it(
    ready: Ready, batch: Batch, method: str, absent: str
) -> None:
    """Same updates of the trunk and of every other head, step after step."""
    others = tuple(name for name in SECTIONS if name != absent)
    all_of_them, fewer = Learner(ready, method), Learner(ready, method, others)
    batches = make_batches(ready)
    for step in range(3):
        partial = drop(batches.batch(step), *TARGETS[absent])
        one, other = all_of_them.step(partial), fewer.step(partial)
        assert one.total.item() == pytest.approx(other.total.item(), rel=1e-6)
        all_of_them.weighting.end_epoch()
        fewer.weighting.end_epoch()
    for name, value in fewer.network.state_dict().items():
        torch.testing.assert_close(all_of_them.network.state_dict()[name], value, rtol=1e-6, atol=1e-7)


def test_kendalls_weights_learn_and_stay_without_weight_decay(ready: Ready, batch: Batch) -> None:
    learner = Learner(ready, "uw")
    assert learner.optimizer.param_groups[1]["weight_decay"] == 0.0
    before = [p.detach().clone() for p in learner.weighting.parameters()]
    learner.step(batch)
    after = list(learner.weighting.parameters())
    assert len(after) == len(SECTIONS)
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(p.grad is not None for p in after)


def test_only_the_present_tasks_run(ready: Ready, batch: Batch) -> None:
    learner = Learner(ready)
    ran: list[str] = []
    for name in SECTIONS:
        learner.network.head(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    learner.step(drop(batch, "tissue", "t1", "disease", "LV_EDV", "LV_EF"))
    assert ran == ["anatomy"]


def test_a_classification_that_reads_no_masks_trains_without_the_decoder(study: Dataset) -> None:
    ready = make_ready(
        make_job(study, study.root / "run", sections("anatomy", "disease", disease={"masks": []}))
    )
    learner = Learner(ready, tasks=("anatomy", "disease"))
    decoded: list[int] = []
    learner.network.backbone.decoder[0].register_forward_hook(lambda *_: decoded.append(1))  # type: ignore
    batch = make_batches(ready).batch(0)
    learner.step(drop(batch, "anatomy"))
    assert decoded == []
    learner.step(batch)
    assert decoded == [1]


def test_gradients_are_scaled_down_to_the_given_norm(ready: Ready, batch: Batch) -> None:
    learner = Learner(ready)
    output = train_step(
        learner.network, batch, learner.tasks, learner.weighting, learner.optimizer, max_gradient_norm=1e-3
    )
    gradients = [p.grad for p in learner.network.parameters() if p.grad is not None]
    assert torch.cat([g.flatten() for g in gradients]).norm() == pytest.approx(1e-3, rel=1e-3)
    assert output.gradient_norm > 1e-3


def test_case_losses_do_not_bend_the_outlines(ready: Ready, batch: Batch) -> None:
    """A case task reads the masks, and its gradient stops there: the segmentation head is not its to move."""
    learner = Learner(ready)
    learner.step(drop(batch, "anatomy", "tissue", "t1"))
    assert all(p.grad is None for p in learner.network.head("anatomy").parameters())
    assert any(p.grad is not None for p in learner.network.backbone.encoder.parameters())  # type: ignore


TWELVE: dict[str, dict[str, Any]] = {
    **SECTIONS,
    "coarse": {"type": "segmentation", "target": "anatomy", "deep_supervision": 1},
    "scar": {"type": "tissue", "target": "tissue", "inside": "coarse.MYO"},
    "t1_again": {"type": "dense_regression", "target": "t1"},
    "sex": {"type": "classification", "target": "sex", "hidden": 4, "pooling": "mean"},
    "blind": {"type": "classification", "target": "disease", "hidden": 4, "masks": [], "temporal": "mean"},
    "height": {"type": "regression", "targets": ["height"], "hidden": 4, "pooling": "mask"},
    "fraction": {"type": "regression", "targets": ["LV_EF"], "hidden": 4, "temporal": "attention"},
}


def test_twelve_tasks_take_steps_in_one_network(study: Dataset) -> None:
    ready = make_ready(make_job(study, study.root / "run", TWELVE))
    learner = Learner(ready, "balanced", tuple(TWELVE))
    outputs = [learner.step(make_batches(ready).batch(step)) for step in range(2)]
    for output in outputs:
        assert len(output.losses) == 12
        assert torch.isfinite(output.total)
    assert len(learner.weighting.weights) == 12


def test_a_third_party_task_and_backbone_take_a_step(study: Dataset) -> None:
    columns = study.columns
    own = {"type": "tests.helpers.own_members:Doubled", "target": "anatomy"}
    tasks = {"anatomy": build_task("anatomy", own, columns)}
    network = build_network({"type": "tests.helpers.own_members:TwoLevels"}, tasks, in_channels=1)
    plain = build_task("anatomy", SECTIONS["anatomy"], columns)
    ready = make_ready(make_job(study, study.root / "run", sections("anatomy")))
    batch = make_batches(ready).batch(0)
    outputs = network(batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)["anatomy"]
    assert tasks["anatomy"].loss(outputs, batch).item() == pytest.approx(
        2 * plain.loss(outputs, batch).item()
    )
    weighting = build_weighting("tests.helpers.own_members:LargestFirst", ("anatomy",))
    output = train_step(network, batch, tasks, weighting, torch.optim.AdamW(network.parameters()))
    assert output.total is not None
    assert weighting.weights["anatomy"].item() == 1.0
