"""The report as a reader's browser gets it: one file, everything in it, nothing else."""

from __future__ import annotations

import base64
import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medmtl.data.dataset import open_dataset
from medmtl.evaluation import evaluate_predictions
from medmtl.report import build_report
from medmtl.types import ConfigError, OutputError

VOID = {"meta", "img", "br", "hr", "input", "link"}
SECTIONS = [
    "summary",
    "overlays",
    "classification",
    "agreement",
    "cine",
    "cases",
    "training",
    "weights",
]


class Page(HTMLParser):
    """What a page holds, by tag; `unclosed` and `crossed` tell of broken nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.crossed: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.section = ""
        self._caption = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag == "section":
            self.section = attributes["id"]
        if tag == "tr" and self._caption:
            self.tables[self._caption].append([])
        if tag in ("td", "th") and self._caption:
            self.tables[self._caption][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)
        if tag == "table":
            self._caption = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.section, []).append(data)
        if "caption" in self.open:
            self._caption = data
            self.tables[data] = []
        elif self._caption and ("td" in self.open or "th" in self.open):
            self.tables[self._caption][-1][-1] += data.strip() + ("" if "small" not in self.open else ";")

    def text(self, section: str) -> str:
        return " ".join(" ".join(self.texts.get(section, [])).split())

    def attributes(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def text(study: Any) -> str:
    return build_report(study.evaluation).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


@pytest.fixture
def copy(study: Any, tmp_path: Path) -> Any:
    """The evaluation folder, to be damaged; its dataset and run stay where they are."""
    shutil.copytree(study.evaluation, tmp_path / "evaluation")
    return replace(study, evaluation=tmp_path / "evaluation")


def test_an_evaluation_shows_every_section_and_none_is_missing(page: Page) -> None:
    assert [section["id"] for section in page.attributes("section")] == SECTIONS
    assert not [tag for tag in page.attributes("p") if tag.get("class") == "missing"]


def test_the_page_is_well_nested_and_its_ids_are_unique(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert page.crossed == []
    assert page.open == []
    assert len(ids) == len(set(ids))


def test_every_reference_points_into_the_page(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    addresses = [
        a[name] for _, a in page.tags for name in ("src", "href", "xlink:href", "action") if name in a
    ]
    assert addresses
    for address in addresses:
        assert address.startswith("data:image/png;base64,") or address.removeprefix("#") in ids
    assert not page.attributes("link")


def test_no_style_or_script_reaches_outside(text: str) -> None:
    assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import|fetch\(|XMLHttpRequest", text)
    assert "default-src 'none'" in text


def test_every_picture_decodes_and_has_a_text_alternative(page: Page) -> None:
    from PIL import Image

    pictures = page.attributes("img")
    assert len(pictures) == 3
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2])))
        assert min(image.size) > 200
        assert len(picture["alt"]) > 20
    drawings = page.attributes("svg")
    assert len(drawings) == 6
    assert all(drawing["role"] == "img" and len(drawing["aria-label"]) > 20 for drawing in drawings)


def test_the_worst_case_comes_first_in_the_table_and_among_the_pictures(page: Page) -> None:
    rows = page.tables["Cases by mean Dice, worst first"]
    scores = [float(row[2]) for row in rows[1:]]
    assert rows[1][1] == "case_worst"
    assert scores == sorted(scores)
    assert [picture["alt"].partition(", the ")[2].split()[0] for picture in page.attributes("img")] == [
        "worst",
        "median",
        "best",
    ]
    assert "case case_worst" in page.attributes("img")[0]["alt"]


def test_names_and_messages_are_escaped(text: str, page: Page) -> None:
    assert "case&lt;refused&gt;" in text
    assert "<refused>" not in text
    assert "<study>" not in text
    assert page.tables["Left out, or scored in part"][1] == [
        "case<refused>",
        "refused",
        "GAP",
        "slice 4 of <study> is missing",
    ]


def test_a_metric_without_labels_says_so(page: Page) -> None:
    rows = {row[0]: row for row in page.tables["function"]}
    assert rows["LV_mass"] == ["LV_mass", "0", "no labels"]


def test_metrics_carry_interval_unit_and_number_of_cases(page: Page) -> None:
    rows = {row[0]: row for row in page.tables["anatomy"]}
    assert rows[""] == ["", "n", "Dice", "Dice ED", "Dice ES", "HD95 [mm]"]
    assert rows["LV"][1:3] == ["10", "0.9100.890 to 0.930;"]
    assert rows["overall"][2:] == ["0.9020.882 to 0.922;", "–", "–", "–"]
    assert "4.2 %" in page.text("summary")


def test_blank_and_unlabelled_cells_are_dashes_not_nan(page: Page) -> None:
    rows = {row[1]: row for row in page.tables["Cases by mean Dice, worst first"]}
    head = rows["case"]
    blank = dict(zip(head, rows["case02"], strict=True))
    assert blank["function LV_EF [%]"] == "–"
    assert "true" not in blank["disease"]
    assert not any(re.fullmatch(r"(?i)nan|none", cell) for row in rows.values() for cell in row)


def test_the_confusion_matrix_counts_the_labelled_cases_and_its_rows_are_per_cent(page: Page) -> None:
    (caption,) = [name for name in page.tables if "confusion" in name]
    rows = page.tables[caption]
    assert "of 9 cases right" in caption
    assert sum(int(row[-2]) for row in rows[1:]) == 9
    for row in rows[1:]:
        shares = [int(cell.partition(";")[0][1:].rstrip("%")) for cell in row[1:-2]]
        assert sum(shares) == 100


def test_agreement_compares_the_head_and_the_masks(page: Page) -> None:
    text = page.text("agreement")
    assert "function (head): bias" in text
    assert "anatomy (from masks): bias" in text
    assert "n = 9" in text


def test_a_collapsed_weighting_is_named(page: Page) -> None:
    assert "Collapse: function held more than 99%" in page.text("weights")


def test_the_header_tells_dataset_split_versions_and_cases(page: Page) -> None:
    text = page.text("")
    for expected in (
        "Evaluation on phantom",
        "phantom (MR)",
        "test",
        "10 cases, 1 refused",
        "packages torch",
        "2.13.0",
    ):
        assert expected in text


def test_the_report_stays_small(text: str) -> None:
    assert len(text) < 3_000_000


def test_a_run_alone_shows_its_curves_and_says_why_the_rest_is_missing(study: Any) -> None:
    page = read(build_report(study.run))
    assert [section["id"] for section in page.attributes("section")][:2] == ["training", "weights"]
    assert len([tag for tag in page.attributes("p") if tag.get("class") == "missing"]) == 6
    assert "medmtl evaluate writes it" in page.text("summary")


def test_a_run_that_has_just_begun_is_reported_without_curves(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("")
    (tmp_path / "weights.csv").write_text("step,epoch\n")
    page = read(build_report(tmp_path))
    assert "no metrics.csv with an epoch" in page.text("training")
    assert "recorded no task weights" in page.text("weights")


def test_a_line_cut_short_by_a_crash_does_not_stop_the_report(study: Any, tmp_path: Path) -> None:
    shutil.copytree(study.run, tmp_path / "run")
    with (tmp_path / "run" / "weights.csv").open("a") as file:
        file.write("500,26,0.9")
    assert "over 501 steps" in build_report(tmp_path / "run").read_text()


def test_a_predictions_folder_is_reported_without_a_dataset(study: Any) -> None:
    page = read(build_report(study.predictions))
    sections = [section["id"] for section in page.attributes("section")]
    assert sections == ["cohort", "reasons", "flags", "values", "studies"]
    assert "GAP" in page.text("reasons")
    assert len(page.attributes("svg")) == 1


def test_a_predictions_folder_with_a_given_dataset_shows_contours_and_agreement(study: Any) -> None:
    page = read(build_report(study.predictions, dataset=open_dataset(study.dataset)))
    assert len(page.attributes("img")) == 3
    assert "bias" in page.text("agreement")


def test_without_outputs_yaml_the_meaning_of_columns_is_inferred(copy: Any) -> None:
    (copy.predictions / "outputs.yaml").unlink()
    page = read(build_report(copy.evaluation))
    assert not [tag for tag in page.attributes("p") if tag.get("class") == "missing"]
    assert "anatomy (from masks): bias" in page.text("agreement")


def test_what_evaluate_really_writes_is_reported_in_full(study: Any, tmp_path: Path) -> None:
    dataset = open_dataset(study.dataset)
    evaluate_predictions(study.predictions, dataset, tmp_path, split="test", run=study.run)
    page = read(build_report(tmp_path))
    assert not [tag for tag in page.attributes("p") if tag.get("class") == "missing"]
    rows = page.tables["Cases by mean Dice, worst first"]
    assert rows[1][1] == "case_worst"
    assert {row[1] for row in rows[1:]} == set(open_dataset(study.dataset).targets.index)
    assert "10 cases, 1 incomplete" in page.text("")
    assert "anatomy (from masks): bias" in page.text("agreement")


def test_a_moved_dataset_leaves_the_numbers_and_says_so(copy: Any) -> None:
    settings = copy.evaluation / "evaluation.yaml"
    settings.write_text(settings.read_text().replace(str(copy.dataset), "/nowhere/phantom"))
    page = read(build_report(copy.evaluation))
    assert "0.902" in page.text("summary")
    for section in ("overlays", "classification", "agreement"):
        assert "the dataset folder phantom is no longer where evaluation.yaml says" in page.text(section)


def test_a_damaged_mask_is_named_and_the_others_are_drawn(copy: Any) -> None:
    (copy.predictions / "case_worst" / "segmentation.nii.gz").write_bytes(b"not a volume")
    page = read(build_report(copy.evaluation))
    assert "case_worst/segmentation.nii.gz cannot be read" in page.text("overlays")
    assert len(page.attributes("img")) == 2


def test_a_mask_on_another_grid_is_refused_in_words(copy: Any) -> None:
    wrong = nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    nib.save(wrong, copy.predictions / "case_worst" / "segmentation.nii.gz")
    assert "predict on the image's own grid" in read(build_report(copy.evaluation)).text("overlays")


def test_a_dataset_without_any_label_gives_pictures_of_the_prediction_alone(
    copy: Any, tmp_path: Path
) -> None:
    shutil.copytree(copy.dataset, tmp_path / "blank")
    table = tmp_path / "blank" / "cases.csv"
    lines = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text(
        "\n".join(",".join([*line[:-2], "", ""] if number else line) for number, line in enumerate(lines))
    )
    page = read(build_report(copy.predictions, dataset=open_dataset(tmp_path / "blank")))
    assert "the prediction is shown alone" in page.text("overlays")
    assert "no labels among the predicted cases" in page.text("classification")
    assert "no labels among the predicted cases" in page.text("agreement")


def test_a_folder_with_nothing_to_report_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds nothing to report: expected"):
        build_report(tmp_path)
    with pytest.raises(ConfigError, match="is not a folder"):
        build_report(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "[1]"),
        ("metrics.json", '{"a": 1}'),
        ("evaluation.yaml", "a: ["),
    ],
)
def test_a_damaged_file_is_an_error_that_names_it_and_leaves_the_old_report(
    copy: Any, name: str, content: str
) -> None:
    old = "the report of an earlier evaluation"
    (copy.evaluation / "report.html").write_text(old)
    (copy.evaluation / name).write_text(content)
    with pytest.raises(OutputError, match=re.escape(name)):
        build_report(copy.evaluation)
    assert (copy.evaluation / "report.html").read_text() == old


def test_drawing_again_replaces_the_report_and_leaves_nothing_beside_it(copy: Any) -> None:
    build_report(copy.evaluation)
    before = sorted(path.name for path in copy.evaluation.iterdir())
    path = build_report(copy.evaluation)
    assert path == copy.evaluation / "report.html"
    assert sorted(path.name for path in copy.evaluation.iterdir()) == before


def test_drawing_a_report_leaves_pyplot_alone(study: Any) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    build_report(study.run)
    assert dict(mpl.rcParams) == before
