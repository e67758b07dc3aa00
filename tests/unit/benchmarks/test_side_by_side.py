"""Weightings that run side by side decide what each would decide alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from side_by_side import SideBySide, builder
from teams import LossArms
from torch import Tensor

from medmtl.weighting import Gradients, GradientWeighting, Weighting, build_weighting

TASKS = ("a", "b", "c")
RUNS, STEPS = 3, 24
METHODS: dict[str, dict[str, Any]] = {
    "ew": {"type": "ew"},
    "scalarization": {"type": "scalarization", "weights": {"a": 0.2, "b": 0.3, "c": 0.5}},
    "uw": {"type": "uw", "criteria": {"a": "l1", "b": "l2", "c": "cross-entropy"}},
    "uw-revised": {"type": "uw-revised"},
    "uw-o": {"type": "uw-o", "criteria": {"a": "cross-entropy"}},
    "uw-so": {"type": "uw-so", "temperature": 5.0},
    "uw-so, effective": {"type": "uw-so", "effective_tasks": 2.4},
    "uw-so, first": {"type": "uw-so", "effective_tasks": 2.4, "normalize_losses": "first", "floor": 0.1},
    "balanced": {"type": "balanced"},
    "balanced, power 1": {"type": "balanced", "power": 1.0, "floor": 0.0},
    "dwa": {"type": "dwa"},
    "gls": {"type": "gls"},
    "imtl-l": {"type": "imtl-l"},
    "handcrafted": {"type": "handcrafted", "reference": "b"},
    "dynamic-scaling": {"type": "dynamic-scaling", "reference": "b"},
    "weight-learning": {"type": "weight-learning"},
    "gradnorm": {"type": "gradnorm", "alpha": 0.12},
    "gradnorm, l1": {"type": "gradnorm", "alpha": 1.5, "criteria": {"a": "l1"}},
}


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    """Losses ``(steps, runs, tasks)`` over five decades that fall, and Jacobians ``(..., 2 filters, 8)``."""
    g = torch.Generator().manual_seed(seed)
    size = 10 ** (5 * torch.rand(1, RUNS, 3, generator=g) - 3)
    fall = torch.linspace(1, 0.1, STEPS)[:, None, None]
    losses = size * fall * (0.5 + torch.rand(STEPS, RUNS, 3, generator=g))
    return losses, torch.randn(STEPS, RUNS, 3, 2, 8, generator=g) * losses[..., None, None]


def alone(weighting: Weighting, losses: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``(3,)`` and the penalty of one training."""
    named = dict(zip(TASKS, losses.unbind(), strict=True))
    if isinstance(weighting, GradientWeighting):
        rows = {task: [part[..., None]] for task, part in zip(TASKS, jacobian.unbind(), strict=True)}
        weighting(named, gradients=Gradients.of(rows))
    else:
        weighting(named)
    penalty = weighting.penalty((0, 1, 2))
    weights = torch.stack([weighting.weights[task] for task in TASKS])
    return weights, torch.zeros(()) if penalty is None else penalty.detach()


@pytest.mark.parametrize("name", METHODS)
def test_every_run_gets_the_weights_that_medmtl_gives_it_alone(name: str) -> None:
    losses, jacobians = drawn(sum(map(ord, name)))
    together = SideBySide(builder(TASKS, **METHODS[name]), RUNS)
    apart = [builder(TASKS, **METHODS[name])() for _ in range(RUNS)]
    rates = torch.optim.SGD(list(together.learned.values()), lr=0.1) if together.learned else None
    for step in range(STEPS):
        block = jacobians[step].flatten(2)
        weights, penalty = together(losses[step], block @ block.mT, jacobians[step].norm(dim=-1))
        expected = [alone(w, losses[step, r], jacobians[step, r]) for r, w in enumerate(apart)]
        torch.testing.assert_close(
            weights.detach(), torch.stack([e[0] for e in expected]), rtol=2e-6, atol=1e-12
        )
        torch.testing.assert_close(
            penalty.detach(), torch.stack([e[1] for e in expected]), rtol=2e-6, atol=2e-6
        )
        if rates is not None:
            rates.zero_grad()
            ((weights * losses[step]).sum() + penalty.sum()).backward()
            for values in together.learned.values():
                assert values.grad is not None
                values.grad.clamp_(-1, 1)
            rates.step()
            with torch.no_grad():
                for r, weighting in enumerate(apart):
                    for parameter, values in zip(
                        weighting.parameters(), together.learned.values(), strict=True
                    ):
                        parameter.copy_(values[r])
        if step % 8 == 7:
            ended = torch.tensor([True, step > 8, False])
            together.end_epoch(ended)
            for weighting, end in zip(apart, ended.tolist(), strict=True):
                if end:
                    weighting.end_epoch()


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("gradnorm")])
def test_a_task_that_one_run_lacks_is_absent_there_and_only_there(name: str) -> None:
    losses, _ = drawn(1)
    together = SideBySide(builder(TASKS, **METHODS[name]), RUNS)
    apart = [builder(TASKS, **METHODS[name])() for _ in range(RUNS)]
    g = torch.Generator().manual_seed(5)
    for found in losses:
        absent = torch.rand(RUNS, 3, generator=g) < 0.3
        absent[:, 0] &= ~absent.all(1)
        weights, _ = together(torch.where(absent, torch.nan, found))
        for run, weighting in enumerate(apart):
            named = {t: found[run, k] for k, t in enumerate(TASKS) if not absent[run, k]}
            weighting(named)
            expected = torch.stack([weighting.weights.get(task, torch.zeros(())) for task in TASKS])
            torch.testing.assert_close(weights[run].detach(), expected, rtol=2e-6, atol=1e-12)


def test_learned_weights_get_the_gradient_that_they_get_alone() -> None:
    losses = drawn(0)[0][0]
    together = SideBySide(builder(TASKS, type="uw"), RUNS)
    weights, penalty = together(losses)
    ((weights * losses).sum() + penalty.sum()).backward()
    for run in range(RUNS):
        weighting = build_weighting("uw", TASKS)
        weighting(dict(zip(TASKS, losses[run].unbind(), strict=True))).backward()
        for parameter, values in zip(weighting.parameters(), together.learned.values(), strict=True):
            assert values.grad is not None
            torch.testing.assert_close(values.grad[run], parameter.grad, rtol=1e-6, atol=0)


def test_random_weights_differ_between_runs_and_sum_to_one() -> None:
    together = SideBySide(builder(TASKS, type="rlw"), 500)
    weights, _ = together(torch.ones(500, 3))
    torch.testing.assert_close(weights.sum(1), torch.ones(500))
    assert weights[0].ne(weights[1]).all()
    assert (weights.mean(0) - 1 / 3).abs().max() < 0.05


def test_a_factor_multiplies_an_arms_weights_and_no_other() -> None:
    arms = {"one": {"type": "uw-o"}, "two": {"type": "uw-o", "times": 3}, "three": [1.0, 0.0, 0.0]}
    losses = drawn(2)[0][0]
    found = LossArms(arms, TASKS, RUNS, torch.device("cpu")).decide(losses[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(found.weights[:, 0], 1 / losses)
    torch.testing.assert_close(found.weights[:, 1], 3 / losses)
    assert found.weights[:, 2].equal(torch.tensor([1.0, 0.0, 0.0]).expand(RUNS, -1))
