"""Two views through one encoder: who runs when, what the gradients are, and where they are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medmtl.data.dataset import Dataset
from medmtl.engine import train, train_step
from medmtl.engine.cut import Cut
from medmtl.engine.setup import Ready
from medmtl.engine.validation_loss import validation_losses
from medmtl.inference import load_model
from medmtl.models import CaseHead, MultiTaskNetwork
from medmtl.tasks import build_network, task_losses
from medmtl.types import Batch, ConfigError
from medmtl.weighting import Weighting, build_weighting
from tests.helpers.study import SECTIONS, make_batches, make_job, make_ready

PATCH = (8, 8, 4)
BLIND = {**SECTIONS["disease"], "masks": [], "view": "global"}
TASKS: dict[str, dict[str, Any]] = {
    "anatomy": SECTIONS["anatomy"],
    "disease": BLIND,
    "function": {**SECTIONS["function"], "view": "global"},
}
"""A task of voxels, one of cases that reads the whole volume alone, and one that reads masks as well."""


@pytest.fixture(scope="module")
def ready(study: Dataset) -> Ready:
    return make_ready(make_job(study, study.root / "run", TASKS, patch=PATCH))


@pytest.fixture(scope="module")
def batch(ready: Ready) -> Batch:
    return make_batches(ready, overview=ready.plan.preparation.overview).batch(0)


def network_of(ready: Ready, **backbone: Any) -> MultiTaskNetwork:
    """Without dropout, and with case heads that pull at the encoder from the start."""
    section = {**ready.plan.backbone, **backbone}
    network = build_network(
        section, ready.model.tasks, in_channels=1, cycle=ready.model.cycle, seed=3, overview=True
    )
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, CaseHead):
            nn.init.normal_(module.mlp[-1].weight, generator=torch.Generator().manual_seed(0))
    return network.train()


def losses_of(
    network: MultiTaskNetwork, ready: Ready, batch: Batch, cut: Cut | None = None
) -> dict[str, Tensor]:
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)
    opened = cut is not None and cut.opened
    outputs = network(*inputs, cut=cut, opened=opened, overview=batch.overview)
    return task_losses(ready.model.tasks, outputs, batch)[0]


def encodes(network: MultiTaskNetwork) -> list[tuple[int, ...]]:
    """Shapes of all that the encoder's first level sees from now on."""
    seen: list[tuple[int, ...]] = []
    network.backbone.encoder[0].register_forward_hook(lambda _m, x, _y: seen.append(tuple(x[0].shape)))  # type: ignore
    return seen


def run(network: MultiTaskNetwork, batch: Batch, tasks: list[str]) -> Mapping[str, Any]:
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates, tasks)
    found: Mapping[str, Any] = network(*inputs, overview=batch.overview)
    return found


# ---------------------------------------------------------------------------------------------- who runs


def test_a_batch_of_volumes_larger_than_the_patch_has_both_views(ready: Ready, batch: Batch) -> None:
    assert ready.plan.preparation.overview == PATCH
    assert batch.overview is not None
    assert batch.overview.image.shape == batch.image.shape == (4, 1, *PATCH)
    torch.testing.assert_close(batch.overview.spacing_mm, torch.tensor([[4.0, 4.0, 8.0]] * 2))


@pytest.mark.parametrize(
    ("tasks", "views"),
    [(["anatomy"], 1), (["disease"], 1), (["anatomy", "disease"], 2), (["function"], 2)],
)
def test_the_encoder_runs_once_for_each_view_that_is_wanted(
    ready: Ready, batch: Batch, tasks: list[str], views: int
) -> None:
    network = network_of(ready)
    seen = encodes(network)
    run(network, batch, tasks)
    assert len(seen) == views


def test_a_task_of_the_whole_volume_alone_never_sees_a_patch(ready: Ready, batch: Batch) -> None:
    network = network_of(ready)
    blank = replace(batch, image=torch.full_like(batch.image, torch.nan))
    expected = run(network, batch, ["disease"])["disease"]
    assert torch.equal(run(network, blank, ["disease"])["disease"], expected)
    assert not run(network, blank, ["anatomy", "disease"])["anatomy"][0].isfinite().any()


def test_volumes_that_fit_their_patch_run_once_whatever_the_view(ready: Ready, batch: Batch) -> None:
    network = network_of(ready)
    seen = encodes(network)
    run(network, replace(batch, overview=None), list(TASKS))
    assert len(seen) == 1


def test_in_a_mixed_batch_every_case_is_seen_as_it_would_be_alone(ready: Ready) -> None:
    from medmtl.data.augment import NONE
    from medmtl.data.batch import collate, sample_case

    network = network_of(ready).eval()
    large, small = ready.train[0], replace(ready.train[1])
    small.image = small.image[:, :, 4:12, 4:12].clone()
    small.masks, small.maps, small.coarse, small.centre = {}, {}, None, (3.5, 3.5, 1.5)
    samples = [
        sample_case(case, PATCH, [0, 1], NONE, torch.Generator(), overview=PATCH) for case in (large, small)
    ]
    together = run(network, collate(samples, {}), ["disease"])["disease"]
    seen = encodes(network)
    for index, sample in enumerate(samples):
        alone = run(network, collate([sample], {}), ["disease"])["disease"]
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)
    assert len(seen) == 2


def test_a_step_without_labels_of_a_view_does_not_run_it(ready: Ready, batch: Batch) -> None:
    network = network_of(ready)
    weighting, optimizer = build_weighting("ew", tuple(TASKS)), torch.optim.SGD(network.parameters(), lr=0.0)
    for column, image in (("disease", batch.image), ("anatomy", batch.image)):
        only = replace(batch, counts={column: batch.counts[column]})
        seen = encodes(network)
        train_step(network, only, ready.model.tasks, weighting, optimizer)
        assert len(seen) == 1
        assert seen[0] == tuple(image.shape)
        grads = {name for name, p in network.named_parameters() if p.grad is not None}
        assert any(name.startswith("backbone.decoder") for name in grads) == (column == "anatomy")
        assert any(name.startswith("heads.disease") for name in grads) == (column == "disease")


# ---------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("how", [{}, {"checkpointing": True}, {"residual": False}, {"decoders": "separate"}],
                         ids=str)  # fmt: skip
@pytest.mark.parametrize("on", ["last_layers", "shared_parameters"])
def test_the_cut_gives_the_gradient_of_the_uncut_graph_through_both_views(
    ready: Ready, batch: Batch, how: dict[str, Any], on: str
) -> None:
    network = network_of(ready, **how)
    torch.stack(list(losses_of(network, ready, batch).values())).sum().backward()
    joint = {name: p.grad for name, p in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    cut = Cut(network, on)
    cut.pull(losses_of(network, ready, batch, cut))
    cut.compare(list(TASKS))
    cut.push({task: torch.tensor(1.0) for task in TASKS}, weigh_heads=True)
    largest = max(float(g.abs().max()) for g in joint.values() if g is not None)
    for name, p in network.named_parameters():
        assert (p.grad is None) == (joint[name] is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, joint[name], rtol=1e-3, atol=2e-5 * largest)


def test_tasks_of_different_views_are_compared_on_the_weights_that_they_share(
    ready: Ready, batch: Batch
) -> None:
    """On the last convolutions, by the direct path: with only one level both views' gradients are whole."""
    network = network_of(ready)
    found = {}
    for task in ("anatomy", "disease"):
        network.zero_grad(set_to_none=True)
        losses_of(network, ready, batch)[task].backward()
        gradients = [
            network.backbone.last_convolution(level).weight.grad
            for level in range(len(network.backbone.strides))
        ]
        found[task] = gradients[-1]
    cut = Cut(network)
    cut.pull(losses_of(network, ready, batch, cut))
    from medmtl.engine.comparison import rows

    compared = rows(cut, list(TASKS))
    coarsest = len(network.backbone.strides) - 1
    for task, gradient in found.items():
        assert len(compared[task]) == len(network.backbone.strides)
        torch.testing.assert_close(compared[task][coarsest], gradient, rtol=1e-3, atol=1e-6)
    assert float(compared["disease"][0].abs().max()) == 0  # no case head reads the finest level


def test_feature_gradients_of_two_views_are_refused(ready: Ready, batch: Batch) -> None:
    network = network_of(ready)
    weighting: Weighting = build_weighting("pcgrad", tuple(TASKS), on="features")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    with pytest.raises(ConfigError, match=r"see patches and whole volumes, .* use on = last_layers"):
        train_step(network, batch, ready.model.tasks, weighting, optimizer)


@pytest.mark.parametrize("method", ["balanced", "uw-o", "gradnorm", "pcgrad"])
def test_weightings_of_losses_and_of_gradients_step_on_two_views(
    ready: Ready, batch: Batch, method: str
) -> None:
    network = network_of(ready)
    weighting = build_weighting(method, tuple(TASKS))
    optimizer = torch.optim.SGD([*network.parameters(), *weighting.parameters()], lr=0.01)
    outputs = [train_step(network, batch, ready.model.tasks, weighting, optimizer) for _ in range(2)]
    assert all(output.total is not None and bool(output.total.isfinite()) for output in outputs)
    assert set(weighting.weights) == set(TASKS)


# ---------------------------------------------------------------------------------------------- whole runs


def test_the_view_is_in_plan_and_model_and_predicts_as_it_was_validated(
    study: Dataset, tmp_path: Path
) -> None:
    job = make_job(study, tmp_path / "run", TASKS, patch=PATCH, epochs=1, validation_losses=True)
    done = train(job)
    text = (tmp_path / "run" / "plan.yaml").read_text()
    assert "# Case tasks see whole volumes" in text
    assert "overview: [8, 8, 4]" in text
    model = load_model(tmp_path / "run")
    assert model.preparation.overview == PATCH
    heads = {name: model.network.head(name) for name in ("disease", "function")}
    assert all(isinstance(head, CaseHead) and head.sees_whole for head in heads.values())
    context = model.context(torch.device("cpu"))
    val = make_ready(replace(job, output=tmp_path / "other")).val
    losses = validation_losses(context, val, done.model.columns)
    assert set(losses) == set(TASKS)


def test_a_run_on_two_views_from_the_disk_is_the_run_from_memory_to_the_last_bit(
    study: Dataset, tmp_path: Path
) -> None:
    weights = []
    for store in ("memory", "disk"):
        job = make_job(
            study,
            tmp_path / store,
            TASKS,
            patch=PATCH,
            store=store,
            store_folder=str(tmp_path / "cases.store"),
        )
        weights.append(train(job).model.network.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
