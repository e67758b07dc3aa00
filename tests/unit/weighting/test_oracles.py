"""Agreement to 1e-6 with TorchJD's scalarizations, values and gradients, for 2 to 40 tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from medmtl.weighting import Weighting, build_weighting

oracles = pytest.importorskip("torchjd.scalarization", reason="torchjd is not installed: no oracle")
COUNTS = (2, 3, 7, 40)


def losses_of(n_tasks: int, steps: int) -> Tensor:
    """``(steps, n_tasks)`` losses over eight orders of magnitude."""
    g = torch.Generator().manual_seed(n_tasks)
    return 10 ** (8 * torch.rand(steps, n_tasks, generator=g) - 6)


def ours(weighting: Weighting, values: Tensor) -> tuple[Tensor, Tensor]:
    """The total and its gradient ``(K,)`` by the losses."""
    leaf = values.clone().requires_grad_()
    total = weighting(dict(zip(weighting.tasks, leaf.unbind(), strict=True)))
    (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True)
    return total, gradient


def theirs(oracle: Callable[[Tensor], Tensor], values: Tensor) -> tuple[Tensor, Tensor]:
    leaf = values.clone().requires_grad_()
    total = oracle(leaf)
    (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True)
    return total, gradient


def both(
    weighting: Weighting, oracle: Callable[[Tensor], Tensor], values: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return ours(weighting, values), theirs(oracle, values)


def build(name: str, n_tasks: int, **options: Any) -> Weighting:
    return build_weighting(name, [f"task{i}" for i in range(n_tasks)], **options)


@pytest.mark.parametrize("n_tasks", COUNTS)
def test_ew_is_torchjds_sum(n_tasks: int) -> None:
    for values in losses_of(n_tasks, 3):
        mine, yours = both(build("ew", n_tasks), oracles.Sum(), values)
        torch.testing.assert_close(mine, yours, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_tasks", COUNTS)
def test_ew_that_sums_to_1_is_torchjds_mean(n_tasks: int) -> None:
    for values in losses_of(n_tasks, 3):
        weighting = build("normalized", n_tasks, raw="constant", normalizer="sum-to-1")
        mine, yours = both(weighting, oracles.Mean(), values)
        torch.testing.assert_close(mine, yours, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_tasks", COUNTS)
def test_scalarization_is_torchjds_constant(n_tasks: int) -> None:
    weights = torch.rand(n_tasks, generator=torch.Generator().manual_seed(1))
    given = {f"task{i}": weight for i, weight in enumerate(weights.tolist())}
    for values in losses_of(n_tasks, 3):
        weighting = build("scalarization", n_tasks, weights=given)
        mine, yours = both(weighting, oracles.Constant(weights), values)
        torch.testing.assert_close(mine, yours, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_tasks", COUNTS)
def test_gls_is_torchjds_geometric_mean(n_tasks: int) -> None:
    """In float64, where the rounding of the oracle's own logarithms stays below 1e-6."""
    for values in losses_of(n_tasks, 3):
        total, gradient = ours(build("gls", n_tasks), values)
        expected, slope = theirs(oracles.GeometricMean(), values.double())
        torch.testing.assert_close(total.double(), expected, rtol=3e-6, atol=0)
        torch.testing.assert_close(gradient.double(), slope, rtol=3e-6, atol=0)


@pytest.mark.parametrize("n_tasks", COUNTS)
def test_dwa_is_torchjds_over_several_epochs(n_tasks: int) -> None:
    weighting, oracle = build("dwa", n_tasks, temperature=2.0), oracles.DWA(2.0)
    for values in losses_of(n_tasks, 4) + 1.0:  # within two orders, or the softmax saturates to one task
        for scale in (1.0, 1.3):
            mine, yours = both(weighting, oracle, scale * values)
            torch.testing.assert_close(mine, yours, rtol=1e-6, atol=1e-6)
        weighting.end_epoch()
        oracle.step()


LEARNED = {"uw": ("log_variance", "UW", "log_var"), "imtl-l": ("log_factor", "IMTLL", "log_scale")}


@pytest.mark.parametrize("n_tasks", COUNTS)
@pytest.mark.parametrize("name", LEARNED)
def test_learned_weights_follow_torchjds_over_twenty_steps_of_adam(name: str, n_tasks: int) -> None:
    """TorchJD's UW is the Gaussian one, `criteria: l2`."""
    _, oracle_name, theirs_name = LEARNED[name]
    weighting, oracle = build(name, n_tasks), getattr(oracles, oracle_name)(n_tasks)
    pairs = [(module, torch.optim.Adam(module.parameters(), lr=0.05)) for module in (weighting, oracle)]
    for values in losses_of(n_tasks, 20):
        mine, yours = both(weighting, oracle, values)
        torch.testing.assert_close(mine, yours, rtol=1e-6, atol=1e-6)
        for module, optimizer in pairs:
            optimizer.zero_grad()
            total = ours(module, values)[0] if module is weighting else module(values)
            total.backward()
            optimizer.step()
    learned = torch.stack([parameter.detach() for parameter in weighting.parameters()])
    torch.testing.assert_close(learned, getattr(oracle, theirs_name).detach(), rtol=1e-6, atol=1e-6)
