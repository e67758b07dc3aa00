from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from medmtl.losses import case_cross_entropy, case_smooth_l1


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_cross_entropy_of_two_labelled_cases_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [9.0, -9.0], [math.log(3.0), 0.0]])
    target = torch.tensor([1, -1, 0])
    assert case_cross_entropy(logits, target).item() == pytest.approx((math.log(2) - math.log(0.75)) / 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 0.5))
def test_cross_entropy_agrees_with_torch_on_the_labelled_cases(seed: int, smoothing: float) -> None:
    logits = normal(seed, 6, 5)
    target = torch.randint(-1, 5, (6,), generator=torch.Generator().manual_seed(seed))
    target[0] = 2
    known = target >= 0
    expected = functional.cross_entropy(logits[known], target[known], label_smoothing=smoothing)
    found = case_cross_entropy(logits, target, label_smoothing=smoothing)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_smooth_l1_by_hand() -> None:
    prediction = torch.tensor([[0.0, 7.0], [2.0, 1.0]])
    target = torch.tensor([[0.2, math.nan], [0.0, 1.0]])
    # beta 0.5: 0.5 * 0.2^2 / 0.5, 2 - 0.25, 0; over three known values
    expected = (0.5 * 0.04 / 0.5 + (2 - 0.25) + 0) / 3
    assert case_smooth_l1(prediction, target, beta=0.5).item() == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 2))
def test_smooth_l1_agrees_with_torch_when_everything_is_known(seed: int, beta: float) -> None:
    prediction, target = normal(seed, 4, 3), normal(seed + 1, 4, 3)
    expected = functional.smooth_l1_loss(prediction, target, beta=beta)
    assert case_smooth_l1(prediction, target, beta=beta).item() == pytest.approx(expected.item(), rel=1e-5)


def test_unlabelled_cases_have_no_gradient_and_no_say() -> None:
    logits = normal(0, 4, 3).requires_grad_()
    loss = case_cross_entropy(logits, torch.tensor([0, -1, 2, -1]), label_smoothing=0.1)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[[1, 3]] == 0).all()
    assert (logits.grad[[0, 2]] != 0).all()
    assert loss.item() == pytest.approx(
        case_cross_entropy(logits[[0, 2]], torch.tensor([0, 2]), label_smoothing=0.1).item()
    )


def test_unknown_values_have_no_gradient_and_no_say() -> None:
    prediction = normal(0, 3, 2).requires_grad_()
    target = normal(1, 3, 2)
    target[0, 1] = target[2, 0] = math.nan
    loss = case_smooth_l1(prediction, target)
    loss.backward()
    assert prediction.grad is not None
    assert (prediction.grad == 0).tolist() == [[False, True], [False, False], [True, False]]
    changed = prediction.detach().clone()
    changed[0, 1] = 1e6
    assert case_smooth_l1(changed, target).item() == loss.item()


def test_nothing_labelled_is_a_loss_of_zero_with_zero_gradients() -> None:
    scores = normal(0, 3, 2).requires_grad_()
    for loss in (
        case_cross_entropy(scores, torch.full((3,), -1)),
        case_cross_entropy(scores, torch.full((3,), -1), label_smoothing=0.1),
        case_smooth_l1(scores, torch.full((3, 2), math.nan)),
    ):
        assert loss.item() == 0
        assert (torch.autograd.grad(loss, scores)[0] == 0).all()


def test_half_precision_predictions_give_a_float32_loss() -> None:
    assert case_cross_entropy(normal(0, 3, 2).bfloat16(), torch.tensor([0, 1, 0])).dtype == torch.float32
    assert case_smooth_l1(normal(0, 3, 2).bfloat16(), normal(1, 3, 2)).dtype == torch.float32
