"""NRRD files of another writer lie where the DICOM images that they were drawn on lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medmtl.data.formats.volumes import read_any


def position(path: Path) -> np.ndarray:
    """Centre of the first voxel of a slice, in RAS+ mm."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    return np.array(header.ImagePositionPatient, dtype=float) * [-1, -1, 1]


def test_a_label_map_lies_on_the_slices_of_its_image(realdata: Path) -> None:
    folder = realdata / "dcmqi" / "segmentations" / "24x38x3"
    path = folder / "nrrd" / "label.nrrd"
    slices = sorted((folder / "image").glob("*.dcm"))
    if not path.is_file() or not slices:
        pytest.skip(f"no {path}")
    volume = read_any(path)
    assert volume.geometry.oriented
    inverse = np.linalg.inv(volume.geometry.affine)
    placed = sorted((inverse @ [*position(file), 1.0])[:3].round(3).tolist() for file in slices)
    assert {tuple(index[:2]) for index in placed} == {(0.0, 0.0)}
    assert [index[2] for index in placed] == pytest.approx([0, 1, 2], abs=1e-3)
    header = pydicom.dcmread(slices[0], stop_before_pixels=True)
    assert volume.array.shape == (header.Columns, header.Rows, 3)
    assert set(np.unique(volume.array).tolist()) > {0}
