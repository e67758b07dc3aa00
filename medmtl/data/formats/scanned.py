"""What formats that read DICOM share: a loaded plan as a volume, and the findings of all that was left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from medmtl.data.dicom.load import load
from medmtl.data.dicom.model import LoadedVolume, Scan, VolumePlan
from medmtl.data.dicom.suv import SuvKind
from medmtl.data.nifti import Geometry, Volume
from medmtl.types import CaseError, Finding


def as_volume(loaded: LoadedVolume) -> Volume:
    """Voxels of a plan with their grid and, where it is known, the time between frames."""
    plan = loaded.plan
    geometry = Geometry((plan.shape[0], plan.shape[1], plan.shape[2]), plan.frames, plan.affine)
    step = plan.time.step_ms if plan.time is not None else None
    return Volume(
        loaded.array, geometry, step if step is not None and np.isfinite(step) and step > 0 else None
    )


def load_plan(plan: VolumePlan, *, suv: SuvKind = "bw", strict: bool = False) -> LoadedVolume:
    """Reads the voxels of a plan; see `medmtl.data.dicom.load`.

    Raises:
        CaseError: as `load`, or ``NO_USABLE_SERIES``: a file is gone since it was found.
    """
    try:
        return load(plan, suv=suv, strict=strict)
    except FileNotFoundError as error:
        text = "files of its series are gone since they were found; see what moves them"
        raise CaseError("NO_USABLE_SERIES", text) from error


def told_of(found: Iterable[Finding], where: str, case_id: str) -> list[Finding]:
    """Findings as those of a case, each with its place below the case's."""
    return [
        replace(finding, where=f"{where}, {finding.where}" if finding.where else where, case_id=case_id)
        for finding in found
    ]


def left_out(scan: Scan, chosen: VolumePlan) -> Iterator[Finding]:
    """Why nothing else of a scan is in the case that was made of one volume.

    What would have been an error of the volume is a warning of a case that does without it.
    """
    for finding in scan.findings:
        yield _milder(finding)
    for series in scan.series:
        name = series.description or series.modality or "series"
        for finding in series.findings:
            yield _milder(finding)
        for plan in series.volumes:
            if plan is not chosen:
                shape = " x ".join(str(n) for n in plan.shape)
                text = f"the {plan.modality} volume {plan.name} ({name}, {shape}) is not part of the case"
                yield Finding("NO_USABLE_SERIES", "info", text, plan.name)


def _milder(finding: Finding) -> Finding:
    return replace(finding, severity="warning") if finding.severity == "error" else finding
