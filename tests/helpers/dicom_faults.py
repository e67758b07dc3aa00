"""What can be wrong with DICOM files, one function per fault; each says what a reader owes its user."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset

from tests.helpers.dicom_writer import (
    AXIAL,
    COLUMNS,
    Export,
    Frame,
    base,
    classic,
    clock,
    datasets,
    encode,
    item,
    put_pixels,
    redraw,
    uid,
)

Owes = Literal["all", "some", "none"]


@dataclass(frozen=True)
class Fault:
    """A fault, planted in an export.

    Attributes:
        plant: plants it.
        codes: of which one must be among the findings; empty where nothing needs to be said.
        owes: ``all``: the volume of the truth must come out, ``some``: a volume may come out, and then
            it is right where it is; ``none``: no volume may come out.
        fits: whether it can be planted in an export.
    """

    name: str
    plant: Callable[[Export], None]
    codes: frozenset[str]
    owes: Owes
    fits: Callable[[Export], bool]


FAULTS: dict[str, Fault] = {}
FILES_APART = ("one-series", "series-per-slice", "series-per-phase")


def any_layout(export: Export) -> bool:
    return export.layout != "mosaic"


def has_files(export: Export) -> bool:
    return export.layout in FILES_APART


def has_phases(export: Export) -> bool:
    return export.phases > 1 and any_layout(export)


def has_triggers(export: Export) -> bool:
    return export.timing == "trigger" and has_files(export)


def of(*modalities: str) -> Callable[[Export], bool]:
    return lambda export: export.modality in modalities


def fault(
    *codes: str, owes: Owes = "some", fits: Callable[[Export], bool] = has_files
) -> Callable[[Callable[[Export], None]], Callable[[Export], None]]:
    """Puts a function among `FAULTS`."""

    def register(plant: Callable[[Export], None]) -> Callable[[Export], None]:
        FAULTS[plant.__name__] = Fault(plant.__name__, plant, frozenset(codes), owes, fits)
        return plant

    return register


def middle(export: Export) -> int:
    """Number of the file of a plane in the middle of the stack."""
    return export.frames.index(export.find(export.slices // 2))


def stored(ds: Dataset) -> np.ndarray:
    """The pixels of a dataset that was not written yet."""
    if "PixelData" not in ds:
        return np.zeros((8, 8))
    return np.frombuffer(ds.PixelData, "<i2").reshape(-1, min(ds.Columns, COLUMNS))


def patched(content: bytes, after: int, patch: bytes) -> bytes:
    """Other bytes so many after the start of the element ImagePositionPatient, where it is there."""
    at = content.find(b"\x20\x00\x32\x00DS") + after
    return content if at < after else content[:at] + patch + content[at + len(patch) :]


def copied(frame: Frame, **changes: Any) -> Frame:
    return replace(deepcopy(frame), **changes)


# ---------------------------------------------------------------------------------------- missing and twice


@fault("GAP", fits=any_layout)
def missing_slice(export: Export) -> None:
    gone = export.slices - 2
    export.frames = [frame for frame in export.frames if frame.z != gone]


@fault("INCOMPLETE_GRID", fits=has_phases)
def missing_phase(export: Export) -> None:
    export.frames.remove(export.find(1, export.phases - 2))


@fault("INCOMPLETE_GRID", fits=has_phases)
def a_slice_with_half_the_phases(export: Export) -> None:
    gone = [f for f in export.frames if f.z == 0 and f.t % 2]
    export.frames = [frame for frame in export.frames if not any(frame is g for g in gone)]


@fault("DUPLICATE_POSITION", fits=any_layout)
def duplicate_position(export: Export) -> None:
    frame = export.find(1)
    export.frames.append(copied(frame, values=frame.values + OTHER_PIXELS))


@fault(owes="all")
def the_same_file_twice(export: Export) -> None:
    export.extra["again"] = encode(datasets(export)[middle(export)])


@fault("DUPLICATE_POSITION")
def same_uid_other_pixels(export: Export) -> None:
    ds = datasets(export)[middle(export)]
    put_pixels(ds, stored(ds) + OTHER_PIXELS)
    export.extra["again"] = encode(ds)


@fault("SINGLE_SLICE", owes="none", fits=any_layout)
def single_slice(export: Export) -> None:
    export.frames = [frame for frame in export.frames if frame.z == export.frames[0].z]


# ----------------------------------------------------------------------------------------------- geometry


@fault("NONUNIFORM_SPACING", fits=any_layout)
def uneven_gaps(export: Export) -> None:
    for frame in export.frames:
        if frame.z == 1:
            frame.position = frame.position + 0.25 * export.affine[:3, 2]
            redraw(frame, export.affine)


@fault("MIXED_ORIENTATION", fits=any_layout)
def mixed_orientation(export: Export) -> None:
    for frame in export.frames:
        if frame.z == export.slices - 1:
            row, column = frame.orientation
            normal = np.cross(row, column)
            frame.orientation = np.stack([row, 0.8 * column + 0.6 * normal])
            frame.values = frame.values[::-1].copy()


@fault("MIXED_GRID")
def mixed_size(export: Export) -> None:
    for frame in export.frames:
        if frame.z == 0:
            redraw(frame, export.affine, (frame.values.shape[0] + 4, frame.values.shape[1]))


@fault("MIXED_GRID")
def mixed_pixel_spacing(export: Export) -> None:
    for frame in export.frames:
        if frame.z == 0:
            frame.spacing = (frame.spacing[0] * 2, frame.spacing[1] * 2)
            redraw(frame, export.affine)


@fault("LOCALIZER", owes="all")
def localizer_in_the_series(export: Export) -> None:
    like = export.frames[0]
    for number, orientation in enumerate((AXIAL, AXIAL[:, [0, 2, 1]], AXIAL[:, [2, 0, 1]])):
        scout = copied(like, orientation=orientation, spacing=(5.0, 5.0))
        scout.values = np.full_like(like.values, 7.0)
        ds = classic(replace(export, frames=[scout]))[0]
        ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        ds.SOPInstanceUID, ds.InstanceNumber = uid(export.name, "scout", number), 900 + number
        export.extra[f"scout{number}"] = encode(ds)


def without(*keywords: str) -> Callable[[Export], None]:
    """Plants the loss of elements in a file in the middle of the stack."""

    def plant(export: Export) -> None:
        export.find(export.slices // 2).tags |= dict.fromkeys(keywords)

    return plant


@fault("MISSING_GEOMETRY")
def no_position_in_one_file(export: Export) -> None:
    without("ImagePositionPatient")(export)


@fault("MISSING_GEOMETRY", owes="none")
def no_position_anywhere(export: Export) -> None:
    export.tags["ImagePositionPatient"] = None


@fault("MISSING_GEOMETRY", owes="none")
def no_orientation_anywhere(export: Export) -> None:
    export.tags["ImageOrientationPatient"] = None


@fault("MISSING_GEOMETRY", owes="none")
def no_pixel_spacing_anywhere(export: Export) -> None:
    export.tags["PixelSpacing"] = None


@fault("MISSING_GEOMETRY", owes="none")
def orientation_of_zeros(export: Export) -> None:
    export.tags["ImageOrientationPatient"] = [0.0] * 6


@fault("MISSING_GEOMETRY", owes="none")
def pixels_of_no_size(export: Export) -> None:
    export.tags["PixelSpacing"] = [0.0, 0.0]


# --------------------------------------------------------------------------------------------------- time


@fault("TIME_AMBIGUOUS", fits=has_triggers)
def no_trigger_times(export: Export) -> None:
    export.tags["TriggerTime"] = None


@fault("TIME_AMBIGUOUS", "DUPLICATE_POSITION", "INCOMPLETE_GRID", fits=has_triggers)
def two_phases_at_one_time(export: Export) -> None:
    export.find(2, 2).time_ms = export.find(2, 1).time_ms


@fault("TIME_AMBIGUOUS", fits=has_triggers)
def times_that_contradict_each_other(export: Export) -> None:
    for frame in export.frames:
        frame.tags |= {
            "TemporalPositionIdentifier": export.phases - frame.t,
            "NumberOfTemporalPositions": export.phases,
        }


@fault(owes="all", fits=has_triggers)
def acquisition_times_of_no_use(export: Export) -> None:
    for frame in export.frames:
        frame.tags["AcquisitionTime"] = clock(-1000.0 * frame.t + 7 * frame.z)


# -------------------------------------------------------------------------------------------------- files


@fault("TRUNCATED")
def truncated_in_the_pixels(export: Export) -> None:
    export.damage(middle(export), lambda content: content[:-150])


@fault("TRUNCATED")
def truncated_in_the_header(export: Export) -> None:
    export.damage(middle(export), lambda content: content[: len(content) // 3])


@fault("TRUNCATED")
def no_bytes(export: Export) -> None:
    export.damage(middle(export), lambda _: b"")


@fault("UNDECODABLE", "TRUNCATED")
def no_pixel_data(export: Export) -> None:
    without("PixelData")(export)


@fault("TRUNCATED", "UNDECODABLE", "MIXED_GRID")
def huge_claim_in_one_file(export: Export) -> None:
    export.find(export.slices // 2).tags |= {"Rows": 65535, "Columns": 65535}


@fault("TRUNCATED", "UNDECODABLE", owes="none")
def huge_claim_everywhere(export: Export) -> None:
    export.tags |= {"Rows": 65535, "Columns": 65535}


@fault("TRUNCATED", "UNDECODABLE", owes="none")
def a_million_frames_claimed(export: Export) -> None:
    export.tags["NumberOfFrames"] = 1_000_000


@fault(owes="all")
def text_with_the_wrong_vr(export: Export) -> None:
    right, wrong = b"\x20\x00\x32\x00DS", b"\x20\x00\x32\x00LO"
    export.damage(middle(export), lambda content: content.replace(right, wrong))


@fault("MISSING_GEOMETRY", "UNDECODABLE", "TRUNCATED", "NOT_AN_IMAGE")
def position_that_is_no_number(export: Export) -> None:
    export.damage(middle(export), lambda content: patched(content, 8, b"abc"))


@fault("UNDECODABLE", "TRUNCATED", "NOT_AN_IMAGE", "MISSING_GEOMETRY")
def length_beyond_the_file(export: Export) -> None:
    export.damage(middle(export), lambda content: patched(content, 6, struct.pack("<H", 0xFFFE)))


# ---------------------------------------------------------------------------------------- other objects


@fault("NOT_AN_IMAGE", owes="all")
def dose_report(export: Export) -> None:
    ds = base(export, 99, 1)
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.88.67", "SR"
    ds.ContentSequence = item(ValueType="TEXT", TextValue="a dose")
    export.extra["dose"] = encode(ds)


@fault("NOT_AN_IMAGE", owes="all")
def screenshot(export: Export) -> None:
    ds = base(export, 98, 1)
    ds.SOPClassUID, ds.ConversionType = "1.2.840.10008.5.1.4.1.1.7", "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    put_pixels(ds, np.zeros((20, 20)))
    export.extra["screenshot"] = encode(ds)


@fault("NOT_AN_IMAGE", "UNDECODABLE", owes="all")
def colour_in_another_series(export: Export) -> None:
    for number in range(3):
        ds = classic(replace(export, frames=[export.find(number)]))[0]
        colour(ds)
        ds.SeriesInstanceUID, ds.SOPInstanceUID = uid("colour"), uid("colour", number)
        export.extra[f"colour{number}"] = encode(ds)


def colour(ds: Dataset) -> None:
    grey = np.clip(stored(ds), 0, 255).astype(np.uint8)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.Rows, ds.Columns = grey.shape
    ds.add_new("PixelData", "OW", np.stack([grey, grey // 2, grey // 3], axis=-1).tobytes())


@fault(owes="all")
def files_that_are_no_dicom(export: Export) -> None:
    export.extra |= {"notes.txt": b"hello", "Thumbs.db": bytes(range(256)), "picture.png": b"\x89PNG\r\n"}


@fault(owes="all")
def name_in_an_alphabet_that_is_not_declared(export: Export) -> None:
    export.tags |= {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Zoë"}
    right, wrong = b"\x08\x00\x05\x00CS", b"\x08\x00\x04\x00CS"
    for number in range(len(export.frames)):
        export.damage(number, lambda content: content.replace(right, wrong))


@fault("UNDECODABLE", "NOT_AN_IMAGE", "MISSING_GEOMETRY")
def no_uids(export: Export) -> None:
    without("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID")(export)


# ------------------------------------------------------------------------------------------------ values


@fault("RESCALE_PER_SLICE", owes="all", fits=lambda e: e.modality == "PT" or any_layout(e))
def a_slope_per_slice(export: Export) -> None:
    for frame in export.frames:
        frame.slope = (0.5, 0.25, 1.0)[frame.z % 3]


@fault("SUV_MISSING_TAG", owes="all", fits=of("PT"))
def no_dose(export: Export) -> None:
    sequence = export.tags["RadiopharmaceuticalInformationSequence"] = deepcopy(
        export.tags["RadiopharmaceuticalInformationSequence"]
    )
    del sequence[0].RadionuclideTotalDose


@fault("SUV_MISSING_TAG", owes="all", fits=of("PT"))
def no_weight(export: Export) -> None:
    export.tags["PatientWeight"] = None


@fault("SUV_ALREADY", owes="all", fits=of("PT"))
def suv_already(export: Export) -> None:
    export.tags["Units"] = "GML"


UNKNOWABLE = (
    {"no_trigger_times", "times_that_contradict_each_other"},
    {"no_trigger_times", "acquisition_times_of_no_use"},
    {"two_phases_at_one_time", "times_that_contradict_each_other"},
)
"""Pairs after which the files say nothing but what is wrong."""
OTHER_PIXELS = 100
"""What is added to the values of an image that takes another's place."""


def pairs(fits: Sequence[Export]) -> list[tuple[str, str, int]]:
    """Every two faults that fit one export, each pair once, the exports taking turns."""
    copies = ("same_uid_other_pixels", "the_same_file_twice")  # of a file that has its faults already
    names = [*sorted(set(FAULTS) - {"single_slice", *copies}), *copies]
    made = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            both = [
                number
                for number, export in enumerate(fits)
                if FAULTS[first].fits(export) and FAULTS[second].fits(export)
            ]
            if both and {first, second} not in UNKNOWABLE:
                made.append((first, second, both[len(made) % len(both)]))
    return made
