from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from medmtl.losses import (
    balanced_class_weights,
    boundary_loss,
    case_cross_entropy,
    case_gaussian_nll,
    case_ordinal,
    case_smooth_l1,
    case_squared_error,
    generalized_dice_loss,
    masked_cross_entropy,
    masked_focal_loss,
    masked_huber,
    ordinal_probabilities,
    segmentation_loss,
    soft_dice_loss,
    tversky_loss,
)

SHAPE = (5, 4, 3)
NAMES = ("dice_ce", "dice_focal", "tversky_ce", "generalized_dice_ce")


def scores(seed: int, n: int = 2, k: int = 4) -> Tensor:
    return torch.randn((n, k, *SHAPE), generator=torch.Generator().manual_seed(seed))


def labels(seed: int, n: int = 2, k: int = 4) -> Tensor:
    return torch.randint(0, k, (n, *SHAPE), generator=torch.Generator().manual_seed(seed))


def voxels(values: list[list[float]]) -> Tensor:
    """Probabilities per voxel as ``(1, K, V, 1, 1)``."""
    return torch.tensor(values).T[None, :, :, None, None]


# ------------------------------------------------------------------------------------------ voxels


def test_tversky_of_two_voxels_by_hand() -> None:
    p = voxels([[0.2, 0.8], [0.7, 0.3]])
    target = torch.tensor([1, 0])[None, :, None, None]
    # TP 0.8, FP 0.3, FN 0.2
    expected = 1 - 0.8 / (0.8 + 0.3 * 0.3 + 0.7 * 0.2)
    assert tversky_loss(p, target, alpha=0.3, beta=0.7).item() == pytest.approx(expected, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_tversky_with_equal_halves_is_dice(seed: int, together: bool) -> None:
    p, target = scores(seed).softmax(1), labels(seed)
    dice = soft_dice_loss(p, target, together=together)
    assert tversky_loss(p, target, alpha=0.5, beta=0.5, together=together).item() == pytest.approx(
        dice.item()
    )


def test_generalized_dice_of_two_structures_by_hand() -> None:
    p = voxels([[0.1, 0.7, 0.2], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]])
    target = torch.tensor([1, 1, 2, 0])[None, :, None, None]
    # structure 1: overlap 1.3, size 1.7 + 2, weight 1/4; structure 2: overlap 0.4, size 0.9 + 1, weight 1
    expected = 1 - 2 * (1.3 / 4 + 0.4) / (3.7 / 4 + 1.9)
    assert generalized_dice_loss(p, target).item() == pytest.approx(expected, abs=1e-4)


def test_an_absent_structure_that_nobody_predicts_costs_generalized_dice_nothing() -> None:
    target = torch.tensor([1, 0])[None, :, None, None]
    right = voxels([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    wrong = voxels([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    assert generalized_dice_loss(right, target).item() == pytest.approx(0, abs=1e-4)
    assert generalized_dice_loss(wrong, target).item() > 0.1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 4))
def test_the_focal_loss_is_cross_entropy_with_right_voxels_faded(seed: int, gamma: float) -> None:
    logits, target = scores(seed), labels(seed)
    p = logits.softmax(1).gather(1, target[:, None])[:, 0]
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    assert masked_focal_loss(logits, target, gamma=gamma).item() == pytest.approx(expected.item(), rel=1e-4)


def test_huber_by_hand_leaves_unknown_voxels_out() -> None:
    prediction = torch.tensor([0.5, 3.0, 9.0])
    target = torch.tensor([0.0, 0.0, math.nan])
    assert masked_huber(prediction, target).item() == pytest.approx((0.125 + 2.5) / 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("together", [False, True])
def test_unlabelled_voxels_have_no_gradient_and_no_say_in_any_named_loss(name: str, together: bool) -> None:
    logits = scores(0).requires_grad_()
    target = labels(0)
    target[0, :2] = 255
    loss = segmentation_loss(name, logits, target, together=together)  # type: ignore[arg-type]
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[0, :, :2] == 0).all()
    changed = logits.detach().clone()
    changed[0, :, :2] += 5
    again = segmentation_loss(name, changed, target, together=together)  # type: ignore[arg-type]
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_labelled_costs_nothing_and_perfect_logits_nearly_nothing(name: str) -> None:
    logits = scores(0).requires_grad_()
    empty = segmentation_loss(name, logits, torch.full((2, *SHAPE), 255))  # type: ignore[arg-type]
    assert empty.item() == 0
    target = labels(3)
    perfect = 40 * functional.one_hot(target, 4).movedim(-1, 1).float()
    assert segmentation_loss(name, perfect, target).item() == pytest.approx(0, abs=1e-3)  # type: ignore[arg-type]


def test_label_smoothing_of_the_voxels_agrees_with_torch() -> None:
    logits, target = scores(1), labels(1)
    expected = functional.cross_entropy(logits, target, label_smoothing=0.1)
    assert masked_cross_entropy(logits, target, label_smoothing=0.1).item() == pytest.approx(expected.item())


# ---------------------------------------------------------------------------------------- boundary


def test_the_boundary_loss_of_a_line_of_voxels_by_hand() -> None:
    target = torch.zeros(1, 5, 1, 1, dtype=torch.long)
    target[0, :2] = 1
    p = torch.zeros(1, 2, 5, 1, 1)
    p[0, 1, 4] = 1.0  # three voxels of 2 mm from the structure
    spacing = torch.tensor([[2.0, 1.0, 1.0]])
    assert boundary_loss(p, target, spacing, reach_mm=10).item() == pytest.approx(6 / 10 / 5)
    p[0, 1, 0] = 1.0  # two voxels inside
    assert boundary_loss(p, target, spacing, reach_mm=10).item() == pytest.approx((6 - 4) / 10 / 5)


def test_the_boundary_loss_draws_a_misplaced_mask_towards_its_place() -> None:
    target = torch.zeros(1, 12, 1, 1, dtype=torch.long)
    target[0, 2:5] = 1
    costs = []
    for start in range(2, 9):
        p = torch.zeros(1, 2, 12, 1, 1)
        p[0, 1, start : start + 3] = 1
        costs.append(boundary_loss(p, target, torch.ones(1, 3)).item())
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


def test_a_structure_that_is_not_there_costs_its_reach_and_unlabelled_voxels_nothing() -> None:
    p = torch.full((1, 2, 4, 1, 1), 0.5)
    target = torch.tensor([0, 0, 255, 255])[None, :, None, None]
    assert boundary_loss(p, target, torch.ones(1, 3)).item() == pytest.approx(0.5)
    assert boundary_loss(p, torch.full_like(target, 255), torch.ones(1, 3)).item() == 0


# ------------------------------------------------------------------------------------------- cases


def test_class_weights_follow_the_effective_number_and_average_one_over_the_cases() -> None:
    counts = torch.tensor([90, 10, 0])
    weights = balanced_class_weights(counts, beta=0.9)
    effective = [(1 - 0.9**n) / 0.1 for n in (90, 10)]
    assert weights[1] / weights[0] == pytest.approx(effective[0] / effective[1], rel=1e-5)
    assert weights[2] == 0
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    assert balanced_class_weights(torch.tensor([7, 3]), beta=0.0).tolist() == pytest.approx([1, 1])


def test_a_class_weight_multiplies_the_cost_of_its_cases() -> None:
    logits, target = torch.zeros(3, 2), torch.tensor([0, 1, -1])
    loss = case_cross_entropy(logits, target, class_weights=torch.tensor([0.5, 3.0]))
    assert loss.item() == pytest.approx((0.5 + 3.0) * math.log(2) / 2)


def test_the_ordinal_loss_asks_only_the_thresholds_that_a_case_reaches() -> None:
    logits = torch.tensor([[0.0, 5.0], [0.0, 0.0], [3.0, 3.0]])
    target = torch.tensor([0, 2, -1])
    # class 0: one question (above 0? no); class 2: two (above 0? yes, above 1? yes); the third is unlabelled
    assert case_ordinal(logits, target).item() == pytest.approx(3 * math.log(2) / 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_ordinal_probabilities_are_a_distribution_and_agree_with_the_loss(seed: int) -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    p = ordinal_probabilities(logits)
    assert p.shape == (5, 4)
    assert (p >= 0).all()
    assert torch.allclose(p.sum(1), torch.ones(5))
    for klass in range(4):
        target = torch.full((1,), klass)
        asked = min(klass + 1, 3)
        likelihood = math.exp(-asked * case_ordinal(logits[:1], target).item())
        assert likelihood == pytest.approx(float(p[0, klass]), rel=1e-4)


def test_the_gaussian_likelihood_agrees_with_torch_and_its_optimum_is_the_squared_error() -> None:
    prediction, target = torch.tensor([[0.3, 1.0]]), torch.tensor([[1.1, math.nan]])
    log_variance = torch.tensor([[0.4, 3.0]])
    expected = functional.gaussian_nll_loss(prediction[:, :1], target[:, :1], log_variance[:, :1].exp())
    assert case_gaussian_nll(prediction, log_variance, target).item() == pytest.approx(expected.item())
    best = torch.full((1, 2), math.log(0.8**2)).requires_grad_()
    case_gaussian_nll(prediction, best, target).backward()
    assert best.grad is not None
    assert best.grad.abs().max() < 1e-6


def test_squared_and_absolute_errors_by_hand_leave_unknown_values_out() -> None:
    prediction, target = torch.tensor([[1.0, 2.0, 7.0]]), torch.tensor([[0.0, 4.0, math.nan]])
    assert case_squared_error(prediction, target).item() == pytest.approx(2.5)
    assert case_smooth_l1(prediction, target, beta=0.0).item() == pytest.approx(1.5)
