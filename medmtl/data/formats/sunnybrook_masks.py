"""Sunnybrook's contours as masks of a cine.

Readers drew the cavity at end diastole and end systole, on every slice that has one, and the epicardium at
end diastole, seldom at end systole. So cavity and myocardium are masks of their own, each labelled in the
frames in which it was drawn: there, slices beyond the drawn ones are background, and a slice that was left
out between them is not labelled. All other frames are not labelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.contours import Contour
from medmtl.data.dicom.model import VolumePlan
from medmtl.data.dicom.rasterize import area, fill
from medmtl.data.formats.cardiac import LABELS
from medmtl.types import UNLABELLED, CaseError, Finding

PAPILLARY = 1
OUTSIDE = 0.1
"""Share of a cavity that may lie outside the epicardium; drawing errors stay below, other hearts do not."""

Index = tuple[int, int]


@dataclass(frozen=True)
class Placed:
    """Contours by the slice and frame ``(z, t)`` that they were drawn on."""

    inner: Mapping[Index, Contour]
    outer: Mapping[Index, Contour]
    papillary: Mapping[Index, tuple[Contour, ...]]

    @property
    def phases(self) -> tuple[int | None, int | None]:
        """ED and ES: of the two frames most often drawn, that of the larger cavity first."""
        slices: dict[int, dict[int, float]] = defaultdict(dict)
        for (z, t), contour in self.inner.items():
            slices[t][z] = area(contour.points)
        if len(slices) < 2:
            return None, None
        one, other = sorted(sorted(slices, key=lambda t: (-len(slices[t]), t))[:2])
        common = slices[one].keys() & slices[other].keys()
        sizes = [sum(slices[t][z] for z in common or slices[t]) for t in (one, other)]
        return (one, other) if sizes[0] >= sizes[1] else (other, one)


def place(contours: Sequence[Contour], plan: VolumePlan) -> Placed:
    """Finds the images that contours were drawn on: by instance number, else by the numbers of files.

    Raises:
        CaseError: ``LABEL_GEOMETRY_MISMATCH``: the volume has no image of a contour's number; or
            ``LABEL_VALUES``: two files are the same contour of one image.
    """
    wanted = {contour.number for contour in contours}
    numberings = [_by_instance_number(plan), _by_file_name(plan)]
    numbers = next((numbers for numbers in numberings if wanted <= numbers.keys()), None)
    if numbers is None:
        absent = sorted(wanted - numberings[0].keys())
        shown = ", ".join(map(str, absent[:3])) + (", ..." if len(absent) > 3 else "")
        text = f"the series has no image {shown} that contours were drawn on; see whose they are"
        raise CaseError("LABEL_GEOMETRY_MISMATCH", text)
    inner: dict[Index, Contour] = {}
    outer: dict[Index, Contour] = {}
    papillary: dict[Index, list[Contour]] = defaultdict(list)
    for contour in contours:
        index = numbers[contour.number]
        if contour.kind == "papillary":
            papillary[index].append(contour)
            continue
        placed = inner if contour.kind == "inner" else outer
        if index in placed:
            text = f"{contour.name} stands there twice, for slice {index[0]} and frame {index[1]}; keep one"
            raise CaseError("LABEL_VALUES", text)
        placed[index] = contour
    return Placed(inner, outer, {index: tuple(found) for index, found in papillary.items()})


def _by_instance_number(plan: VolumePlan) -> dict[int, Index]:
    return _unique(plan, [plane.get("InstanceNumber") for phases in plan.planes for plane in phases])


def _by_file_name(plan: VolumePlan) -> dict[int, Index]:
    """``IM-0003-0048.dcm`` and ``48.dcm`` are image 48."""
    stems = [
        PurePosixPath(plane.instance.source.label).stem.rpartition("-")[2]
        for phases in plan.planes
        for plane in phases
    ]
    return _unique(plan, [int(stem) if stem.isdecimal() else None for stem in stems])


def _unique(plan: VolumePlan, numbers: list[int | None]) -> dict[int, Index]:
    """Slice and frame of every number; nothing where numbers are missing or stand for several images."""
    indices = [(z, t) for z, phases in enumerate(plan.planes) for t in range(len(phases))]
    found = {number: index for number, index in zip(numbers, indices, strict=True) if number is not None}
    return found if len(found) == len(indices) else {}


def misplaced(placed: Placed) -> list[Index]:
    """Where the cavity reaches far out of the epicardium: one of the two is not of this image."""
    wrong = []
    for index in placed.inner.keys() & placed.outer.keys():
        cavity, whole = _pair(placed.inner[index].points, placed.outer[index].points)
        if int((cavity & ~whole).sum()) > OUTSIDE * int(cavity.sum()):
            wrong.append(index)
    return sorted(wrong)


def _pair(
    one: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two outlines on the smallest grid that holds both, at a quarter of a pixel."""
    low = np.minimum(one.min(axis=0), other.min(axis=0)) - 1
    high = np.maximum(one.max(axis=0), other.max(axis=0)) + 1
    shape = np.minimum(np.ceil((high - low) * 4), 4096).astype(int)
    size = (int(shape[0]), int(shape[1]))
    return fill([(one - low) * 4], size), fill([(other - low) * 4], size)


def masks(placed: Placed, shape: tuple[int, ...]) -> tuple[dict[str, NDArray[np.uint8]], list[Finding]]:
    """Cavity, myocardium and papillary muscles, those that were drawn.

    Args:
        placed: contours by slice and frame.
        shape: ``(X, Y, Z, T)`` of the cine.

    Returns:
        ``anatomy``, ``myocardium``, ``papillary``: each ``(X, Y, Z, T)`` uint8, 255 where nobody drew; and
        what is worth knowing.
    """
    x_y, n_z = (shape[0], shape[1]), shape[2]
    filled = {
        kind: {index: fill([contour.points], x_y) for index, contour in contours.items()}
        for kind, contours in (("inner", placed.inner), ("outer", placed.outer))
    }
    made: dict[str, NDArray[np.uint8]] = {}
    findings: list[Finding] = []
    if placed.inner:
        made["anatomy"] = np.full(shape, UNLABELLED, dtype=np.uint8)
        for t, slices in _frames(placed.inner).items():
            skipped = _background(made["anatomy"], t, slices, slices, n_z)
            for z in slices:
                made["anatomy"][:, :, z, t] = np.where(filled["inner"][z, t], LABELS["LV"], 0)
            if skipped:
                findings.append(_left_open("inner", t, skipped))
    if placed.outer:
        made["myocardium"] = np.full(shape, UNLABELLED, dtype=np.uint8)
        inner_frames = _frames(placed.inner)
        for t, slices in _frames(placed.outer).items():
            drawn = slices | inner_frames.get(t, set())
            complete = slices & inner_frames.get(t, set())
            skipped = _background(made["myocardium"], t, drawn, complete, n_z)
            for z in complete:
                wall = filled["outer"][z, t] & ~filled["inner"][z, t]
                made["myocardium"][:, :, z, t] = np.where(wall, LABELS["MYO"], 0)
            if skipped:
                findings.append(_left_open("inner or outer", t, skipped))
    if placed.papillary:
        made["papillary"] = np.full(shape, UNLABELLED, dtype=np.uint8)
        for t in _frames(placed.papillary):
            made["papillary"][..., t] = 0
        for (z, t), contours in placed.papillary.items():
            outlines = [contour.points for contour in contours]
            made["papillary"][:, :, z, t] = np.where(fill(outlines, x_y), PAPILLARY, 0)
    return made, findings


def _frames(contours: Mapping[Index, object]) -> dict[int, set[int]]:
    """Slices drawn, by frame."""
    frames: dict[int, set[int]] = defaultdict(set)
    for z, t in contours:
        frames[t].add(z)
    return dict(sorted(frames.items()))


def _background(mask: NDArray[np.uint8], t: int, drawn: set[int], complete: set[int], n_z: int) -> list[int]:
    """Makes the slices beyond the drawn ones background; returns those between that stay unlabelled."""
    for z in range(n_z):
        if not min(drawn) <= z <= max(drawn):
            mask[:, :, z, t] = 0
    return [z for z in range(min(drawn), max(drawn) + 1) if z not in complete]


def _left_open(kind: str, t: int, slices: Sequence[int]) -> Finding:
    shown = ", ".join(map(str, slices))
    text = f"frame {t}: no {kind} contour in slice(s) {shown}, between drawn ones; they are not labelled"
    return Finding("LABEL_VALUES", "warning", text)
