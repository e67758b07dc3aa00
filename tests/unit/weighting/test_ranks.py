"""Several ranks are one big batch, for every loss-based method: two real processes over gloo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from medmtl.types import ConfigError
from medmtl.weighting import WEIGHTINGS, GradientWeighting, build_weighting, share_losses

TASKS = ("anatomy", "disease", "function")
METHODS: dict[str, dict[str, Any]] = {
    "balanced": {},
    "dwa": {},
    "dynamic-scaling": {"reference": "disease"},
    "ew": {},
    "gls": {},
    "handcrafted": {"reference": "disease"},
    "imtl-l": {},
    "normalized": {"raw": "inverse", "normalizer": "sum-to-k"},
    "rlw": {},
    "scalarization": {"weights": {"anatomy": 0.5, "disease": 0.3, "function": 0.2}},
    "uw": {},
    "uw-o": {},
    "uw-revised": {},
    "uw-so": {"temperature": 5.0},
    "weight-learning": {},
}
EXTRAS: dict[str, dict[str, Any]] = {
    "a schedule": {"name": "uw-o", "every": {"disease": 2}, "warmup_steps": 2},
    "a policy": {"name": "uw", "on_bad_loss": "drop-task"},
}
N_RANKS, N_SAMPLES, STEPS = 2, 16, 6


class Data:
    """Fixed samples; a task's labels are spread unevenly, and some steps have none on one rank or at all."""

    def __init__(self, poisoned: bool) -> None:
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(STEPS, N_SAMPLES, 5, generator=g)
        self.y = {task: torch.randn(STEPS, N_SAMPLES, generator=g) * 10.0**-i for i, task in enumerate(TASKS)}
        self.labelled = {task: torch.rand(STEPS, N_SAMPLES, generator=g) < 0.6 for task in TASKS}
        self.labelled["disease"][1, : N_SAMPLES // N_RANKS] = False
        self.labelled["function"][2, N_SAMPLES // N_RANKS :] = False
        self.labelled["anatomy"][3] = False
        if poisoned:
            self.y["disease"][2, :] = torch.nan


def train(method: str, *, rank: int | None, data: Data) -> list[Tensor]:
    """Parameters after some steps; of one rank's share of the samples, or of all of them for None."""
    torch.manual_seed(1)
    trunk = nn.Linear(5, 4)
    heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in TASKS})
    options = dict(EXTRAS[method]) if method in EXTRAS else {"name": method, **METHODS[method]}
    weighting = build_weighting(options.pop("name"), TASKS, **options)
    parameters = [*trunk.parameters(), *heads.parameters(), *weighting.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05)
    part = N_SAMPLES // N_RANKS
    mine = slice(None) if rank is None else slice(rank * part, (rank + 1) * part)
    for step in range(STEPS):
        features = trunk(data.x[step, mine]).tanh()
        losses, counts = {}, {}
        for task in TASKS:
            labelled = data.labelled[task][step, mine]
            counts[task] = int(labelled.sum())
            if counts[task]:
                error = heads[task](features)[labelled, 0] - data.y[task][step, mine][labelled]
                losses[task] = error.square().mean()
        shared = share_losses(losses, counts, TASKS, device=torch.device("cpu"))
        optimizer.zero_grad(set_to_none=True)
        weighting(shared.local, observed=shared.observed).backward()
        if rank is not None:
            for parameter in parameters:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(gradient)
                parameter.grad = gradient / N_RANKS
        optimizer.step()
        if step % 2:
            weighting.end_epoch()
    return [parameter.detach().clone() for parameter in parameters]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=N_RANKS)
    found = {
        method: train(method, rank=rank, data=Data(method == "a policy")) for method in (*METHODS, *EXTRAS)
    }
    uneven = share_losses(
        {"a": torch.tensor(2.0)} if rank else {}, {"a": rank}, ["a", "b"], device=torch.device("cpu")
    )
    empty = share_losses({}, {}, ["a"], device=torch.device("cpu"))
    known = share_losses({"a": torch.tensor(1.0 + 2 * rank)}, {"a": 3}, ["a", "b"], totals={"a": 6, "b": 0})
    told = {task: loss.item() for task, loss in known.observed.items()}
    with pytest.raises(ConfigError, match="totals has fewer labels than this rank alone for 'a'"):
        share_losses({"a": torch.tensor(1.0)}, {"a": 3}, ["a"], totals={"a": 2})
    with pytest.raises(ConfigError, match="give the device"):
        share_losses({}, {}, ["a"])
    torch.save((found, uneven, empty.counts, told), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=N_RANKS)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(N_RANKS)]


@pytest.mark.parametrize("method", [*METHODS, *EXTRAS])
def test_two_ranks_learn_what_one_big_batch_teaches(ranks: list[Any], method: str) -> None:
    expected = train(method, rank=None, data=Data(method == "a policy"))
    for found, *_ in ranks:
        for got, wanted in zip(found[method], expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_every_loss_based_method_is_tried_on_ranks() -> None:
    assert set(METHODS) == {n for n in WEIGHTINGS if not issubclass(WEIGHTINGS.get(n), GradientWeighting)}


def test_a_rank_without_labels_knows_the_others_losses(ranks: list[Any]) -> None:
    for _, shared, none_at_all, _ in ranks:
        assert shared.counts == {"a": 1, "b": 0}
        assert {task: loss.item() for task, loss in shared.observed.items()} == {"a": 2.0}
        assert none_at_all == {"a": 0}
    assert ranks[0][1].local == {}
    assert ranks[1][1].local["a"].item() == 4.0  # the mean over two ranks, one of which has none, is 2


def test_a_rank_that_knows_the_label_counts_of_all_need_not_ask_for_them(ranks: list[Any]) -> None:
    for _, _, _, told in ranks:
        assert told == {"a": 2.0}


def test_one_process_alone_needs_no_group() -> None:
    losses = {"anatomy": torch.tensor(0.5, requires_grad=True)}
    shared = share_losses(losses, {"anatomy": 3}, TASKS)
    assert shared.local["anatomy"] is losses["anatomy"]
    assert not shared.observed["anatomy"].requires_grad
    assert shared.counts == {"anatomy": 3, "disease": 0, "function": 0}


def test_a_loss_without_a_label_count_is_refused() -> None:
    with pytest.raises(ConfigError, match="the loss of task 'anatomy' comes without a label count above 0"):
        share_losses({"anatomy": torch.tensor(0.5)}, {"anatomy": 0}, TASKS)
