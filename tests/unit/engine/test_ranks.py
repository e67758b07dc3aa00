"""Two processes as one: a rank each for half of a batch takes the step of one process with the whole."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine import train_step
from medmtl.engine.ranks import average, average_gradients, joined, world_size
from medmtl.engine.setup import Ready
from medmtl.models import CaseHead
from medmtl.tasks import build_network
from medmtl.types import Batch
from medmtl.weighting import Gradients, build_weighting
from tests.helpers.study import make_batches, make_job, make_ready, sections

TASKS = sections("anatomy", "t1", "disease", "function", t1={"type": "dense_regression", "target": "t1"})
METHODS: dict[str, dict[str, Any]] = {
    "ew": {},
    "uw": {},
    "balanced": {},
    "gradnorm": {},
    "pcgrad": {},
    "cagrad": {"on": "shared_parameters"},
    "mgda": {},
}
FEATURES = {"nash-mtl": {"on": "features"}}
GROUPS = {"type": "groups", "groups": [["anatomy", "function"], ["t1", "disease"]], "shared_levels": 1}
ALONE = {"type": "groups", "groups": [["anatomy", "function", "disease"], ["t1"]]}
SOFT = {"type": "soft", "strength": 0.5}
SHARING: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "groups, balanced": ("balanced", {}, GROUPS),
    "groups, pcgrad": ("pcgrad", {}, GROUPS),
    "groups, cagrad": ("cagrad", {"on": "shared_parameters"}, GROUPS),
    "groups, nash-mtl": ("nash-mtl", {"on": "features"}, GROUPS),
    "a group of one, mgda": ("mgda", {}, ALONE),
    "soft, uw": ("uw", {}, SOFT),
    "soft, balanced": ("balanced", {}, SOFT),
}
"""Method, its options and what is shared; on the second rank no task of one group has a label."""

STEPS = 2
BACKBONE = {
    "type": "unet",
    "widths": [4, 8],
    "kernels": [[3, 3, 1], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 1]],
    "decoders": "separate",
}


def part_of(batch: Batch, cases: Sequence[int], hidden: Sequence[str] = ()) -> Batch:
    """Some cases of a batch, without the labels of some columns."""
    keep = torch.isin(batch.case_of_frame, torch.tensor(cases))
    targets, counts = {}, dict.fromkeys(batch.counts, 0)
    for name, target in batch.targets.items():
        if name not in hidden:
            targets[name] = target[list(cases)] if target.ndim == 1 else target[keep]
            counts[name] = len(targets[name])
    return replace(
        batch,
        image=batch.image[keep],
        case_of_frame=torch.searchsorted(torch.tensor(cases), batch.case_of_frame[keep]),
        spacing_mm=batch.spacing_mm[list(cases)],
        covariates=batch.covariates[list(cases)],
        targets=targets,
        counts=counts,
    )


def unlabelled(batch: Batch, case: int, columns: Sequence[str]) -> Batch:
    """The same batch with one case's labels of some columns taken out, as a dataset writes it."""
    targets, counts = dict(batch.targets), dict(batch.counts)
    frames = batch.case_of_frame == case
    for name in columns:
        target = targets[name].clone()
        at = torch.tensor([case]) if target.ndim == 1 else frames.nonzero().flatten()
        target[at] = torch.nan if target.is_floating_point() else (-1 if target.ndim == 1 else 255)
        targets[name], counts[name] = target, counts[name] - len(at)
    return replace(batch, targets=targets, counts=counts)


HIDDEN = ("t1", "disease")
"""Not labelled in the second case, and so not at all on the second rank."""


def take_steps(
    ready: Ready,
    method: str,
    options: Mapping[str, Any],
    rank: int | None,
    sharing: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Parameters, weighting state and weights after some steps on the whole batch or on a rank's half."""
    backbone = BACKBONE if sharing is None else {**BACKBONE, "sharing": sharing}
    seed = 0 if sharing is None else 1  # where no value lies so near a kink that rounding takes it across
    network = build_network(backbone, ready.model.tasks, in_channels=1, cycle=ready.model.cycle, seed=seed)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, CaseHead):
            nn.init.normal_(module.mlp[-1].weight, generator=torch.Generator().manual_seed(0))
    weighting = build_weighting(method, tuple(TASKS), **options)
    groups = [{"params": list(network.parameters())}, *weighting.parameter_groups()]
    optimizer = torch.optim.SGD(groups, lr=0.05)
    hidden = () if options.get("on") == "features" else HIDDEN
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        whole = make_batches(ready).batch(step)
        batch = (
            unlabelled(whole, 1, hidden) if rank is None else part_of(whole, [rank], hidden if rank else ())
        )
        output = train_step(
            network.train(), batch, ready.model.tasks, weighting, optimizer, max_gradient_norm=5.0
        )
        found |= {f"weight.{step}.{task}": weight for task, weight in weighting.weights.items()}
        found |= {f"loss.{step}.{task}": loss for task, loss in output.losses.items()}
        found |= {f"count.{step}.{task}": torch.tensor(n) for task, n in output.counts.items()}
        assert output.gradient_norm is not None
        found[f"norm.{step}"] = output.gradient_norm
    found |= {f"parameter.{name}": p.detach() for name, p in network.named_parameters()}
    found |= {f"gradient.{name}": p.grad for name, p in network.named_parameters() if p.grad is not None}
    found |= {f"state.{name}": value for name, value in weighting.state_dict().items()}
    return found


def every_method(ready: Ready, rank: int | None) -> dict[str, dict[str, Tensor]]:
    hard = {method: take_steps(ready, method, how, rank) for method, how in {**METHODS, **FEATURES}.items()}
    return hard | {
        name: take_steps(ready, method, how, rank, sharing)
        for name, (method, how, sharing) in SHARING.items()
    }


def run_rank(rank: int, root: str, output: str, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        tensors = [torch.tensor([1.0 + rank]), torch.full((2, 2), 10.0 * rank, dtype=torch.float64)]
        average(tensors)
        reached, local, never = (nn.Parameter(torch.zeros(2)) for _ in range(3))
        reached.grad = torch.full((2,), 1.0 + rank)
        local.grad = torch.full((2,), 4.0) if rank == 1 else None
        average_gradients([reached, local, never])
        one = Gradients.of({"a": [torch.full((2, 1, 1), 2.0 + rank)]})
        product = joined(one)
        small = {
            "world": torch.tensor(world_size()),
            "mean": tensors[0],
            "mean64": tensors[1],
            "reached": reached.grad,
            "local": torch.zeros(2) if local.grad is None else local.grad,
            "never": torch.tensor(never.grad is None),
            "gramian": product.gramian,
            "filters": product.filter_norms,
        }
        ready = make_ready(make_job(open_dataset(Path(root)), Path(output) / "run", TASKS))
        torch.save({"small": small, **every_method(ready, rank)}, f"{output}/rank{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What two gloo processes found."""
    output = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(run_rank, (str(study.root), str(output), port), nprocs=2, start_method="spawn")  # type: ignore[no-untyped-call]
    return [torch.load(output / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(study: Dataset) -> dict[str, dict[str, Tensor]]:
    """What one process found on the whole batches."""
    return every_method(make_ready(make_job(study, study.root / "run", TASKS)), None)


@pytest.mark.slow
@pytest.mark.parametrize("method", [*METHODS, *FEATURES, *SHARING])
def test_two_ranks_are_one_big_batch(
    ranks: list[dict[str, dict[str, Tensor]]], alone: dict[str, dict[str, Tensor]], method: str
) -> None:
    """Two tasks have no label on the second rank; weights, state, gradients and parameters are the same."""
    expected = alone[method]
    for rank in ranks:
        assert rank[method].keys() == expected.keys()
        for name, value in expected.items():
            theirs = rank[method][name]
            scale = float(value.abs().max()) if value.is_floating_point() else 0.0
            assert torch.allclose(theirs, value, rtol=2e-3, atol=2e-4 * max(scale, 1e-2)), name


@pytest.mark.slow
def test_ranks_average_what_they_share(ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    for rank in ranks:
        found = rank["small"]
        assert found["world"] == 2
        assert found["mean"].tolist() == [1.5]
        assert found["mean64"].tolist() == [[5, 5], [5, 5]]
        assert found["reached"].tolist() == [1.5, 1.5]
        assert found["local"].tolist() == [2, 2]
        assert bool(found["never"])
        assert found["gramian"].item() == pytest.approx((8 + 18) / 4)
        assert found["filters"].flatten().tolist() == pytest.approx([(4 + 9) ** 0.5 / 2] * 2)


def test_one_process_is_a_world_of_one_where_nothing_changes() -> None:
    assert world_size() == 1
    tensor, parameter = torch.ones(2), nn.Parameter(torch.ones(2))
    average([tensor])
    average_gradients([parameter])
    gradients = Gradients.of({"a": [tensor]})
    assert tensor.tolist() == [1, 1]
    assert parameter.grad is None
    assert joined(gradients) is gradients
