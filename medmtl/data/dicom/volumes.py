"""A stack of planes -> volumes that can be loaded, or one sentence why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.geometry import Slices, lay_out, slices_of, tilt_finding
from medmtl.data.dicom.grouping import Stack
from medmtl.data.dicom.heartbeat import end_diastole
from medmtl.data.dicom.kinds import nature_of
from medmtl.data.dicom.model import VolumePlan
from medmtl.data.dicom.parts import parts_of
from medmtl.data.dicom.phases import in_phases
from medmtl.data.dicom.timing import of_several_phases, said_and_found, time_axis
from medmtl.types import CaseError, Finding


def volumes_of(stack: Stack, *, strict: bool = False) -> tuple[list[VolumePlan], list[Finding]]:
    """Volumes of a stack, still unnamed, and why parts of it give none."""
    try:
        slices = slices_of(stack.table.position, stack.orientation, stack.pixel_mm)
        parts = parts_of(stack, slices)
        if not parts:
            return [_volume(stack, slices, strict)], []
    except CaseError as error:
        return [], [Finding(error.code, "error", str(error), _label(stack))]
    plans: list[VolumePlan] = []
    findings: list[Finding] = []
    for part in parts:
        made, said = volumes_of(part, strict=strict)
        plans += made
        findings += said
    return plans, findings


def _volume(stack: Stack, slices: Slices, strict: bool) -> VolumePlan:
    table, grid = stack.table, np.argsort(slices.of_plane, kind="stable")[:, None]
    findings: list[Finding] = []
    layout = lay_out(
        slices,
        stack.orientation,
        stack.spacing_mm,
        stack.shape,
        thickness=_thickness(stack, slices),
        strict=strict,
    )
    findings += layout.findings
    axis, ed = None, None
    if len(table) > len(slices):
        phases = in_phases(table, slices.of_plane, strict=strict)
        grid = phases.planes
        axis, unsure = time_axis(table, phases)
        findings += [*phases.findings, *unsure]
        if layout.respacing is not None and axis.by_slice_ms is not None:
            axis = replace(axis, by_slice_ms=layout.respacing(axis.by_slice_ms[:, :, None])[:, :, 0])
        ed = end_diastole(table, axis)
        if not any(finding.code == "INCOMPLETE_GRID" for finding in findings):
            findings += said_and_found(table, grid.shape[1])
    elif of_several_phases(table):
        raise CaseError(
            "INCOMPLETE_GRID",
            "each slice has one image, but of different phases of the heart; find the missing files",
        )
    if tilted := tilt_finding(table.only("GantryDetectorTilt"), stack.orientation, slices):
        findings.append(tilted)
    frames = grid.shape[1]
    if frames == 1:
        axis = None
    get = table.planes[int(grid[0, 0])].get
    return VolumePlan(
        name="",
        planes=tuple(tuple(table.planes[i] for i in row) for row in grid.tolist()),
        shape=(*layout.shape, frames) if frames > 1 else layout.shape,
        affine=layout.affine,
        modality=get("Modality") or "",
        study_uid=get("StudyInstanceUID") or "",
        series_uid=get("SeriesInstanceUID") or "",
        description=get("SeriesDescription") or "",
        patient="",
        time=axis,
        correction=layout.correction,
        frame_ed=ed,
        attributes=stack.attributes | nature_of(table.planes[0]),
        findings=tuple(findings),
    )


def _thickness(stack: Stack, slices: Slices) -> NDArray[np.float64]:
    """``(Z,)`` SliceThickness of each slice, the least of its planes'; NaN where unknown."""
    of_planes = stack.table.numbers("SliceThickness")
    order = np.lexsort((of_planes, slices.of_plane))
    return of_planes[order][np.unique(slices.of_plane[order], return_index=True)[1]]


def _label(stack: Stack) -> str:
    """The first file of a stack, for messages."""
    return min(plane.instance.source.label for plane in stack.table.planes)
