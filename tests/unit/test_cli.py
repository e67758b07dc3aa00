"""The command line: exit codes, one clear sentence on stderr, JSON alone on stdout, examples in the help."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml

import medmtl
from medmtl.cli import app, run
from medmtl.data.columns import Schema
from medmtl.data.formats import DatasetFormat, RawCase
from medmtl.types import DatasetError

VERBS = (
    "demo", "inspect", "ingest", "plan", "train", "import", "evaluate", "predict", "compare", "search",
    "report", "schema",
)  # fmt: skip

Captured = pytest.CaptureFixture[str]


def test_the_verbs_are_those_of_the_design() -> None:
    names = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    assert sorted(names) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example_that_begins_like_a_call(verb: str, capsys: Captured) -> None:
    assert run([verb, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    _, _, after_usage = text.partition(f"Usage: medmtl {verb}")
    assert f" medmtl {verb} " in after_usage


def test_help_lists_every_verb(capsys: Captured) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"│ {verb} " in text for verb in VERBS)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (["evalate"], "No such command 'evalate'. Did you mean 'evaluate'?"),
        (["schema", "--outptu", "x"], "No such option: --outptu"),
        (["train"], "Missing argument"),
        (["train", "c.yaml"], "Missing option '-o' / '--output'"),
        (["demo", "--cases", "many"], "Invalid value for '--cases'"),
        (["demo", "--cases", "3"], "Invalid value for '--cases'"),
    ],
)
def test_a_wrong_call_exits_with_2_and_says_what_is_wrong(
    call: list[str], says: str, capsys: Captured
) -> None:
    assert run(call) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_no_verb_shows_the_help_and_exits_with_2(capsys: Captured) -> None:
    assert run([]) == 2
    captured = capsys.readouterr()
    assert "Usage: medmtl" in captured.out + captured.err


def test_the_version_is_printed_alone(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"{medmtl.__version__}\n"


def test_an_error_that_a_user_can_mend_is_one_sentence(tmp_path: Path, capsys: Captured) -> None:
    assert run(["report", str(tmp_path / "nothing")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_a_place_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, tiny_dataset: Callable[..., Path], capsys: Captured
) -> None:
    dataset = tiny_dataset(tmp_path)
    assert run(["plan", str(dataset), "-o", str(tmp_path / "no" / "plan.yaml")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'no' / 'plan.yaml'} cannot be written")
    assert run(["ingest", str(dataset), "-o", str(tmp_path / "cases.csv" / "out")]) == 2
    assert "Traceback" not in capsys.readouterr().err


class Misbehaves(DatasetFormat):
    """A format of somebody's own that ends the ingest in its own way."""

    looks_for = "trouble"

    def recognizes(self, path: Path) -> str | None:
        raise self.trouble()

    def trouble(self) -> BaseException:
        return ZeroDivisionError("ours")

    def schema(self, path: Path) -> Schema:
        raise self.trouble()

    def read(self, path: Path) -> Iterable[RawCase]:
        raise self.trouble()


class IsInterrupted(Misbehaves):
    def trouble(self) -> BaseException:
        return KeyboardInterrupt()


class FindsTheDiskFull(Misbehaves):
    def trouble(self) -> BaseException:
        return OSError(28, "No space left on device", "/disk/run")


class Warns(Misbehaves):
    def trouble(self) -> BaseException:
        logging.getLogger("medmtl.data").warning("look at %s", "this")
        return DatasetError("no case")


def ingest_with(format: type[DatasetFormat], folder: Path) -> int:
    name = f"{__name__}:{format.__name__}"
    return run(["ingest", str(folder), "-o", str(folder / "out"), "--format", name])


def test_an_error_of_the_system_names_the_file(tmp_path: Path, capsys: Captured) -> None:
    assert ingest_with(FindsTheDiskFull, tmp_path) == 2
    assert capsys.readouterr().err == "error: /disk/run: No space left on device\n"


def test_ctrl_c_stops_with_130(tmp_path: Path, capsys: Captured) -> None:
    assert ingest_with(IsInterrupted, tmp_path) == 130
    assert capsys.readouterr().err.strip() == "stopped"


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="ours"):
        ingest_with(Misbehaves, tmp_path)


def test_warnings_go_to_stderr_and_the_logger_is_left_as_it_was(tmp_path: Path, capsys: Captured) -> None:
    logger = logging.getLogger("medmtl")
    before = list(logger.handlers)
    assert ingest_with(Warns, tmp_path) == 2
    captured = capsys.readouterr()
    assert captured.err == "WARNING: look at this\nerror: no case\n"
    assert captured.out == ""
    assert logger.handlers == before


def test_cases_that_did_not_make_it_are_listed_and_exit_with_1(
    tmp_path: Path, phantom: Callable[..., Path], capsys: Captured
) -> None:
    source = phantom(tmp_path / "phantoms", (1, 2, 3, 4))
    (source / "phantom_0002" / "cine.nii.gz").write_bytes(b"no image")
    assert run(["ingest", str(source), "-o", str(tmp_path / "ds")]) == 1
    captured = capsys.readouterr()
    reason, made = captured.out.splitlines()
    assert reason == "read as phantom, because of truth.csv and the folder phantom_0001"
    assert made.startswith(f"3 cases in {tmp_path / 'ds'}")
    assert "1 case was refused:" in captured.err
    assert "  phantom_0002: UNDECODABLE: " in captured.err


def test_json_is_all_that_stands_on_stdout(
    tmp_path: Path, phantom: Callable[..., Path], capsys: Captured
) -> None:
    source = phantom(tmp_path / "phantoms", (1, 2, 3, 4))
    assert run(["ingest", str(source), "-o", str(tmp_path / "ds"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "dataset": str(tmp_path / "ds"),
        "cases": 4,
        "recognized": "phantom, because of truth.csv and the folder phantom_0001",
        "refused": [],
    }
    assert captured.err == ""


def test_json_names_refused_cases_and_still_exits_with_1(
    tmp_path: Path, phantom: Callable[..., Path], capsys: Captured
) -> None:
    source = phantom(tmp_path / "phantoms", (1, 2, 3, 4))
    (source / "phantom_0002" / "cine.nii.gz").write_bytes(b"no image")
    assert run(["ingest", str(source), "-o", str(tmp_path / "ds"), "--json"]) == 1
    (refused,) = json.loads(capsys.readouterr().out)["refused"]
    assert (refused["case_id"], refused["code"]) == ("phantom_0002", "UNDECODABLE")


def test_another_layout_is_written_and_what_is_to_do_is_said(
    tmp_path: Path, phantom: Callable[..., Path], capsys: Captured
) -> None:
    source, output = phantom(tmp_path / "phantoms", (1, 2, 3, 4)), tmp_path / "hearts"
    assert run(["ingest", str(source), "-o", str(output), "--to", "nnunet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("read as phantom, because of truth.csv")
    assert lines[1] == f"4 cases (12 volumes) as nnunet in {output}"
    assert lines[2].startswith("note: the layout holds one mask per image: anatomy was written")
    assert lines[3].startswith("note: name the folder DatasetNNN_Name and put it into nnUNet_raw")
    assert run(["ingest", str(output), "-o", str(tmp_path / "tissue"), "--to", "msd", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert {key: made[key] for key in ("layout", "cases", "volumes", "refused", "notes")} == {
        "layout": "msd",
        "cases": 12,
        "volumes": 12,
        "refused": [],
        "notes": [],
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--mask", "anatomy"], "--mask: a dataset keeps all masks; use it with --to"),
        (
            ["--to", "nnunet", "--overwrite"],
            "--overwrite: only a dataset is replaced; with --to choose a new",
        ),
        (["--to", "nnunett"], "unknown layout 'nnunett'; did you mean 'nnunet'?"),
        (
            ["--to", "nnunet", "--mask", "anatomi"],
            "there is no mask column 'anatomi'; did you mean 'anatomy'?",
        ),
    ],
)
def test_options_of_a_layout_that_do_not_fit_are_an_error(
    tmp_path: Path, phantom: Callable[..., Path], capsys: Captured, options: list[str], expected: str
) -> None:
    source = phantom(tmp_path / "phantoms", (1, 2))
    assert run(["ingest", str(source), "-o", str(tmp_path / "out"), *options]) == 2
    assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["phantoms"]


def test_the_plan_is_printed_and_written(
    tmp_path: Path, tiny_dataset: Callable[..., Path], capsys: Captured
) -> None:
    dataset = tiny_dataset(tmp_path)
    assert run(["plan", str(dataset), "-o", str(tmp_path / "plan.yaml")]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "plan.yaml").read_text()
    assert set(yaml.safe_load(printed)) == {
        "medmtl_plan", "channels", "spacing_mm", "patch", "overview", "normalization", "backbone",
        "batch_size",
    }  # fmt: skip
    assert "# The median in-plane. Slices lie" in printed


def test_the_schema_is_printed_or_written_over_an_older_one(tmp_path: Path, capsys: Captured) -> None:
    assert run(["schema"]) == 0
    printed = capsys.readouterr().out
    for _ in range(2):
        assert run(["schema", "-o", str(tmp_path / "schema.json")]) == 0
    assert (tmp_path / "schema.json").read_text() == printed
    assert json.loads(printed)["title"] == "medmtl config"


def test_the_schema_does_not_replace_another_file(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    assert run(["schema", "-o", str(tmp_path / "mine.yaml")]) == 2
    assert "is no schema of medmtl" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "seed: 1\n"


def test_resume_takes_auto_or_never(tmp_path: Path, capsys: Captured) -> None:
    assert run(["train", "c.yaml", "-o", str(tmp_path / "run"), "--resume", "always"]) == 2
    assert "--resume: 'always' is not known; use auto or never" in capsys.readouterr().err


def test_the_process_exits_with_the_code_and_writes_no_traceback(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "medmtl", "report", "missing"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: missing is not a folder")
    assert len(done.stderr.splitlines()) == 1
    assert not any(tmp_path.iterdir())
