"""Which volume of a study is taken, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmtl.data.dicom import Scan, scan
from medmtl.inference.find import choose, parse_rule
from medmtl.inference.find.select import points, sentences, summary
from tests.helpers import dicom_writer as writer

STUDY = writer.uid("one", "study")


def write(export: writer.Export, folder: Path, name: str, **tags: object) -> None:
    """One more series of the study."""
    made = replace(export, name=name, tags={**export.tags, "StudyInstanceUID": STUDY, **tags})
    writer.write(made, folder / name)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """A localizer, a short-axis cine, its copy with fewer phases, an axial volume, a CT and a report."""
    folder = tmp_path_factory.mktemp("study")
    scout = writer.mr_volume()
    write(scout, folder, "scout", SeriesDescription="LOCALIZER", SeriesNumber=1)
    write(writer.ge_cine(phases=3), folder, "short", SeriesDescription="cine SAX early", SeriesNumber=2)
    write(writer.ge_cine(), folder, "cine", SeriesDescription="cine SAX", SeriesNumber=3)
    axial = replace(writer.ct(), modality="MR")
    write(axial, folder, "axial", SeriesDescription="t1 [tra] 1*", SeriesNumber=4)
    write(writer.ct(), folder, "ct", SeriesNumber=5, SeriesDescription="chest")
    return scan([folder])


def chosen(study: Scan, section: dict[str, object]) -> str:
    return choose(study, parse_rule(section, ["cine"])).name


def test_more_frames_are_preferred(study: Scan) -> None:
    assert chosen(study, {"modality": "MR", "frames": [2, None]}) == "s003"


def test_fewer_frames_are_taken_where_the_rule_wants_them(study: Scan) -> None:
    assert chosen(study, {"frames": [2, 3]}) == "s002"


def test_a_word_fits_anywhere_in_a_description_in_any_case(study: Scan) -> None:
    assert chosen(study, {"description": "EARLY"}) == "s002"


@pytest.mark.parametrize(("pattern", "found"), [("*sax", "s003"), ("?hest", "s005"), ("t1 [tra] ?*", "s004")])
def test_a_glob_fits_the_whole_description_and_nothing_else_in_it_is_special(
    study: Scan, pattern: str, found: str
) -> None:
    assert chosen(study, {"description": pattern}) == found


def test_what_is_excluded_is_not_taken(study: Scan) -> None:
    assert chosen(study, {"modality": "MR", "exclude": ["early", "cine sax"]}) == "s004"


@pytest.mark.parametrize(("orientation", "found"), [("axial", "s004"), ("short-axis", "s003")])
def test_the_orientation_is_that_of_the_normal(study: Scan, orientation: str, found: str) -> None:
    assert chosen(study, {"modality": "MR", "orientation": orientation}) == found


def test_a_direction_counts_either_way_round() -> None:
    normal = np.array([-0.64, 0.54, -0.54])
    assert points(normal, "short-axis")
    assert points(-3 * normal, "short-axis")
    assert not points(np.array([0.0, 0.0, 1.0]), "short-axis")
    assert not points(np.array([0.0, 0.7, 0.7]), "axial")


def test_every_series_that_is_left_is_named_with_its_reason(study: Scan) -> None:
    choice = choose(study, parse_rule({"modality": "MR", "description": "sax"}, ["cine"]))
    assert choice.name == "s003"
    assert {(left.name, left.reason) for left in choice.left} == {
        ("s001", "LOCALIZER"),
        ("s002", "rank"),
        ("s004", "description"),
        ("s005", "modality"),
    }
    assert summary(choice.left).startswith("4 series left: ")
    assert len(sentences(choice.left)) == 5
    assert not any("chest" in text or "secret" in text for text in sentences(choice.left))


def test_a_study_without_what_is_wanted_is_refused_with_the_reasons(study: Scan) -> None:
    choice = choose(study, parse_rule({"modality": "MR", "frames": [10, 40]}, ["cine"]))
    assert choice.plans == ()
    assert choice.refused is not None
    code, text = choice.refused
    assert code == "NO_USABLE_SERIES"
    assert "5 series left: 3 frames, 1 LOCALIZER, 1 modality" in text
    assert "s003 (MR, 12 x 16 x 5 x 4) has 4 frame(s), not 10 to 40" in text
    assert "--select" in text


def test_too_few_slices_are_told(study: Scan) -> None:
    choice = choose(study, parse_rule({"modality": "CT", "min_slices": 6}, ["ct"]))
    assert choice.refused is not None
    assert "has 5 slices, fewer than 6" in choice.refused[1]


def test_each_channel_gets_its_own_volume(study: Scan) -> None:
    rule = parse_rule({"frames": 1, "ct": {"modality": "CT"}, "mr": {"modality": "MR"}}, ["mr", "ct"])
    assert choose(study, rule).name == "s004+s005"


def test_a_study_whose_only_series_is_broken_is_refused_with_its_own_code(tmp_path: Path) -> None:
    export = writer.mr_volume()
    export.frames = [frame for frame in export.frames if frame.z != 2]
    found = scan([writer.write(export, tmp_path / "gap")])
    choice = choose(found, parse_rule(None, ["image"]))
    assert choice.refused is not None
    assert choice.refused[0] == "GAP"
