"""Whole searches on a tiny study: what they leave, how they fail, stop, and go on."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from medmtl import verbs
from medmtl.cli import run
from medmtl.config import load_config
from medmtl.search import Search
from medmtl.types import ConfigError
from tests.helpers.study import sections, write_study

Captured = pytest.CaptureFixture[str]
TASKS = ("anatomy", "disease")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file whose trainings take a second."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder / "dataset")
    found = {
        "dataset": str(folder / "dataset"),
        "device": "cpu",
        "preparation": {"patch": [16, 16, 4]},
        "backbone": {"type": "unet", "widths": [4, 8]},
        "tasks": sections(*TASKS),
        "training": {
            "epochs": 3, "steps_per_epoch": 2, "batch_size": 2, "warmup_steps": 1, "threads": 1,
            "learning_rate": 1e-2,
        },
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(found))
    return folder / "config.yaml"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def without_seconds(search: Path) -> list[dict[str, str]]:
    rows = rows_of(search / "search.csv")
    for row in rows:
        row.pop("seconds")
    return rows


@pytest.fixture(scope="module")
def evolved(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Two rounds of two trainings."""
    return verbs.search(
        config, method="evolution", output=tmp_path_factory.mktemp("search") / "out", trials=4, initial=2,
        children=2, transfer_epochs=1, seed=1,
    )  # fmt: skip


def test_a_search_leaves_a_table_a_run_per_trial_and_the_best_config(evolved: Search) -> None:
    names = {path.name for path in evolved.folder.iterdir()}
    assert names == {
        "search.yaml", "plan.yaml", "search.csv", "best.yaml", "journal.log", "log.txt", "trials",
    }  # fmt: skip
    assert sorted(path.name for path in (evolved.folder / "trials").iterdir()) == [
        "0000", "0001", "0002", "0003",
    ]  # fmt: skip
    rows = rows_of(evolved.folder / "search.csv")
    assert list(rows[0])[:8] == [
        "trial", "state", "objective", "seconds", "epochs", "epochs_in_all", "started_from", "message",
    ]  # fmt: skip
    for row in rows:
        scores = [float(row[f"{task}.score"]) for task in TASKS]
        assert float(row["objective"]) == pytest.approx(math.prod(scores) ** 0.5, rel=1e-4)
        weights = [float(row[f"weighting.weights.{task}"]) for task in TASKS]
        assert sum(weights) == pytest.approx(1, abs=1e-5)
        config = yaml.safe_load((evolved.folder / "trials" / row["trial"] / "config.yaml").read_text())
        assert list(config["weighting"]["weights"].values()) == pytest.approx(weights, rel=1e-5)
        assert 1 <= int(row["weighting.every.anatomy"]) <= 10


def test_children_train_fewer_epochs_from_the_best_model_so_far(evolved: Search) -> None:
    rows = rows_of(evolved.folder / "search.csv")
    best = max(rows[:2], key=lambda row: float(row["objective"]))["trial"]
    assert [row["epochs"] for row in rows] == ["3", "3", "1", "1"]
    assert [row["epochs_in_all"] for row in rows] == ["3", "3", "4", "4"]
    assert [row["started_from"] for row in rows] == ["", "", best, best]
    for row in rows[2:]:
        folder = evolved.folder / "trials" / row["trial"]
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["training"]["start_from"] == str(evolved.folder / "trials" / best / "model")
        assert "training starts from the weights of" in (folder / "log.txt").read_text()


def test_the_best_config_is_one_to_train_from_the_start(evolved: Search, tmp_path: Path) -> None:
    assert evolved.best is not None
    best = max(evolved.trials, key=lambda trial: trial.objective or 0)
    assert evolved.best == best
    assert evolved.best_config is not None
    found = load_config(evolved.best_config)
    assert found.training.start_from is None
    assert found.training.epochs == 3
    assert found.weighting["weights"] == best.changes["weighting"]["weights"]
    run = verbs.train(found, output=tmp_path / "run", overrides=())
    assert run.model.metadata["weighting"] == found.weighting


def test_all_trials_have_one_plan_unless_what_it_decides_is_searched_along(
    config: Path, evolved: Search, tmp_path: Path
) -> None:
    plan = yaml.safe_load((evolved.folder / "plan.yaml").read_text())
    for trial in evolved.trials:
        own = yaml.safe_load((evolved.folder / "trials" / trial.name / "config.yaml").read_text())
        assert own["backbone"]["kernels"] == plan["backbone"]["kernels"]
    found = verbs.search(
        config, method="line", output=tmp_path / "out", key="training.batch_size", low=1, high=3, coarse=2,
        fine=0, overrides=["training.epochs=1"],
    )  # fmt: skip
    assert [trial.params for trial in found.trials] == [
        {"training.batch_size": 1}, {"training.batch_size": 3},
    ]  # fmt: skip
    assert [trial.state for trial in found.trials] == ["complete"] * 2
    assert not (tmp_path / "out" / "plan.yaml").exists()


def test_every_trial_is_judged_by_the_weights_that_it_kept(evolved: Search) -> None:
    for trial in evolved.trials:
        folder = evolved.folder / "trials" / trial.name
        kept = json.loads((folder / "model" / "metadata.json").read_text())["kept"].removeprefix("epoch ")
        row = next(row for row in rows_of(folder / "metrics.csv") if row["epoch"] == kept)
        assert trial.metrics == {f"{task}.score": float(row[f"val.{task}.score"]) for task in TASKS}


def test_the_same_call_again_trains_nothing_and_says_the_same(config: Path, evolved: Search) -> None:
    before = (evolved.folder / "trials" / "0003" / "weights.csv").stat().st_mtime_ns
    again = verbs.search(
        config, method="evolution", output=evolved.folder, trials=4, initial=2, children=2,
        transfer_epochs=1, seed=1,
    )  # fmt: skip
    assert again == evolved
    assert (evolved.folder / "trials" / "0003" / "weights.csv").stat().st_mtime_ns == before


def test_a_training_that_fails_is_listed_and_the_search_goes_on(
    config: Path, tmp_path: Path, capsys: Captured
) -> None:
    code = run(
        ["search", str(config), "--method", "line", "--key", "training.learning_rate", "--low", "1e-3",
         "--high", "1e33", "--coarse", "2", "--fine", "1", "-o", str(tmp_path / "out")]
    )  # fmt: skip
    captured = capsys.readouterr()
    assert code == 1
    assert "2 trials were not trained:\n  0001: the loss of task" in captured.err
    assert "at step" in captured.err
    assert "3 trainings: 2 values of training.learning_rate from 0.001 to 1e+33" in captured.err
    rows = rows_of(tmp_path / "out" / "search.csv")
    assert [row["state"] for row in rows] == ["complete", "failed", "failed"]
    assert "was not finite" in rows[1]["message"]
    assert "best: trial 0000" in captured.out
    assert "the best training.learning_rate is 0.001, an end of the range" in captured.out


def test_a_grid_is_announced_and_its_result_is_json(config: Path, tmp_path: Path, capsys: Captured) -> None:
    call = ["search", str(config), "--method", "grid", "--resolution", "3", "-o", str(tmp_path / "out")]
    assert run([*call, "training.epochs=1", "--metric", "disease=accuracy", "--json"]) == 0
    captured = capsys.readouterr()
    assert (
        "grid: 2 trainings: 2 weights in steps of 1/3 that sum to 1; judged by the geometric" in captured.err
    )
    found = json.loads(captured.out)
    assert found["method"] == "grid"
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete"]
    assert set(found["best"]["metrics"]) == {"anatomy.score", "disease.accuracy"}
    assert found["best_config"] == str(tmp_path / "out" / "best.yaml")

    assert run([*call, "training.epochs=2", "--metric", "disease=accuracy"]) == 2
    assert "training.epochs was 1 and is now 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "genetic"], "no method of searching"),
        (["--method", "line", "--low", "0"], "temperature must be greater than 0"),
        (["--method", "grid", "--metric", "anatomy=bias"], "no direction"),
        (["--method", "grid", "--storage", "nodb://u:secret@h/n"], "cannot be opened"),
        (["--method", "evolution", "--vary", "tasks.anatomy.loss=dice_ce,dise"], "tasks.anatomy"),
        (["--method", "evolution", "--vary", "training.batchsize=1..4"], "did you mean 'batch_size'"),
    ],
)
def test_a_search_that_cannot_be_is_refused_and_nothing_is_written(
    config: Path, tmp_path: Path, capsys: Captured, options: list[str], says: str
) -> None:
    assert run(["search", str(config), "-o", str(tmp_path / "out"), *options]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "secret" not in captured.err
    assert not (tmp_path / "out").exists()


def test_a_metric_that_trainings_do_not_have_ends_the_search(config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no 'hd95' of task 'anatomy'; known are dice"):
        verbs.search(
            config, method="grid", output=tmp_path / "out", metrics=["anatomy=hd95"],
            overrides=["training.epochs=1"],
        )  # fmt: skip


def test_without_optuna_the_extra_is_named(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)  # what Python does with a package that cannot be had
    for name in [name for name in sys.modules if name.startswith("medmtl.search.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"pip install 'medmtl\[search\]'"):
        verbs.search(config, method="line", output=tmp_path / "out")


def test_ranks_of_torchrun_are_no_search(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medmtl.engine.launch import VARIABLES

    for name in VARIABLES:
        monkeypatch.setenv(name, "2")
    with pytest.raises(ConfigError, match="not started by torchrun; start the same call once per GPU"):
        verbs.search(config, method="line", output=tmp_path / "out")


def test_a_pruned_training_is_told_and_is_not_the_best(config: Path, tmp_path: Path) -> None:
    found = verbs.search(
        config, method="grid", output=tmp_path / "out", prune=True, resolution=8,
        overrides=["training.epochs=4", "training.steps_per_epoch=1"],
    )  # fmt: skip
    states = {trial.state for trial in found.trials}
    assert states <= {"complete", "pruned"}
    assert found.best is not None
    assert found.best.state == "complete"


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_inside_the_training_and_ends_as_if_nothing_had_been(
    config: Path, tmp_path: Path
) -> None:
    call: list[Any] = [
        sys.executable, "-m", "medmtl", "search", str(config), "--method", "evolution", "--trials", "4",
        "--initial", "2", "--children", "2", "training.epochs=6", "-o",
    ]  # fmt: skip
    assert subprocess.run([*call, tmp_path / "whole"], capture_output=True).returncode == 0

    killed = subprocess.Popen([*call, tmp_path / "killed"], stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / "trials" / "0001" / "checkpoints" / "last.safetensors"
    deadline = time.monotonic() + 300
    while not checkpoint.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert {row["state"] for row in rows_of(tmp_path / "killed" / "search.csv")} <= {"complete", "running"}
    assert subprocess.run([*call, tmp_path / "killed"], capture_output=True).returncode == 0

    assert without_seconds(tmp_path / "killed") == without_seconds(tmp_path / "whole")
    for trial in ("0001", "0003"):
        one, other = (
            (tmp_path / name / "trials" / trial / "model" / "model.safetensors").read_bytes()
            for name in ("whole", "killed")
        )
        assert one == other
