"""Batches of studies: killed runs go on, nothing is lost or done twice, and no bad study ends them."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medmtl.cli import run as run_cli
from medmtl.data.dataset import open_dataset
from medmtl.inference import Model, PredictionRun, load_model, predict_studies
from medmtl.inference.adopt import sweep
from medmtl.inference.find import find_items
from medmtl.inference.items import Item
from medmtl.inference.options import Options
from medmtl.inference.outcome import Outcome
from medmtl.inference.status import read_status
from medmtl.inference.worker import Job
from medmtl.inference.workers import Processes, Workers
from medmtl.types import ConfigError, OutputError, StoppedError
from tests.helpers.study import make_job, make_ready, sections, write_study
from tests.unit.inference.test_run import write_image

OPTIONS = Options(device="cpu", write=("nifti", "csv"), preview=False, threads=3)
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, saved."""
    root = tmp_path_factory.mktemp("batch")
    dataset = open_dataset(write_study(root / "dataset"))
    chosen = {name: section for name, section in sections().items() if name in ("anatomy", "disease")}
    make_ready(make_job(dataset, root / "run", chosen)).model.save(root / "model")
    return root / "model"


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_model(folder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six studies, of which the third is damaged."""
    for index, name in enumerate("abcdef"):
        write_image(tmp_path / "in" / f"{name}.nii.gz", (16, 16, 4, 3), seed=index)
    (tmp_path / "in" / "c.nii.gz").write_text("damaged")
    return tmp_path / "in"


def predict(
    model: Model | Path, source: Path, output: Path, options: Options = OPTIONS, **more: Any
) -> PredictionRun:
    return predict_studies(model, [source], output, options, workers=more.pop("workers", 0), **more)


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def attempts_of(output: Path) -> dict[str, int]:
    base = sqlite3.connect(output / "journal.sqlite")
    found = dict(base.execute("SELECT case_id, attempts FROM study"))
    base.close()
    return found


def in_child(work: Callable[..., object], *arguments: Any) -> Any:
    """A process of its own that works on, to be killed."""
    process = FORK.Process(target=work, args=arguments)
    process.start()
    return process


def test_one_bad_study_in_the_middle_ends_nothing_and_has_a_reason(
    model: Model, source: Path, tmp_path: Path
) -> None:
    found = predict(model, source, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [(row["case_id"], row["status"]) for row in rows] == [
        (name, "refused" if name == "c" else "ok") for name in "abcdef"
    ]
    assert rows[2]["code"] == "UNDECODABLE"
    assert str(tmp_path) not in rows[2]["message"]
    assert "c refused: UNDECODABLE: c.nii.gz" in (tmp_path / "out" / "log.txt").read_text()
    assert found.done == 6


def test_the_same_call_again_does_nothing_twice_and_what_changed_again(
    model: Model, source: Path, tmp_path: Path
) -> None:
    predict(model, source, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*")}
    first = rows_of(tmp_path / "out")
    again = predict(model, source, tmp_path / "out")
    assert again.done == 0
    assert rows_of(tmp_path / "out") == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*")} == before
    write_image(source / "c.nii.gz", (16, 16, 4, 3), seed=2)
    write_image(source / "g.nii.gz", (16, 16, 4, 3), seed=9)
    third = predict(model, source, tmp_path / "out")
    assert third.done == 2
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["ok"] * 7


def test_a_study_that_is_given_twice_is_done_once(model: Model, source: Path, tmp_path: Path) -> None:
    found = predict_studies(model, [source, source / "a.nii.gz"], tmp_path / "out", OPTIONS, workers=0)
    assert found.done == 6
    assert len(rows_of(tmp_path / "out")) == 6


def test_a_run_killed_at_random_moments_ends_as_one_that_never_was(
    model: Model, source: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)  # a forked process has no other threads
    draw = random.Random(4)
    predict(model, source, tmp_path / "whole")
    kills = 0
    while kills < 8:
        process = in_child(predict, model, source, tmp_path / "out")
        time.sleep(draw.uniform(0.02, 0.35))
        process.kill()
        process.join()
        kills += 1
        for path in (tmp_path / "out").glob("[!.]*/"):  # a final name is a whole study
            assert json.loads((path / "prediction.json").read_text())["case_id"] == path.name
            assert (path / "segmentation.nii.gz").is_file()
    predict(model, source, tmp_path / "out")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")
    for name in "abdef":
        ours, theirs = (tmp_path / o / name / "segmentation.nii.gz" for o in ("out", "whole"))
        assert ours.read_bytes()[10:] == theirs.read_bytes()[10:]  # after the time in gzip's header
    assert not list((tmp_path / "out").glob(".*.part"))


def test_a_finished_folder_that_the_journal_does_not_know_is_taken_over(
    model: Model, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict(model, source, out)
    expected = rows_of(out)
    base = sqlite3.connect(out / "journal.sqlite")
    with base:
        base.execute("UPDATE study SET state = 'running', row = '{}' WHERE case_id IN ('a', 'b')")
    base.close()
    record = json.loads((out / "b" / "prediction.json").read_text())
    record["work"]["fingerprint"] = "of other files"
    (out / "b" / "prediction.json").write_text(json.dumps(record))
    stamps = {name: (out / name / "prediction.json").stat().st_mtime_ns for name in "ab"}
    predict(model, source, out)
    assert (out / "a" / "prediction.json").stat().st_mtime_ns == stamps["a"]
    assert (out / "b" / "prediction.json").stat().st_mtime_ns != stamps["b"]
    assert rows_of(out) == expected


def test_halves_of_a_killed_run_are_swept_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.1-2.part", ".b.old"):
        (tmp_path / name).mkdir()
    (tmp_path / ".predictions.csv.7.part").write_text("half")
    (tmp_path / "a").mkdir()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_second_process_on_the_same_folder_is_told_and_the_first_goes_on(
    model: Model, source: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    first = in_child(_until_told, model, source, tmp_path)
    until(lambda: (tmp_path / "reached").exists())
    with pytest.raises(OutputError, match=rf"process {first.pid} on .* predicts into it; wait for it"):
        predict(model, source, tmp_path / "out")
    found = read_status(tmp_path / "out")
    assert (found.running, found.done, found.total) == (True, 1, 6)
    (tmp_path / "go on").touch()
    first.join(30)
    assert first.exitcode == 0
    assert read_status(tmp_path / "out").counts == {"ok": 5, "refused": 1}


def _until_told(model: Model, source: Path, root: Path) -> None:
    """Predict, and wait after the first study until somebody says to go on."""

    def wait(*_: int) -> None:
        (root / "reached").touch()
        until(lambda: (root / "go on").exists())

    predict(model, source, root / "out", progress=wait)


def test_another_model_other_options_or_a_folder_of_others_are_refused(
    model: Model, source: Path, tmp_path: Path
) -> None:
    predict(model, source, tmp_path / "out")
    with pytest.raises(OutputError, match="mirror was False, now True"):
        predict(model, source, tmp_path / "out", replace(OPTIONS, mirror=True))
    other = replace(model, preparation=replace(model.preparation, spacing_mm=(2.5, 2.5, 8.0)))
    with pytest.raises(OutputError, match=r"another model \(sha256"):
        predict(other, source, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else; choose another folder"):
        predict(model, source, tmp_path / "mine")
    (tmp_path / "mine" / "outputs.yaml").write_text("tasks: {}")
    with pytest.raises(OutputError, match="holds predictions without a journal"):
        predict(model, source, tmp_path / "mine")
    assert len(rows_of(tmp_path / "out")) == 6


def test_sources_that_hold_nothing_write_nothing(model: Model, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError):
        predict(model, tmp_path / "in", tmp_path / "out")
    with pytest.raises(ConfigError, match="no such file or folder"):
        predict(model, tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_that_breaks_off_is_told_after_all_that_was_found_is_done(
    model: Model, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*arguments: Any, **options: Any) -> Iterator[Item]:
        yield from find_items(*arguments, **options)
        time.sleep(0.5)
        raise ConfigError("the PACS hung up")

    monkeypatch.setattr("medmtl.inference.studies.FEW", 2)
    monkeypatch.setattr("medmtl.inference.studies.find_items", breaks)
    with pytest.raises(ConfigError, match="the PACS hung up"):
        predict(model, source, tmp_path / "out")
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["ok", "ok", "refused", "ok", "ok", "ok"]
    assert not read_status(tmp_path / "out").found_all


def test_failed_studies_wait_until_they_are_asked_for(model: Model, source: Path, tmp_path: Path) -> None:
    short = replace(OPTIONS, timeout=1e-6)
    assert {f.code for f in predict(model, source, tmp_path / "out", short).findings} == {"TIMEOUT"}
    assert predict(model, source, tmp_path / "out").done == 0
    found = predict(model, source, tmp_path / "out", retry_failed=True)
    assert found.done == 6
    assert [f.code for f in found.findings] == ["UNDECODABLE"]
    assert set(attempts_of(tmp_path / "out").values()) == {2}


def test_a_disk_that_fills_up_stops_the_run_and_the_next_one_goes_on(model: Model, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.nii.gz")
    write_image(tmp_path / "in" / "c.nii.gz", (96, 96, 4, 4))
    process = in_child(_with_small_disk, model, tmp_path)
    process.join(60)
    assert process.exitcode == 0
    said = (tmp_path / "said").read_text()
    assert "nothing more can be written" in said
    assert "make room and run the same command again, which goes on where it stopped" in said
    assert read_status(tmp_path / "out").counts.get("waiting") == 1
    assert not (tmp_path / "out" / "c").exists()
    predict(model, tmp_path / "in", tmp_path / "out")
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["ok"] * 3


def _with_small_disk(model: Model, root: Path) -> None:
    """No file may become larger than this: writing says so as it does on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    with pytest.raises(StoppedError) as caught:
        predict(model, root / "in", root / "out", replace(OPTIONS, threads=1))
    (root / "said").write_text(str(caught.value))
    assert caught.value.exit_code == 1


def until(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    began = time.monotonic()
    while not ready():
        assert time.monotonic() - began < seconds, "not in time"
        time.sleep(0.02)


def drain(workers: Workers, ready: Callable[[list[Outcome]], bool], seconds: float = 240.0) -> list[Outcome]:
    """Poll until what was found is enough."""
    found: list[Outcome] = []
    began = time.monotonic()
    while not ready(found):
        assert time.monotonic() - began < seconds, f"not in time: {found}"
        found += workers.poll(0.05)
    return found


class TestProcesses:
    """Workers in processes of their own."""

    @pytest.fixture
    def items(self, model: Model, source: Path) -> list[Item]:
        """Five good studies, of which the first takes longer than it does to kill a process."""
        (source / "c.nii.gz").unlink()
        write_image(source / "a.nii.gz", (96, 96, 4, 8))
        return list(find_items([source], model))

    def job(self, folder: Path, model: Model, tmp_path: Path, **options: Any) -> Job:
        (tmp_path / "out").mkdir()
        return Job(str(folder), model.digest(), replace(OPTIONS, **options), str(tmp_path / "out"), "r1")

    @pytest.mark.slow
    def test_a_process_that_hangs_or_dies_is_replaced_and_only_the_study_that_did_it_fails(
        self, folder: Path, model: Model, items: list[Item], tmp_path: Path
    ) -> None:
        with Processes(self.job(folder, model, tmp_path, timeout=5.0), 1, grace=0.5) as workers:
            drain(workers, lambda _: workers.free == 3)
            os.kill(workers.pids[0], signal.SIGSTOP)  # what hangs in a driver or on a dead disk looks so
            workers.submit(items[3])
            [hung] = drain(workers, lambda found: len(found) == 1)
            drain(workers, lambda _: workers.free == 3)
            os.kill(workers.pids[0], signal.SIGSTOP)  # so that it has all three when it is killed
            for item in items[:3]:
                workers.submit(item)
            os.kill(workers.pids[0], signal.SIGKILL)
            drain(workers, lambda _: len(workers._children[0].given) == 1)
            assert list(workers._children[0].given) == [items[0].key]
            assert workers.free == 0  # nothing else until it is known which of them it was
            os.kill(workers.pids[0], signal.SIGKILL)
            found = drain(workers, lambda found: len(found) == 3)
        assert (hung.key, hung.state, hung.row["code"]) == (items[3].key, "failed", "TIMEOUT")
        assert "still at work 0.5 s after its limit of 5 s; its process was killed" in hung.row["message"]
        assert {o.key: (o.row["code"] or o.state, o.attempts) for o in found} == {
            items[0].key: ("WORKER_DIED", 2),
            items[1].key: ("ok", 2),
            items[2].key: ("ok", 2),
        }
        assert "its process was killed twice" in found[0].row["message"]

    @pytest.mark.slow
    def test_workers_that_die_while_they_load_the_model_stop_the_run(
        self, model: Model, tmp_path: Path
    ) -> None:
        job = self.job(tmp_path / "nowhere", model, tmp_path)
        with Processes(job, 1) as workers, pytest.raises(StoppedError, match=r"no model.yaml here"):
            drain(workers, lambda _: False)

    @pytest.mark.slow
    def test_processes_say_what_threads_say(
        self, folder: Path, model: Model, source: Path, tmp_path: Path
    ) -> None:
        predict(model, source, tmp_path / "threads")
        predict(folder, source, tmp_path / "processes", workers=1)
        assert rows_of(tmp_path / "processes") == rows_of(tmp_path / "threads")

    def test_a_model_that_processes_cannot_load_is_told(
        self, model: Model, source: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match="other processes load the model from its folder; save it"):
            predict(replace(model, folder=None), source, tmp_path / "out", workers=2)
        with pytest.raises(ConfigError, match="--workers: -1 is no number"):
            predict(model, source, tmp_path / "out", workers=-1)
        with pytest.raises(ConfigError, match="--workers and --dask exclude each other"):
            predict(model, source, tmp_path / "out", workers=2, dask="tcp://localhost:1")


class TestCommand:
    """The command line."""

    def test_it_predicts_lists_what_was_not_and_tells_the_status(
        self, folder: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = str(tmp_path / "out")
        arguments = [
            "predict",
            str(folder),
            str(source),
            "-o",
            out,
            "--device",
            "cpu",
            "--write",
            "nifti,csv",
        ]
        assert run_cli(arguments) == 1
        said = capsys.readouterr()
        assert "5 of 6 studies predicted, 6 in this call" in said.out
        assert "c: UNDECODABLE" in said.err + said.out
        assert run_cli(["predict", "--status", out]) == 0
        said = capsys.readouterr()
        assert "6 of 6 studies done; not running" in said.out
        assert "1  UNDECODABLE" in said.out
        assert run_cli(["predict", "--status", out, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["counts"] == {"ok": 5, "refused": 1}
        assert run_cli([*arguments, "--mirror"]) == 2
        assert "mirror was False, now True" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["MODEL"], "a model and at least one source are needed"),
            (["MODEL", "SRC"], "no folder to write to"),
            (["--status", "a", "b"], "--status takes one folder"),
            (["--status", "nowhere"], "no journal.sqlite here"),
        ],
    )
    def test_a_wrong_call_is_told(
        self, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run_cli(["predict", *arguments]) == 2
        assert told in " ".join(capsys.readouterr().err.split())


def test_threads_stop_at_once_when_the_run_is_interrupted(model: Model, source: Path, tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, source, tmp_path / "out", progress=stop)
    assert predict(model, source, tmp_path / "out").done < 6
    assert len(rows_of(tmp_path / "out")) == 6
