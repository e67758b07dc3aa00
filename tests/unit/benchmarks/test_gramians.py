"""Batched forms of the Gramian methods agree with medmtl's weightings."""

from __future__ import annotations

import pytest
import torch
from gramians import SOLVERS, gramian_of, pcgrad, solved
from teams import _solved
from torch import Tensor

from medmtl.weighting._torchjd import torchjd_aggregation


def gramians(tasks: int, runs: int = 30) -> Tensor:
    """Of random gradients, some with common parts, some against each other, norms over two decades."""
    g = torch.Generator().manual_seed(tasks)
    common = torch.randn(runs, 1, 40, generator=g, dtype=torch.float64)
    rows = torch.randn(runs, tasks, 40, generator=g, dtype=torch.float64)
    part = torch.linspace(-1, 1, runs, dtype=torch.float64)[:, None, None]
    sign = torch.where(torch.arange(tasks) % 2 == 0, 1.0, -1.0)[:, None]
    rows = rows + 2 * torch.where(part > 0, common * part, common * part * sign)
    rows = rows * 10 ** (2 * torch.rand(runs, tasks, 1, generator=g, dtype=torch.float64) - 1)
    return rows @ rows.mT


CASES = [(name, tasks) for name in SOLVERS for tasks in (2, 3, 10) if name != "pcgrad" or tasks == 2]
"""With more than two tasks PCGrad's order is random; there it is tested with a given one."""


@pytest.mark.parametrize(("name", "tasks"), CASES)
def test_weights_are_those_of_medmtl(name: str, tasks: int) -> None:
    found = gramians(tasks)
    torch.testing.assert_close(SOLVERS[name](found), solved(name, found), rtol=1e-6, atol=1e-9)


def test_a_step_of_cagrad_between_the_ends_is_among_those_compared() -> None:
    found = gramians(2)
    weights = SOLVERS["cagrad"](found) - 0.5
    inside = (weights > 1e-6).all(1)
    assert inside.sum() >= 3


@pytest.mark.parametrize("tasks", [2, 3, 10])
def test_surgery_in_a_given_order_is_torchjds(tasks: int) -> None:
    found = gramians(tasks)
    state = torch.get_rng_state()
    orders = []
    for run in range(len(found)):
        torch.manual_seed(run)
        orders.append(torch.stack([torch.randperm(tasks) for _ in range(tasks)]))
    expected = []
    for run, gramian in enumerate(found):
        torch.manual_seed(run)
        expected.append(torchjd_aggregation("pcgrad").PCGradWeighting()(gramian))
    torch.set_rng_state(state)
    torch.testing.assert_close(
        pcgrad(found, torch.stack(orders)), torch.stack(expected), rtol=1e-6, atol=1e-9
    )


def test_inner_products_run_over_all_parameters() -> None:
    g = torch.Generator().manual_seed(0)
    rows = [[torch.randn(4, 3, 2, generator=g), torch.randn(4, 5, generator=g)] for _ in range(3)]
    flat = torch.stack([torch.cat([part.flatten(1) for part in row], 1) for row in rows], 1).double()
    torch.testing.assert_close(gramian_of(rows), flat @ flat.mT)


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_training_that_diverged_ends_no_other(name: str, tasks: int) -> None:
    found = gramians(tasks, runs=4)
    found[1], found[2, 0], found[2, :, 0] = torch.nan, 0, 0
    weights = _solved(name, found)
    assert weights[1].isnan().all()
    assert weights[2].equal(torch.ones(tasks))
    if name != "pcgrad":
        torch.testing.assert_close(
            weights[[0, 3]].double(), SOLVERS[name](found[[0, 3]]), rtol=1e-5, atol=1e-7
        )
