"""The report of a prediction: what its pages hold, and what they must not hold."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from medmtl.report import build_report
from medmtl.report.prediction.curve import Curves, draw_curves
from medmtl.report.prediction.ranges import REFERENCES, SOURCES, reference
from tests.helpers.predicted import write_predictions


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_predictions(tmp_path_factory.mktemp("predictions"), 10)
    build_report(root)
    return root


@pytest.fixture
def copy(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "copy"))


def page(folder: Path, case_id: str = "1.2.826.1") -> str:
    return (folder / case_id / "report.html").read_text(encoding="utf-8")


def words(html: str) -> str:
    """What a reader sees, tags and scripts left out."""
    text = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_the_cohort_counts_studies_reasons_and_flags(drawn: Path) -> None:
    text = words((drawn / "report.html").read_text())
    for expected in (
        "studies 12 ",
        "with a result 10 83 %",
        "refused 1 ",
        "failed 1 ",
        "flagged 1 10 % of the results",
    ):
        assert expected in text
    assert "TIMEOUT failed 1 a case took longer than allowed" in text
    assert "GAP refused 1 a slice is missing inside the stack Export the series again" in text
    assert "DISAGREEMENT 1 10 %" in text
    assert "NOR 5 50 % 0.800" in text


def test_every_study_with_a_result_has_a_page_and_no_other(drawn: Path) -> None:
    pages = {path.parent.name for path in drawn.glob("*/report.html")}
    assert pages == {f"1.2.826.{number}" for number in range(10)}


def test_pages_are_small_and_load_nothing(drawn: Path) -> None:
    for path in [drawn / "report.html", *drawn.glob("*/report.html")]:
        html = path.read_text()
        assert len(html) < 1_000_000
        assert "default-src 'none'" in html
        assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", html)


def test_a_page_says_what_was_flagged_found_and_left(drawn: Path) -> None:
    text = words(page(drawn))
    assert "LV_EF: 41 % from masks, 61 % from the head" in text
    assert "GANTRY_TILT warning sheared by 3 degrees Nothing: the volume was resampled" in text
    assert "3 series left: 2 LOCALIZER, 1 description" in text
    assert "Quality flags" not in words(page(drawn, "1.2.826.2"))


def test_values_stand_beside_healthy_adults_and_the_cohort(drawn: Path) -> None:
    text = words(page(drawn))
    row = re.search(r"LV_EF \[%\] (\S+) (\S+) (\S+) 48 to 68 51 to 71 (\S+) / (\S+) / (\S+)", text)
    assert row is not None
    masks, head, difference, *spread = (float(cell.replace("−", "-")) for cell in row.groups())
    assert head == 61.0
    assert difference == pytest.approx(head - masks, abs=0.11)
    assert spread == sorted(spread)
    assert "Petersen et al." in text


def test_texts_are_escaped_and_files_of_the_source_are_not_named(drawn: Path) -> None:
    html = page(drawn)
    assert "&lt;because&gt;" in html
    assert "<because>" not in html
    for path in [drawn / "report.html", *drawn.glob("*/report.html")]:
        assert "Doe" not in re.sub(r"base64,[^\"]+", "", path.read_text())


def test_a_damaged_preview_costs_its_own_page_only(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    (copy / "1.2.826.3" / "preview.npz").write_bytes(b"broken")
    build_report(copy)
    assert not (copy / "1.2.826.3" / "report.html").exists()
    assert "1.2.826.3/preview.npz: damaged" in caplog.text
    cohort = (copy / "report.html").read_text()
    assert "1.2.826.2/report.html" in cohort
    assert "1.2.826.3/report.html" not in cohort


def test_a_study_without_pictures_still_has_its_values(copy: Path) -> None:
    (copy / "1.2.826.3" / "preview.npz").unlink()
    build_report(copy)
    text = words(page(copy, "1.2.826.3"))
    assert "No pictures of this study were kept." in text
    assert "LV_EDV [mL]" in text


def test_a_name_that_leads_outside_is_not_followed(copy: Path) -> None:
    outside = copy.parent / "outside"
    outside.mkdir()
    (outside / "prediction.json").write_text("{}")
    table = copy / "predictions.csv"
    table.write_text(table.read_text().replace("1.2.826.4", "../outside"))
    build_report(copy)
    assert not (outside / "report.html").exists()
    assert 'href="../outside' not in (copy / "report.html").read_text()


def test_a_record_cannot_end_the_script_that_it_stands_in(copy: Path) -> None:
    outputs = copy / "outputs.yaml"
    outputs.write_text(outputs.read_text().replace("LV: 3", '"</script><b>": 3'))
    build_report(copy)
    about = re.search(
        r'<script type="application/json" id="about">(.*?)</script>', page(copy), flags=re.DOTALL
    )
    assert about is not None
    assert json.loads(about[1])["structures"][2]["name"] == "</script><b>"


def test_a_table_without_any_row_is_said(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("case_id,status,code,message\n")
    assert "no study has been predicted" in build_report(tmp_path).read_text()


def test_references_are_mean_and_two_deviations_and_named() -> None:
    found = reference("LV_EF", "%")
    assert found is not None
    assert found.limits() == ((48, 68), (51, 71))
    assert found.holds(49)
    assert found.holds(70)
    assert not found.holds(47)
    assert reference("LV_EF", "mL") is None
    assert all(entry.source in SOURCES for entry in REFERENCES.values())


def test_a_curve_is_drawn_to_scale() -> None:
    curves = Curves([0, 50, 100], "time [ms]", {"LV": [100.0, 50.0, 100.0]}, {"LV": "#000"}, {"ES": 1})
    drawing = str(draw_curves(curves))
    points = re.search(r'polyline points="([^"]+)"', drawing)
    assert points is not None
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points[1].split())
    assert x1 == pytest.approx((x0 + x2) / 2)
    assert y0 == y2 < y1
    cursor = re.search(r'data-x="([^"]+)"', drawing)
    assert cursor is not None
    assert [float(x) for x in cursor[1].split()] == pytest.approx([x0, x1, x2], abs=0.06)


def test_only_pages_whose_study_changed_or_that_are_not_whole_are_drawn_again(copy: Path) -> None:
    before = {path: path.read_bytes() for path in copy.glob("*/report.html")}
    record = copy / "1.2.826.2" / "prediction.json"
    build_report(copy)  # in the copy, files have other times
    drawn = {path: path.stat().st_mtime_ns for path in before}
    half = copy / "1.2.826.4" / "report.html"
    half.write_bytes(half.read_bytes()[:-200])
    record.write_text(json.dumps({**json.loads(record.read_text()), "notes": ["made once more"]}))
    cut = half.stat().st_mtime_ns
    build_report(copy)
    again = {path for path in before if path.stat().st_mtime_ns != drawn[path]}
    assert again == {record.with_name("report.html"), half}
    assert half.stat().st_mtime_ns != cut
    assert half.read_text().rstrip().endswith("-->")
    assert "made once more" in words(page(copy, "1.2.826.2"))
