from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.data.dicom.csa import csa_numbers, read_csa
from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.scan import arrange
from tests.helpers.dicom_headers import codes, instance, only, volumes

FIELDS = {
    "NumberOfImagesInMosaic": ["5"],
    "SliceNormalVector": ["0.0", "0.0", "1.0"],
    "MosaicRefAcqTimes": ["0.0", "1000.0", "500.0", "1500.0", "250.0"],
}


def csa(fields: dict[str, list[str]], version: int = 2) -> bytes:
    made = b"SV10\x04\x03\x02\x01" if version == 2 else b""
    made += struct.pack("<2I", len(fields), 77)
    first = len(next(iter(fields.values())))
    for name, values in fields.items():
        made += struct.pack("<64si4s3i", name.encode(), len(values), b"FD", 0, len(values), 77)
        for value in values:
            text = value.encode() + b"\0"
            length = len(text)
            made += struct.pack("<4i", length if version == 2 else length + first, length, 77, length)
            made += text + bytes(-length % 4)
    return made


def mosaic(fields: dict[str, list[str]] | None = None, **values: Any) -> Instance:
    """Five tiles of 8 x 6 pixels in a mosaic of three by three."""
    elements: dict[str, Any] = {
        "ImageType": ("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"),
        "Rows": 24,
        "Columns": 18,
        "ImagePositionPatient": (-12.0, -12.0, 40.0),
        "SpacingBetweenSlices": 4.0,
        "Siemens.CSAImageHeaderInfo": csa(FIELDS | (fields or {})),
    }
    return instance(**(elements | values))


# ------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"NumberOfImagesInMosaic": []}, {}),
        ({"NumberOfImagesInMosaic": ["many"]}, {}),
        ({"NumberOfImagesInMosaic": ["17"]}, {}),
        ({"SliceNormalVector": []}, {}),
        ({"SliceNormalVector": ["1.0", "0.0", "0.0"]}, {}),
        ({}, {"SpacingBetweenSlices": None}),
        ({}, {"ImagePositionPatient": None}),
        ({}, {"Siemens.CSAImageHeaderInfo": None}),
        ({}, {"Siemens.CSAImageHeaderInfo": b"SV10"}),
    ],
)
def test_a_mosaic_that_does_not_say_what_is_where_is_refused(
    fields: dict[str, list[str]], values: dict[str, Any]
) -> None:
    found = arrange([mosaic(fields, **values)])
    assert volumes(found) == []
    assert codes(found) == {"MISSING_GEOMETRY"}


@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_a_private_header_without_harm(content: bytes) -> None:
    for found in (read_csa(content), read_csa(b"SV10\x04\x03\x02\x01" + content)):
        assert all(text == text.strip() != "" for texts in found.values() for text in texts)


@given(cut=st.integers(0, 700), at=st.integers(0, 700), value=st.integers(0, 255))
def test_a_damaged_private_header_gives_what_was_whole(cut: int, at: int, value: int) -> None:
    whole = bytearray(csa(FIELDS))
    whole[at % len(whole)] = value
    for fields in read_csa(bytes(whole[:cut])).values():
        assert all(isinstance(field, str) for field in fields)


def test_a_header_that_claims_millions_of_items_ends_at_once() -> None:
    content = b"SV10\x04\x03\x02\x01" + struct.pack("<2I", 2**31, 77)
    content += struct.pack("<64si4s3i", b"Name", 1, b"FD", 0, 2**30, 77)
    assert read_csa(content) == {}


# ------------------------------------------------------------------------------------- right


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_of_the_private_header_are_read(version: int) -> None:
    fields = read_csa(csa({"B_value": ["1000"], "SliceNormalVector": ["0.0", "0.6", "0.8"]}, version))
    assert csa_numbers(fields, "SliceNormalVector") == (0.0, 0.6, 0.8)
    assert csa_numbers(fields, "B_value") == (1000.0,)
    assert csa_numbers(fields, "Absent") == ()


def test_tiles_become_slices_at_their_own_places() -> None:
    plan = only([mosaic()])
    assert plan.shape == (6, 8, 5)
    # half of the two tiles' sizes that the mosaic is larger: 12 x 2 mm and 16 x 1.5 mm, halved
    np.testing.assert_allclose(plan.affine[:3, 3], (0.0, 0.0, 40.0))
    np.testing.assert_allclose(np.diag(plan.affine), (-2.0, -1.5, 4.0, 1.0))
    assert [row[0].tile for row in plan.planes] == [
        (0, 0, 8, 6), (0, 6, 8, 6), (0, 12, 8, 6), (8, 0, 8, 6), (8, 6, 8, 6)
    ]  # fmt: skip


def test_slices_that_run_against_the_normal_are_turned_round() -> None:
    plan = only([mosaic({"SliceNormalVector": ["0.0", "0.0", "-1.0"]})])
    assert plan.affine[2, 3] == pytest.approx(40.0 - 4 * 4.0)
    assert plan.affine[2, 2] == pytest.approx(4.0)
    assert plan.planes[4][0].tile == (0, 0, 8, 6)


def test_the_number_of_tiles_may_be_said_by_the_public_header_alone() -> None:
    plan = only([mosaic({"NumberOfImagesInMosaic": []}, **{"Siemens.NumberOfImagesInMosaic": 5})])
    assert plan.shape == (6, 8, 5)


def test_mosaics_in_a_row_are_a_series_in_time_and_their_tiles_have_their_own_times() -> None:
    files = [mosaic(AcquisitionTime=f"09050{2 * t}.000000", InstanceNumber=9 - t) for t in range(3)]
    plan = only(files)
    assert plan.shape == (6, 8, 5, 3)
    assert plan.time is not None
    assert plan.time.by_slice_ms is not None
    np.testing.assert_allclose(plan.time.by_slice_ms[:, 1], 2000 + np.array([0, 1000, 500, 1500, 250]))
    assert plan.time.step_ms == pytest.approx(2000.0)


def test_diffusion_weightings_of_mosaics_are_kept_apart() -> None:
    files = [
        mosaic({"B_value": ["0"]}),
        mosaic({"B_value": ["1000"], "DiffusionGradientDirection": ["1.0", "0.0", "0.0"]}),
        mosaic({"B_value": ["1000"], "DiffusionGradientDirection": ["0.0", "1.0", "0.0"]}),
    ]
    names = [plan.name for plan in volumes(arrange(files))]
    assert names == ["s007-b0", "s007-b1000-direction1", "s007-b1000-direction2"]


def test_a_scanners_mosaic_lies_where_dcm2niix_puts_it(shipped_mosaic: Any) -> None:
    from medmtl.data.dicom import scan

    (series,) = scan([shipped_mosaic]).series
    (plan,) = series.volumes
    assert plan.shape == (128, 128, 48)
    # dcm2niix v1.0.20220720 gives this for the same file once its flip of the rows is undone
    expected = [
        [-1.796875, 0.0, 0.0, 115.0],
        [0.0, -1.7968504, -0.015708005, 135.028528],
        [0.0, -0.0094084404, 2.999959, -78.710478],
    ]
    np.testing.assert_allclose(plan.affine[:3], expected, atol=1e-3)


@pytest.fixture
def shipped_mosaic(tmp_path: Any) -> Any:
    """A mosaic that nibabel ships for its own tests."""
    import gzip
    from importlib.resources import files

    packed = files("nibabel") / "nicom" / "tests" / "data" / "siemens_dwi_0.dcm.gz"
    if not packed.is_file():
        pytest.skip("this nibabel does not ship its test files")
    (tmp_path / "mosaic.dcm").write_bytes(gzip.decompress(packed.read_bytes()))
    return tmp_path
