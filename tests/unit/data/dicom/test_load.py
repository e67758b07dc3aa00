"""Planes -> one array: right values, right places, right type, each file read once, little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import RLELossless

from medmtl.data.dicom import scan, workers
from medmtl.data.dicom.header import Header
from medmtl.data.dicom.load import findings_of_values, load
from medmtl.data.dicom.model import Instance, PixelData, Plane, VolumePlan
from medmtl.types import CaseError, Finding
from tests.helpers import dicom_writer as writer

LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


@dataclass
class Counted:
    """A file in memory that counts how often it is read."""

    data: bytes
    label: str = "a.dcm"
    reads: list[int] = field(default_factory=list)

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        self.reads.append(offset)
        return self.data[offset:] if length is None else self.data[offset : offset + length]

    def size(self) -> int:
        return len(self.data)


def instance_of(pixels: np.ndarray, label: str = "a.dcm", **elements: Any) -> Instance:
    """A file of nothing but pixels ``([frames,] rows, columns)``, with what is known about it."""
    values: dict[str, Any] = {
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    } | elements
    if pixels.ndim == 3:
        values["NumberOfFrames"] = len(pixels)
    keyword = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(pixels.dtype.str[1:], "PixelData")
    data = pixels.tobytes()
    header = Header.from_values({name: value for name, value in values.items() if value is not None})
    return Instance(Counted(data, label), header, LITTLE_ENDIAN, PixelData(0, len(data), keyword))


def plan_of(planes: Sequence[Sequence[Plane]], *, modality: str = "MR", **parts: Any) -> VolumePlan:
    """A plan of ``planes[z][t]``."""
    rows, columns = planes[0][0].shape
    shape = (columns, rows, len(planes), len(planes[0]))
    return VolumePlan(
        name="s001",
        planes=tuple(tuple(of_slice) for of_slice in planes),
        shape=shape if len(planes[0]) > 1 else shape[:3],
        affine=np.eye(4),
        modality=modality,
        study_uid="1",
        series_uid="1.1",
        description="",
        patient="p1",
        **parts,
    )


def slices_of(
    stack: np.ndarray, *, modality: str = "MR", each: Sequence[dict[str, Any]] = (), **elements: Any
) -> VolumePlan:
    """A plan of a file per slice of ``(Z, rows, columns)``; ``each`` are elements of single slices."""
    planes = []
    for z, pixels in enumerate(stack):
        instance = instance_of(pixels, f"{z}.dcm", **elements, **(each[z] if each else {}))
        planes.append([Plane(instance, 0, None, None, None, pixels.shape)])
    return plan_of(planes, modality=modality)


def ramp(export: writer.Export) -> np.ndarray:
    """The truth ``(X, Y, Z, T)``."""
    values = np.zeros((writer.COLUMNS, writer.ROWS, export.slices, export.phases))
    for frame in export.frames:
        values[:, :, frame.z, frame.t] = np.rint(frame.values).T
    return values


def only_volume(folder: Path) -> VolumePlan:
    (plan,) = [plan for series in scan([folder]).series for plan in series.volumes]
    return plan


def codes(findings: Sequence[Finding]) -> set[str]:
    return {finding.code for finding in findings}


# ------------------------------------------------------------------------------------------------------
# unhappy paths


def test_a_file_that_was_cut_after_the_scan_is_truncated_and_named(tmp_path: Path) -> None:
    plan = only_volume(writer.write(writer.mr_volume(), tmp_path))
    victim = tmp_path / "IM0002"
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(CaseError, match=r"IM0002: .* 100 bytes are missing") as caught:
        load(plan)
    assert caught.value.code == "TRUNCATED"


def test_a_file_that_vanished_after_the_scan_is_named(tmp_path: Path) -> None:
    plan = only_volume(writer.write(writer.mr_volume(), tmp_path))
    (tmp_path / "IM0003").unlink()
    with pytest.raises(CaseError, match=r"IM0003: cannot be read \(No such file or directory\)") as caught:
        load(plan)
    assert caught.value.code == "UNDECODABLE"


def test_pet_of_which_no_suv_can_be_had_stays_in_becquerel_and_is_an_error_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    export = writer.pet()
    export.tags["PatientWeight"] = None
    plan = only_volume(writer.write(export, tmp_path))
    loaded = load(plan)
    assert loaded.unit == "Bq/mL"
    assert "SUV_MISSING_TAG" in codes(loaded.findings)
    np.testing.assert_allclose(loaded.array, ramp(export)[..., 0], rtol=1e-6)
    with pytest.raises(CaseError, match=r"^s003: PatientWeight is missing; values stay in Bq/mL$") as caught:
        load(plan, strict=True)
    assert caught.value.code == "SUV_MISSING_TAG"


def test_colour_within_a_volume_is_refused() -> None:
    plan = slices_of(np.zeros((2, 4, 4), np.uint8), SamplesPerPixel=3, PhotometricInterpretation="RGB")
    with pytest.raises(CaseError, match="colour"):
        load(plan)
    assert [(f.code, f.severity) for f in findings_of_values(plan)] == [("NOT_AN_IMAGE", "error")]


def test_a_plane_that_is_not_as_large_as_its_file_says_is_refused() -> None:
    instance = instance_of(np.zeros((1, 4), np.uint16))
    plane = Plane(instance, 0, None, None, None, (3, 4))
    with pytest.raises(CaseError, match="has 1 x 4 pixels in a volume of 3 x 4") as caught:
        load(plan_of([[plane]] * 2))
    assert caught.value.code == "MIXED_GRID"


def test_a_volume_beyond_all_memory_is_refused_in_one_sentence() -> None:
    small = instance_of(np.zeros((4, 4), np.uint16))
    header = Header.from_values(small.header.as_dict() | {"Rows": 65535, "Columns": 65535})
    instance = Instance(small.source, header, LITTLE_ENDIAN, PixelData(0, 65535 * 65535 * 2))
    plane = Plane(instance, 0, None, None, None, (65535, 65535))
    with pytest.raises(CaseError, match=r"of 17591\.\d GB does not fit into memory") as caught:
        load(plan_of([[plane] * (1 << 10)] * 2))
    assert caught.value.code == "OUT_OF_MEMORY"


def test_inverted_display_and_a_wrong_high_bit_are_told() -> None:
    values = np.arange(32, dtype=np.uint16).reshape(2, 4, 4)
    shown = load(slices_of(values, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(shown.array, values.transpose(2, 1, 0))
    assert [(f.code, f.severity) for f in shown.findings] == [("VALUE_SCALE", "info")]
    shifted = load(slices_of(values << 4, BitsStored=12, HighBit=15))
    np.testing.assert_array_equal(shifted.array, values.transpose(2, 1, 0))
    assert [(f.code, f.severity) for f in shifted.findings] == [("VALUE_SCALE", "warning")]


# -------------------------------------------------------------------------------------------------- values
# and places


@pytest.mark.parametrize(
    "make",
    [writer.ge_cine, writer.siemens_cine, writer.philips_cine, writer.fmri, writer.mosaic],
    ids=["classic", "series per slice", "enhanced", "fmri", "mosaic"],
)
def test_every_packing_of_a_4d_volume_gives_the_same_whole_numbers(
    make: Callable[[], writer.Export], tmp_path: Path
) -> None:
    export = make()
    loaded = load(only_volume(writer.write(export, tmp_path)))
    assert loaded.array.dtype == np.int16
    np.testing.assert_array_equal(loaded.array, ramp(export))


def test_the_volume_is_a_view_of_one_array_that_holds_frame_after_frame(tmp_path: Path) -> None:
    loaded = load(only_volume(writer.write(writer.ge_cine(), tmp_path)))
    as_stored = loaded.array.transpose(3, 2, 1, 0)
    assert as_stored.flags.c_contiguous
    assert as_stored.flags.writeable


def test_ct_is_hounsfield_units_in_16_bits(tmp_path: Path) -> None:
    export = writer.ct()
    loaded = load(only_volume(writer.write(export, tmp_path)))
    assert (loaded.array.dtype, loaded.unit) == (np.int16, "HU")
    np.testing.assert_array_equal(loaded.array, ramp(export)[..., 0])


def test_a_correction_gets_real_values_and_gives_the_plans_grid(tmp_path: Path) -> None:
    export = writer.ct(tilt=15.0)
    plan = only_volume(writer.write(export, tmp_path))
    assert plan.correction is not None
    loaded = load(plan)
    assert loaded.array.shape == plan.shape
    assert loaded.unit == "HU"
    stack = np.ascontiguousarray(ramp(export)[..., 0].transpose(2, 1, 0)).astype(np.float32)
    np.testing.assert_array_equal(loaded.array.transpose(2, 1, 0), plan.correction(stack))


def test_a_correction_of_a_4d_volume_is_made_frame_by_frame() -> None:
    frames = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    instance = instance_of(frames.reshape(6, 4, 5), RescaleSlope=2.0, RescaleIntercept=1.0)
    planes = [[Plane(instance, 3 * t + z, None, None, None, (4, 5)) for t in range(2)] for z in range(3)]
    plan = replace(plan_of(planes, correction=lambda stack: stack[::2, :, :4] * 10), shape=(4, 4, 2, 2))
    expected = 10 * (2.0 * frames[:, ::2, :, :4] + 1)
    np.testing.assert_array_equal(load(plan).array, expected.transpose(3, 2, 1, 0))


def test_every_slice_gets_its_own_slope() -> None:
    stack = np.arange(3 * 4 * 4, dtype=np.int16).reshape(3, 4, 4)
    slopes = [0.5, 2.0, 1.0]
    each = [{"RescaleSlope": slope, "RescaleIntercept": 0.25} for slope in slopes]
    loaded = load(slices_of(stack, each=each))
    expected = stack * np.array(slopes)[:, None, None] + 0.25
    assert loaded.array.dtype == np.float32
    np.testing.assert_array_equal(loaded.array.transpose(2, 1, 0), expected.astype(np.float32))
    assert codes(loaded.findings) == {"RESCALE_PER_SLICE"}


def test_slopes_are_applied_in_double_precision_before_the_result_is_single() -> None:
    stack = np.array([[[30001, 12345]]], np.uint16)
    loaded = load(slices_of(stack, RescaleSlope=0.1, RescaleIntercept=-3000.1))
    assert loaded.array[0, 0, 0] == np.float32(30001 * 0.1 - 3000.1)
    assert loaded.array[0, 0, 0] != np.float32(30001) * np.float32(0.1) + np.float32(-3000.1)


@pytest.mark.parametrize(("suv", "unit"), [("bw", "SUVbw"), (None, "Bq/mL")])
def test_pet_becomes_suv_unless_that_is_not_wanted(suv: Any, unit: str, tmp_path: Path) -> None:
    export = writer.pet()
    loaded = load(only_volume(writer.write(export, tmp_path)), suv=suv)
    # an hour after 370 MBq of fluorine-18, 70 kg
    factor = 70000 / (370e6 * 2 ** (-3600 / 6586.2)) if suv else 1.0
    assert loaded.unit == unit
    np.testing.assert_allclose(loaded.array, factor * ramp(export)[..., 0], rtol=1e-6)


def test_other_modalities_know_no_suv() -> None:
    plan = slices_of(np.zeros((2, 4, 4), np.int16), Units="BQML")
    assert load(plan, strict=True).unit == ""


def test_a_modality_lut_is_applied() -> None:
    table = (100 * np.arange(4)).astype("<u2")
    lut = {"LUTDescriptor": (4, 0, 16), "LUTData": table.tobytes(), "ModalityLUTType": "HU"}
    stack = np.array([[[0, 1], [2, 3]]], np.uint8)
    loaded = load(slices_of(stack, modality="CT", ModalityLUTSequence=[lut]))
    assert loaded.unit == "HU"
    np.testing.assert_array_equal(loaded.array[:, :, 0].T, [[0, 100], [200, 300]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floating_point_pixels_are_single_precision(dtype: str) -> None:
    stack = np.linspace(-1, 1, 32).reshape(2, 4, 4).astype(dtype)
    loaded = load(slices_of(stack))
    assert loaded.array.dtype == np.float32
    np.testing.assert_array_equal(loaded.array.transpose(2, 1, 0), stack.astype(np.float32))


@pytest.mark.parametrize(
    ("stack", "offset", "elements", "dtype"),
    [
        ([0, 255], 0, {}, "uint8"),
        ([0, 255], -1024, {}, "int16"),
        ([0, 4095], 0, {"BitsStored": 12}, "int16"),
        ([0, 4095], -1024, {"BitsStored": 12}, "int16"),
        ([0, 4095], -1024, {"BitsStored": 16}, "int16"),
        ([0, 65535], 0, {}, "uint16"),
        ([0, 32767], 0, {}, "int16"),
        ([0, 65535], -1024, {}, "int32"),
        ([2000, 65535], -1024, {}, "uint16"),
        ([-32768, 32767], 0, {}, "int16"),
        ([-2000, 3000], -1024, {}, "int16"),
        ([-32768, 32767], -1024, {}, "int32"),
        ([0, 2**20], 0, {}, "int32"),
        ([0, 2**32 - 1], 0, {}, "uint32"),
        ([0, 2**32 - 1], -5, {}, "float64"),
        ([-5, 1000], 7, {"PixelRepresentation": 1}, "int16"),
    ],
)
def test_whole_numbers_get_the_smallest_type_that_holds_them(
    stack: list[int], offset: int, elements: dict[str, int], dtype: str
) -> None:
    low, high = stack
    bits = next(b for b in (8, 16, 32) if high < 1 << b)
    stored = np.array(stack, f"{'i' if low < 0 else 'u'}{max(bits, 16 if low < 0 else 8) // 8}").reshape(
        1, 1, 2
    )
    loaded = load(slices_of(stored, RescaleSlope=1.0, RescaleIntercept=float(offset), **elements))
    assert loaded.array.dtype == np.dtype(dtype)
    assert loaded.array.ravel().tolist() == [low + offset, high + offset]


@given(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32"]),
    stored=st.integers(2, 8),
    offset=st.integers(-70000, 70000),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_whole_number_is_lost_whatever_the_offset(dtype: str, stored: int, offset: int, seed: int) -> None:
    info = np.iinfo(dtype)
    bits = stored * info.bits // 8
    low = -(1 << (bits - 1)) if info.min < 0 else 0
    stack = np.random.default_rng(seed).integers(low, low + (1 << bits), (2, 3, 4)).astype(dtype)
    loaded = load(slices_of(stack, BitsStored=bits, RescaleSlope=1.0, RescaleIntercept=float(offset)))
    assert loaded.array.transpose(2, 1, 0).tolist() == (stack.astype(np.int64) + offset).tolist()


def test_slices_of_different_types_meet_in_one_that_holds_both() -> None:
    unsigned = instance_of(np.array([[60000, 1]], np.uint16))
    signed = instance_of(np.array([[-7, 1]], np.int16))
    loaded = load(plan_of([[Plane(i, 0, None, None, None, (1, 2))] for i in (unsigned, signed)]))
    assert loaded.array.dtype == np.int32
    assert loaded.array[0, 0].tolist() == [60000, -7]


# ---------------------------------------------------------------------------------------------------- once,
# and little


def test_the_frames_of_a_file_are_read_in_one_go_whatever_their_order() -> None:
    frames = np.arange(6 * 4 * 5, dtype=np.uint16).reshape(6, 4, 5)
    instance = instance_of(frames)
    planes = [[Plane(instance, 2 * z + t, None, None, None, (4, 5)) for t in (1, 0)] for z in (2, 0, 1)]
    loaded = load(plan_of(planes))
    assert isinstance(instance.source, Counted)
    assert instance.source.reads == [0]
    expected = frames.reshape(3, 2, 4, 5)[[2, 0, 1]][:, [1, 0]]
    np.testing.assert_array_equal(loaded.array, expected.transpose(3, 2, 0, 1))


def test_frames_that_are_not_wanted_are_not_read() -> None:
    frames = np.arange(6 * 4 * 5, dtype=np.uint16).reshape(6, 4, 5)
    instance = instance_of(frames)
    loaded = load(plan_of([[Plane(instance, f, None, None, None, (4, 5))] for f in (0, 1, 4)]))
    assert isinstance(instance.source, Counted)
    assert instance.source.reads == [0, 4 * 40]
    np.testing.assert_array_equal(loaded.array.transpose(2, 1, 0), frames[[0, 1, 4]])


def test_the_tiles_of_a_mosaic_come_from_one_read() -> None:
    canvas = np.arange(8 * 10, dtype=np.uint16).reshape(8, 10)
    instance = instance_of(canvas)
    corners = [(0, 0), (0, 5), (4, 0)]
    planes = [[Plane(instance, 0, None, None, None, (4, 5), tile=(*corner, 4, 5))] for corner in corners]
    loaded = load(plan_of(planes))
    assert isinstance(instance.source, Counted)
    assert instance.source.reads == [0]
    for z, (row, column) in enumerate(corners):
        np.testing.assert_array_equal(loaded.array[:, :, z].T, canvas[row : row + 4, column : column + 5])


@pytest.mark.parametrize("slope", [None, 0.5])
def test_loading_takes_the_volume_and_a_few_slices_of_memory(slope: float | None) -> None:
    stack = np.zeros((60, 128, 128), np.int16)
    plan = slices_of(stack, RescaleSlope=slope, RescaleIntercept=None if slope is None else 0.0)
    load(plan)
    tracemalloc.start()
    try:
        loaded = load(plan)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    slice_bytes = 128 * 128 * 8  # as float64, in between
    assert peak < loaded.array.nbytes + 4 * slice_bytes + 100_000


def recompress(folder: Path) -> None:
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        buffer = BytesIO()
        dataset.save_as(buffer)
        path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize("make", [writer.ge_cine, writer.philips_cine, writer.mosaic])
def test_compressed_series_load_as_plain_ones(make: Callable[[], writer.Export], tmp_path: Path) -> None:
    export = make()
    recompress(writer.write(export, tmp_path))
    np.testing.assert_array_equal(load(only_volume(tmp_path)).array, ramp(export))


def test_compressed_series_load_the_same_in_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WORTH_SECONDS", 1e-9)
    export = writer.philips_cine()
    recompress(writer.write(export, tmp_path))
    np.testing.assert_array_equal(load(only_volume(tmp_path), workers=2).array, ramp(export))


@pytest.mark.parametrize("make", [writer.pet, writer.ct, writer.ge_cine])
def test_headers_alone_say_what_loading_will_say_of_values(
    make: Callable[[], writer.Export], tmp_path: Path
) -> None:
    export = make()
    export.tags["PatientWeight"] = None
    plan = only_volume(writer.write(export, tmp_path))
    assert (*plan.findings, *findings_of_values(plan)) == load(plan).findings
