"""Every DICOM series of the real data is read as the committed table and the reference NIfTI have it."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.dicom import load, scan

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TABLE = BENCHMARKS / "results" / "ingest-series.csv"


def expected_rows() -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = {}
    with TABLE.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            rows.setdefault(row["folder"], []).append(row)
    return rows


@pytest.fixture(scope="module")
def table() -> dict[str, Any]:
    """The functions that wrote the table."""
    return runpy.run_path(str(BENCHMARKS / "ingest_table.py"))


def test_every_folder_of_dicom_files_has_its_rows(realdata: Path, table: dict[str, Any]) -> None:
    found = [folder.relative_to(realdata).as_posix() for folder in table["dicom_folders"](realdata)]
    assert found, "no DICOM at all"
    assert set(found) <= set(expected_rows())


@pytest.mark.parametrize("folder", expected_rows())
def test_a_folder_is_read_as_the_table_says(folder: str, realdata: Path, table: dict[str, Any]) -> None:
    if not (realdata / folder).is_dir():
        pytest.skip(f"no {realdata / folder}")
    assert table["rows_of"](realdata / folder, realdata) == expected_rows()[folder]


def canonical(array: Any, affine: Any) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and affine with axes to the right, anterior and head, whatever they were before."""
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(array, dtype=np.float64), affine))
    return np.asarray(image.dataobj), image.affine


@pytest.mark.parametrize("folder", [name for name in expected_rows() if name.startswith("dicom2nifti/")])
def test_voxels_and_affine_are_those_of_the_reference(folder: str, realdata: Path) -> None:
    reference = realdata / f"{folder}_ground_truth.nii.gz"
    if not reference.is_file():
        pytest.skip(f"no {reference}")
    truth = nib.load(reference)
    (plan,) = [plan for series in scan([realdata / folder]).series for plan in series.volumes]
    voxels, affine = canonical(load(plan).array, plan.affine)
    true_voxels, true_affine = canonical(np.asarray(truth.dataobj), truth.affine)
    np.testing.assert_allclose(affine, true_affine, atol=1e-3)
    np.testing.assert_allclose(voxels, true_voxels, rtol=1e-5, atol=1e-3)
    step_s = float(truth.header.get_zooms()[3]) if truth.ndim == 4 else 1.0
    if step_s != 1.0:  # what NIfTI says where nobody set it
        assert plan.time is not None
        assert plan.time.step_ms == pytest.approx(1000.0 * step_s)
