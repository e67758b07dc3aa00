from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data.dicom import scan
from medmtl.data.dicom.header import Header
from medmtl.data.dicom.model import Instance, Scan
from medmtl.data.dicom.scan import arrange
from medmtl.types import Finding
from tests.helpers.dicom_headers import Memory, cine, codes, findings, instance, only, volumes
from tests.helpers.dicom_writer import ge_cine, write


def study() -> list[Instance]:
    """A cine, a series per slice, two echoes, a localizer, a report and files that are wrong."""
    pieces = cine(
        4,
        3,
        SeriesInstanceUID=lambda z, t: f"1.5.{z}",
        SeriesNumber=lambda z, t: 10 + z,
        SeriesDescription="sax",
    )
    echoes = [
        instance(2.0 * z, SeriesInstanceUID="1.8", SeriesNumber=3, EchoTime=te)
        for z in range(4)
        for te in (2.3, 4.6)
    ]
    others = [
        instance(SeriesInstanceUID="1.9", SeriesNumber=1, ImageType=("ORIGINAL", "PRIMARY", "LOCALIZER")),
        instance(SeriesInstanceUID="1.10", SeriesNumber=99, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67"),
        instance(SeriesInstanceUID="1.11", SeriesNumber=5, ImagePositionPatient=None),
        instance(SeriesInstanceUID="1.12", SeriesNumber=6, **{"Patient.Key": "somebody else"}),
    ]
    return [*cine(3, 4), *pieces, *echoes, *others]


def told(found: Scan) -> list[Any]:
    """Everything that a scan says, in plain values; files by their UID."""
    return [
        (
            one.series_uid,
            one.instances,
            one.usable,
            [(f.code, f.severity, f.message) for f in one.findings],
            [
                (
                    plan.name,
                    plan.shape,
                    plan.affine.tolist(),
                    plan.patient,
                    dict(plan.attributes),
                    None if plan.time is None else (plan.time.times_ms.tolist(), plan.time.how),
                    [[plane.get("SOPInstanceUID") for plane in row] for row in plan.planes],
                    [(f.code, f.severity, f.message, f.where) for f in plan.findings],
                )
                for plan in one.volumes
            ],
        )
        for one in found.series
    ]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_order_names_and_instance_numbers_of_files_change_nothing(data: st.DataObject) -> None:
    files = study()
    expected = told(arrange(files))
    order = data.draw(st.permutations(range(len(files))), label="order")
    labels = data.draw(st.permutations([f"f{n:03d}" for n in range(len(files))]), label="names")
    numbers = data.draw(st.permutations(range(len(files))), label="InstanceNumber")
    shuffled = [
        replace(
            files[n],
            source=Memory(labels[n], files[n].source.read()),
            header=Header.from_values(files[n].header.as_dict() | {"InstanceNumber": numbers[n]}),
        )
        for n in order
    ]
    assert told(arrange(shuffled)) == expected


def test_nothing_is_nothing() -> None:
    assert arrange([]) == Scan((), ()) or arrange([]).series == ()


def test_series_come_in_the_order_of_study_number_and_uid() -> None:
    images = [
        instance(SeriesInstanceUID=uid, SeriesNumber=number, StudyInstanceUID=of)
        for of, number, uid in [("1.3", 1, "1.1"), ("1.2", None, "1.2"), ("1.2", 8, "1.4"), ("1.2", 8, "1.3")]
    ]
    assert [series.series_uid for series in arrange(images).series] == ["1.3", "1.4", "1.2", "1.1"]


def test_findings_about_files_are_told_with_their_series_and_the_rest_with_the_scan() -> None:
    files = [instance(3.0 * z, name=f"f{z}") for z in range(4)]
    about = [Finding("TRUNCATED", "error", "cut", "f2"), Finding("UNDECODABLE", "error", "no file", "notes")]
    files[2] = Instance(files[2].source, files[2].header, "", None)
    found = arrange(files, about)
    assert [finding.where for finding in found.findings] == ["notes"]
    assert [finding.code for finding in found.series[0].findings] == ["TRUNCATED", "GAP"]


def test_patients_are_numbered_and_nothing_else_is_said_of_them() -> None:
    files = [
        instance(
            3.0 * z,
            SeriesInstanceUID=f"1.{n}",
            SeriesNumber=n,
            StudyInstanceUID=f"1.2.{n}",
            **{"Patient.Key": key},
        )
        for n, key in enumerate(["digest-a", "digest-b", "digest-a"])
        for z in range(3)
    ]
    assert [plan.patient for plan in volumes(arrange(files))] == ["p1", "p2", "p1"]
    assert not [f for f in findings(arrange(files)) if "digest" in f.message]


def test_without_a_key_every_study_is_a_patient_of_its_own() -> None:
    files = [instance(3.0 * z, StudyInstanceUID=f"1.2.{n}") for n in range(2) for z in range(3)]
    assert [plan.patient for plan in volumes(arrange(files))] == ["p1", "p2"]


def test_time_is_never_stacked_into_space() -> None:
    # bare readers pile 3 slices x 4 phases into 12 slices 1.455 mm apart
    plan = only(cine(3, 4))
    assert plan.shape == (6, 8, 3, 4)
    assert plan.spacing_mm == pytest.approx((2.0, 1.5, 8.0))


def test_a_missing_slice_is_no_wider_spacing() -> None:
    # bare readers turn 8 mm and one missing slice into 10 mm without a word
    found = arrange([instance(8.0 * z) for z in (0, 1, 3, 4)])
    assert volumes(found) == []
    assert codes(found) == {"GAP"}


def test_two_series_in_a_folder_are_not_interleaved() -> None:
    images = [
        instance(8.0 * z, SeriesInstanceUID=f"1.{n}", SeriesNumber=n) for z in range(3) for n in range(2)
    ]
    assert [plan.shape for plan in volumes(arrange(images))] == [(6, 8, 3), (6, 8, 3)]


def test_series_are_counted_with_what_could_be_used() -> None:
    images = [*[instance(3.0 * z) for z in range(4)], instance(ImagePositionPatient=None)]
    (series,) = arrange(images).series
    assert (series.instances, series.usable, len(series.files)) == (5, 4, 5)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_of_files_is_scanned(kind: Any, tmp_path: Path) -> None:
    told_of: list[tuple[int, int]] = []
    write(ge_cine(), tmp_path)
    found = scan([kind(tmp_path)], progress=lambda done, expected: told_of.append((done, expected)))
    (plan,) = volumes(found)
    assert plan.shape == (12, 16, 5, 4)
    assert told_of[-1][0] == 20


def test_a_scan_keeps_the_planes_of_a_slice_in_the_order_of_time() -> None:
    plan = only(cine(2, 5)[::-1])
    times: Sequence[float] = [plane.get("TriggerTime") for plane in plan.planes[1]]
    assert list(times) == sorted(times)
    assert np.all(np.diff([row[0].position[2] for row in plan.planes]) > 0)


NUMBERS = (
    "TriggerTime", "TemporalPositionIdentifier", "CardiacNumberOfImages", "NominalInterval", "SliceThickness",
    "EchoTime", "DiffusionBValue", "InversionTime", "GantryDetectorTilt", "SeriesNumber", "InstanceNumber",
    "NumberOfFrames", "RepetitionTime", "AcquisitionNumber", "NumberOfTemporalPositions", "FlipAngle",
)  # fmt: skip
TEXTS = (
    "Modality",
    "AcquisitionTime",
    "AcquisitionDate",
    "SeriesDescription",
    "StackID",
    "SeriesInstanceUID",
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_headers_say_a_scan_ends_in_volumes_or_findings(data: st.DataObject) -> None:
    files = cine(data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4)))
    for _ in range(data.draw(st.integers(1, 6))):
        n = data.draw(st.integers(0, len(files) - 1))
        kind = data.draw(st.sampled_from(["number", "text", "place"]))
        if kind == "number":
            change = {
                data.draw(st.sampled_from(NUMBERS)): data.draw(st.one_of(st.none(), st.floats(-1e9, 1e9)))
            }
        elif kind == "text":
            change = {
                data.draw(st.sampled_from(TEXTS)): data.draw(st.one_of(st.none(), st.text(max_size=12)))
            }
        else:
            keyword, size = data.draw(
                st.sampled_from(
                    [("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)]
                )
            )
            numbers = st.tuples(*[st.floats(-1e9, 1e9)] * size)
            change = {keyword: data.draw(st.one_of(st.none(), numbers))}
        everything = data.draw(st.booleans())
        for number, file in enumerate(files):
            if everything or number == n:
                values = {**file.header.as_dict(), **change}
                header = Header.from_values(
                    {key: value for key, value in values.items() if value is not None}
                )
                files[number] = replace(file, header=header)
    found = arrange(files, strict=data.draw(st.booleans()))
    assert sum(series.instances for series in found.series) == len(files)
    for plan in volumes(found):
        assert np.isfinite(plan.affine).all()
        assert np.linalg.det(plan.affine[:3, :3]) > 0
        assert len({id(plane) for row in plan.planes for plane in row}) == len(plan.planes) * len(
            plan.planes[0]
        )
    if not volumes(found):
        assert codes(found, "error", "info")
