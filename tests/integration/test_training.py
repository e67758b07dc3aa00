"""A whole training on a tiny study: what it writes, how it stops, and that it can be continued."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from medmtl import verbs
from medmtl.config import parse_config
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine import Job, Run, train
from medmtl.engine.checkpoint import load_tree
from medmtl.engine.logs import NotFiniteError
from medmtl.evaluation import evaluate_predictions
from medmtl.inference import load_model, predict_cases
from medmtl.types import ConfigError, OutputError
from tests.helpers.study import SECTIONS, make_job, sections, write_study

Make = Callable[..., Job]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


@pytest.fixture(scope="module")
def finished(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three epochs of four steps of a task of every kind."""
    output = tmp_path_factory.mktemp("runs") / "run"
    return train(make_job(study, output, epochs=3, steps_per_epoch=4, learning_rate=1e-2))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Interrupted(Exception):
    """What a person's Ctrl-C is to a test."""


def stop_at(step: int) -> Callable[[str, int, int], None]:
    def progress(what: str, done: int, total: int) -> None:
        if what == "train" and done == step:
            raise Interrupted

    return progress


def test_a_run_folder_holds_every_file_of_the_contract(finished: Run) -> None:
    folder = finished.folder
    there = {p.name for p in folder.iterdir()}
    assert there == {
        "config.yaml", "plan.yaml", "metrics.csv", "weights.csv", "checkpoints", "model", "tensorboard",
        "log.txt", "environment.json",
    }  # fmt: skip
    assert {p.name for p in (folder / "model").iterdir()} == {
        "model.safetensors",
        "model.yaml",
        "metadata.json",
    }
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"last.safetensors", "best.safetensors"}
    assert [p.name.startswith("events.out.tfevents") for p in (folder / "tensorboard").iterdir()] == [True]
    assert yaml.safe_load((folder / "config.yaml").read_text())["tasks"]["anatomy"] == SECTIONS["anatomy"]
    assert yaml.safe_load((folder / "plan.yaml").read_text())["patch"] == [16, 16, 4]
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    assert "epoch 3, step 12" in (folder / "log.txt").read_text()


def test_weights_csv_has_a_row_per_step_with_loss_raw_weight_and_count_of_every_task(finished: Run) -> None:
    rows = rows_of(finished.folder / "weights.csv")
    parts = [f"{task}.{part}" for task in SECTIONS for part in ("loss", "raw", "weight", "count")]
    assert list(rows[0]) == ["step", "epoch", *parts, "total", "gradient_norm"]
    assert [row["step"] for row in rows] == [str(step) for step in range(12)]
    assert [float(row["epoch"]) for row in rows] == [(step + 1) / 4 for step in range(12)]
    for row in rows:
        weighted = sum(float(row[f"{t}.loss"]) * float(row[f"{t}.weight"]) for t in SECTIONS)
        assert weighted == pytest.approx(float(row["total"]), rel=1e-4)
        assert int(row["anatomy.count"]) == 2 * int(row["disease.count"]) == 4


def test_metrics_csv_has_a_row_per_epoch_with_losses_and_validation(finished: Run) -> None:
    rows = rows_of(finished.folder / "metrics.csv")
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4"), ("2", "8"), ("3", "12")]
    expected = {
        "epoch", "step", "seconds", "learning_rate", "train.total", "val.score", "val.anatomy.dice",
        "val.anatomy.dice.LV", "val.tissue.dice.scar", "val.t1.mae", "val.disease.accuracy",
        "val.function.mae.LV_EF", *(f"train.loss.{task}" for task in SECTIONS),
    }  # fmt: skip
    assert expected <= set(rows[0])
    losses = [float(row["anatomy.loss"]) for row in rows_of(finished.folder / "weights.csv")[:4]]
    assert float(rows[0]["train.loss.anatomy"]) == pytest.approx(sum(losses) / 4, rel=1e-4)
    assert max(float(row["val.score"]) for row in rows) == pytest.approx(finished.best_score, rel=1e-5)
    assert finished.model.metadata["kept"] == f"epoch {finished.best_epoch}"


def test_losses_fall(study: Dataset, tmp_path: Path) -> None:
    job = make_job(
        study, tmp_path / "run", sections("anatomy", "disease"), epochs=1, steps_per_epoch=40, batch_size=4,
        learning_rate=2e-2,
    )  # fmt: skip
    train(job)
    rows = rows_of(tmp_path / "run" / "weights.csv")
    for task in ("anatomy", "disease"):
        losses = [float(row[f"{task}.loss"]) for row in rows]
        assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_model_folder_says_what_the_run_says(finished: Run) -> None:
    model = load_model(finished.folder)
    for name, value in finished.model.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], value)
    kept = load_tree(finished.folder / "checkpoints" / "best.safetensors")
    assert kept["epoch"] == finished.best_epoch
    assert all(torch.equal(kept["network"][n], v) for n, v in model.network.state_dict().items())


@pytest.mark.parametrize(
    ("weighting", "training"),
    [
        ({"type": "balanced"}, {"patience": 5, "batch_size": 3}),
        ({"type": "uw"}, {"keep": "last"}),
        ({"type": "dwa"}, {"ema": 0.0, "keep": "last"}),
        ({"type": "rlw", "every": {"disease": 2}, "warmup_steps": 2}, {"keep": "last"}),
    ],
)
def test_a_resumed_run_ends_bit_for_bit_like_one_that_never_stopped(
    study: Dataset, tmp_path: Path, weighting: dict[str, Any], training: dict[str, Any]
) -> None:
    def job(name: str) -> Job:
        options = {"epochs": 3, "steps_per_epoch": 3, "learning_rate": 1e-2, **training}
        return make_job(study, tmp_path / name, weighting=weighting, **options)

    train(job("whole"))
    for step in (5, 8):  # in the middle of the second epoch, then of the third
        with pytest.raises(Interrupted):
            train(job("parts"), resume=True, progress=stop_at(step))
        assert not (tmp_path / "parts" / "model").exists()
        torch.manual_seed(99)
    train(job("parts"), resume=True)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    whole, parts = ((tmp_path / name / "weights.csv").read_text() for name in ("whole", "parts"))
    assert whole == parts
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(tmp_path / name / "metrics.csv")]
        for name in ("whole", "parts")
    ]
    assert timeless[0] == timeless[1]


def test_resume_without_a_run_starts_one_and_a_finished_run_stays_as_it_is(
    study: Dataset, tmp_path: Path
) -> None:
    job = make_job(study, tmp_path / "run")
    first = train(job, resume=True)
    weights = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    logged = (tmp_path / "run" / "weights.csv").read_bytes()
    again = train(job, resume=True)
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == weights
    assert (tmp_path / "run" / "weights.csv").read_bytes() == logged
    assert again.best_score == first.best_score


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"tasks": sections("anatomy", "disease")}, "tasks.anatomy|tasks.function"),
        ({"weighting": {"type": "uw"}}, "weighting.type = 'balanced', the config now has 'uw'"),
        ({"backbone": {"type": "unet", "widths": [4, 6]}}, "backbone.widths"),
        ({"steps_per_epoch": 3}, "training.steps_per_epoch = 2"),
        ({"seed": 7}, "seed = 0"),
    ],
)
def test_a_run_is_not_continued_with_another_config_and_stays_intact(
    study: Dataset, tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    with pytest.raises(Interrupted):
        train(make_job(study, tmp_path / "run"), progress=stop_at(3))
    before = files_of(tmp_path / "run")
    with pytest.raises(ConfigError, match=key):
        train(make_job(study, tmp_path / "run", **change), resume=True)
    assert files_of(tmp_path / "run") == before


def test_a_run_is_not_continued_on_a_dataset_that_asks_for_another_network(
    study: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(make_job(study, tmp_path / "run", sections("disease")), progress=stop_at(3))
    folder = write_study(tmp_path / "more")
    text = (folder / "dataset.yaml").read_text()
    (folder / "dataset.yaml").write_text(text.replace("    - large\n", "    - large\n    - huge\n"))
    with pytest.raises(
        ConfigError,
        match=r"last.safetensors: is of another network .*heads.disease.* has shape \(2,.*\) there and \(3,",
    ):
        train(make_job(folder, tmp_path / "run", sections("disease")), resume=True)


def test_a_gpu_that_runs_out_of_memory_is_one_sentence_with_the_numbers_to_change(
    study: Dataset, tmp_path: Path
) -> None:
    config = {
        "tasks": {"anatomy": {"type": "tests.helpers.own_members:TooLarge", "target": "anatomy"}},
        "backbone": {"type": "unet", "widths": [4, 8]},
        "preparation": {"patch": [16, 16, 4]},
        "training": {"epochs": 1, "steps_per_epoch": 1, "batch_size": 2, "threads": 1},
    }
    with pytest.raises(ConfigError) as caught:
        verbs.train(parse_config(config), study, output=tmp_path / "run", device="cpu")
    assert "Tried to allocate 1000.00 GiB.)" in str(caught.value)
    assert "More lines" not in str(caught.value)
    assert "take a smaller training.batch_size or preparation.patch" in str(caught.value)


def test_a_truncated_checkpoint_is_one_clear_error_and_the_run_stays_intact(
    study: Dataset, tmp_path: Path
) -> None:
    job = make_job(study, tmp_path / "run")
    with pytest.raises(Interrupted):
        train(job, progress=stop_at(3))
    last = tmp_path / "run" / "checkpoints" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-40])
    before = {name: data for name, data in files_of(tmp_path / "run").items() if name != "log.txt"}
    with pytest.raises(ConfigError, match=r"last.safetensors: is not a whole checkpoint"):
        train(job, resume=True)
    after = {name: data for name, data in files_of(tmp_path / "run").items() if name != "log.txt"}
    assert after == before


def test_a_folder_that_is_not_a_run_is_refused_and_left_intact(study: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(OutputError, match="exists and is not a medmtl run; choose another folder"):
            train(make_job(study, tmp_path / "run"), resume=resume)
    assert files_of(tmp_path / "run") == {"thesis.txt": b"mine"}
    with pytest.raises(OutputError, match="choose another folder"):
        train(make_job(study, tmp_path / "run" / "thesis.txt"))


def test_a_run_that_is_there_is_refused_without_resume_and_left_intact(study: Dataset, finished: Run) -> None:
    before = files_of(finished.folder)
    with pytest.raises(OutputError, match="holds a run already; continue it with --resume auto"):
        train(make_job(study, finished.folder))
    assert files_of(finished.folder) == before


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_task_and_step(
    study: Dataset, tmp_path: Path
) -> None:
    tasks = {
        "disease": SECTIONS["disease"],
        "own": {"type": "tests.helpers.own_members:BreaksAtThirdStep", "target": "anatomy"},
    }
    job = make_job(study, tmp_path / "run", tasks)
    with pytest.raises(NotFiniteError, match="the loss of task 'own' was not finite at step 2") as caught:
        train(job)
    assert caught.value.exit_code == 1
    rows = rows_of(tmp_path / "run" / "weights.csv")
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert rows[1]["own.loss"] != ""
    assert rows[2]["own.loss"] == ""
    checkpoint = load_tree(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert checkpoint["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in checkpoint["network"].values() if v.is_floating_point())
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("policy", ["skip-step", "drop-task"])
def test_under_another_policy_a_broken_loss_does_not_end_the_run_and_is_told(
    study: Dataset, tmp_path: Path, policy: str
) -> None:
    tasks = {
        "disease": SECTIONS["disease"],
        "own": {"type": "tests.helpers.own_members:BreaksAtThirdStep", "target": "anatomy"},
    }
    job = make_job(study, tmp_path / "run", tasks, weighting={"type": "uw", "on_bad_loss": policy})
    run = train(job)
    rows = rows_of(tmp_path / "run" / "weights.csv")
    assert [bool(row["own.loss"]) for row in rows] == [True, True, *[False] * (len(rows) - 2)]
    assert all(bool(row["disease.weight"]) == (policy == "drop-task") for row in rows[2:])
    assert all((float(row["total"]) == 0) == (policy == "skip-step") for row in rows[2:])
    assert all(
        torch.isfinite(v).all() for v in run.model.network.state_dict().values() if v.is_floating_point()
    )
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "the loss of task 'own' cannot be used, for the 1. time" in log
    assert f"task 'own' had a loss that cannot be used on {len(rows) - 2} steps so far" in log


def test_a_task_without_any_label_in_the_first_epoch_is_told_once(tmp_path: Path) -> None:
    """One that is labelled in no training case at all is refused before that."""
    dataset = write_study(tmp_path / "dataset", blank={f"c{number}": ("disease",) for number in range(1, 5)})
    tasks = sections("anatomy", "disease")
    train(make_job(dataset, tmp_path / "run", tasks, epochs=3, steps_per_epoch=1, batch_size=1))
    counts = [row["disease.count"] for row in rows_of(tmp_path / "run" / "weights.csv")]
    assert counts[0] == "0"
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count("task 'disease' has had no label in the first epoch, and has learned nothing") == 1


def test_an_absurd_learning_rate_stops_the_run_before_a_broken_checkpoint(
    study: Dataset, tmp_path: Path
) -> None:
    job = make_job(study, tmp_path / "run", learning_rate=1e20, epochs=3, steps_per_epoch=5)
    with pytest.raises(NotFiniteError, match="was not finite at step"):
        train(job)
    assert len(rows_of(tmp_path / "run" / "weights.csv")) >= 1
    for path in (tmp_path / "run").glob("checkpoints/*.safetensors"):
        network = load_tree(path)["network"]
        assert all(torch.isfinite(v).all() for v in network.values() if v.is_floating_point())


def test_early_stopping_stops_and_a_stopped_run_is_not_continued(study: Dataset, tmp_path: Path) -> None:
    job = make_job(study, tmp_path / "run", patience=1, epochs=50, steps_per_epoch=1, learning_rate=1e-9)
    first = train(job)
    epochs = len(rows_of(tmp_path / "run" / "metrics.csv"))
    assert epochs < 50
    before = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    again = train(job, resume=True)
    assert len(rows_of(tmp_path / "run" / "metrics.csv")) == epochs
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == before
    assert again.best_epoch == first.best_epoch


def test_a_collapse_is_told(study: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = make_job(
        study, tmp_path / "run", sections("anatomy", "disease"), epochs=1, steps_per_epoch=100, batch_size=1,
        weighting={"type": "scalarization", "weights": {"anatomy": 1.0, "disease": 0.0001}},
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, logger="medmtl.train"):
        train(job)
    message = "task 'anatomy' has held more than 99 % of the total for 100 steps"
    assert [message in record.getMessage() for record in caplog.records] == [True]
    assert message in (tmp_path / "run" / "log.txt").read_text()


def test_without_validation_labels_the_last_weights_are_kept_and_no_score_is_made_up(tmp_path: Path) -> None:
    tasks = {name: SECTIONS[name] for name in ("disease", "anatomy")}
    dataset = write_study(
        tmp_path / "dataset", blank=dict.fromkeys(("c5", "c6"), ("anatomy", "disease", "tissue", "t1"))
    )
    run = train(make_job(dataset, tmp_path / "run", tasks, patience=1, epochs=3))
    assert len(rows_of(tmp_path / "run" / "metrics.csv")) == 3
    assert run.model.metadata["kept"] == "last"
    assert run.model.metadata["validation_score"] is None
    assert run.best_score != run.best_score  # NaN
    assert run.best_epoch == 0


def test_cases_may_miss_any_labels_and_a_step_may_have_none(tmp_path: Path) -> None:
    everything = tuple(column for column in ("anatomy", "tissue", "t1", "disease", "sex", "height"))
    dataset = write_study(
        tmp_path / "dataset",
        frames=4,
        blank={
            "c0": ("tissue", "t1"),
            "c1": ("anatomy", "disease"),
            "c2": everything,
            "c3": ("tissue", "t1", "disease"),
            "c5": ("anatomy", "tissue"),
        },
    )
    run = train(
        make_job(dataset, tmp_path / "run", epochs=2, steps_per_epoch=5, batch_size=1, random_frames=1)
    )
    rows = rows_of(tmp_path / "run" / "weights.csv")
    assert len(rows) == 10
    assert all(row["total"] == "" for row in rows if not any(int(row[f"{t}.count"]) for t in SECTIONS))
    assert sum(row["total"] == "" for row in rows) == 2
    for task in SECTIONS:
        assert {bool(row[f"{task}.loss"]) for row in rows} == {True, False}
        assert all(bool(row[f"{task}.loss"]) == (row[f"{task}.count"] != "0") for row in rows)
    assert {row["anatomy.count"] for row in rows} == {"0", "2"}  # of three frames, ED and ES are labelled
    assert torch.isfinite(torch.cat([v.flatten() for v in run.model.network.state_dict().values()])).all()


def test_a_case_that_cannot_be_used_is_left_out_with_its_finding(tmp_path: Path) -> None:
    import nibabel
    import numpy as np

    root = write_study(tmp_path / "dataset")
    path = root / "volumes" / "c1" / "cine.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, np.nan, np.float32), image.affine), path)
    run = train(make_job(root, tmp_path / "run"))
    assert [(f.case_id, f.code) for f in run.refused] == [("c1", "NOT_AN_IMAGE")]
    assert run.model.metadata["training_cases"] == 4
    assert "c1 is left out" in (tmp_path / "run" / "log.txt").read_text()


def test_two_channels_and_covariates_train(tmp_path: Path) -> None:
    dataset = write_study(tmp_path / "dataset", channels=("cine", "lge"), cells={"c0": {"height": ""}})
    run = train(make_job(dataset, tmp_path / "run", covariates=["height"]))
    assert run.model.channels == ("cine", "lge")
    assert run.model.covariates == ("height",)
    head = run.model.network.head("disease")
    assert head.covariate_mean.item() == pytest.approx((161 + 162 + 163 + 164) / 4)


def test_third_party_task_weighting_and_backbone_train_from_a_config(study: Dataset, tmp_path: Path) -> None:
    names = {key: f"tests.helpers.own_members:{key}" for key in ("Doubled", "LargestFirst", "TwoLevels")}
    tasks = {"own": {"type": names["Doubled"], "target": "anatomy"}, "disease": SECTIONS["disease"]}
    job = make_job(
        study,
        tmp_path / "run",
        tasks,
        weighting={"type": names["LargestFirst"]},
        backbone={"type": names["TwoLevels"], "width": 5},
    )
    run = train(job)
    assert run.model.network.backbone.pyramid_channels == (5, 10)
    rows = rows_of(tmp_path / "run" / "weights.csv")
    assert {row["own.weight"] for row in rows} <= {"0.75", "0.25"}
    with pytest.raises(
        ConfigError, match=r"names 'tests.helpers.own_members:.*, which is not part of medmtl"
    ):
        load_model(tmp_path / "run")
    assert load_model(tmp_path / "run", allow=list(names.values())).tasks["own"].kind == "doubled"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": {"x": {"type": "segmentation", "target": "anatomi"}}}, "did you mean 'anatomy'"),
        ({"covariates": ["hight"]}, "covariates: 'hight' is no value column .* did you mean 'height'"),
        (
            {
                "patch": [15, 16, 4],
                "backbone": {"type": "unet", "widths": [4, 8], "strides": [[1, 1, 1], [2, 2, 1]]},
            },
            "patch: 15 voxels along x are not a multiple of the network's stride 2; use 16",
        ),
        ({"weighting": {"type": "balancd"}}, "unknown weighting 'balancd'; did you mean 'balanced'"),
    ],
)
def test_a_config_that_does_not_fit_the_dataset_is_refused_and_nothing_is_written(
    study: Dataset, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(make_job(study, tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_a_target_that_no_training_case_has_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    dataset = write_study(tmp_path / "dataset", blank={f"c{n}": ("t1",) for n in range(5)})
    with pytest.raises(
        ConfigError, match="'t1' learns from t1, but none of the 5 training cases has that label"
    ):
        train(make_job(dataset, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_thread_count_and_log_level_of_the_caller_are_what_was_asked(finished: Run) -> None:
    assert torch.get_num_threads() == 1
    assert logging.getLogger("medmtl").handlers == []
    assert json.loads((finished.folder / "environment.json").read_text())["threads"] == 1


def test_twelve_tasks_train_and_are_evaluated(study: Dataset, tmp_path: Path) -> None:
    tasks = {
        **SECTIONS,
        "coarse": {"type": "segmentation", "target": "anatomy", "deep_supervision": 1},
        "scar": {"type": "tissue", "target": "tissue", "inside": "coarse.MYO"},
        "t1_again": {"type": "dense_regression", "target": "t1"},
        "sex": {"type": "classification", "target": "sex", "hidden": 4, "pooling": "mean"},
        "blind": {"type": "classification", "target": "disease", "hidden": 4, "masks": []},
        "height": {"type": "regression", "targets": ["height"], "hidden": 4, "pooling": "mask"},
        "fraction": {"type": "regression", "targets": ["LV_EF"], "hidden": 4, "temporal": "attention"},
    }
    run = train(make_job(study, tmp_path / "run", tasks, epochs=1))
    predictions = tmp_path / "predictions"
    predict_cases(run.model, study.select("test"), predictions, dataset=study, device="cpu")
    found = evaluate_predictions(predictions, study, tmp_path / "evaluation", split="test")
    assert set(found.metrics) == set(tasks)
    assert all(found.metrics[task] for task in tasks)
