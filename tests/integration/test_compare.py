"""A whole comparison on a tiny study: what it writes, that it goes on where it was, and what it refuses."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml

from medmtl import verbs
from medmtl.cli import run
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.evaluation.comparison import Comparison, delta_m_percent
from medmtl.inference import load_model
from medmtl.types import ConfigError, OutputError
from tests.helpers.study import make_job, sections, write_study

WEIGHTINGS = "ew,uw-so(temperature=2)"
METRICS = {"anatomy": "dice", "disease": "accuracy"}
Captured = pytest.CaptureFixture[str]


def config_of(study: Dataset, tasks: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    settings = {
        "epochs": 2,
        "steps_per_epoch": 2,
        "learning_rate": 1e-2,
        "ema": 0.0,
        "keep": "last",
    } | training
    job = make_job(study, study.root / "unused", tasks or sections("anatomy", "disease"), **settings)
    return {**job.resolved, "dataset": str(study.root)}


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


@pytest.fixture(scope="module")
def config(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tmp_path_factory.mktemp("config"), config_of(study))


def compare(config: Path, output: Path, **options: Any) -> Comparison:
    asked: dict[str, Any] = {"weightings": WEIGHTINGS, "seeds": 1, "metrics": ["disease=accuracy"]}
    return verbs.compare(config, output=output, **(asked | options))


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare(config, tmp_path_factory.mktemp("out") / "OUT", seeds=2)


def written(folder: Path) -> dict[str, int]:
    """When every file of the runs was written."""
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns for p in (folder / "runs").rglob("*") if p.is_file()
    }


# What is refused, before anything is trained


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weightings": "ew,uwso"}, "unknown weighting 'uwso'; did you mean 'uw-so'"),
        (
            {"weightings": "dwa(temperature=warm)"},
            r"--weightings dwa\(temperature=warm\): .*must be a finite number",
        ),
        ({"split": "tset"}, "'tset' is not known; did you mean 'test'"),
        ({"seeds": 0}, "at least one seed"),
        ({"search_lr": -1}, "no negative number of trials"),
        ({"reference": "uw"}, "'uw' is not compared"),
        ({"metrics": ["disase=auc"]}, "no task 'disase'; did you mean 'disease'"),
        ({"overrides": ["dataset=null"]}, "no dataset"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_written(
    config: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        compare(config, tmp_path / "OUT", **options)
    assert not (tmp_path / "OUT").exists()


def test_one_task_is_nothing_to_compare(study: Dataset, tmp_path: Path) -> None:
    config = write_config(tmp_path, config_of(study, sections("anatomy")))
    with pytest.raises(ConfigError, match="one task only, so there is nothing to weigh"):
        compare(config, tmp_path / "OUT", metrics=())
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize(
    ("blank", "says"),
    [
        (
            {"c7": ("disease",), "c8": ("disease",)},
            "split test: none of the 2 cases has a label of task .disease",
        ),
        (
            {f"c{n}": ("anatomy",) for n in range(5)},
            "split train: none of the 5 cases has a label of task .anatomy",
        ),
    ],
)
def test_a_task_without_labels_where_they_are_needed_is_refused_with_a_way_out(
    tmp_path: Path, blank: dict[str, tuple[str, ...]], says: str
) -> None:
    study = open_dataset(write_study(tmp_path / "dataset", blank=blank))
    config = write_config(tmp_path, config_of(study))
    with pytest.raises(ConfigError, match=rf"{says}.*--metric \w+=none"):
        compare(config, tmp_path / "OUT")
    assert not (tmp_path / "OUT").exists()


def test_a_split_without_cases_is_refused_with_another_one(tmp_path: Path) -> None:
    study = open_dataset(write_study(tmp_path / "dataset", splits=("train", "train", "val")))
    with pytest.raises(ConfigError, match=r"split test: has no case.*--split val"):
        compare(write_config(tmp_path, config_of(study)), tmp_path / "OUT")


def test_a_task_that_reads_nothing_but_masks_has_no_network_of_its_own(
    study: Dataset, tmp_path: Path
) -> None:
    tasks = sections("anatomy", "disease", disease={"features": False})
    config = write_config(tmp_path, config_of(study, tasks))
    with pytest.raises(ConfigError, match=r"'disease' reads nothing but other tasks' masks.*disease=none"):
        compare(config, tmp_path / "OUT")
    assert not (tmp_path / "OUT").exists()


def test_a_folder_that_holds_something_else_is_left_alone(config: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not a comparison"):
        compare(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"overrides": ["training.learning_rate=0.5"]}, "training.learning_rate was 0.01 and is now 0.5"),
        ({"overrides": ["tasks.disease.hidden=9"]}, "tasks.disease.hidden was 8 and is now 9"),
        ({"split": "val"}, "split was 'test' and is now 'val'"),
        ({"search_lr": 2}, "search_trials was 0 and is now 2"),
        ({"weightings": "ew,pcgrad", "overrides": ["backbone.decoders=separate"]}, "backbone.decoders was"),
    ],
)
def test_a_folder_of_another_comparison_says_what_differs(
    config: Path, finished: Comparison, options: dict[str, Any], says: str
) -> None:
    before = written(finished.folder)
    with pytest.raises(ConfigError, match=f"holds another comparison: .*{says}"):
        compare(config, finished.folder, **options)
    assert written(finished.folder) == before


def test_other_data_are_another_comparison(finished: Comparison, tmp_path: Path) -> None:
    other = open_dataset(write_study(tmp_path / "dataset", blank={"c0": ("disease",)}))
    with pytest.raises(ConfigError, match=r"dataset\.sha256 was"):
        compare(write_config(tmp_path, config_of(other)), finished.folder)


# What a comparison gives


def test_a_comparison_holds_every_file_of_the_contract(finished: Comparison) -> None:
    there = {path.name for path in finished.folder.iterdir()}
    assert there == {
        "compare.csv", "comparison.yaml", "log.txt", "plan.yaml", "report.html", "runs", "summary.json",
    }  # fmt: skip
    runs = finished.folder / "runs"
    assert len(list(runs.iterdir())) == 3
    for seed in (0, 1):
        for place in (runs / "ew" / f"seed{seed}", runs / "single-task" / "anatomy" / f"seed{seed}"):
            assert (place / "run" / "model" / "model.yaml").is_file()
            assert (place / "evaluation" / "metrics.json").is_file()
            assert json.loads((place / "result.json").read_text())["status"] == "ok"


def test_compare_csv_has_a_row_per_method_and_seed_with_every_metric(finished: Comparison) -> None:
    table = pd.read_csv(finished.folder / "compare.csv")
    assert list(zip(table["method"], table["seed"], strict=True)) == [
        (method, seed) for method in ("single-task", "ew", "uw-so(temperature=2)") for seed in (0, 1)
    ]
    assert list(table.columns[:5]) == ["method", "seed", "status", "message", "delta_m_percent"]
    assert {
        "anatomy.dice", "anatomy.dice.LV.ED", "anatomy.hd95", "disease.accuracy", "disease.auc",
        "seconds_per_step", "peak_memory_mib", "seconds", "steps", "learning_rate", "search_steps",
    } <= set(table.columns)  # fmt: skip
    assert (table["status"] == "ok").all()
    methods = table[table["method"] != "single-task"]
    assert (methods["steps"] == 4).all()
    assert (table.loc[table["method"] == "single-task", "steps"] == 8).all()
    assert (methods["peak_memory_mib"] > 10).all()


def test_delta_m_compares_every_seed_with_the_single_task_networks_of_that_seed(finished: Comparison) -> None:
    table = pd.read_csv(finished.folder / "compare.csv").set_index(["method", "seed"])
    for (method, seed), row in table.iterrows():
        single = table.loc["single-task", seed]
        expected = delta_m_percent(
            {task: row[f"{task}.{metric}"] for task, metric in METRICS.items()},
            {task: single[f"{task}.{metric}"] for task, metric in METRICS.items()},
            METRICS,
        )
        if method == "single-task":
            expected = 0.0
        assert row["delta_m_percent"] == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_metrics_are_those_of_each_runs_own_evaluation(finished: Comparison) -> None:
    table = finished.table.set_index(["method", "seed"])
    place = finished.folder / "runs" / "single-task" / "disease" / "seed1"
    found = json.loads((place / "evaluation" / "metrics.json").read_text())["disease"]
    assert table.at[("single-task", 1), "disease.accuracy"] == found["accuracy"]["value"]
    assert load_model(place / "run").tasks.keys() == {"disease"}


def test_all_methods_have_the_same_budget_network_and_seeds(finished: Comparison) -> None:
    resolved = [yaml.safe_load(path.read_text()) for path in sorted(finished.folder.rglob("run/config.yaml"))]
    assert len(resolved) == 8
    plan = yaml.safe_load((finished.folder / "plan.yaml").read_text())
    assert resolved[0]["training"]["batch_size"] == plan["batch_size"]
    for key in ("training", "backbone", "preparation", "covariates"):
        assert len({json.dumps(config[key], sort_keys=True) for config in resolved}) == 1
    assert {config["seed"] for config in resolved} == {0, 1}


def test_the_summary_says_how_little_so_few_cases_and_seeds_say(finished: Comparison) -> None:
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert summary["reference"] == "ew"
    assert all(test["p"] is None or test["remark"] for test in summary["tests"])
    assert any("too few cases" in test["remark"] for test in summary["tests"])
    assert any("too few seeds" in test["remark"] for test in summary["tests"])
    assert any("2 seeds: intervals from so few runs are wide" in note for note in summary["notes"])
    assert any("disease: alone has no masks to read" in note for note in summary["notes"])
    assert summary["methods"]["ew"]["delta_m_percent"]["n"] <= 2
    ranks = [summary["methods"][name]["mean_rank"] for name in ("ew", "uw-so(temperature=2)")]
    assert sum(ranks) == pytest.approx(3.0)


def test_the_report_is_one_file_that_draws_every_section(finished: Comparison) -> None:
    page = (finished.folder / "report.html").read_text()
    for title in (
        "Methods, best first",
        "Differences from ew",
        "Task weights over time",
        "Losses of every task",
    ):
        assert f">{title}</h2>" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "nan" not in page.lower().replace("maintenance", "")
    assert page.count("<svg") >= 4


def test_medmtl_report_draws_the_page_again(finished: Comparison, capsys: Captured) -> None:
    page = finished.folder / "report.html"
    page.unlink()
    assert run(["report", str(finished.folder)]) == 0
    assert page.is_file()


def test_a_comparison_that_is_not_finished_has_no_report_yet(finished: Comparison, tmp_path: Path) -> None:
    shutil.copy(finished.folder / "comparison.yaml", tmp_path)
    with pytest.raises(OutputError, match="not finished; call the same `medmtl compare` again"):
        verbs.build_report(tmp_path)


def test_validation_losses_of_every_task_are_recorded(finished: Comparison) -> None:
    for path in finished.folder.glob("runs/ew/seed*/run/metrics.csv"):
        log = pd.read_csv(path)
        assert {"val.loss.anatomy", "val.loss.disease"} <= set(log.columns)
        assert np.isfinite(log[["val.loss.anatomy", "val.loss.disease"]].to_numpy()).all()


# Going on


def test_a_finished_comparison_is_not_trained_again(config: Path, finished: Comparison) -> None:
    before = written(finished.folder)
    again = compare(config, finished.folder, seeds=2)
    assert written(finished.folder) == before
    pd.testing.assert_frame_equal(again.table, finished.table)


def test_methods_and_seeds_can_be_added(config: Path, finished: Comparison, tmp_path: Path) -> None:
    folder = tmp_path / "OUT"
    shutil.copytree(finished.folder, folder)
    before = written(folder)
    more = compare(config, folder, weightings="uw", seeds=1)
    assert {k: v for k, v in written(folder).items() if k in before} == before
    assert list(more.table["method"].unique()) == ["single-task", "ew", "uw-so(temperature=2)", "uw"]
    assert sorted(more.table.loc[more.table["method"] == "uw", "seed"]) == [0, 1]


class Stopped(Exception):
    """What a person's Ctrl-C is to a test."""


def stop_in(run_number: int, step: int) -> Callable[[str, int, int], None]:
    done = 0

    def progress(what: str, at: int, total: int) -> None:
        nonlocal done
        if what == "runs":
            done = at
        elif what == "train" and done == run_number and at == step:
            raise Stopped

    return progress


@pytest.mark.parametrize(("run_number", "step"), [(0, 1), (2, 3)])
def test_an_interrupted_comparison_ends_with_the_same_numbers(
    config: Path, finished: Comparison, tmp_path: Path, run_number: int, step: int
) -> None:
    with pytest.raises(Stopped):
        compare(config, tmp_path / "OUT", weightings="ew", progress=stop_in(run_number, step))
    assert not (tmp_path / "OUT" / "report.html").exists()
    again = compare(config, tmp_path / "OUT", weightings="ew")
    expected = finished.table[
        (finished.table["seed"] == 0) & finished.table["method"].isin(["single-task", "ew"])
    ]
    values = [c for c in expected.columns if "." in c] + ["delta_m_percent", "steps"]
    pd.testing.assert_frame_equal(
        again.table[values].reset_index(drop=True), expected[values].reset_index(drop=True)
    )


def test_a_process_that_was_killed_before_its_first_file_is_no_obstacle(config: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        compare(config, tmp_path / "OUT", weightings="ew", progress=stop_in(0, 1))
    place = tmp_path / "OUT" / "runs" / "single-task" / "anatomy" / "seed0" / "run"
    shutil.rmtree(place)
    place.mkdir()
    (place / "log.txt").write_text("began")
    assert compare(config, tmp_path / "OUT", weightings="ew").failed == {}


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_finished(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "OUT"
    call = [
        sys.executable, "-m", "medmtl", "compare", str(config), "--weightings", WEIGHTINGS, "--seeds", "1",
        "--metric", "disease=accuracy", "-o", str(output),
    ]  # fmt: skip
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = output / "runs" / "single-task" / "anatomy" / "seed0" / "result.json"
    waited = time.monotonic()
    while not first.is_file() and process.poll() is None and time.monotonic() - waited < 300:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = first.stat().st_mtime_ns
    found = compare(config, output)
    assert first.stat().st_mtime_ns == before
    assert len(found.table) == 3


# Tasks that read another's masks


@pytest.fixture(scope="module")
def with_tissue(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("tissue")
    tasks = sections("tissue", "anatomy")
    config = write_config(folder, config_of(study, tasks, epochs=2, steps_per_epoch=12, batch_size=4))
    return compare(config, folder / "OUT", weightings="ew", metrics=())


def test_tissue_alone_learns_nothing_else(with_tissue: Comparison) -> None:
    place = with_tissue.folder / "runs" / "single-task" / "tissue" / "seed0"
    resolved = yaml.safe_load((place / "run" / "config.yaml").read_text())
    assert list(resolved["tasks"]) == ["tissue"]
    weights = pd.read_csv(place / "run" / "weights.csv")
    assert not [column for column in weights.columns if column.startswith("anatomy")]
    assert any("tissue: alone learns nothing else; where MYO is" in n for n in with_tissue.summary["notes"])


def test_tissue_alone_lies_where_its_hosts_own_network_sees_the_structure(with_tissue: Comparison) -> None:
    runs = with_tissue.folder / "runs" / "single-task"
    inside = 0
    for case in ("c7", "c8"):
        tissue, anatomy = (
            np.asarray(
                nibabel.load(runs / task / "seed0" / "evaluation" / "predictions" / case / file).dataobj
            )
            for task, file in (("tissue", "tissue.nii.gz"), ("anatomy", "segmentation.nii.gz"))
        )
        np.testing.assert_array_equal(tissue > 0, anatomy == 2)
        inside += int((tissue > 0).sum())
    assert inside > 0, "the host's network has learned where the myocardium is"
    single = with_tissue.table.set_index("method").loc["single-task"]
    assert 0 < single["tissue.dice"] <= 1


# Learning rates


def test_a_search_tries_the_same_points_for_every_method_and_counts_them(
    config: Path, tmp_path: Path
) -> None:
    found = compare(config, tmp_path / "OUT", weightings="ew", search_lr=2)
    runs = tmp_path / "OUT" / "runs"
    tried = []
    for place in ("ew", "single-task/anatomy", "single-task/disease"):
        written_down = json.loads((runs / place / "search" / "search.json").read_text())
        tried.append([(t["learning_rate"], t["weight_decay"]) for t in written_down["trials"]])
        assert written_down["steps"] == 8
        chosen = tuple(written_down["chosen"].values())
        assert chosen in tried[-1]
        resolved = yaml.safe_load((runs / place / "seed0" / "run" / "config.yaml").read_text())["training"]
        assert (resolved["learning_rate"], resolved["weight_decay"]) == chosen
    assert tried[0][0] == (0.01, 0.01)
    assert all(one == tried[0] for one in tried)
    table = found.table.set_index("method")
    assert table.at["ew", "search_steps"] == 8
    assert table.at["single-task", "search_steps"] == 16
    assert table.at["ew", "search_seconds"] > 0
    assert ">Learning rates</h2>" in (tmp_path / "OUT" / "report.html").read_text()


# A method that cannot be trained


def test_a_method_that_fails_is_a_result_and_the_others_go_on(
    config: Path, tmp_path: Path, capsys: Captured
) -> None:
    method = "scalarization(weights={anatomy: 1.0e+38, disease: 1.0e+38})"
    call = [
        "compare",
        str(config),
        "--weightings",
        f"ew,{method}",
        "--seeds",
        "1",
        "-o",
        str(tmp_path / "OUT"),
    ]
    assert run([*call, "--metric", "disease=accuracy"]) == 1
    captured = capsys.readouterr()
    assert "not trained: scalarization" in captured.err
    table = pd.read_csv(tmp_path / "OUT" / "compare.csv").set_index("method")
    assert table.at[method, "status"] == "failed"
    assert "was not finite" in table.at[method, "message"]
    assert math.isnan(table.at[method, "delta_m_percent"])
    assert table.at["ew", "status"] == "ok"
    assert "could not be trained" in (tmp_path / "OUT" / "report.html").read_text()


# The command line


def test_json_is_one_document_without_anything_around_it(
    config: Path, finished: Comparison, capsys: Captured
) -> None:
    call = ["compare", str(config), "--weightings", WEIGHTINGS, "--seeds", "2", "-o", str(finished.folder)]
    assert run([*call, "--metric", "disease=accuracy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"] == METRICS
    assert len(found["rows"]) == 6
    assert set(found["methods"]) == {"single-task", "ew", "uw-so(temperature=2)"}


def test_the_table_on_a_terminal_has_a_row_per_method(
    config: Path, finished: Comparison, capsys: Captured
) -> None:
    call = ["compare", str(config), "--weightings", WEIGHTINGS, "--seeds", "2", "-o", str(finished.folder)]
    assert run([*call, "--metric", "disease=accuracy"]) == 0
    out = capsys.readouterr().out
    assert all(
        name in out for name in ("single-task", "uw-so(temperature=2)", "delta-m", "compare.csv", "note: ")
    )
