"""Real studies as sources of a prediction: which series are taken, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest

from medmtl.inference.find import Rule, find_items, parse_rule
from medmtl.inference.find.index import StudyIndex
from medmtl.inference.heartrate import heart_rate
from medmtl.inference.items import Item
from medmtl.types import Finding

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


@dataclass(frozen=True)
class Wants:
    channels: tuple[str, ...] = ("image",)
    covariates: tuple[str, ...] = ()
    select: Rule = field(default_factory=Rule)


def find(*sources: Path, wants: Wants = Wants(), select: str = "") -> list[Item]:
    findings: list[Finding] = []
    items = list(find_items(sources, wants, select=select, findings=findings))
    assert [finding for finding in findings if finding.severity == "error"] == []
    return items


def test_the_short_axis_cine_is_taken_and_the_incomplete_one_is_refused(realdata: Path) -> None:
    items = find(
        realdata / "sunnybrook", select="modality=MR,orientation=short-axis,frames=10-40,min_slices=6"
    )
    assert {item.refused[0] if item.refused else item.chosen for item in items} == {"s005", "INCOMPLETE_GRID"}
    assert sum(len(item.paths) for item in items) == 2


def test_no_axial_stack_passes_for_a_short_axis(realdata: Path) -> None:
    items = find(realdata / "ibsi_validation", realdata / "dcmqi", select="orientation=short-axis")
    assert items
    assert all(item.refused is not None and "is not short-axis" in item.refused[1] for item in items)


def test_ct_and_pet_of_one_study_are_two_channels(realdata: Path) -> None:
    rule = parse_rule({"ct": {"modality": "CT"}, "pet": {"modality": "PT"}}, ["ct", "pet"])
    (item,) = find(realdata / "ibsi_validation" / "STS_008", wants=Wants(("ct", "pet"), select=rule))
    assert item.refused is None
    assert item.chosen == "s002+s001"
    assert len(item.uids) == 3
    assert any("MR" in text and "modality" not in text for text in item.left)


def test_the_heart_rate_of_a_ge_cine_is_in_its_header(realdata: Path) -> None:
    from medmtl.data.dicom import scan

    (series,) = scan([realdata / "sunnybrook" / "dicoms" / "SCD0000301"]).series
    assert heart_rate(series.volumes[0]) == (65.0, "HeartRate")


def test_every_readable_file_that_pydicom_ships_ends_up_in_exactly_one_study() -> None:
    if not SHIPPED.is_dir():
        pytest.skip("pydicom came without its test files")
    index = StudyIndex([SHIPPED])
    uids = {key: study.uid for key, study in index.studies.items()}
    items = find(SHIPPED)
    studies = [item for item in items if not item.case_id.startswith("unreadable-")]
    assert len(studies) == len(uids)
    assert len({item.key for item in items}) == len({item.case_id for item in items}) == len(items)
    assert {item.study_uid for item in studies} == set(uids.values())
    assert sum(item.refused is None for item in items) >= 1
