from __future__ import annotations

import gzip
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from medmtl.data.nifti import Geometry
from medmtl.data.normalize import Normalization
from medmtl.data.prepare import (
    Preparation,
    back_to_source,
    labelled_frames,
    prepare_image,
    prepare_map,
    prepare_mask,
    stack_axcodes,
    to_grid,
)
from medmtl.types import CaseError

Write = Callable[..., Path]
Array = NDArray[Any]

KEEP = Preparation((None, None, None), (16, 16, 4))
RAW = Preparation((None, None, None), (16, 16, 4), "none")
LABELS = {"RV": 1, "MYO": 2, "LV": 3}
ORIENTATIONS = [
    np.array([[axis, flip] for axis, flip in zip(axes, flips, strict=True)])
    for axes in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    for flips in product((1, -1), repeat=3)
]


def oblique(spacing: tuple[float, float, float], degrees: tuple[float, float, float]) -> Array:
    """An affine of a rotated grid, away from the origin."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * np.array(spacing)
    affine[:3, 3] = (-31.0, 12.0, 40.0)
    return affine


def geometry(array: Array, affine: Array) -> Geometry:
    x, y, z = array.shape[-3:]
    return Geometry((x, y, z), 1, affine)


def stored(array: Array, affine: Array, orientation: Array) -> tuple[Array, Array]:
    """The same volume with permuted and mirrored axes."""
    return apply_orientation(array, orientation), affine @ inv_ornt_aff(orientation, array.shape)


def wave(points: Array) -> Array:
    """A smooth function of world coordinates in mm, ``(3, ...)``."""
    x, y, z = points
    return np.sin(x / 11.0) + np.cos(y / 13.0) + np.sin((x + z) / 17.0)


def world(affine: Array, shape: tuple[int, ...]) -> Array:
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


def one_hot_back(mask: torch.Tensor, affine: Array, source: Geometry) -> Array:
    """The mask on the grid of the files, as a predictor does it: probabilities, then the largest."""
    shares = torch.stack([(mask == value).float() for value in range(4)])
    return back_to_source(shares, affine, source).argmax(0).numpy()


# --------------------------------------------------------------------------------------- orientation


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.sampled_from(ORIENTATIONS),
    st.floats(0.6, 2.0),
    st.floats(1.6, 8.0),
)
def test_an_oblique_stack_keeps_its_slices(
    degrees: tuple[float, float, float], orientation: Array, plane: float, ratio: float
) -> None:
    array = np.random.default_rng(0).normal(size=(7, 6, 3)).astype(np.float32)
    data, affine = stored(array, oblique((plane, plane, plane * ratio), degrees), orientation)
    moved = to_grid(
        data[None], geometry(data, affine), Preparation((plane * 0.8, plane * 0.8, None), (8, 8, 3))
    )
    spacing = np.linalg.norm(np.asarray(moved.affine)[:3, :3], axis=0)
    assert moved.shape[-1] == 3
    assert np.allclose(spacing, (plane * 0.8, plane * 0.8, plane * ratio), rtol=1e-4)
    for z in range(3):  # a slice of ones stays a slice of ones: no neighbour leaks into it
        single = np.zeros_like(array)
        single[:, :, z] = 1
        data, affine = stored(single, oblique((plane, plane, plane * ratio), degrees), orientation)
        moved = to_grid(
            data[None], geometry(data, affine), Preparation((plane * 0.8, plane * 0.8, None), (8, 8, 3))
        )
        per_slice = moved.as_tensor()[0].mean((0, 1))
        assert sorted(round(v, 3) for v in per_slice.tolist()) == [0, 0, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ORIENTATIONS),
    st.tuples(st.floats(-30, 30), st.floats(-30, 30), st.floats(-30, 30)),
    st.sampled_from([(1.5, 1.5, 8.0), (1.2, 1.2, 1.2), (1.2, 1.5, 2.6), (1.0, 2.0, 2.0)]),
    st.sampled_from([(None, None, None), (1.1, 1.1, None)]),
)
def test_every_stored_orientation_gives_the_same_prepared_volume(
    orientation: Array, degrees: tuple[float, float, float], spacing: tuple[float, float, float], target: Any
) -> None:
    array = np.random.default_rng(1).normal(size=(8, 7, 6)).astype(np.float32)
    affine = oblique(spacing, degrees)
    preparation = Preparation(target, (8, 8, 6))
    expected = to_grid(array[None], geometry(array, affine), preparation)
    data, other = stored(array, affine, orientation)
    found = to_grid(data[None], geometry(data, other), preparation)
    assert found.shape == expected.shape
    assert torch.allclose(found.as_tensor(), expected.as_tensor(), atol=2e-4)
    assert np.allclose(found.affine, expected.affine, atol=1e-4)


def test_an_isotropic_volume_becomes_ras_and_a_stack_keeps_its_coarsest_axis_last() -> None:
    assert stack_axcodes(np.diag([-1.0, -1.0, 1.0, 1.0])) == "RAS"
    assert stack_axcodes(np.diag([-1.5, -1.5, 8.0, 1.0])) == "RAS"
    assert stack_axcodes(np.diag([8.0, -1.5, 1.5, 1.0])) == "ASR"
    assert stack_axcodes(np.diag([1.5, -8.0, 1.5, 1.0])) == "RSA"


# ---------------------------------------------------------------------------------------- resampling


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(-40, 40)] * 3), st.floats(0.7, 3.0), st.floats(0.7, 3.0))
def test_resampling_agrees_with_scipy_and_with_the_function_that_was_sampled(
    degrees: tuple[float, float, float], target_x: float, target_z: float
) -> None:
    affine = oblique((1.4, 1.4, 2.4), degrees)
    array = wave(world(affine, (20, 18, 12))).astype(np.float32)
    moved = to_grid(
        array[None], geometry(array, affine), Preparation((target_x, target_x, target_z), (16, 16, 4))
    )
    points = world(np.asarray(moved.affine), tuple(moved.shape[1:]))
    back = np.linalg.inv(affine)
    index = (back[:3, :3] @ points.reshape(3, -1) + back[:3, 3:]).reshape(points.shape)
    linear = map_coordinates(array.astype(np.float64), index, order=1, mode="nearest")
    assert np.abs(moved.as_tensor()[0].numpy() - linear).max() < 2e-3
    inside = np.all([(i >= 0) & (i <= n - 1) for i, n in zip(index, array.shape, strict=True)], axis=0)
    assert np.abs(moved.as_tensor()[0].numpy() - wave(points))[inside].max() < 0.05  # (h^2 / 8) * curvature


def test_resampling_covers_the_field_of_view() -> None:
    affine = oblique((1.5, 1.5, 8.0), (0, 0, 0))
    array = np.random.default_rng(0).normal(size=(20, 16, 5)).astype(np.float32)
    moved = to_grid(array[None], geometry(array, affine), Preparation((1.0, 1.0, None), (16, 16, 4)))
    extent = np.linalg.norm(np.asarray(moved.affine)[:3, :3], axis=0) * moved.shape[1:]
    assert np.abs(extent - (30.0, 24.0, 40.0)).max() <= 1.5


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(ORIENTATIONS), st.tuples(*[st.floats(-30, 30)] * 3))
def test_back_to_source_is_the_identity_when_the_spacing_is_kept(
    orientation: Array, degrees: tuple[float, float, float]
) -> None:
    array = np.random.default_rng(2).integers(0, 4, (9, 8, 4)).astype(np.float32)
    data, affine = stored(array, oblique((1.5, 1.5, 8.0), degrees), orientation)
    source = geometry(data, affine)
    moved = to_grid(data[None], source, KEEP)
    found = back_to_source(moved.as_tensor(), np.asarray(moved.affine), source)
    assert found.shape[1:] == data.shape
    assert np.abs(found[0].numpy() - data).max() < 1e-3
    assert np.array_equal(one_hot_back(moved.as_tensor()[0].round(), np.asarray(moved.affine), source), data)


@pytest.mark.parametrize("target", [1.0, 1.25, 1.9])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (20, -15, 35)])
def test_a_mask_survives_the_way_to_the_network_and_back(
    target: float, degrees: tuple[float, float, float], tmp_path: Path
) -> None:
    x, y, _ = np.indices((64, 60, 8))
    radius = np.hypot(x - 31, y - 30)
    mask = np.select([radius < 14, radius < 22], [3, 2], 0).astype(np.uint8)
    mask[:, :, [0, 7]] = 0
    mask[50:58, 20:40, 2:6] = 1
    affine = oblique((1.5, 1.5, 8.0), degrees)
    nib.save(nib.Nifti1Image(mask, affine), tmp_path / "mask.nii.gz")
    source = geometry(mask, affine)
    preparation = Preparation((target, target, None), (16, 16, 4))
    prepared = prepare_mask(tmp_path / "mask.nii.gz", source, LABELS, preparation)
    grid = np.asarray(to_grid(mask[None], source, preparation).affine)
    back = one_hot_back(prepared[0], grid, source)
    for value in (2, 3):
        dice = 2 * ((back == value) & (mask == value)).sum() / ((back == value).sum() + (mask == value).sum())
        assert dice > (0.99 if target < 1.5 else 0.94)  # a coarser grid than the files' loses their edges
    assert abs(int((prepared == 3).sum()) * target**2 / (int((mask == 3).sum()) * 1.5**2) - 1) < 0.02


# -------------------------------------------------------------------------------------------- labels


def test_unlabelled_voxels_stay_unlabelled_and_never_mix_with_labels(tmp_path: Path, nifti: Write) -> None:
    mask = np.zeros((12, 10, 4, 3), np.uint8)
    mask[3:9, 2:8] = 3
    mask[..., 1, 0] = 255
    mask[..., 2] = 255
    path = nifti(tmp_path / "mask.nii.gz", mask)
    grid = geometry(mask[..., 0], np.diag([-1.5, -1.5, 8, 1]))
    prepared = prepare_mask(path, grid, LABELS, Preparation((0.9, 0.9, None), (16, 16, 4)))
    assert type(prepared) is torch.Tensor
    assert prepared.dtype == torch.uint8
    assert set(prepared.unique().tolist()) == {0, 3, 255}
    assert (prepared[0, :, :, 1] == 255).all()
    assert (prepared[2] == 255).all()
    assert not (prepared[0, :, :, [0, 2, 3]] == 255).any()
    assert not (prepared[1] == 255).any()
    assert labelled_frames(prepared) == (True, True, False)


def test_a_map_is_nan_where_nobody_measured_and_keeps_its_values_up_to_the_edge(
    tmp_path: Path, nifti: Write
) -> None:
    values = np.full((12, 10, 4, 2), np.nan, np.float32)
    values[3:9, 2:8, :, 0] = 1200.5
    path = nifti(tmp_path / "map.nii.gz", values)
    grid = geometry(values[..., 0], np.diag([-1.5, -1.5, 8, 1]))
    for spacing in (None, 1.0):
        prepared = prepare_map(path, grid, Preparation((spacing, spacing, None), (16, 16, 4)))
        known = prepared[0].isfinite()
        assert type(prepared) is torch.Tensor
        assert torch.allclose(prepared[0][known], torch.tensor(1200.5), rtol=1e-4)
        share = float(known.float().mean())
        assert abs(share - 36 / 120) < 0.05
        assert labelled_frames(prepared) == (True, False)


def test_an_unknown_label_value_is_named(tmp_path: Path, nifti: Write) -> None:
    mask = np.zeros((12, 10, 4), np.uint8)
    mask[0, 0, 0] = 7
    path = nifti(tmp_path / "mask.nii.gz", mask)
    with pytest.raises(
        CaseError, match=r"mask\.nii\.gz: has value 7, known are 0, 255 and .*'LV': 3"
    ) as caught:
        prepare_mask(path, geometry(mask, np.diag([-1.5, -1.5, 8, 1])), LABELS, KEEP)
    assert caught.value.code == "LABEL_VALUES"


def test_a_mask_on_another_grid_is_refused(tmp_path: Path, nifti: Write) -> None:
    path = nifti(tmp_path / "mask.nii.gz", np.zeros((12, 10, 4), np.uint8))
    for grid, words in (
        (Geometry((12, 10, 5), 1, np.diag([-1.5, -1.5, 8, 1])), "grid 12 x 10 x 4 instead of 12 x 10 x 5"),
        (
            Geometry((12, 10, 4), 1, np.diag([-1.5, -1.5, 9, 1])),
            "another affine: corners lie up to 3.0 mm apart",
        ),
    ):
        with pytest.raises(CaseError, match=words) as caught:
            prepare_mask(path, grid, LABELS, KEEP)
        assert caught.value.code == "LABEL_GEOMETRY_MISMATCH"
        assert "resample it onto the image" in str(caught.value)


# --------------------------------------------------------------------------------------------- image


def test_an_image_is_normalized_over_all_its_frames_together(tmp_path: Path, nifti: Write) -> None:
    frames = np.random.default_rng(0).normal(100, 10, (12, 10, 4, 2)).astype(np.float32)
    frames[..., 1] += 50
    loaded = prepare_image([nifti(tmp_path / "image.nii.gz", frames)], KEEP)
    assert type(loaded.image) is torch.Tensor
    assert loaded.image.shape == (2, 1, 12, 10, 4)
    assert loaded.image.mean().abs() < 1e-4
    assert (loaded.image.std() - 1).abs() < 1e-3
    assert loaded.image[1].mean() - loaded.image[0].mean() > 1.5
    assert loaded.is_4d
    single = prepare_image([nifti(tmp_path / "single.nii.gz", frames[..., 0])], KEEP)
    assert single.image.shape == (1, 1, 12, 10, 4)
    assert not single.is_4d


def test_a_single_outlier_does_not_darken_the_image(tmp_path: Path, nifti: Write) -> None:
    array = np.random.default_rng(0).normal(100, 10, (20, 20, 10)).astype(np.float32)
    plain = prepare_image([nifti(tmp_path / "a.nii.gz", array)], KEEP).image
    array[0, 0, 0] = 1e6
    outlier = prepare_image([nifti(tmp_path / "b.nii.gz", array)], KEEP).image
    assert abs(float(outlier.std()) - 1) < 1e-3
    assert outlier.max() < 6
    assert abs(float((plain - outlier).abs().median())) < 0.05


def test_an_image_that_clipping_makes_constant_becomes_zero_not_noise() -> None:
    volume = torch.full((1, 40, 40, 4), 1000.1)
    volume[0, 0, 0, 0] = 5000
    assert Normalization("zscore")(volume).abs().max() < 0.01


def test_without_normalization_the_intensities_stay(tmp_path: Path, nifti: Write) -> None:
    array = np.random.default_rng(0).normal(100, 10, (12, 10, 4)).astype(np.float32)
    loaded = prepare_image([nifti(tmp_path / "image.nii.gz", array)], RAW)
    found = back_to_source(loaded.image[0], loaded.affine, loaded.source)[0]
    assert np.abs(found.numpy() - array).max() < 0.01


def test_channels_are_stacked_and_have_to_lie_on_one_grid(tmp_path: Path, nifti: Write) -> None:
    random = np.random.default_rng(0)
    cine = nifti(tmp_path / "cine.nii.gz", random.normal(size=(12, 10, 4, 2)))
    lge = nifti(tmp_path / "lge.nii.gz", random.normal(size=(12, 10, 4, 2)))
    assert prepare_image([cine, lge], KEEP).image.shape == (2, 2, 12, 10, 4)
    shorter = nifti(tmp_path / "short.nii.gz", random.normal(size=(12, 10, 4, 3)))
    with pytest.raises(CaseError, match=r"short\.nii\.gz: has 3 frames, cine\.nii\.gz has 2"):
        prepare_image([cine, shorter], KEEP)
    smaller = nifti(tmp_path / "small.nii.gz", random.normal(size=(12, 9, 4, 2)))
    with pytest.raises(CaseError, match=r"small\.nii\.gz: grid 12 x 9 x 4 instead of 12 x 10 x 4") as caught:
        prepare_image([cine, smaller], KEEP)
    assert caught.value.code == "MIXED_GRID"


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (np.nan, "has NaN or infinite voxels; repair or leave out"),
        (np.inf, "NaN or infinite"),
        (None, "every voxel is 5"),
    ],
)
def test_a_volume_without_an_image_in_it_is_refused(
    fill: float | None, words: str, tmp_path: Path, nifti: Write
) -> None:
    array = np.full((12, 10, 4), 5, np.float32)
    if fill is not None:
        array[3, 3, 3] = fill
    with pytest.raises(CaseError, match=words) as caught:
        prepare_image([nifti(tmp_path / "image.nii.gz", array)], KEEP)
    assert caught.value.code == "NOT_AN_IMAGE"
    assert "image.nii.gz" in str(caught.value)


def test_missing_truncated_and_foreign_files_are_told_apart(tmp_path: Path, nifti: Write) -> None:
    good = nifti(tmp_path / "good.nii.gz", np.random.default_rng(0).normal(size=(12, 10, 4)))
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(good.read_bytes()[:2000])
    text = tmp_path / "text.nii.gz"
    text.write_bytes(gzip.compress(b"hello"))
    for path, code, words in (
        (tmp_path / "none.nii.gz", "NO_USABLE_SERIES", "there is no such file"),
        (cut, "TRUNCATED", "copy the file again"),
        (text, "UNDECODABLE", "not a readable NIfTI file"),
    ):
        with pytest.raises(CaseError, match=words) as caught:
            prepare_image([path], KEEP)
        assert caught.value.code == code
        assert path.name in str(caught.value)
