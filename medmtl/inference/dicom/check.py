"""Reads a segmentation file again and compares it with the labels and the images that it was made from.

It is read by the reader that also takes labels of others in, which places every frame by what the file says
about it, and knows nothing of how it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.files import FileSource
from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.labelgrid import LabelGrid
from medmtl.data.dicom.model import Instance, VolumePlan
from medmtl.data.dicom.seg import Segmentation, read_segmentation
from medmtl.data.dicom.segplace import Slab, slab_of
from medmtl.inference.dicom.canvas import Canvas, Sheet
from medmtl.inference.dicom.codes import Hides, Kind, Planned, Segment
from medmtl.inference.dicom.drawing import as_frames, segment_numbers
from medmtl.inference.dicom.origin import Names, identity, patient_of
from medmtl.types import CaseError

NEAR_MM = 0.01
"""How far a frame may lie from its image: decimal strings have digits for much less."""


def check_seg(
    path: Path,
    subject: Planned,
    labels: NDArray[Any],
    segments: Sequence[Segment],
    *,
    kind: Kind = "binary",
    hides: Hides | None = None,
) -> None:
    """Make sure that a file holds exactly these labels, where the images are.

    Every frame has to lie on its plane within `NEAR_MM`, have its pixel spacing and orientation, name exactly
    the images of its slice and phase, and hold its labels voxel by voxel; no labelled voxel may be missing.

    Args:
        path: the file.
        subject: as for ``write_seg``.
        labels: ``(T, X, Y, Z)`` or ``(X, Y, Z)``.
        segments: what the values stand for.
        kind: as which it was written.
        hides: how UIDs were replaced.

    Raises:
        CaseError: ``LABEL_GEOMETRY_MISMATCH``: it does not, or cannot be read.
    """
    canvas, names = Canvas(subject.plans[0]), Names(hides)
    labels = as_frames(labels, canvas)
    try:
        found = read_segmentation(reread(path))
        _check_whole(found, canvas.plan, segments, kind, names)
        _check_frames(found, canvas, labels, segments, kind, names)
    except CaseError as error:
        text = f"the segmentation, read again, is not what was to be written: {error}"
        raise CaseError("LABEL_GEOMETRY_MISMATCH", text) from error


def reread(path: Path) -> Instance:
    """A file that was just written, as the reader sees it.

    Raises:
        CaseError: ``UNDECODABLE``: it is no DICOM file.
    """
    instances, findings = read_instances([FileSource(str(path), path.name)])
    if len(instances) != 1:
        said = "; ".join(finding.message for finding in findings)
        raise CaseError("UNDECODABLE", f"{path.name} cannot be read ({said})")
    return instances[0]


def _wrong(what: str) -> CaseError:
    return CaseError("LABEL_GEOMETRY_MISMATCH", what)


def _check_whole(
    found: Segmentation, plan: VolumePlan, segments: Sequence[Segment], kind: Kind, names: Names
) -> None:
    """Kind, study, series, patient and segments."""
    if found.kind != kind.upper():
        raise _wrong(f"it is of kind {found.kind}")
    if plan.study_uid and found.study_uid != names.uid(plan.study_uid):
        raise _wrong("it belongs to another study")
    series = {names.uid(identity(row[0].instance)[2]) for row in plan.planes}
    if not series <= found.series_uids:
        raise _wrong("it does not name all series of its images")
    key = patient_of(plan)
    if names.hides is None and found.patient != (key or ""):
        raise _wrong("it belongs to another patient")
    if names.hides is not None and found.patient == key:
        raise _wrong("it names the patient")
    numbers = segment_numbers(segments, kind)
    expected = {numbers[segment.number]: segment for segment in segments}
    told = {n: s for n, s in found.segments.items() if not (kind == "labelmap" and n == found.background)}
    if {n: s.type for n, s in told.items()} != {n: s.code for n, s in expected.items()}:
        raise _wrong("its segments are others")


def _check_frames(
    found: Segmentation,
    canvas: Canvas,
    labels: NDArray[Any],
    segments: Sequence[Segment],
    kind: Kind,
    names: Names,
) -> None:
    """Every frame's place, sources and pixels, and that none is missing."""
    grid = _grid(canvas.plan, names)
    values = {number: value for value, number in segment_numbers(segments, kind).items()}
    voxels = 0
    for frame in found.frames:
        slab = slab_of(found, frame, grid)
        t, z = slab.time, int(slab.start[2])
        if slab.start[0] or slab.start[1] or slab.column != (0, 1) or slab.row != (1, 1):
            raise _wrong(f"frame {frame.index + 1} is turned or moved")
        if not 0 <= z < labels.shape[3]:
            raise _wrong(f"frame {frame.index + 1} lies beside the image")
        _check_place(slab, canvas.sheet(t, z), canvas.step_mm, names)
        wanted = labels[t, :, :, z].T
        if frame.segment is not None:
            wanted = wanted == values[frame.segment]
        pixels = found.pixels(frame.index)
        if not np.array_equal(pixels, wanted):
            raise _wrong(f"frame {frame.index + 1} holds other pixels")
        voxels += int(np.count_nonzero(pixels))
    if voxels != int(np.count_nonzero(labels)):
        raise _wrong(f"it holds {voxels} labelled voxels of {int(np.count_nonzero(labels))}")


def _check_place(slab: Slab, sheet: Sheet, step_mm: float, names: Names) -> None:
    """Position, directions, spacing and sources of a frame against its plane's."""
    frame = slab.frame
    where = f"frame {frame.index + 1}"
    assert frame.position is not None
    assert frame.orientation is not None
    assert frame.spacing_mm is not None
    if np.abs(frame.position - np.array(sheet.position)).max() > NEAR_MM:
        raise _wrong(f"{where} does not lie on its image")
    if np.abs(frame.orientation.ravel() - np.array(sheet.orientation)).max() > 1e-6:
        raise _wrong(f"{where} has another orientation than its image")
    if not np.allclose(frame.spacing_mm, sheet.spacing_mm, rtol=1e-6):
        raise _wrong(f"{where} has another pixel spacing than its image")
    if frame.step_mm is None or abs(frame.step_mm - step_mm) > 1e-4 * step_mm:
        raise _wrong(f"{where} has another distance of slices than its image")
    expected = {(names.uid(identity(p.instance)[1]), p.frame) for p in sheet.sources}
    told = {(uid, number or 0) for uid, number in frame.sources}
    if told != expected:
        raise _wrong(f"{where} names other images than its own")


def _grid(plan: VolumePlan, names: Names) -> LabelGrid:
    """The plan's grid, after any correction; mosaics' tiles too are known by their files."""
    index_of = {
        (names.uid(identity(plane.instance)[1]), plane.frame): (z, t)
        for z, row in enumerate(plan.planes)
        for t, plane in enumerate(row)
    }
    return replace(LabelGrid.of(replace(plan, correction=None)), index_of=index_of)
