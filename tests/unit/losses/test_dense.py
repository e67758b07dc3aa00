from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from medmtl.losses import (
    coarser_target,
    dice_cross_entropy,
    masked_absolute_error,
    masked_cross_entropy,
    soft_dice_loss,
)

SHAPE = (5, 4, 3)


def scores(seed: int, n: int = 2, k: int = 4) -> Tensor:
    return torch.randn((n, k, *SHAPE), generator=torch.Generator().manual_seed(seed))


def labels(seed: int, n: int = 2, k: int = 4) -> Tensor:
    return torch.randint(0, k, (n, *SHAPE), generator=torch.Generator().manual_seed(seed))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dice": lambda logits, target: soft_dice_loss(logits.softmax(1), target),
    "dice together": lambda logits, target: soft_dice_loss(logits.softmax(1), target, together=True),
    "dice with background": lambda logits, target: soft_dice_loss(logits.softmax(1), target, skip=0),
    "cross-entropy": masked_cross_entropy,
    "both": dice_cross_entropy,
    "both together": lambda logits, target: dice_cross_entropy(logits, target, skip=0, together=True),
}


def voxels(values: list[list[float]]) -> Tensor:
    """Probabilities per voxel as ``(1, K, V, 1, 1)``."""
    return torch.tensor(values).T[None, :, :, None, None]


# ------------------------------------------------------------------------------------- golden values


def test_dice_of_two_voxels_by_hand() -> None:
    p = voxels([[0.2, 0.8], [0.7, 0.3]])  # background, structure
    target = torch.tensor([1, 0])[None, :, None, None]
    # overlap 0.8, sizes (0.8 + 0.3) + 1: 1 - 1.6 / 2.1
    assert soft_dice_loss(p, target).item() == pytest.approx(1 - 1.6 / 2.1, abs=1e-4)
    # background: overlap 0.7, sizes (0.2 + 0.7) + 1: 1.4 / 1.9
    both = 1 - (1.6 / 2.1 + 1.4 / 1.9) / 2
    assert soft_dice_loss(p, target, skip=0).item() == pytest.approx(both, abs=1e-4)


def test_dice_together_is_one_dice_over_the_batch() -> None:
    p = torch.cat([voxels([[0.2, 0.8]]), voxels([[0.9, 0.1]])])
    target = torch.tensor([1, 0])[:, None, None, None]
    # overlap 0.8 over sizes 0.9 + 1
    assert soft_dice_loss(p, target, together=True).item() == pytest.approx(1 - 1.6 / 1.9, abs=1e-4)
    apart = 1 - (1.6 / 1.8 + 0) / 2
    assert soft_dice_loss(p, target).item() == pytest.approx(apart, abs=1e-3)


def test_an_absent_structure_that_nobody_predicts_is_perfect() -> None:
    p = voxels([[1.0, 0.0], [1.0, 0.0]])
    assert soft_dice_loss(p, torch.zeros(1, 2, 1, 1, dtype=torch.int64)).item() == 0


def test_a_perfect_prediction_has_no_loss_and_a_wrong_one_has_all() -> None:
    target = labels(0)
    perfect = functional.one_hot(target, 4).movedim(-1, 1).float()
    assert soft_dice_loss(perfect, target).item() == pytest.approx(0, abs=1e-5)
    assert soft_dice_loss(perfect.roll(1, 1), target).item() == pytest.approx(1, abs=1e-4)


def test_cross_entropy_by_hand() -> None:
    logits = voxels([[math.log(0.2), math.log(0.8)], [math.log(0.7), math.log(0.3)], [5.0, -3.0]])
    target = torch.tensor([1, 0, 255])[None, :, None, None]
    expected = -(math.log(0.8) + math.log(0.7)) / 2
    assert masked_cross_entropy(logits, target).item() == pytest.approx(expected)


def test_absolute_error_by_hand() -> None:
    target = torch.tensor([1200.0, math.nan, 900.0])
    assert masked_absolute_error(torch.tensor([1190.0, 5.0, 905.0]), target).item() == pytest.approx(7.5)


# ----------------------------------------------------------------------------------- other libraries


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_dice_agrees_with_monai_when_everything_is_labelled(
    seed: int, background: bool, together: bool
) -> None:
    logits, target = scores(seed), labels(seed)
    monai = DiceLoss(
        include_background=background,
        to_onehot_y=True,
        softmax=True,
        batch=together,
        smooth_nr=1e-5,
        smooth_dr=1e-5,
    )
    ours = soft_dice_loss(logits.softmax(1), target, skip=0 if background else 1, together=together)
    assert ours.item() == pytest.approx(monai(logits, target[:, None]).item(), abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_cross_entropy_agrees_with_torch_when_everything_is_labelled(seed: int) -> None:
    logits, target = scores(seed), labels(seed)
    expected = functional.cross_entropy(logits, target)
    assert masked_cross_entropy(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)
    both = dice_cross_entropy(logits, target) - soft_dice_loss(logits.softmax(1), target)
    assert both.item() == pytest.approx(expected.item(), rel=1e-4)


# ------------------------------------------------------------------------------------------- masking


@pytest.mark.parametrize("name", LOSSES)
def test_unlabelled_voxels_have_no_gradient_and_no_say(name: str) -> None:
    logits, target = scores(1), labels(2)
    hidden = torch.rand(target.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    target[hidden] = 255
    logits.requires_grad_()
    loss = LOSSES[name](logits, target)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad.movedim(1, -1)[hidden] == 0).all()
    assert (logits.grad.movedim(1, -1)[~hidden] != 0).any()
    changed = logits.detach().movedim(1, -1).clone()
    changed[hidden] = 30.0 * torch.randn(changed[hidden].shape, generator=torch.Generator().manual_seed(4))
    assert LOSSES[name](changed.movedim(-1, 1), target).item() == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_an_unlabelled_sample_has_no_gradient_and_does_not_change_the_loss(name: str) -> None:
    logits, target = scores(1, n=1), labels(2, n=1)
    alone = LOSSES[name](logits, target)
    beside = torch.cat([logits, scores(9, n=1)]).requires_grad_()
    loss = LOSSES[name](beside, torch.cat([target, torch.full_like(target, 255)]))
    loss.backward()
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)
    assert beside.grad is not None
    assert (beside.grad[1] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_labelled_is_a_loss_of_zero_with_zero_gradients(name: str) -> None:
    logits = scores(1).requires_grad_()
    loss = LOSSES[name](logits, torch.full((2, *SHAPE), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_float32_scalars_and_finite_for_extreme_scores(name: str) -> None:
    for scale in (1e-3, 1.0, 1e4):
        logits = (scores(5) * scale).requires_grad_()
        loss = LOSSES[name](logits, labels(6))
        loss.backward()
        assert loss.shape == ()
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_half_precision_scores_give_a_float32_loss() -> None:
    assert dice_cross_entropy(scores(0).bfloat16(), labels(0)).dtype == torch.float32


def test_unmeasured_voxels_of_a_map_have_no_gradient_and_no_say() -> None:
    prediction = scores(0)[:, 0].clone().requires_grad_()
    target = scores(1)[:, 0].clone()
    target[0] = math.nan
    loss = masked_absolute_error(prediction, target)
    loss.backward()
    assert loss.item() == pytest.approx(functional.l1_loss(prediction[1], target[1]).item())
    assert prediction.grad is not None
    assert (prediction.grad[0] == 0).all()
    assert (prediction.grad[1] != 0).all()
    nothing = masked_absolute_error(prediction, torch.full_like(target, math.nan))
    assert nothing.item() == 0
    assert torch.autograd.grad(nothing, prediction)[0].eq(0).all()


# ------------------------------------------------------------------------------------ coarser levels


def test_a_coarser_target_takes_whole_labels_and_keeps_the_unlabelled() -> None:
    target = torch.zeros(1, 8, 6, 3, dtype=torch.int64)
    target[0, 4:] = 3
    target[0, :, :, 2] = 255
    coarse = coarser_target(target, (4, 3, 3))
    assert coarse.shape == (1, 4, 3, 3)
    assert coarse[0, :, 0, 0].tolist() == [0, 0, 3, 3]
    assert (coarse[..., 2] == 255).all()
    assert coarser_target(target, (8, 6, 3)) is target


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.integers(1, 3)] * 3))
def test_a_coarser_target_agrees_with_torch_nearest(
    size: tuple[int, int, int], factor: tuple[int, int, int]
) -> None:
    fine = [s * f for s, f in zip(size, factor, strict=True)]
    target = torch.randint(0, 4, (2, *fine), generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(target[:, None].float(), size=list(size), mode="nearest")[:, 0].long()
    assert torch.equal(coarser_target(target, size), expected)
