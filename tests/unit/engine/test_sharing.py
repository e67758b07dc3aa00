"""Layers that some tasks share: what runs, what learns, what is compared, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medmtl import verbs
from medmtl.config import job_of, parse_config, with_weightings
from medmtl.data.dataset import Dataset
from medmtl.engine import train_step
from medmtl.engine.cut import Cut
from medmtl.engine.setup import Ready
from medmtl.models import Branches, CaseHead, MultiTaskNetwork
from medmtl.plan.memory import training_need
from medmtl.tasks import build_network, task_losses
from medmtl.types import Batch, ConfigError
from medmtl.weighting import WEIGHTINGS, GradientWeighting, build_weighting
from tests.helpers.study import make_batches, make_job, make_ready, sections

UNET: dict[str, Any] = {
    "type": "unet",
    "widths": [4, 6, 8],
    "kernels": [[3, 3, 1], [3, 3, 1], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 1]],
}
TASKS = ("anatomy", "t1", "disease", "function")
GROUPS = {"type": "groups", "groups": [["anatomy", "function"], ["t1", "disease"]], "shared_levels": 1}
UNEQUAL = {"type": "groups", "groups": [["anatomy", "t1", "function"], ["disease"]], "shared_levels": 2}
SOFT = {"type": "soft", "strength": 0.5}
GRADIENT = sorted(name for name in WEIGHTINGS if issubclass(WEIGHTINGS.get(name), GradientWeighting))
OPTIONS: dict[str, dict[str, Any]] = {
    "uw-so": {"temperature": 5.0},
    "scalarization": {"weights": dict.fromkeys(TASKS, 0.25)},
    "handcrafted": {"reference": "anatomy"},
    "dynamic-scaling": {"reference": "anatomy"},
    "normalized": {"raw": "inverse", "normalizer": "softmax"},
}


@pytest.fixture(scope="module")
def ready(study: Dataset) -> Ready:
    return make_ready(make_job(study, study.root / "run", sections(*TASKS)))


@pytest.fixture(scope="module")
def batch(ready: Ready) -> Batch:
    return make_batches(ready).batch(0)


def network_of(ready: Ready, sharing: dict[str, Any], **options: Any) -> MultiTaskNetwork:
    """Without dropout; case heads, which begin at 0, pull at the encoder."""
    network = build_network(
        {**UNET, "sharing": sharing, **options},
        ready.model.tasks,
        in_channels=1,
        cycle=ready.model.cycle,
        seed=3,
    )
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, CaseHead):
            nn.init.normal_(module.mlp[-1].weight, generator=torch.Generator().manual_seed(0))
    return network.train()


def branches_of(network: MultiTaskNetwork) -> Branches:
    assert isinstance(network.backbone, Branches)
    return network.backbone


def without(batch: Batch, *columns: str) -> Batch:
    """The same batch, unlabelled in some columns."""
    found = copy.copy(batch)
    found.counts = {name: 0 if name in columns else count for name, count in batch.counts.items()}
    return found


def grads(network: MultiTaskNetwork) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in network.named_parameters()}


def stepped(
    network: MultiTaskNetwork, ready: Ready, batch: Batch, method: str = "ew", **options: Any
) -> dict[str, Tensor | None]:
    """Gradients of one step."""
    weighting = build_weighting(method, TASKS, **options)
    optimizer = torch.optim.SGD([*network.parameters(), *weighting.parameters()], lr=0.0)
    train_step(network, batch, ready.model.tasks, weighting, optimizer)
    return grads(network)


def joint(network: MultiTaskNetwork, ready: Ready, batch: Batch) -> dict[str, Tensor]:
    """Losses by a forward pass that nothing cuts."""
    outputs = network(batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)
    return task_losses(ready.model.tasks, outputs, batch)[0]


@pytest.mark.parametrize("sharing", [GROUPS, UNEQUAL, SOFT], ids=lambda s: f"{s['type']}")
def test_one_task_runs_its_own_branch_alone_and_says_what_it_says_beside_the_others(
    ready: Ready, batch: Batch, sharing: dict[str, Any]
) -> None:
    network = network_of(ready, sharing).eval()
    trunk = branches_of(network)
    ran: set[int] = set()
    for index in range(len(trunk.groups)):
        deepest = trunk.branch(index).last_convolution(2)
        deepest.register_forward_hook(lambda *_, index=index: ran.add(index))
    inputs = (batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates)
    alone = network(*inputs, tasks=["t1"])["t1"]
    assert ran == {trunk.branch_of("t1")}
    torch.testing.assert_close(network(*inputs)["t1"], alone)
    assert ran == set(range(len(trunk.groups)))


@pytest.mark.parametrize("on", ["last_layers", "shared_parameters"])
@pytest.mark.parametrize("decoders", ["shared", "separate"])
@pytest.mark.parametrize("sharing", [GROUPS, UNEQUAL], ids=["even", "uneven"])
def test_the_cut_gives_the_joint_backwards_gradient(
    ready: Ready, batch: Batch, sharing: dict[str, Any], decoders: str, on: str
) -> None:
    network = network_of(ready, sharing, decoders=decoders)
    expected = stepped(network, ready, batch)
    cut = Cut(network, on)
    outputs = network(
        batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates, cut=cut, opened=cut.opened
    )
    losses = task_losses(ready.model.tasks, outputs, batch)[0]
    network.zero_grad(set_to_none=True)
    cut.pull(losses)
    cut.compare(TASKS)
    cut.push({task: torch.ones(()) for task in TASKS}, weigh_heads=True)
    # A weight of one channel before a norm has a gradient of 0 but for rounding, of sums as large as others
    largest = max(float(gradient.abs().max()) for gradient in expected.values() if gradient is not None)
    for name, gradient in grads(network).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6 * largest)


def test_what_two_tasks_or_more_share_is_compared_and_a_branch_of_one_task_is_not(
    ready: Ready, batch: Batch
) -> None:
    """Against gradients of whole backwards, on the parameters that a task shares with some other."""
    network = network_of(ready, UNEQUAL)
    trunk = branches_of(network)
    encoders = [p for branch in trunk.branches for p in branch.encoder.parameters()]  # type: ignore[union-attr]
    shared = [p for p in encoders if p not in trunk.private_parameters()]
    assert 0 < len(shared) < len(encoders)
    rows = []
    for loss in joint(network, ready, batch).values():
        found = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(shared, found, strict=True)]
        rows.append(torch.cat([part.flatten() for part in parts]))
    expected = torch.stack(rows) @ torch.stack(rows).T
    cut = Cut(network, "shared_parameters")
    outputs = network(batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates, cut=cut)
    cut.pull(task_losses(ready.model.tasks, outputs, batch)[0])
    torch.testing.assert_close(cut.compare(TASKS).gramian, expected, rtol=1e-3, atol=1e-6)


def test_tasks_of_two_groups_without_a_common_level_have_nothing_in_common(
    ready: Ready, batch: Batch
) -> None:
    network = network_of(ready, {**GROUPS, "shared_levels": 0})
    cut = Cut(network)
    outputs = network(
        batch.image, batch.case_of_frame, batch.spacing_mm, batch.covariates, cut=cut, opened=True
    )
    cut.pull(task_losses(ready.model.tasks, outputs, batch)[0])
    gramian = cut.compare(TASKS).gramian
    assert gramian[0, 1] == gramian[0, 2] == gramian[1, 3] == 0
    assert gramian[0, 3] != 0
    assert (gramian.diagonal() > 0).all()


@pytest.mark.parametrize("method", sorted(WEIGHTINGS))
def test_every_weighting_learns_on_groups(ready: Ready, batch: Batch, method: str) -> None:
    network = network_of(ready, GROUPS)
    found = stepped(network, ready, batch, method, **OPTIONS.get(method, {}))
    reached = [gradient for gradient in found.values() if gradient is not None]
    assert reached
    assert all(torch.isfinite(gradient).all() for gradient in reached)


@pytest.mark.parametrize("method", ["ew", "mgda"])
def test_branches_and_heads_of_absent_tasks_keep_no_gradient(ready: Ready, batch: Batch, method: str) -> None:
    network = network_of(ready, GROUPS)
    found = stepped(network, ready, without(batch, "t1", "disease"), method)
    absent = ("backbone.branches.1.", "heads.t1.", "heads.disease.")
    assert all(gradient is None for name, gradient in found.items() if name.startswith(absent))
    assert found["backbone.branches.0.encoder.0.conv1.conv.weight"] is not None


def test_soft_sharing_begins_alike_and_adds_the_gradient_of_its_penalty(ready: Ready, batch: Batch) -> None:
    network = network_of(ready, SOFT)
    trunk = branches_of(network)
    weights = [torch.cat([p.flatten() for p in branch.parameters()]) for branch in trunk.branches]
    assert all(torch.equal(weights[0], other) for other in weights[1:])
    with torch.no_grad():
        for index, branch in enumerate(trunk.branches):
            for parameter in branch.parameters():
                parameter.add_(0.1 * index)
    trunk.strength = 0.0
    plain = {name: None if g is None else g.clone() for name, g in stepped(network, ready, batch).items()}
    trunk.strength = 0.5
    pulled = stepped(network, ready, batch)
    parameters = [list(branch.parameters()) for branch in trunk.branches]
    means = [torch.stack(list(alike)).mean(0) for alike in zip(*parameters, strict=True)]
    penalty = 0.5 * sum(
        ((p - mean) ** 2).sum() for own in parameters for p, mean in zip(own, means, strict=True)
    )
    names = {p: name for name, p in network.named_parameters()}
    flat = [p for own in parameters for p in own]
    for parameter, expected in zip(flat, torch.autograd.grad(penalty, flat), strict=True):
        name = names[parameter]
        if plain[name] is None:  # a decoder that nobody reads
            assert pulled[name] is None
        else:
            torch.testing.assert_close(pulled[name], plain[name] + expected, rtol=1e-4, atol=1e-5)


def test_a_compiled_trunk_of_branches_says_the_same(ready: Ready, batch: Batch) -> None:
    network = network_of(ready, GROUPS)
    expected = stepped(network, ready, batch, "pcgrad")
    network.compile_trunk("aot_eager", tasks_apart=True)
    for name, gradient in stepped(network, ready, batch, "pcgrad").items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)


def test_memory_counts_every_branch_and_a_common_stem_once() -> None:
    def weights(sharing: dict[str, Any] | None) -> tuple[int, int]:
        section = UNET if sharing is None else {**UNET, "sharing": sharing}
        need = training_need(section, (16, 16, 4), channels=1)
        assert need is not None
        return need.weights, need.kept

    hard, apart = weights(None), weights({**GROUPS, "shared_levels": 0})
    stem = weights(GROUPS)
    assert apart[0] == 2 * hard[0]
    assert hard[0] < stem[0] < apart[0]
    assert hard[1] < stem[1] < apart[1] <= 2 * hard[1]


def config_of(study: Dataset, sharing: dict[str, Any], **changes: Any) -> dict[str, Any]:
    job = make_job(study, study.root / "unused", sections(*TASKS), epochs=1, steps_per_epoch=2)
    backbone = {**job.resolved["backbone"], "sharing": sharing}
    return {**job.resolved, "dataset": str(study.root), "backbone": backbone, **changes}


@pytest.mark.parametrize("sharing", [GROUPS, SOFT], ids=["groups", "soft"])
def test_a_trained_model_is_saved_loaded_and_asked_for_one_task(
    study: Dataset, tmp_path: Path, sharing: dict[str, Any]
) -> None:
    run = verbs.train(parse_config(config_of(study, sharing)), output=tmp_path / "RUN")
    loaded = verbs.load_model(tmp_path / "RUN" / "model")
    assert isinstance(loaded.network.backbone, Branches)
    kept = run.model.network.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in loaded.network.state_dict().items())
    found = loaded.predict(study.root, tasks=["t1"], output=tmp_path / "OUT")
    assert not any("disease" in column for column in found.values.columns)


@pytest.mark.parametrize("method", GRADIENT)
def test_methods_of_gradients_are_refused_where_no_two_tasks_share_a_weight(
    study: Dataset, method: str
) -> None:
    with pytest.raises(ConfigError, match=f"weighting {method}: no two tasks share a weight"):
        parse_config(config_of(study, SOFT, weighting={"type": method}))


def test_diagnostics_of_gradients_that_share_nothing_are_refused(study: Dataset, ready: Ready) -> None:
    job = make_job(study, study.root / "unused", sections(*TASKS), gradient_diagnostics=5)
    with pytest.raises(ConfigError, match=r"training.gradient_diagnostics: no two tasks share a weight"):
        parse_config(config_of(study, SOFT, training=job.resolved["training"]))
    with pytest.raises(ConfigError, match="no two tasks share a weight"):
        Cut(network_of(ready, SOFT))


@pytest.mark.parametrize(
    ("sharing", "sentence"),
    [
        ({"type": "groups", "groups": [["anatomy"]]}, "'t1', 'disease', 'function' is in no group"),
        ({**GROUPS, "groups": [*GROUPS["groups"], ["t1"]]}, "'t1' is in two groups"),  # type: ignore[misc]
        ({**GROUPS, "groups": [["anatomi"]]}, "'anatomi' is no task of this model; did you mean 'anatomy'"),
        ({**GROUPS, "shared_levels": 3}, "3 of the 3 levels leave nothing to the groups"),
        ({"type": "hard", "shared_levels": 1}, "do nothing where all tasks share one backbone"),
        ({"type": "soft", "shared_levels": 1}, "soft sharing shares no layer"),
        ({"type": "soft", "strength": 0}, "strength: must be greater than 0"),
        ({"type": "grups"}, "type: must be 'hard', 'groups' or 'soft'"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_one_sentence(
    ready: Ready, sharing: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        network_of(ready, sharing)
    assert "\n" not in str(refused.value)


def test_a_backbone_that_cannot_be_split_may_be_had_whole_by_each_group(ready: Ready) -> None:
    section = {"type": "tests.helpers.own_members:TwoLevels", "sharing": GROUPS}
    with pytest.raises(ConfigError, match="TwoLevels cannot be split into levels; set it to 0"):
        build_network(section, ready.model.tasks, in_channels=1)
    section["sharing"] = {**GROUPS, "shared_levels": 0}
    assert len(branches_of(build_network(section, ready.model.tasks, in_channels=1)).branches) == 2


def test_the_single_task_networks_of_a_comparison_have_a_backbone_alone(study: Dataset) -> None:
    from medmtl.evaluation.comparison.runs import varied

    job = job_of(parse_config(config_of(study, GROUPS)), study, study.root / "unused")
    alone = varied(job, {"t1": job.tasks["t1"]}, {"type": "ew"}, 0, job.training)
    assert "sharing" not in alone.backbone
    assert "sharing" not in alone.resolved["backbone"]
    assert varied(job, job.tasks, {"type": "ew"}, 0, job.training).backbone["sharing"]["type"] == "groups"


def test_compared_weightings_have_one_network_with_a_decoder_per_dense_task_where_one_needs_it(
    study: Dataset,
) -> None:
    config = parse_config(config_of(study, GROUPS))
    made = with_weightings(config, {name: {"type": name} for name in ("ew", "pcgrad", "uw")})
    assert [one.backbone for one in made] == [made[0].backbone] * 3
    assert made[0].backbone["decoders"] == "separate"
    assert made[0].backbone["sharing"]["groups"] == GROUPS["groups"]
