"""Weight learning: a sigmoid for two tasks, a softmax for more, and where it goes by construction."""

from __future__ import annotations

import math

import pytest
import torch

from medmtl.weighting import Weighting, build_weighting


def descend(weighting: Weighting, losses: dict[str, float], steps: int = 1, rate: float = 0.1) -> list[float]:
    optimizer = torch.optim.SGD(weighting.parameter_groups(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        weighting({task: torch.tensor(loss) for task, loss in losses.items()}).backward()
        optimizer.step()
    weighting({task: torch.tensor(loss) for task, loss in losses.items()})
    return [weight.item() for weight in weighting.weights.values()]


def test_two_tasks_share_one_sigmoid() -> None:
    """Leang et al. 2020: w_1 = sigmoid(s), w_2 = 1 - w_1."""
    weighting = build_weighting("weight-learning", ("a", "b"))
    (parameter,) = weighting.parameters()
    with torch.no_grad():
        parameter.fill_(0.7)
    total = weighting({"a": torch.tensor(2.0), "b": torch.tensor(3.0)})
    first = torch.sigmoid(torch.tensor(0.7)).item()
    assert [w.item() for w in weighting.weights.values()] == pytest.approx([first, 1 - first])
    assert total.item() == pytest.approx(2 * first + 3 * (1 - first))
    total.backward()
    assert parameter.grad is not None
    assert parameter.grad.item() == pytest.approx(first * (1 - first) * (2 - 3), rel=1e-5)


def test_more_tasks_have_a_softmax() -> None:
    weighting = build_weighting("weight-learning", ("a", "b", "c"))
    with torch.no_grad():
        for parameter, share in zip(weighting.parameters(), (1, 2, 5), strict=True):
            parameter.fill_(math.log(share))
    weighting({task: torch.tensor(1.0) for task in "abc"})
    assert [w.item() for w in weighting.weights.values()] == pytest.approx([1 / 8, 2 / 8, 5 / 8])


@pytest.mark.parametrize("losses", [{"a": 1.0, "b": 0.1}, {"a": 1.0, "b": 0.1, "c": 0.9}])
def test_it_pulls_toward_the_smaller_loss_until_the_alarm_speaks(losses: dict[str, float]) -> None:
    weighting = build_weighting("weight-learning", tuple(losses))
    start, later = descend(weighting, losses), descend(weighting, losses, steps=400, rate=1.0)
    assert 1 / len(losses) < start[1] < later[1]
    assert later[1] > 0.99
    assert weighting.collapsed() == "b"


def test_one_of_two_tasks_alone_weighs_1_and_moves_no_parameter() -> None:
    weighting = build_weighting("weight-learning", ("a", "b"))
    weighting({"b": torch.tensor(2.0, requires_grad=True)}).backward()
    assert weighting.weights["b"].item() == 1
    assert [parameter.grad for parameter in weighting.parameters()] == [None]


def test_one_declared_task_has_nothing_to_learn() -> None:
    weighting = build_weighting("weight-learning", ["a"])
    assert weighting.parameter_groups() == []
    assert weighting({"a": torch.tensor(2.0)}).item() == 2
