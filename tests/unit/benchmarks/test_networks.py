"""Networks that train side by side compute what each would compute alone."""

from __future__ import annotations

import pytest
import torch
from lenet import LeNets, head, initial
from mlps import MLPs
from multi_mnist_data import overlay
from teams import Momentum
from torch import Tensor
from torch.nn import functional as F

CPU = torch.device("cpu")


def lenet(image: Tensor, w: list[Tensor]) -> Tensor:
    """The trunk by PyTorch's convolutions, ``(B, 36, 36)`` to ``(B, 50)``."""
    x = F.conv2d(image[:, None], w[0].permute(3, 2, 0, 1), w[1][0])
    x = F.max_pool2d(x, 2).relu()
    x = F.conv2d(x, w[2].permute(3, 2, 0, 1), w[3][0])
    x = F.max_pool2d(x, 2).relu()
    return (x.permute(0, 2, 3, 1).flatten(1) @ w[4] + w[5]).relu()


def test_a_lenet_among_many_gives_the_features_and_gradients_of_one() -> None:
    torch.manual_seed(0)
    slots, arms = 2, 2
    trunk, _ = initial([3, 4], arms, {}, CPU)
    with torch.no_grad():
        for values in trunk.values():
            values += 0.02 * torch.randn_like(values)
    images = torch.rand(slots, 6, 36, 36)
    features = LeNets(slots, arms, CPU)(images, trunk)
    pull = torch.randn_like(features)
    gradients = torch.autograd.grad((features * pull).sum(), list(trunk.values()))
    for run in range(slots * arms):
        own = [values[run].detach().clone().requires_grad_() for values in trunk.values()]
        expected = lenet(images[run // arms], own)
        torch.testing.assert_close(features[run], expected, rtol=1e-5, atol=1e-6)
        for got, want in zip(gradients, torch.autograd.grad((expected * pull[run]).sum(), own), strict=True):
            torch.testing.assert_close(got[run], want, rtol=1e-4, atol=1e-5)


def test_the_arms_of_a_slot_begin_alike_and_slots_do_not() -> None:
    trunk, heads = initial([0, 1], 3, {"left": (50, 10)}, CPU)
    for values in (*trunk.values(), *heads["left"].values()):
        assert values[0].equal(values[2])
        assert not values[2].equal(values[3])


def test_a_head_is_linear_layers_with_relu_between() -> None:
    _, heads = initial([0], 1, {"left": (50, 10)}, CPU)
    p = {name: values[0] for name, values in heads["left"].items()}
    x = torch.randn(1, 4, 50)
    expected = (x[0] @ p["weight0"] + p["bias0"]).relu() @ p["weight1"] + p["bias1"]
    torch.testing.assert_close(head(x, heads["left"])[0], expected)


def test_gradients_by_task_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    nets = MLPs(20, 3, [0, 1], 2, CPU)
    x, y = torch.randn(2, 8, 20), torch.randn(2, 8, 3, 100)
    losses, rows, heads = nets.by_task(x, y)
    expected = nets.losses(x, y)
    torch.testing.assert_close(losses, expected.detach())
    for task in range(3):
        found = torch.autograd.grad(expected[..., task].sum(), nets.parameters, retain_graph=True)
        for got, want in zip(rows[task], (*found[:4], *found[5:9]), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-7)
    found = torch.autograd.grad(expected.sum(), nets.parameters)
    for got, want in zip(heads, (found[4], found[9]), strict=True):
        torch.testing.assert_close(got.flatten(2), want, rtol=1e-4, atol=1e-7)


def test_momentum_is_pytorchs() -> None:
    ours, theirs = torch.ones(3), torch.ones(3, requires_grad=True)
    optimizer, reference = Momentum([ours], 0.1), torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    for step in range(4):
        gradient = torch.arange(3.0) - step
        optimizer.step([gradient])
        theirs.grad = gradient.clone()
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())


@pytest.mark.parametrize("seed", [0, 1])
def test_an_overlay_holds_two_digits_of_different_classes_in_opposite_corners(seed: int) -> None:
    digits = torch.zeros(40, 28, 28, dtype=torch.uint8)
    classes = torch.arange(40) % 10
    digits[:, 0, 0] = (classes + 1).to(torch.uint8)  # a digit's first pixel says its class
    images, left, right = overlay(digits, classes, seed)
    assert images.shape == (40, 36, 36)
    assert images[:, 0, 0].long().equal(left + 1)
    assert images[:, 8, 8].long().equal(right + 1)
    assert left.equal(classes)
    assert left.ne(right).all()


def test_drawn_shifts_keep_each_digit_on_its_side() -> None:
    digits = torch.zeros(400, 28, 28, dtype=torch.uint8)
    digits[:, 0, 0] = 1
    classes = torch.arange(400) % 10
    images, _, _ = overlay(digits, classes, 0, drawn=True)
    assert images.sum() == 800
    found = images.nonzero()[:, 1:]
    assert found.min() == 0
    assert found.max() == 8
    assert len(torch.unique(found, dim=0)) == 49  # 5 x 5 corners on each side, one in common
