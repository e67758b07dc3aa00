"""DICOM instances made of values alone, for tests of what happens after headers were read."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from medmtl.data.dicom.header import Header
from medmtl.data.dicom.model import Instance, PixelData, Scan, VolumePlan
from medmtl.data.dicom.planes import Problems, unpack
from medmtl.data.dicom.scan import arrange
from medmtl.data.dicom.table import Table
from medmtl.types import Finding

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROWS, COLUMNS = 8, 6


@dataclass(frozen=True)
class Memory:
    """A source without a file."""

    label: str
    content: bytes

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        return self.content[offset : None if length is None else offset + length]

    def size(self) -> int:
        return len(self.content)


def instance(
    z: float = 0.0,
    *,
    x: float = 0.0,
    y: float = 0.0,
    name: str = "",
    content: bytes | None = None,
    **values: Any,
) -> Instance:
    """An axial MR image of 6 x 8 pixels of 2 x 1.5 mm at ``(x, y, z)``; None takes an element away."""
    elements: dict[str, Any] = {
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "SeriesNumber": 7,
        "SeriesDescription": "planes",
        "Modality": "MR",
        "ImageType": ("ORIGINAL", "PRIMARY", "M"),
        "Rows": ROWS,
        "Columns": COLUMNS,
        "BitsAllocated": 16,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "ImagePositionPatient": (x, y, z),
        "ImageOrientationPatient": AXIAL,
        "PixelSpacing": (1.5, 2.0),
    }
    elements |= values
    digest = sha256(repr(sorted(elements.items(), key=str)).encode()).hexdigest()
    elements.setdefault("SOPInstanceUID", f"2.25.{int(digest[:24], 16)}")
    length = 2 * (elements["Rows"] or 0) * (elements["Columns"] or 0) * (elements.get("NumberOfFrames") or 1)
    source = Memory(name or str(elements["SOPInstanceUID"]), bytes(length) if content is None else content)
    header = Header.from_values({key: value for key, value in elements.items() if value is not None})
    return Instance(source, header, "1.2.840.10008.1.2.1", PixelData(0, length))


def cine(slices: int = 3, phases: int = 4, *, step: float = 8.0, **values: Any) -> list[Instance]:
    """A cine whose slices start 2 ms apart; a callable value is asked with slice and phase."""
    return [
        instance(
            step * z,
            **({"TriggerTime": 40.0 * t + 2.0 * z, "InstanceNumber": z * phases + t + 1}
            | {key: value(z, t) if callable(value) else value for key, value in values.items()}),
        )
        for z in range(slices)
        for t in range(phases)
    ]  # fmt: skip


def table_of(instances: list[Instance]) -> Table:
    problems = Problems()
    planes = unpack(instances, problems)
    assert problems.findings() == []
    return Table(planes)


def volumes(found: Scan) -> list[VolumePlan]:
    return [plan for series in found.series for plan in series.volumes]


def findings(found: Scan) -> list[Finding]:
    """All of a scan, its series and its volumes."""
    made = list(found.findings)
    for series in found.series:
        made += series.findings
        made += [finding for plan in series.volumes for finding in plan.findings]
    return made


def codes(found: Scan, *severities: str) -> set[str]:
    """Codes of the findings of these severities; of all where none is named."""
    return {f.code for f in findings(found) if not severities or f.severity in severities}


def only(instances: list[Instance], *, strict: bool = False) -> VolumePlan:
    """The single volume that instances make."""
    found = arrange(instances, strict=strict)
    (plan,) = volumes(found)
    return plan


def positions(plan: VolumePlan) -> np.ndarray:
    """``(Z, T, 3)`` LPS mm."""
    return np.array([[plane.position for plane in row] for row in plan.planes])


def values_of(plan: VolumePlan, keyword: str) -> list[list[Any]]:
    """``[z][t]`` of an element."""
    return [[plane.get(keyword) for plane in row] for row in plan.planes]


def refused(instances: list[Instance], *, strict: bool = False) -> set[str]:
    """Error codes of instances that make no volume."""
    found = arrange(instances, strict=strict)
    assert volumes(found) == []
    return codes(found, "error")
