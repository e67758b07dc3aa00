from __future__ import annotations

from typing import Any

import pytest

from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.planes import Problems, unpack
from medmtl.data.dicom.table import Table, columns_of
from medmtl.types import Finding
from tests.helpers.dicom_headers import instance


def problems_of(*instances: Instance) -> list[Finding]:
    problems = Problems()
    assert unpack(instances, problems) == []
    return problems.findings()


@pytest.mark.parametrize(
    "values",
    [
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": None},
        {"ImageOrientationPatient": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)},
        {"PixelSpacing": None},
        {"PixelSpacing": (0.0, 1.0)},
        {"PixelSpacing": None, "ImagerPixelSpacing": (0.2, 0.2)},
        {"NumberOfFrames": 3},
    ],
)
def test_an_image_that_does_not_say_where_it_is_is_named(values: dict[str, Any]) -> None:
    (finding,) = problems_of(instance(name="some/file", **values))
    assert (finding.code, finding.severity, finding.where) == ("MISSING_GEOMETRY", "error", "some/file")


@pytest.mark.parametrize("values", [{"Rows": None}, {"Columns": None}, {"Rows": 0}])
def test_an_image_of_no_size_cannot_be_decoded(values: dict[str, Any]) -> None:
    (finding,) = problems_of(instance(**values))
    assert finding.code == "UNDECODABLE"


def test_an_image_without_pixels_cannot_be_decoded() -> None:
    whole = instance()
    (finding,) = problems_of(Instance(whole.source, whole.header, "", None))
    assert finding.code == "UNDECODABLE"


def test_what_was_said_when_a_file_was_read_is_not_said_again() -> None:
    problems = Problems(told={"cut"})
    cut = instance(name="cut")
    assert unpack([Instance(cut.source, cut.header, "", None)], problems) == []
    assert problems.findings() == []


def test_a_thousand_files_with_one_problem_are_one_finding() -> None:
    files = [instance(ImagePositionPatient=None, name=f"f{n:04d}", InstanceNumber=n) for n in range(1000)]
    (finding,) = problems_of(*files)
    assert "1000 files" in finding.message
    assert finding.where == "f0000 and 999 more"


def test_a_classic_file_is_one_plane_and_shares_its_orientation() -> None:
    problems = Problems()
    planes = unpack([instance(8.0, y=3.0), instance(16.0)], problems)
    assert problems.findings() == []
    assert [plane.frame for plane in planes] == [0, 0]
    assert planes[0].position is not None
    assert planes[0].position.tolist() == [0.0, 3.0, 8.0]
    assert planes[0].orientation is planes[1].orientation
    assert (planes[0].spacing_mm, planes[0].shape) == ((1.5, 2.0), (8, 6))


def test_empty_functional_groups_in_a_classic_file_are_no_enhanced_file() -> None:
    odd = instance(3.0, PerFrameFunctionalGroupsSequence=[{}])
    (plane,) = unpack([odd], Problems())
    assert plane.items == ()


def test_a_table_holds_columns_of_many_planes() -> None:
    planes = unpack([instance(z, EchoTime=te) for z, te in ((1.0, 4.6), (2.0, None), (3.0, 4.6))], Problems())
    table = Table(planes)
    assert len(table) == 3
    assert table.column("EchoTime") == [4.6, None, 4.6]
    assert table.only("EchoTime") is None
    assert table.take([2, 0]).column("EchoTime") == [4.6, 4.6]
    assert table.take([2, 0]).only("EchoTime") == 4.6
    assert table.take([2, 0]).position[:, 2].tolist() == [3.0, 1.0]
    assert table.numbers("EchoTime")[0] == 4.6


def test_columns_are_what_each_header_says_whether_headers_share_elements_or_not() -> None:
    first = instance(1.0, EchoTime=4.6, FlipAngle=20.0).header
    same = instance(1.0, EchoTime=4.6, FlipAngle=20.0).header.upon(first)
    other = instance(2.0, EchoTime=9.2, FlipAngle=20.0, KVP=120.0).header.upon(first)
    alone = instance(3.0, FlipAngle=None, EchoTime=1.0).header
    for headers in ([first, same, other, alone], [other, first], [same], [alone, other], []):
        columns = columns_of(headers)
        assert len(columns) == len(headers)
        for keyword in ("EchoTime", "FlipAngle", "KVP", "ImagePositionPatient", "Modality"):
            assert columns.column(keyword) == [header.get(keyword) for header in headers]
