from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from medmtl.data.augment import NONE, Augmentation
from medmtl.data.intensity import change_intensity

LOUD = replace(Augmentation(), probability=1.0, bias=0.4, low_resolution=2.0, inverted_gamma=True)


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(7))


def test_no_change_is_the_same_image() -> None:
    image = noise(2, 1, 8, 8, 3)
    assert torch.equal(change_intensity(image, NONE, generator(5)), image)


def test_the_same_generator_state_gives_the_same_change_and_another_one_another() -> None:
    image = noise(2, 1, 12, 12, 4)
    changed = [change_intensity(image, LOUD, generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    change_intensity(noise(1, 1, 8, 8, 3), LOUD, generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_number_of_draws_does_not_depend_on_their_outcome() -> None:
    quiet, loud = generator(4), generator(4)
    change_intensity(noise(1, 1, 8, 8, 3), NONE, quiet)
    change_intensity(noise(1, 1, 8, 8, 3), LOUD, loud)
    assert torch.equal(quiet.get_state(), loud.get_state())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_intensities_change_into_plain_finite_tensors_of_the_same_shape(seed: int) -> None:
    image = noise(2, 2, 12, 10, 4)
    changed = change_intensity(image, LOUD, generator(seed))
    assert type(changed) is torch.Tensor
    assert changed.shape == image.shape
    assert changed.isfinite().all()
    assert abs(float(changed.mean())) < 0.6
    assert 0.2 < float(changed.std()) < 2


def test_all_frames_change_alike() -> None:
    frame = noise(1, 1, 12, 12, 4)
    quiet = replace(LOUD, noise=0.0)
    first, second = change_intensity(frame.repeat(2, 1, 1, 1, 1), quiet, generator(2))
    assert torch.allclose(first, second, atol=1e-6)


def test_gamma_bends_contrast_but_keeps_mean_and_spread() -> None:
    image = noise(1, 1, 16, 16, 4)
    only = replace(NONE, probability=1.0, gamma=0.8)
    for seed in range(5):
        changed = change_intensity(image, only, generator(seed))
        assert changed.mean() == pytest.approx(float(image.mean()), abs=1e-4)
        assert changed.std() == pytest.approx(float(image.std()), rel=1e-3)
        order = image.flatten().argsort()
        assert (changed.flatten()[order].diff() >= -1e-5).all()


def test_blur_smooths_within_slices_and_never_across() -> None:
    image = torch.zeros(1, 1, 17, 17, 3)
    image[0, 0, 8, 8, 1] = 1
    only = replace(NONE, probability=1.0, blur_voxels=1.5)
    changed = change_intensity(image, only, generator(1))
    assert changed[..., [0, 2]].abs().max() == 0
    assert 0 < changed[0, 0, 8, 8, 1] < 0.9
    assert changed.sum() == pytest.approx(1, abs=1e-4)


def test_inverted_gamma_bends_the_other_end_of_the_intensities() -> None:
    image = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16, 1)
    only = replace(NONE, probability=1.0, gamma=1.0)
    bends = set()
    for seed in range(20):
        for inverted in (False, True):
            changed = change_intensity(
                image, replace(only, inverted_gamma=inverted), generator(seed)
            ).flatten()
            assert (changed.diff() >= -1e-5).all()
            # which end of the ramp is spread out
            bends.add((inverted, bool(changed.diff()[:64].mean() > changed.diff()[-64:].mean())))
    assert bends == {(False, False), (False, True), (True, False), (True, True)}


def test_a_bias_field_tilts_a_flat_image_smoothly_and_keeps_mean_and_spread() -> None:
    image = torch.ones(1, 1, 16, 16, 4)
    image[0, 0, 0, 0, 0] = 0
    changed = change_intensity(image, replace(NONE, probability=1.0, bias=0.5), generator(2))
    assert changed.mean() == pytest.approx(float(image.mean()), abs=1e-4)
    assert changed.std() == pytest.approx(float(image.std()), rel=1e-3)
    field = (changed - changed.amin())[image > 0]
    assert field.min() > 0
    assert field.max() / field.min() > 1.1
    assert changed[0, 0, 1:].diff(dim=0).abs().max() < 0.2 * float(field.max())


def test_lower_resolution_merges_neighbours_within_slices_and_never_across() -> None:
    image = torch.zeros(1, 1, 16, 16, 3)
    image[0, 0, ::2, :, 1] = 1.0
    only = replace(NONE, probability=1.0, low_resolution=3.0)
    changed = change_intensity(image, only, generator(1))
    assert changed[..., [0, 2]].abs().max() == 0
    assert changed.shape == image.shape
    assert changed[..., 1].std() < image[..., 1].std()
