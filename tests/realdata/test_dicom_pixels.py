"""Every grey DICOM file among the real data: stored values, scale and SUV against pydicom's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.errors import InvalidDicomError

from medmtl.data.dicom import scan
from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.load import load
from medmtl.data.dicom.pixels import Frames
from medmtl.data.dicom.sources import FileSource

FOLDERS = (
    "dcmqi/segmentations",
    "dicom2nifti",
    "ibsi_validation/STS_008",
    "sunnybrook",
)


def files(folder: Path) -> Iterator[tuple[Path, pydicom.Dataset]]:
    """DICOM files with grey pixels, as pydicom reads them."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            dataset = pydicom.dcmread(path)
        except InvalidDicomError:
            continue
        if "PixelData" in dataset and dataset.get("SamplesPerPixel") == 1:
            yield path, dataset


@pytest.mark.parametrize("name", FOLDERS)
def test_every_frame_of_every_file_is_what_pydicom_reads(name: str, realdata: Path) -> None:
    folder = realdata / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    seen = 0
    for path, dataset in files(folder):
        (instance,), _ = read_instances([FileSource(str(path), path.name)])
        frames = Frames(instance)
        reference = dataset.pixel_array
        reference = reference if reference.ndim == 3 else reference[None]
        assert frames.count == len(reference), path
        for index, expected in enumerate(reference):
            np.testing.assert_array_equal(frames.read(index), expected, err_msg=str(path))
        seen += 1
    assert seen > 0


def test_pet_in_gml_is_suv_already_and_every_slice_has_its_slope(realdata: Path) -> None:
    folder = realdata / "ibsi_validation/STS_008/PET"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    (plan,) = [plan for series in scan([folder]).series for plan in series.volumes]
    loaded = load(plan)
    assert loaded.unit == "SUVbw"
    assert {finding.code for finding in loaded.findings} >= {"SUV_ALREADY", "RESCALE_PER_SLICE"}
    by_position = {
        float(dataset.ImagePositionPatient[2]): dataset.pixel_array * float(dataset.RescaleSlope)
        for _, dataset in files(folder)
    }
    stack = np.stack([by_position[z] for z in sorted(by_position)])
    np.testing.assert_allclose(loaded.array.transpose(2, 1, 0), stack, rtol=1e-6)


def test_ct_of_another_scanner_is_in_hounsfield_units(realdata: Path) -> None:
    folder = realdata / "ibsi_validation/STS_008/CT"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    (plan,) = [plan for series in scan([folder]).series for plan in series.volumes]
    loaded = load(plan)
    assert (loaded.unit, loaded.array.dtype) == ("HU", np.int16)
    assert -1100 < loaded.array.min() < -900  # air
    assert abs(float(np.median(loaded.array[loaded.array > -200]))) < 100  # soft tissue
