"""Writes volumes and cines whose truth is known as DICOM, as several vendors lay them out.

The default truth is a ramp: every stored value names its own column, row, slice and phase, and is linear in
position, so that a voxel in the wrong place, also after a linear resampling, shows by its value alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

CLASSES = {
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "enhanced MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "enhanced CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "enhanced PT": "1.2.840.10008.5.1.4.1.1.130",
}
COLUMNS, ROWS, SLICES, PHASES = 12, 16, 5, 4
ROW_STEP, SLICE_STEP, PHASE_STEP = 16, 256, 2048
"""What one row, slice and phase add to the ramp; a column adds 1."""
OBLIQUE = np.array([[0.8, 0.6, 0.0], [-0.36, 0.48, -0.8]])
AXIAL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def uid(*words: object) -> str:
    """The same UID for the same words, every time."""
    return str(generate_uid(entropy_srcs=["medmtl", *map(str, words)]))


@dataclass
class Frame:
    """One plane before it is put into a file: slice ``z`` (along the normal) at phase ``t``.

    Attributes:
        values: ``(rows, columns)`` real values.
        position: of the first pixel, LPS mm.
        tags: elements on top of what the layout writes; None removes one.
    """

    z: int
    t: int
    values: np.ndarray
    position: np.ndarray
    orientation: np.ndarray
    spacing: tuple[float, float]
    time_ms: float
    slope: float = 1.0
    intercept: float = 0.0
    tags: dict[str, Any] = field(default_factory=dict)


@dataclass
class Export:
    """What goes to disk: planes, how they are laid out in files, and what is broken afterwards.

    Attributes:
        frames: in the order of their InstanceNumber.
        affine: ``(4, 4)`` index (column, row, slice) to LPS mm of the truth.
        layout: ``one-series``, ``series-per-slice``, ``series-per-phase``, ``enhanced`` or ``mosaic``.
        timing: the elements that say when: ``trigger``, ``temporal-position``, ``acquisition-time``,
            ``frame-reference`` or ``none``.
        tags: elements of every file; None removes one.
        breaks: what is done to the bytes of the file with this number.
        extra: further files, by name.
    """

    frames: list[Frame]
    affine: np.ndarray
    modality: str = "MR"
    layout: str = "one-series"
    timing: str = "trigger"
    tags: dict[str, Any] = field(default_factory=dict)
    breaks: dict[int, Callable[[bytes], bytes]] = field(default_factory=dict)
    extra: dict[str, bytes] = field(default_factory=dict)
    implicit: bool = False
    name: str = "study"

    def damage(self, number: int, how: Callable[[bytes], bytes]) -> None:
        """Adds to what is done to the bytes of the file with this number."""
        before = self.breaks.get(number, bytes)
        self.breaks[number] = lambda content: how(before(content))

    def find(self, z: int, t: int = 0) -> Frame:
        """The first plane of slice ``z`` at phase ``t``."""
        return next(frame for frame in self.frames if (frame.z, frame.t) == (z, t))

    @property
    def phases(self) -> int:
        return 1 + max(frame.t for frame in self.frames)

    @property
    def slices(self) -> int:
        return 1 + max(frame.z for frame in self.frames)


def ramp_at(points: np.ndarray, affine: np.ndarray, t: float) -> np.ndarray:
    """The ramp at points ``(..., 3)`` in LPS mm."""
    index = (points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return index @ (1, ROW_STEP, SLICE_STEP) + PHASE_STEP * t


def plane_points(frame: Frame, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Centres ``(rows, columns, 3)`` of a plane's pixels, in LPS mm."""
    rows, columns = shape or frame.values.shape
    along = np.arange(columns)[None, :, None] * frame.spacing[1] * frame.orientation[0]
    down = np.arange(rows)[:, None, None] * frame.spacing[0] * frame.orientation[1]
    return frame.position + along + down


def redraw(frame: Frame, affine: np.ndarray, shape: tuple[int, int] | None = None) -> None:
    """Gives a plane that was moved the ramp of its new place."""
    frame.values = ramp_at(plane_points(frame, shape), affine, frame.t)


def grid(
    slices: int = SLICES,
    *,
    orientation: np.ndarray = OBLIQUE,
    spacing: tuple[float, float, float] = (1.5, 1.25, 8.0),
    tilt: float = 0.0,
) -> np.ndarray:
    """Index (column, row, slice) to LPS mm; ``tilt`` shears the slices along their columns, in degrees."""
    row, column = orientation
    normal = np.cross(row, column)
    step = spacing[2] * (normal + np.tan(np.radians(tilt)) * column)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * spacing[0], column * spacing[1], step], axis=1)
    affine[:3, 3] = (-31.0, 17.0, -12.5) - step * (slices - 1) / 2
    return affine


def frames_of(
    affine: np.ndarray,
    values: np.ndarray | None = None,
    *,
    slices: int = SLICES,
    phases: int = PHASES,
    step_ms: float = 46.0,
    slice_delay_ms: float = 1.75,
) -> list[Frame]:
    """Planes of a volume ``(X, Y, Z, T)``, the ramp by default; each slice's times start a little later."""
    if values is not None:
        slices, phases = values.shape[2:]
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    made = []
    for z in range(slices):
        for t in range(phases):
            frame = Frame(
                z, t, np.zeros((ROWS, COLUMNS)), affine[:3, 3] + z * affine[:3, 2],
                (affine[:3, :2] / sizes[:2]).T, (float(sizes[1]), float(sizes[0])),
                t * step_ms + z * slice_delay_ms,
            )  # fmt: skip
            if values is None:
                redraw(frame, affine)
            else:
                frame.values = np.asarray(values[:, :, z, t]).T
            made.append(frame)
    return made


# ----------------------------------------------------------------------------------------- ready-made exports


def ge_cine(values: np.ndarray | None = None, affine: np.ndarray | None = None, **shape: Any) -> Export:
    """One series; another FrameOfReferenceUID in every file; SliceLocation and thickness that mislead."""
    affine = grid() if affine is None else affine
    export = Export(frames_of(affine, values, **shape), affine, name="ge")
    export.tags = {
        "Manufacturer": "GE MEDICAL SYSTEMS",
        "CardiacNumberOfImages": export.phases,
        "RepetitionTime": 3.8,
        "SliceThickness": 5.0,
        "SpacingBetweenSlices": 5.0,
    }
    for number, frame in enumerate(export.frames):
        frame.tags["FrameOfReferenceUID"] = uid("ge", "frame", number)
        frame.tags["SliceLocation"] = 100.0 - 3.0 * frame.z
    return export


def siemens_cine(values: np.ndarray | None = None, affine: np.ndarray | None = None, **shape: Any) -> Export:
    """One series per slice, each counting its instances from 1."""
    affine = grid() if affine is None else affine
    export = Export(frames_of(affine, values, **shape), affine, layout="series-per-slice", name="siemens")
    export.tags = {
        "Manufacturer": "SIEMENS",
        "CardiacNumberOfImages": export.phases,
        "RepetitionTime": 42.0,
        "SliceThickness": 8.0,
    }
    return export


def philips_cine(values: np.ndarray | None = None, affine: np.ndarray | None = None, **shape: Any) -> Export:
    """One enhanced multi-frame file."""
    affine = grid() if affine is None else affine
    export = Export(frames_of(affine, values, **shape), affine, layout="enhanced", name="philips")
    export.tags = {"Manufacturer": "Philips Medical Systems"}
    return export


def phase_series_cine() -> Export:
    """One series per phase, the times from TemporalPositionIdentifier and AcquisitionTime alone."""
    affine = grid()
    export = Export(frames_of(affine, slice_delay_ms=0.0), affine, layout="series-per-phase", name="phases")
    export.timing = "temporal-position"
    return export


def fmri(slices: int = SLICES, phases: int = PHASES) -> Export:
    """A series of volumes two seconds apart, in one classic series."""
    affine = grid(slices, orientation=AXIAL, spacing=(3.0, 3.0, 4.0))
    frames = frames_of(affine, slices=slices, phases=phases, step_ms=2000.0, slice_delay_ms=0.0)
    frames.sort(key=lambda frame: frame.t)
    export = Export(frames, affine, timing="temporal-position", name="fmri")
    export.tags = {"Manufacturer": "GE MEDICAL SYSTEMS", "RepetitionTime": 2000.0}
    return export


def mosaic() -> Export:
    """The same as Siemens tiles it: one file per volume, the slices side by side."""
    return replace(fmri(), layout="mosaic", name="mosaic")


def ct(tilt: float = 0.0, sign: float = 1.0) -> Export:
    """A CT of 5 slices; ``sign`` is that of the vendor's GantryDetectorTilt tag."""
    affine = grid(orientation=AXIAL, spacing=(0.75, 0.75, 2.5), tilt=tilt)
    export = Export(frames_of(affine, phases=1), affine, modality="CT", timing="none", name="ct")
    export.tags = {"RescaleType": "HU", "GantryDetectorTilt": sign * tilt, "KVP": 120.0}
    for frame in export.frames:
        frame.intercept = -1024.0
    return export


def mr_volume() -> Export:
    """A 3D MR series without times."""
    affine = grid()
    return Export(frames_of(affine, phases=1), affine, timing="none", name="mr")


def enhanced_volume() -> Export:
    """The same in one enhanced multi-frame file."""
    return replace(mr_volume(), layout="enhanced", name="enhanced")


def pet(units: str = "BQML") -> Export:
    """A PET with all that SUV needs; body weight 70 kg, 370 MBq, decay corrected to the series' start."""
    affine = grid(orientation=AXIAL, spacing=(4.0, 4.0, 3.25))
    export = Export(frames_of(affine, phases=1), affine, modality="PT", timing="none", name="pet")
    dose = Dataset()
    dose.RadiopharmaceuticalStartTime = "100000.000000"
    dose.RadionuclideTotalDose = 370e6
    dose.RadionuclideHalfLife = 6586.2
    dose.Radiopharmaceutical = "FDG"
    export.tags = {
        "Units": units,
        "CorrectedImage": ["NORM", "DECY", "ATTN", "SCAT"],
        "DecayCorrection": "START",
        "PatientWeight": 70.0,
        "PatientSize": 1.75,
        "PatientSex": "M",
        "SeriesTime": "110000.000000",
        "AcquisitionTime": "110000.000000",
        "RadiopharmaceuticalInformationSequence": Sequence([dose]),
        "SeriesType": ["WHOLE BODY", "IMAGE"],
    }
    return export


# ------------------------------------------------------------------------------------------------------ files


def series_of(export: Export, frame: Frame) -> int:
    """Number of the series that a plane goes to."""
    return {"series-per-slice": frame.z, "series-per-phase": frame.t}.get(export.layout, 0)


def base(export: Export, series: int, instance: int) -> Dataset:
    """What every file says, whatever is in it."""
    ds = Dataset()
    ds.SOPClassUID = CLASSES[export.modality]
    ds.SOPInstanceUID = uid(export.name, "instance", series, instance)
    ds.StudyInstanceUID = uid(export.name, "study")
    ds.SeriesInstanceUID = uid(export.name, "series", series)
    ds.FrameOfReferenceUID = uid(export.name, "frame of reference")
    ds.Modality = export.modality
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Nobody^Known", "secret-1", "19000101"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240102"
    ds.StudyTime, ds.SeriesTime = "090000", "090100"
    ds.SeriesNumber, ds.InstanceNumber = series + 3, instance
    ds.SeriesDescription = "planes"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M" if export.modality == "MR" else "AXIAL"]
    return ds


def put(ds: Dataset, tags: dict[str, Any]) -> None:
    """Sets elements, and removes those that are None."""
    for keyword, value in tags.items():
        if value is None:
            if keyword in ds:
                delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)


def put_pixels(ds: Dataset, stored: np.ndarray) -> None:
    """Uncompressed grey pixels ``(rows, columns)`` or ``(frames, rows, columns)``."""
    rounded = np.rint(stored)
    assert np.abs(stored - rounded).max() < 1e-6, "the truth is not a whole number of steps"
    ds.Rows, ds.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = len(stored)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.add_new("PixelData", "OW", rounded.astype("<i2").tobytes())


def numbers(values: Iterable[float]) -> list[float]:
    """Rounded as scanners do, so that they fit a decimal string."""
    return [float(f"{value:.10g}") for value in np.ravel(list(values))]


def clock(ms: float) -> str:
    """A time of day so many ms after 09:05."""
    seconds = 9 * 3600 + 300 + ms / 1000.0
    hours, rest = divmod(seconds, 3600)
    return f"{int(hours):02d}{int(rest // 60):02d}{rest % 60:09.6f}"


def put_time(ds: Dataset, export: Export, frame: Frame) -> None:
    """The elements that the export's timing names."""
    if export.timing == "trigger":
        ds.TriggerTime = frame.time_ms
    elif export.timing == "temporal-position":
        ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = frame.t + 1, export.phases
        ds.AcquisitionTime = clock(frame.time_ms)
    elif export.timing == "acquisition-time":
        ds.AcquisitionTime = clock(frame.time_ms)
    elif export.timing == "frame-reference":
        ds.FrameReferenceTime, ds.ActualFrameDuration = frame.time_ms, 1000
        ds.AcquisitionTime = clock(frame.time_ms)


def classic(export: Export) -> list[Dataset]:
    """One file per plane."""
    made, count = [], dict[int, int]()
    scaled = any((frame.slope, frame.intercept) != (1.0, 0.0) for frame in export.frames)
    for frame in export.frames:
        series = series_of(export, frame)
        count[series] = count.get(series, 0) + 1
        ds = base(export, series, count[series])
        put_pixels(ds, (frame.values - frame.intercept) / frame.slope)
        ds.ImagePositionPatient = numbers(frame.position)
        ds.ImageOrientationPatient = numbers(frame.orientation)
        ds.PixelSpacing = numbers(frame.spacing)
        if scaled or export.modality in ("CT", "PT"):
            ds.RescaleSlope, ds.RescaleIntercept = frame.slope, frame.intercept
        put_time(ds, export, frame)
        put(ds, export.tags)
        put(ds, frame.tags)
        made.append(ds)
    return made


def item(**elements: Any) -> Sequence:
    """A sequence of one item."""
    ds = Dataset()
    put(ds, elements)
    return Sequence([ds])


def enhanced(export: Export) -> list[Dataset]:
    """One multi-frame file with functional groups; its frames are ordered phase by phase."""
    ds = base(export, 0, 1)
    ds.SOPClassUID = CLASSES[f"enhanced {export.modality}"]
    del ds.AcquisitionDate
    frames = sorted(export.frames, key=lambda frame: frame.t)
    put_pixels(ds, np.stack([(frame.values - frame.intercept) / frame.slope for frame in frames]))
    first = frames[0]
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=numbers(first.spacing), SliceThickness=8.0)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence([functional_groups(export, frame) for frame in frames])
    ds.DimensionIndexSequence = Sequence(
        item(DimensionIndexPointer=tag, FunctionalGroupPointer=0x00209111)[0]
        for tag in (0x00209056, 0x00209057, 0x00209128)
    )
    put(ds, export.tags)
    return [ds]


def functional_groups(export: Export, frame: Frame) -> Dataset:
    """One item of PerFrameFunctionalGroupsSequence; a frame's ``tags`` go into the macro that has them."""
    groups = Dataset()
    groups.PlanePositionSequence = item(ImagePositionPatient=numbers(frame.position))
    groups.PlaneOrientationSequence = item(ImageOrientationPatient=numbers(frame.orientation))
    content = {
        "StackID": "1",
        "InStackPositionNumber": frame.z + 1,
        "DimensionIndexValues": [1, frame.z + 1, frame.t + 1],
        "FrameAcquisitionDateTime": f"20240102{clock(frame.time_ms)}",
    }
    if export.timing != "none":
        content["TemporalPositionIndex"] = frame.t + 1
    groups.FrameContentSequence = item(**content)
    if export.timing == "trigger":
        groups.CardiacSynchronizationSequence = item(NominalCardiacTriggerDelayTime=frame.time_ms)
    groups.PixelValueTransformationSequence = item(
        RescaleSlope=frame.slope, RescaleIntercept=frame.intercept, RescaleType="US"
    )
    for macro in groups:
        put(macro.value[0], {k: v for k, v in frame.tags.items() if k in macro.value[0]})
    return groups


def tiled(export: Export) -> list[Dataset]:
    """One mosaic file per phase, with what Siemens keeps about it in its private header."""
    made = []
    for t in range(export.phases):
        frames = sorted((f for f in export.frames if f.t == t), key=lambda f: f.z)
        side = int(np.ceil(np.sqrt(len(frames))))
        rows, columns = frames[0].values.shape
        canvas = np.zeros((side * rows, side * columns))
        for number, frame in enumerate(frames):
            top, left = number // side * rows, number % side * columns
            canvas[top : top + rows, left : left + columns] = frame.values
        ds = base(export, 0, t + 1)
        put_pixels(ds, canvas)
        first = frames[0]
        # the corner of the whole canvas, as if it were one plane around the first slice's centre
        shift = np.array([columns * (side - 1) / 2, rows * (side - 1) / 2])
        corner = first.position - first.orientation.T @ (shift * first.spacing[::-1])
        ds.ImagePositionPatient = numbers(corner)
        ds.ImageOrientationPatient = numbers(first.orientation)
        ds.PixelSpacing = numbers(first.spacing)
        ds.SpacingBetweenSlices = float(np.linalg.norm(frames[1].position - first.position))
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        ds.Manufacturer = "SIEMENS"
        ds.AcquisitionTime = clock(first.time_ms)
        normal = np.cross(*first.orientation)
        block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        delays = [f"{100.0 * n:.8f}" for n in range(len(frames))]
        header = {
            "NumberOfImagesInMosaic": ("US", [str(len(frames))]),
            "SliceNormalVector": ("FD", [f"{v:.8f}" for v in normal]),
            "MosaicRefAcqTimes": ("FD", delays),
            "ProtocolSliceNumber": ("IS", ["0"]),
        }
        block.add_new(0x10, "OB", csa(header))
        put(ds, export.tags)
        put(ds, first.tags)
        made.append(ds)
    return made


def csa(fields: dict[str, tuple[str, list[str]]]) -> bytes:
    """Siemens' private header, version 2."""
    made = b"SV10\x04\x03\x02\x01" + struct.pack("<2I", len(fields), 77)
    for name, (kind, values) in fields.items():
        made += struct.pack("<64si4s3i", name.encode(), len(values), kind.encode(), 0, len(values), 77)
        for value in values:
            text = value.encode() + b"\x00"
            made += struct.pack("<4i", len(text), len(text), 77, len(text))
            made += text + b"\x00" * (-len(text) % 4)
    return made


def datasets(export: Export) -> list[Dataset]:
    """The export's files, in order."""
    makers = {"enhanced": enhanced, "mosaic": tiled}
    return makers.get(export.layout, classic)(export)


def encode(ds: Dataset, *, implicit: bool = False) -> bytes:
    """A dataset as the bytes of a file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", "")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "")
    stream = BytesIO()
    pydicom.dcmwrite(stream, ds, enforce_file_format="SOPClassUID" in ds and "SOPInstanceUID" in ds)
    return stream.getvalue()


def write(export: Export, folder: Path, names: Callable[[int], str] = "IM{:04d}".format) -> Path:
    """Writes the files, whole or broken."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, ds in enumerate(datasets(export)):
        content = encode(ds, implicit=export.implicit)
        (folder / names(number)).write_bytes(export.breaks.get(number, bytes)(content))
    for name, content in export.extra.items():
        (folder / name).write_bytes(content)
    return folder
