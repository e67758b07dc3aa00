"""Reads a report again and compares it with what it was to say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmtl.data.dicom.by_pydicom import pydicom_errors
from medmtl.data.dicom.decode import quiet
from medmtl.inference.dicom.report import Content
from medmtl.types import CaseError


@dataclass(frozen=True)
class Said:
    """A number, code or reference in a report, as it is read again."""

    kind: str
    code: tuple[str, str]
    value: Any


def check_sr(path: Path, content: Content, patient_id: str) -> None:
    """Make sure that a report says what it was to say: patient, study, numbers, classes, segments.

    Raises:
        CaseError: ``LABEL_VALUES``, ``UNDECODABLE``.
    """
    from pydicom import dcmread

    with quiet():
        try:
            found = dcmread(path)
            said = list(_said(found))
        except pydicom_errors() as error:
            raise CaseError("UNDECODABLE", f"{path.name} cannot be read again ({error})") from error
    if found.StudyInstanceUID != content.study_uid:
        raise CaseError("LABEL_VALUES", "the report, read again, belongs to another study")
    if str(found.PatientID or "") != patient_id:
        raise CaseError("LABEL_VALUES", "the report, read again, belongs to another patient")
    numbers = [(m.code.value, m.code.scheme, m.value, m.unit.value) for m in content.measurements]
    told = [(*one.code, *one.value) for one in said if one.kind == "NUM"]
    for number in numbers:
        near = [one for one in told if one[:2] == number[:2] and one[3] == number[3]]
        if not any(math.isclose(one[2], number[2], rel_tol=1e-6, abs_tol=1e-12) for one in near):
            raise CaseError("LABEL_VALUES", "the report, read again, lacks a measurement")
    classes = {(e.code.value, e.value_code.value) for e in content.evaluations}
    if not classes <= {(one.code[0], one.value) for one in said if one.kind == "CODE"}:
        raise CaseError("LABEL_VALUES", "the report, read again, lacks a class")
    if content.segmentation is not None and content.names_segments:
        numbers_of = content.segmentation.numbers
        measured = {m.segment for m in content.measurements if m.segment is not None}
        wanted = {numbers_of[value] for value in measured if value in numbers_of}
        references = {one.value for one in said if one.kind == "IMAGE" and one.code[0] == "121191"}
        if references != {(content.segmentation.uid, number) for number in wanted}:
            raise CaseError("LABEL_VALUES", "the report, read again, refers to other segments")


def _said(item: Any) -> Iterator[Said]:
    """Every content item below one."""
    for inner in item.get("ContentSequence") or ():
        name = _code(inner.ConceptNameCodeSequence[0]) if "ConceptNameCodeSequence" in inner else ("", "")
        if inner.ValueType == "NUM":
            measured = inner.MeasuredValueSequence[0]
            unit = _code(measured.MeasurementUnitsCodeSequence[0])[0]
            yield Said("NUM", name, (float(measured.NumericValue), unit))
        elif inner.ValueType == "CODE":
            yield Said("CODE", name, _code(inner.ConceptCodeSequence[0])[0])
        elif inner.ValueType == "IMAGE":
            reference = inner.ReferencedSOPSequence[0]
            number = reference.get("ReferencedSegmentNumber")
            yield Said("IMAGE", name, (str(reference.ReferencedSOPInstanceUID), number and int(number)))
        yield from _said(inner)


def _code(item: Any) -> tuple[str, str]:
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    return str(value), str(item.get("CodingSchemeDesignator"))
