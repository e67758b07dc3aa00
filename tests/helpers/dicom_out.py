"""Subjects and labels for the tests of DICOM output, and readers that share no code with medmtl."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medmtl.data.dicom import scan
from medmtl.data.dicom.model import VolumePlan
from medmtl.inference.dicom import Algorithm, Codes, Evaluation, Measurement
from tests.helpers import dicom_writer as writer
from tests.helpers.dicom_writer import Export

LABELS = {"RV": 1, "MYO": 2, "LV": 3}
CODES = Codes()
SEGMENTS = CODES.segments(LABELS)
ALGORITHM = Algorithm("heart", "1.2.3", "0123456789abcdef")


@dataclass(frozen=True)
class Subject:
    plans: tuple[VolumePlan, ...]


class Keyed:
    """Keyed hashes, as ``--pseudonymize`` makes them."""

    def of(self, text: str) -> str:
        return sha256(f"key {text}".encode()).hexdigest()[:16]


def flipped() -> Export:
    """Columns from left to right of the patient's other way, slices downwards."""
    affine = writer.grid(orientation=np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), spacing=(1.5, 1.25, 4.0))
    return Export(writer.frames_of(affine, phases=1), affine, timing="none", name="flipped")


def uneven() -> Export:
    """Slices that are not one distance apart, which are resampled."""
    export = writer.mr_volume()
    normal = np.cross(*writer.OBLIQUE)
    for frame in export.frames:
        frame.position = frame.position + normal * (0.0, 1.5, 0.0, -1.0, 0.0)[frame.z]
        writer.redraw(frame, export.affine)
    export.name = "uneven"
    return export


EXPORTS = {
    "ge": writer.ge_cine,
    "siemens": writer.siemens_cine,
    "philips": writer.philips_cine,
    "series-per-phase": writer.phase_series_cine,
    "fmri": writer.fmri,
    "mosaic": writer.mosaic,
    "ct": writer.ct,
    "tilted": lambda: writer.ct(tilt=15.0),
    "uneven": uneven,
    "oblique": writer.mr_volume,
    "enhanced": writer.enhanced_volume,
    "flipped": flipped,
    "pet": writer.pet,
}
"""By what is special about the images."""


def subject_of(export: Export, folder: Path) -> Subject:
    """The one volume of an export, written to a folder."""
    writer.write(export, folder)
    [plan] = [plan for series in scan([folder]).series for plan in series.volumes]
    return Subject((plan,))


def labels_of(plan: VolumePlan, seed: int = 0) -> np.ndarray:
    """Random labels ``(T, X, Y, Z)`` of three structures; nothing in the first slice and in frame 1."""
    x, y, z = plan.shape[:3]
    labels = np.random.default_rng(seed).integers(0, 4, (plan.frames, x, y, z), dtype=np.uint8)
    labels[..., 0] = 0
    labels[1:2] = 0
    return labels


def measurements() -> list[Measurement]:
    """Volumes of masks at ED and ES and what follows, and values of a regression head."""
    of_masks = {"modality": "MR", "from_masks": True}
    return [
        CODES.measurement("LV_EDV", 123.456789, "mL", frame=0, segment=3, **of_masks),
        CODES.measurement("LV_ESV", 60.1, "mL", frame=2, segment=3, **of_masks),
        CODES.measurement("LV_EF", 51.32, "%", segment=3, **of_masks),
        CODES.measurement("LV_SV", 63.3, "mL", segment=3, **of_masks),
        CODES.measurement("LV_CO", 4.4, "L/min", segment=3, **of_masks),
        CODES.measurement("MYO_mass", 111.0, "g", frame=0, segment=2, **of_masks),
        CODES.measurement("LV_EF", 49.0, "%", modality="MR", group="function"),
    ]


def evaluations() -> list[Evaluation]:
    """A class and its probabilities."""
    return [CODES.evaluation("disease", "HCM", {"NOR": 0.125, "HCM": 0.75, "DCM": 0.125})]


def points_by_the_standard(path: Path) -> dict[tuple[int, str, int], np.ndarray]:
    """LPS positions ``(N, 3)`` of labelled pixels, by segment, source image and its frame, as PS3.3 says.

    Pydicom alone reads: pixels, functional groups (own before shared), C.7.6.2.1.1's mapping of pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # real images have UIDs with leading zeros, which are referred to
        return _points(pydicom.dcmread(path))


def _points(ds: Dataset) -> dict[tuple[int, str, int], np.ndarray]:
    shared = ds.SharedFunctionalGroupsSequence[0]
    frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    found: dict[tuple[int, str, int], list[np.ndarray]] = {}
    for pixels, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        holder = groups if "PlaneOrientationSequence" in groups else shared
        row, column = np.array(holder.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(
            2, 3
        )
        down, right = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        names = str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 1)
        if ds.SegmentationType == "LABELMAP":
            masks = {int(value): pixels == value for value in np.unique(pixels) if value}
        else:
            number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            masks = {number: pixels > 0}
        for number, mask in masks.items():
            rows, columns = np.nonzero(mask)
            points = position + columns[:, None] * right * row + rows[:, None] * down * column
            found.setdefault((number, *names), []).append(points)
    return {key: np.concatenate(points) for key, points in found.items()}


def voxels_at(points: np.ndarray, plan: VolumePlan) -> np.ndarray:
    """Indices ``(N, 3)`` of a plan's voxels at LPS points; they have to be at their centres."""
    ras = points * (-1.0, -1.0, 1.0)
    index = (ras - plan.affine[:3, 3]) @ np.linalg.inv(plan.affine[:3, :3]).T
    nearest = np.rint(index)
    assert np.abs(index - nearest).max(initial=0.0) < 0.02
    return nearest.astype(int)


def sources(plan: VolumePlan) -> dict[tuple[str, int], tuple[int, int]]:
    """Slice and phase of every image, by its UID and frame number."""
    return {
        (plane.instance.header.get("SOPInstanceUID"), plane.frame + 1): (z, t)
        for z, row in enumerate(plan.planes)
        for t, plane in enumerate(row)
    }


PROGRAMS = {
    "dciodvfy": "Debian's dicom3tools",
    "dcmdump": "Debian's dcmtk",
    "dsrdump": "Debian's dcmtk",
    "dsr2html": "Debian's dcmtk",
    "segimage2itkimage": "pip's dcmqi",
    "tid1500reader": "pip's dcmqi",
}


def checked_by(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What another's DICOM program says; skips where it is not installed."""
    here = Path(sys.executable).parent  # where pip puts programs
    found = shutil.which(program) or shutil.which(program, path=str(here))
    if found is None:
        pytest.skip(f"{program} is not installed; it comes with {PROGRAMS[program]}")
    command = [found, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def items_of(ds: Dataset, value_type: str) -> list[Dataset]:
    """All content items of a value type in a report."""
    found = []
    for inner in ds.get("ContentSequence", ()):
        found += [inner] if inner.ValueType == value_type else []
        found += items_of(inner, value_type)
    return found


def text_of(path: Path) -> str:
    """Everything that a file says, its file meta information too, as text."""
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    return f"{ds.file_meta}\n{ds}"


def names_of(elements: Sequence[Dataset]) -> list[str]:
    """Meanings of the concept names of some content items."""
    return [item.ConceptNameCodeSequence[0].CodeMeaning for item in elements]
