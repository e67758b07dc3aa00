"""What a scan found, as a document for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl._version import __version__
from medmtl.types import Finding

if TYPE_CHECKING:
    from medmtl.data.dicom.model import Scan, Series, VolumePlan

ALONE = "files that belong to no series"
"""Description of the entry, without UIDs, for files whose header cannot be read."""
_DIGITS = 6


def look(
    sources: Sequence[Path],
    *,
    strict: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """What `as_dict` says of some sources; with a cache, what it said the last time if no file has changed.

    Args:
        sources: folders, files, archives.
        strict: see ``medmtl.data.dicom.scan``.
        cache: file that remembers headers and answers.
        progress: told how many files were read, and found, so far.
    """
    from medmtl.data.dicom import scan
    from medmtl.data.dicom.remembered import remembered_answer

    def make() -> bytes:
        return json.dumps(as_dict(scan(sources, strict=strict, cache=cache, progress=progress))).encode()

    about = f"inspect {__version__} strict={strict}"
    found: dict[str, Any] = json.loads(
        make() if cache is None else remembered_answer(sources, cache, about, make)
    )
    return found


def printable(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document of ``medmtl inspect --json``: without the notes on files that are none of its series."""
    return {"series": document["series"]}


def all_findings(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Every finding of a document, with the number of the series that it is about."""
    for number, series in enumerate(document["series"], start=1):
        for finding in series["findings"]:
            yield "" if is_alone(series) else str(number), finding
    for finding in document["notes"]:
        yield "", finding


def is_alone(series: Mapping[str, Any]) -> bool:
    """Whether an entry stands for files that belong to no series."""
    return not series["series_uid"] and series["description"] == ALONE


def is_refused(document: Mapping[str, Any]) -> bool:
    """Whether a file, a series or a volume cannot be used."""
    return any(finding["severity"] == "error" for _, finding in all_findings(document))


def _concluded(scan: Scan) -> Scan:
    """The scan with what headers say of its values, and with ``NO_USABLE_SERIES`` where it gives nothing.

    The latter only where no other error says why.
    """
    made = [_with_values(series) for series in scan.series]
    findings = scan.findings
    errors = any(f.severity == "error" for f in (*findings, *(f for one in made for f in _findings_of(one))))
    if not any(series.volumes for series in made) and not errors:
        files = sum(series.instances for series in made)
        what = f"{files} DICOM files, none of which is part of a volume" if files else "no DICOM image"
        findings = (*findings, Finding("NO_USABLE_SERIES", "error", f"found {what}"))
    return replace(scan, series=tuple(made), findings=findings)


def _with_values(series: Series) -> Series:
    """A series with what loading would say of its volumes; without those that could not be loaded."""
    from medmtl.data.dicom.load import findings_of_values

    plans, findings, usable = [], list(series.findings), series.usable
    for plan in series.volumes:
        more = findings_of_values(plan)
        if any(finding.severity == "error" for finding in more):
            findings += [*plan.findings, *more]
            usable -= len({id(plane.instance) for of_slice in plan.planes for plane in of_slice})
        else:
            plans.append(replace(plan, findings=(*plan.findings, *more)))
    return replace(series, volumes=tuple(plans), findings=tuple(findings), usable=max(usable, 0))


def as_dict(scan: Scan) -> dict[str, Any]:
    """A scan as a document.

    Returns:
        ``{"series": [...], "notes": [...]}``. Each series has ``study_uid, series_uid, modality, description,
        instances, usable``, ``volumes`` and ``findings``; a volume has ``shape``, ``spacing_mm``, ``affine``
        (RAS+ mm), ``frames`` and ``time_ms``, one per frame (None where only their order is known). Files
        that belong to no series and are refused are one more entry, without UIDs; notes are findings on
        other files.
    """
    scan = _concluded(scan)
    series = [_series(entry) for entry in scan.series]
    files = [finding for finding in scan.findings if finding.severity != "info"]
    notes = [finding for finding in scan.findings if finding.severity == "info"]
    if files:
        alone = {"study_uid": "", "series_uid": "", "modality": "", "description": ALONE}
        counts = {"instances": sum(bool(finding.where) for finding in files), "usable": 0, "volumes": []}
        series.append({**alone, **counts, "findings": [_finding(finding) for finding in files]})
    return {"series": series, "notes": [_finding(finding) for finding in notes]}


def _series(series: Series) -> dict[str, Any]:
    return {
        "study_uid": series.study_uid,
        "series_uid": series.series_uid,
        "modality": series.modality,
        "description": series.description,
        "instances": series.instances,
        "usable": series.usable,
        "volumes": [_volume(plan) for plan in series.volumes],
        "findings": [_finding(finding) for finding in _findings_of(series)],
    }


def _volume(plan: VolumePlan) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": plan.name,
        "shape": list(plan.shape),
        "spacing_mm": [round(size, _DIGITS) for size in plan.spacing_mm],
        "affine": plan.affine.tolist(),
        "frames": plan.frames,
        "time_ms": [0.0],
        "attributes": {name: _plain(value) for name, value in plan.attributes.items()},
    }
    if plan.time is not None:
        document["time_ms"] = _numbers(plan.time.times_ms)
        if plan.time.by_slice_ms is not None:
            document["time_ms_by_slice"] = [_numbers(row) for row in plan.time.by_slice_ms]
        document |= {"time_from": plan.time.how, "time_sure": plan.time.sure}
    if plan.frame_ed is not None or plan.frame_es is not None:
        document |= {"frame_ed": plan.frame_ed, "frame_es": plan.frame_es}
    return document


def _numbers(values: Iterable[float]) -> list[float | None]:
    """Times, with None where nothing says when a frame was taken."""
    return [float(value) if math.isfinite(value) else None for value in values]


def _plain(value: Any) -> Any:
    """A value that JSON has a word for."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return str(value)


def _finding(finding: Finding) -> dict[str, str]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": finding.message,
        "where": finding.where,
    }


def _findings_of(series: Series) -> list[Finding]:
    """A series' own findings and its volumes', each once."""
    found = [*series.findings, *(finding for plan in series.volumes for finding in plan.findings)]
    return list(dict.fromkeys(found))
