"""`medmtl inspect`: the document, the tables, the contact sheet, and the exit codes, on studies made here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from matplotlib.image import imread

from medmtl.cli import run
from tests.helpers import dicom_writer as writer
from tests.helpers.dicom_faults import FAULTS
from tests.helpers.dicom_writer import write

Captured = pytest.CaptureFixture[str]

NUMBERS = {"type": "array", "items": {"type": "number"}}
FOUR = {**NUMBERS, "minItems": 4, "maxItems": 4}
FINDING = {
    "type": "object",
    "required": ["code", "severity", "message", "where"],
    "properties": {
        "code": {"type": "string", "pattern": "^[A-Z_]+$"},
        "severity": {"enum": ["error", "warning", "info"]},
        "message": {"type": "string"},
        "where": {"type": "string"},
    },
}
VOLUME = {
    "type": "object",
    "required": ["shape", "spacing_mm", "affine", "frames", "time_ms"],
    "properties": {
        "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 4},
        "spacing_mm": {**NUMBERS, "minItems": 3, "maxItems": 3},
        "affine": {"type": "array", "items": FOUR, "minItems": 4, "maxItems": 4},
        "frames": {"type": "integer"},
        "time_ms": NUMBERS,
    },
}  # fmt: skip
SERIES = {
    "type": "object",
    "required": [
        "study_uid", "series_uid", "modality", "description", "instances", "usable", "volumes", "findings",
    ],
    "properties": {
        "instances": {"type": "integer"},
        "usable": {"type": "integer"},
        "volumes": {"type": "array", "items": VOLUME},
        "findings": {"type": "array", "items": FINDING},
    },
}  # fmt: skip
DOCUMENT = {
    "type": "object",
    "required": ["series"],
    "properties": {"series": {"type": "array", "items": SERIES}},
    "additionalProperties": False,
}


def inspected(capsys: Captured, *arguments: Path | str) -> tuple[int, Any]:
    code = run(["inspect", "--json", *map(str, arguments)])
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    jsonschema.validate(document, DOCUMENT)
    return code, document


def faulty(folder: Path, *names: str) -> Path:
    export = writer.ge_cine()
    for name in names:
        FAULTS[name].plant(export)
    return write(export, folder)


def test_the_document_is_the_designs(tmp_path: Path, capsys: Captured) -> None:
    code, document = inspected(capsys, faulty(tmp_path))
    assert code == 0
    (series,) = document["series"]
    assert (series["modality"], series["instances"], series["usable"]) == ("MR", 20, 20)
    (volume,) = series["volumes"]
    assert volume["shape"] == [writer.COLUMNS, writer.ROWS, writer.SLICES, writer.PHASES]
    assert volume["frames"] == len(volume["time_ms"]) == writer.PHASES
    assert np.shape(volume["time_ms_by_slice"]) == (writer.SLICES, writer.PHASES)
    expected = np.diag([-1, -1, 1, 1]) @ writer.grid()
    np.testing.assert_allclose(volume["affine"], expected, atol=1e-6)


def test_a_volume_without_phases_has_one_time(tmp_path: Path, capsys: Captured) -> None:
    code, document = inspected(capsys, write(writer.mr_volume(), tmp_path))
    assert code == 0
    assert document["series"][0]["volumes"][0]["time_ms"] == [0.0]


def test_a_refused_series_is_exit_code_1_and_says_why(tmp_path: Path, capsys: Captured) -> None:
    code, document = inspected(capsys, faulty(tmp_path, "missing_slice"))
    assert code == 1
    (series,) = document["series"]
    assert (series["usable"], series["volumes"]) == (0, [])
    assert [finding["code"] for finding in series["findings"] if finding["severity"] == "error"] == ["GAP"]


def test_files_that_belong_to_no_series_have_an_entry_of_their_own(tmp_path: Path, capsys: Captured) -> None:
    code, document = inspected(capsys, faulty(tmp_path, "no_bytes", "files_that_are_no_dicom"))
    alone = [series for series in document["series"] if not series["series_uid"]]
    assert code == 1
    assert [series["instances"] for series in alone] == [1], "notes and pictures are no instances"
    assert "TRUNCATED" in [finding["code"] for finding in alone[0]["findings"]]


def test_files_that_are_no_dicom_are_no_entry(tmp_path: Path, capsys: Captured) -> None:
    code, document = inspected(capsys, faulty(tmp_path, "files_that_are_no_dicom"))
    assert code == 0
    assert [bool(series["series_uid"]) for series in document["series"]] == [True]


def test_reports_and_scouts_are_no_failure(tmp_path: Path, capsys: Captured) -> None:
    code, document = inspected(capsys, faulty(tmp_path, "dose_report", "localizer_in_the_series"))
    assert code == 0
    codes = {finding["code"] for series in document["series"] for finding in series["findings"]}
    assert codes >= {"NOT_AN_IMAGE", "LOCALIZER"}


def test_values_findings_are_told_without_reading_pixels(tmp_path: Path, capsys: Captured) -> None:
    export = writer.pet("GML")
    FAULTS["a_slope_per_slice"].plant(export)
    code, document = inspected(capsys, write(export, tmp_path))
    assert code == 0
    codes = {finding["code"] for series in document["series"] for finding in series["findings"]}
    assert codes >= {"SUV_ALREADY", "RESCALE_PER_SLICE"}


def test_strict_refuses_what_would_be_resampled(tmp_path: Path, capsys: Captured) -> None:
    write(writer.ct(16.5), tmp_path)
    assert inspected(capsys, tmp_path)[0] == 0
    code, document = inspected(capsys, tmp_path, "--strict")
    assert code == 1
    assert document["series"][0]["findings"][0]["code"] == "GANTRY_TILT"


def test_a_folder_without_dicom_is_exit_code_1(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    code, document = inspected(capsys, tmp_path)
    assert code == 1
    assert document["series"][0]["findings"][-1]["code"] == "NO_USABLE_SERIES"
    assert run(["inspect", str(tmp_path)]) == 1
    assert "0 series" in capsys.readouterr().out


def test_a_source_that_is_not_there_is_a_usage_error(tmp_path: Path, capsys: Captured) -> None:
    assert run(["inspect", str(tmp_path / "nothing")]) == 2
    captured = capsys.readouterr()
    assert "there is no such file or folder" in captured.err
    assert captured.out == ""


def test_the_table_shows_volumes_and_remedies_and_nothing_of_the_patient(
    tmp_path: Path, capsys: Captured
) -> None:
    write(writer.siemens_cine(), tmp_path / "good")
    faulty(tmp_path / "bad", "missing_slice")
    assert run(["inspect", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    for wanted in (
        "12×16×5×4",
        "1.5×1.25×8",
        "46 ms a frame",
        "TriggerTime, certain",
        "✗ GAP",
        "Export the series again",
    ):
        assert wanted in text
    for secret in ("Nobody", "secret-1", "19000101"):
        assert secret not in text


def test_many_messages_of_one_kind_are_shortened(tmp_path: Path, capsys: Captured) -> None:
    for number in range(5):
        export = writer.mr_volume()
        export.name = f"study{number}"
        FAULTS["missing_slice"].plant(export)
        write(export, tmp_path / str(number))
    assert run(["inspect", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert text.count("find the missing files") == 3
    assert "and 2 more; --json lists all" in text


def test_the_contact_sheet_draws_every_volume(tmp_path: Path, capsys: Captured) -> None:
    write(writer.ge_cine(), tmp_path / "dicom")
    write(writer.ct(), tmp_path / "dicom", "ct{:02d}".format)
    sheet = tmp_path / "sheet.png"
    for _ in range(2):  # an earlier sheet is replaced
        assert run(["inspect", str(tmp_path / "dicom"), "--contact-sheet", str(sheet)]) == 0
    picture = imread(sheet)
    height, width = picture.shape[:2]
    assert width > 1000
    assert height > 300, "two rows for the cine and one for the CT"
    assert (picture[..., :3].max(axis=(1, 2)) > 0.5).sum() > 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dicom", "sheet.png"]


def test_a_sheet_of_nothing_is_still_a_sheet(tmp_path: Path, capsys: Captured) -> None:
    faulty(tmp_path / "dicom", "missing_slice")
    sheet = tmp_path / "sheet.png"
    assert run(["inspect", str(tmp_path / "dicom"), "--contact-sheet", str(sheet)]) == 1
    assert imread(sheet).size


def test_the_contact_sheet_replaces_nothing_else(tmp_path: Path, capsys: Captured) -> None:
    faulty(tmp_path / "dicom")
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"mine")
    assert run(["inspect", str(tmp_path / "dicom"), "--contact-sheet", str(mine)]) == 2
    assert mine.read_bytes() == b"mine"
    assert run(["inspect", str(tmp_path / "dicom"), "--contact-sheet", str(tmp_path / "no" / "a.png")]) == 2
    assert "its folder does not exist" in capsys.readouterr().err


def test_pixels_that_could_not_be_read_are_no_volume(tmp_path: Path, capsys: Captured) -> None:
    export = writer.mr_volume()
    export.tags |= {"BitsAllocated": 12}
    write(export, tmp_path)
    code, document = inspected(capsys, tmp_path)
    assert code == 1
    assert document["series"][0]["volumes"] == []
    assert document["series"][0]["usable"] == 0
    assert "UNDECODABLE" in [finding["code"] for finding in document["series"][0]["findings"]]


def test_pixels_that_turn_out_unreadable_are_a_line_of_the_sheet(tmp_path: Path, capsys: Captured) -> None:
    ds = writer.datasets(writer.enhanced_volume())[0]
    content = writer.encode(ds).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "rle").write_bytes(content)
    run(["inspect", str(tmp_path / "dicom"), "--contact-sheet", str(tmp_path / "sheet.png")])
    assert (tmp_path / "sheet.png").is_file()


def test_a_second_look_with_the_cache_says_the_same_and_the_cache_names_nobody(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = faulty(tmp_path / "dicom", "localizer_in_the_series")
    looks = [inspected(capsys, folder, "--cache") for _ in range(2)]
    assert looks[0] == looks[1] == inspected(capsys, folder)
    (remembered,) = [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".sqlite"]
    for secret in (b"Nobody", b"secret-1", b"19000101"):
        assert secret not in remembered.read_bytes()


def test_without_the_cache_nothing_is_written(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inspected(capsys, faulty(tmp_path / "dicom"))
    assert [path.name for path in tmp_path.iterdir()] == ["dicom"]


def test_inspecting_loads_neither_torch_nor_monai(tmp_path: Path) -> None:
    faulty(tmp_path)
    code = (
        "import sys\nfrom medmtl.cli import run\n"
        f"assert run(['inspect', {str(tmp_path)!r}]) == 0\n"
        "sys.stderr.write(' '.join({'torch', 'monai', 'SimpleITK', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_progress_is_shown_on_a_terminal_only(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty(tmp_path)
    assert run(["inspect", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["inspect", str(tmp_path)]) == 0
    assert "inspect" in capsys.readouterr().err
