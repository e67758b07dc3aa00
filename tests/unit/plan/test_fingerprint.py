from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data import open_dataset
from medmtl.plan import Fingerprint, fingerprint

YAML = """\
medmtl_dataset: 1
name: tiny
modality: MR
channels: [cine]
columns: {height: {kind: value, unit: cm}}
"""


def found(root: Path, images: Mapping[str, tuple[tuple[int, ...], list[list[float]]]]) -> Fingerprint:
    """Fingerprint of a dataset of images of some shapes and axes (columns of the affine)."""
    rows = [["case_id", "patient", "split", "image", "frame_ed", "frame_es", "height"]]
    for name, (shape, axes) in images.items():
        affine = np.eye(4)
        affine[:3, :3] = np.array(axes).T
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), affine), root / f"{name}.nii.gz")
        rows.append([name, name, "train", f"{name}.nii.gz", "", "", "170"])
    (root / "dataset.yaml").write_text(YAML)
    with (root / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    dataset = open_dataset(root)
    return fingerprint(dataset, dataset.cases)


AXIAL = [[-1.5, 0, 0], [0, -1.25, 0], [0, 0, 8.0]]


def test_voxel_sizes_and_shapes_are_medians_over_cases(tmp_path: Path) -> None:
    cases = {
        "a": ((20, 18, 6), AXIAL),
        "b": ((24, 22, 8), [[-1.7, 0, 0], [0, -1.7, 0], [0, 0, 10.0]]),
        "c": ((30, 10, 12), [[-1.9, 0, 0], [0, -1.3, 0], [0, 0, 9.0]]),
    }
    result = found(tmp_path, cases)
    assert result.spacing_mm == pytest.approx((1.7, 1.3, 9.0))
    assert (result.shape, result.is_stack) == ((24, 18, 8), True)
    assert result.shapes == ((20, 18, 6), (24, 22, 8), (30, 10, 12))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((20, 18, 6), AXIAL),
        ((18, 20, 6), [AXIAL[1], AXIAL[0], AXIAL[2]]),
        ((6, 20, 18), [AXIAL[2], AXIAL[0], AXIAL[1]]),
        ((18, 6, 20), [[0, 1.25, 0], [0, 0, -8.0], [1.5, 0, 0]]),
        ((20, 18, 6, 3), AXIAL),
    ],
)
def test_every_stored_orientation_has_the_same_fingerprint(
    shape: tuple[int, ...], axes: list[list[float]], tmp_path: Path
) -> None:
    result = found(tmp_path, {"a": (shape, axes)})
    assert result.spacing_mm == pytest.approx((1.5, 1.25, 8.0))
    assert result.shape == (20, 18, 6)
    assert result.is_stack


def test_mixed_orientations_are_measured_along_the_networks_axes(tmp_path: Path) -> None:
    result = found(
        tmp_path,
        {
            "a": ((20, 18, 6), AXIAL),
            "b": ((6, 20, 18), [AXIAL[2], AXIAL[0], AXIAL[1]]),
            "coronal": ((20, 7, 18), [[1.5, 0, 0], [0, 8.0, 0], [0, 0, 1.25]]),
        },
    )
    assert result.spacing_mm == pytest.approx((1.5, 1.25, 8.0))
    assert result.shape == (20, 18, 6)
    assert result.shapes[2] == (20, 18, 7)


def test_an_isotropic_volume_is_no_stack(tmp_path: Path) -> None:
    result = found(tmp_path, {"a": ((20, 18, 16), [[1.0, 0, 0], [0, 1.1, 0], [0, 0, 1.2]])})
    assert not result.is_stack


def test_only_the_given_cases_are_measured(tmp_path: Path) -> None:
    found(tmp_path, {"a": ((20, 18, 6), AXIAL), "b": ((40, 40, 9), AXIAL)})
    dataset = open_dataset(tmp_path)
    assert fingerprint(dataset, dataset.cases[:1]).shapes == ((20, 18, 6),)


def test_slices_no_more_than_three_times_as_far_apart_as_voxels_are_wide_are_no_stack(tmp_path: Path) -> None:
    thin = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 2.5]]
    assert not found(tmp_path, {"a": ((20, 18, 16), thin)}).is_stack


def test_resampled_shapes_are_those_of_each_case_and_none_keeps_its_own(tmp_path: Path) -> None:
    cases = {"a": ((20, 18, 6), AXIAL), "b": ((20, 18, 6), [[-3.0, 0, 0], [0, -2.5, 0], [0, 0, 10.0]])}
    result = found(tmp_path, cases)
    assert result.resampled((1.5, 1.5, None)).tolist() == [[20, 15, 6], [40, 30, 6]]
    assert result.resampled((1.5, 1.5, 4.0)).tolist() == [[20, 15, 12], [40, 30, 15]]


def test_labels_are_counted_by_column_and_class(tmp_path: Path, tiny_dataset: Callable[..., Path]) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path / "tiny"))
    labels = fingerprint(dataset, dataset.cases).labels
    assert (labels["anatomy"].kind, labels["anatomy"].cases) == ("mask", 3)
    assert labels["disease"].cases == sum(labels["disease"].classes.values())
    assert set(labels["disease"].classes) == set(dataset.columns["disease"].classes)
    assert labels["LV_EF"].cases == 3, "it follows from the mask"
