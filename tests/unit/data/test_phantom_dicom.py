"""A phantom written as DICOM is the phantom when it is read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medmtl.data.dicom import load, scan
from medmtl.data.phantom import make_case
from medmtl.data.phantom.dicom import write_dicom

SPACING_MM = (5.0, 4.9, 9.6)


@pytest.mark.parametrize("series_per_slice", [False, True])
def test_a_written_cine_is_read_back_voxel_by_voxel(series_per_slice: bool, tmp_path: Path) -> None:
    case = make_case(3, frames=3, shape=(32, 33, 9), spacing_mm=SPACING_MM)
    cine = case.images["cine"]
    files = write_dicom(
        tmp_path / "dicom", cine, spacing_mm=SPACING_MM, time_step_ms=40.0, series_per_slice=series_per_slice
    )
    assert len(files) == len(set(files)) == 27
    (plan,) = [plan for series in scan([tmp_path]).series for plan in series.volumes]
    np.testing.assert_array_equal(load(plan).array, np.moveaxis(cine, 0, -1))
    assert plan.spacing_mm == pytest.approx(SPACING_MM)
    assert plan.time is not None
    assert plan.time.step_ms == pytest.approx(40.0)
    centre = plan.affine @ [*(np.array(cine.shape[1:]) - 1) / 2, 1]
    np.testing.assert_allclose(centre[:3], 0.0, atol=1e-6)


def test_the_same_phantom_gives_the_same_bytes(tmp_path: Path) -> None:
    cine = np.arange(2 * 6 * 5 * 3, dtype=np.int16).reshape(2, 6, 5, 3)
    written = [write_dicom(tmp_path / name, cine, spacing_mm=SPACING_MM, time_step_ms=40.0) for name in "ab"]
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
