"""The demo, small: from nothing to a report, every file of the contract in its place."""

from __future__ import annotations

import csv
import json

import pytest

from medmtl import verbs
from medmtl.config import ExperimentConfig, parse_config
from medmtl.evaluation import Evaluation
from medmtl.inference import load_model
from medmtl.types import OutputError

CASES = 12


def small(config: ExperimentConfig) -> ExperimentConfig:
    """The demo's own config, of another size."""
    found = config.model_dump(mode="json")
    found["backbone"]["widths"] = [4, 8]
    found["device"] = "cpu"
    found["training"] |= {
        "epochs": 2,
        "steps_per_epoch": 3,
        "warmup_steps": 1,
        "threads": 1,
        "precision": "float32",
    }
    return parse_config(found)


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    """What the demo said of its progress."""
    return []


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, told: list[tuple[str, int, int]]) -> verbs.Demo:
    folder = tmp_path_factory.mktemp("demo")
    return verbs.demo(
        folder, cases=CASES, config=small(verbs.demo_config()), progress=lambda *step: told.append(step)
    )


@pytest.fixture(scope="module")
def evaluation(demo: verbs.Demo) -> Evaluation:
    return demo.evaluation


@pytest.mark.parametrize(
    "name",
    [
        "phantoms/truth.csv",
        "dataset/dataset.yaml",
        "dataset/cases.csv",
        "dataset/findings.csv",
        "dataset/volumes",
        "run/config.yaml",
        "run/plan.yaml",
        "run/metrics.csv",
        "run/weights.csv",
        "run/log.txt",
        "run/environment.json",
        "run/checkpoints/last.safetensors",
        "run/checkpoints/best.safetensors",
        "run/tensorboard",
        "run/model/model.safetensors",
        "run/model/model.yaml",
        "run/model/metadata.json",
        "evaluation/metrics.json",
        "evaluation/cases.csv",
        "evaluation/evaluation.yaml",
        "evaluation/report.html",
        "evaluation/predictions/predictions.csv",
        "evaluation/predictions/outputs.yaml",
        "incoming",
        "incoming/study1/cine",
        "incoming/study2/lge",
        "predictions/predictions.csv",
        "predictions/journal.sqlite",
        "predictions/report.html",
    ],
)
def test_every_file_of_the_contract_is_there(demo: verbs.Demo, name: str) -> None:
    assert (demo.folder / name).exists()


def test_nothing_half_written_is_left(demo: verbs.Demo) -> None:
    left = [path for path in demo.folder.rglob(".*") if not path.name.startswith(".git")]
    assert left == []


def test_every_test_case_has_its_volumes_and_its_record(demo: verbs.Demo) -> None:
    cases = demo.dataset.select("test")
    assert cases
    for case in cases:
        folder = demo.folder / "evaluation" / "predictions" / case.case_id
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["prediction.json", "segmentation.nii.gz", "tissue.nii.gz"]


def test_dicom_studies_come_back_as_dicom_with_a_page_each(demo: verbs.Demo) -> None:
    table = demo.predictions.table
    assert list(table["status"]) == ["ok", "ok"]
    for uid in table["study_uid"]:
        names = {path.name for path in (demo.folder / "predictions" / uid).iterdir()}
        assert {"segmentation.dcm", "tissue.dcm", "measurements.dcm", "segmentation.nii.gz"} <= names
        assert {"prediction.json", "report.html"} <= names


def test_the_cohort_is_all_there_in_three_splits(demo: verbs.Demo) -> None:
    sizes = {split: len(demo.dataset.select(split)) for split in ("train", "val", "test")}
    assert sum(sizes.values()) == CASES
    assert min(sizes.values()) >= 1


def test_the_metrics_have_every_task(demo: verbs.Demo) -> None:
    metrics = json.loads((demo.folder / "evaluation" / "metrics.json").read_text())
    assert set(metrics) == {"anatomy", "tissue", "disease", "function"}
    assert {"dice", "dice.LV", "hd95.LV"} <= set(metrics["anatomy"])
    assert {"accuracy", "balanced_accuracy"} <= set(metrics["disease"])
    assert {"mae.LV_EF", "bias.LV_EF"} <= set(metrics["function"])
    assert all(
        set(entry) == {"value", "ci_low", "ci_high", "n", "unit"}
        for found in metrics.values()
        for entry in found.values()
    )


def test_the_metrics_in_memory_are_those_on_disk(demo: verbs.Demo, evaluation: Evaluation) -> None:
    assert json.loads((demo.folder / "evaluation" / "metrics.json").read_text()) == evaluation.metrics
    assert evaluation.missing == ()


def test_the_report_speaks_of_every_task(demo: verbs.Demo) -> None:
    page = demo.report.read_text(encoding="utf-8")
    assert all(task in page for task in ("anatomy", "tissue", "disease", "function"))
    assert "<script src=" not in page, "one file that needs no network"


def test_every_step_is_in_the_table_of_weights(demo: verbs.Demo) -> None:
    with (demo.folder / "run" / "weights.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(step) for step in range(6)]
    assert {f"{task}.weight" for task in demo.run.model.tasks} <= rows[0].keys()


def test_the_model_that_was_kept_can_be_loaded(demo: verbs.Demo) -> None:
    assert tuple(load_model(demo.folder / "run").tasks) == ("anatomy", "tissue", "disease", "function")


def test_progress_names_every_stage_and_reaches_its_end(
    demo: verbs.Demo, told: list[tuple[str, int, int]]
) -> None:
    assert demo.folder.is_dir()
    stages = list(dict.fromkeys(what for what, _, _ in told))
    assert stages == ["phantoms", "ingest", "prepare", "train", "predict", "evaluate"]
    last = {what: (done, total) for what, done, total in told}
    assert all(done == total for done, total in last.values())


def test_a_second_demo_in_the_same_folder_is_refused(demo: verbs.Demo) -> None:
    before = sorted(demo.folder.rglob("*"))
    with pytest.raises(OutputError, match="is not empty; remove it or choose another folder with -o"):
        verbs.demo(demo.folder, cases=CASES, config=small(verbs.demo_config()))
    assert sorted(demo.folder.rglob("*")) == before
