"""Folders, files and archives -> series and the volumes in them; headers only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medmtl.data.dicom.grouping import stacks_of
from medmtl.data.dicom.joining import Draft, join
from medmtl.data.dicom.kinds import described_as_localizer, other_kinds
from medmtl.data.dicom.model import Instance, Scan, Series
from medmtl.data.dicom.naming import named
from medmtl.data.dicom.planes import Problems, unpack
from medmtl.data.dicom.table import Table, columns_of
from medmtl.data.dicom.volumes import volumes_of
from medmtl.types import Finding


def scan(
    sources: Sequence[Path | str],
    *,
    strict: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """What can be made of the DICOM files in some folders, files or archives.

    Args:
        sources: what to look through.
        strict: refuse volumes that would have to be resampled or lack images, instead of warning of them.
        cache: file that remembers headers between scans.
        progress: told from time to time how many files were read, and how many were found so far.

    Returns:
        Series and volumes; the same whatever the files' names, their order or their InstanceNumber.
    """
    from medmtl.data.dicom.instances import read_instances
    from medmtl.data.dicom.sources import find_sources

    found = find_sources([Path(source) for source in sources])
    instances, findings = read_instances(found, cache=cache, progress=progress)
    return arrange(instances, findings, strict=strict)


def arrange(instances: Iterable[Instance], findings: Iterable[Finding] = (), *, strict: bool = False) -> Scan:
    """Series and volumes of files whose headers were read; see `scan`."""
    drafts = _series(instances)
    findings = _handed_out(findings, drafts)
    for draft in drafts:
        _fill(draft)
    join(drafts, strict=strict)
    taken: set[str] = set()
    patients: dict[str, str] = {}
    for draft in drafts:
        _volumes(draft, strict)
    used = {id(p.instance) for d in drafts for plan in d.plans for row in plan.planes for p in row}
    return Scan(tuple(_finished(draft, used, taken, patients) for draft in drafts), tuple(findings))


def _series(instances: Iterable[Instance]) -> list[Draft]:
    """Files by study and series, in the order of study, series number and UID."""
    instances = list(instances)
    columns = columns_of([instance.header for instance in instances])
    groups: dict[tuple[Any, ...], list[Instance]] = {}
    for instance, study, series, patient, number, modality, description in zip(
        instances, *(columns.column(keyword) for keyword in _WHICH), strict=True
    ):
        # the patient, too: careless de-identification gives different patients the same UIDs
        key: tuple[Any, ...] = (study or "", series or "", patient or "")
        if not series:  # without a UID, what else describes a series has to do
            key += (modality or "", number or 0, description or "")
        groups.setdefault(key, []).append(instance)
    drafts = []
    for key in sorted(groups):
        files = groups[key]
        numbers = set(columns_of([file.header for file in files]).column("SeriesNumber")) - {None}
        drafts.append(Draft(key[0], key[1], files, min(numbers) if numbers else None))
    return sorted(drafts, key=lambda d: (d.study_uid, d.number is None, d.number or 0, d.series_uid))


_WHICH = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Patient.Key",
    "SeriesNumber",
    "Modality",
    "SeriesDescription",
)


def _handed_out(findings: Iterable[Finding], drafts: list[Draft]) -> list[Finding]:
    """Gives findings about a file to its series, and returns those about files of none."""
    draft_of = {file.source.label: draft for draft in drafts for file in draft.files}
    others = []
    for finding in findings:
        if finding.where in draft_of:
            draft_of[finding.where].findings.append(finding)
        else:
            others.append(finding)
    return others


def _fill(draft: Draft) -> None:
    """Sorts the files of a series into stacks, and notes what is no part of any."""
    problems = Problems({finding.where for finding in draft.findings})
    if not draft.series_uid:
        message = "no SeriesInstanceUID: grouped by modality, series number and description"
        problems.add("UNDECODABLE", message, min(file.source.label for file in draft.files), "warning")
    images = []
    for instance, kind in zip(draft.files, other_kinds(draft.files), strict=True):
        if kind is None:
            images.append(instance)
        else:
            problems.add(kind.code, kind.message, instance.source.label, "info")
    draft.stacks = stacks_of(Table(unpack(images, problems)))
    draft.findings += problems.findings()


def _volumes(draft: Draft, strict: bool) -> None:
    """Works out the volumes of a series' stacks."""
    scout = bool(draft.stacks) and described_as_localizer(
        draft.stacks[0].table.planes[0].get("SeriesDescription")
    )
    if scout and any("MIXED_ORIENTATION" in stack.mixed for stack in draft.stacks):
        message = "a localizer by its description, in several orientations: no volume"
        draft.findings.append(Finding("LOCALIZER", "info", message, f"series {draft.number}"))
        return
    refused: list[Finding] = []
    lone: list[str] = []
    for stack in draft.stacks:
        plans, said = volumes_of(stack, strict=strict)
        draft.plans += plans
        if stack.mixed and any(finding.code == "SINGLE_SLICE" for finding in said):
            lone += [finding.where for finding in said]
        else:
            refused += said
    codes = sorted({code for stack in draft.stacks for code in stack.mixed})
    for code in codes:
        what = "orientations" if code == "MIXED_ORIENTATION" else "grids (size or pixel spacing)"
        if lone or refused:
            message = (
                f"images of several {what}, and not each is a complete stack of slices; export them apart"
            )
            draft.findings.append(Finding(code, "error", message, min([*lone, *(f.where for f in refused)])))
        plural = f"the series has several {what}; each became a volume of its own"
        draft.plans = [
            replace(plan, findings=(*plan.findings, Finding(code, "warning", plural))) for plan in draft.plans
        ]
    draft.findings += refused
    if scout:
        message = "a localizer (scout) by its description"
        draft.findings.append(
            Finding("LOCALIZER", "warning" if draft.plans else "info", message, f"series {draft.number}")
        )


def _finished(draft: Draft, used: set[int], taken: set[str], patients: dict[str, str]) -> Series:
    """The series of a draft; names its volumes."""
    plans = []
    for plan in named(draft.plans, draft.number, taken):
        header = plan.planes[0][0].instance.header
        patient = header.get("Patient.Key") or f"study {draft.study_uid}"
        plans.append(replace(plan, patient=patients.setdefault(patient, f"p{len(patients) + 1}")))
    files = tuple(sorted(draft.files, key=_identity))
    first = files[0].header
    return Series(
        study_uid=draft.study_uid,
        series_uid=draft.series_uid,
        modality=first.get("Modality") or "",
        description=first.get("SeriesDescription") or "",
        instances=len(files),
        usable=sum(id(file) in used for file in files),
        volumes=tuple(plans),
        findings=tuple(draft.findings),
        files=files,
    )


def _identity(file: Instance) -> tuple[str, str]:
    return (file.header.get("SOPInstanceUID") or "", file.source.label)
