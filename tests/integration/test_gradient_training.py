"""A whole training with methods that work on gradients, on a tiny study."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from medmtl.config import parse_config
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine import Job, train
from medmtl.engine.logs import NotFiniteError
from medmtl.inference import load_model
from medmtl.types import ConfigError
from medmtl.weighting import WEIGHTINGS, GradientWeighting
from tests.helpers.study import SECTIONS, make_job, sections, write_study

METHODS = sorted(name for name in WEIGHTINGS if issubclass(WEIGHTINGS.get(name), GradientWeighting))
THREE = ("anatomy", "t1", "disease")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def config(**changes: Any) -> dict[str, Any]:
    return {"tasks": sections(*THREE), "weighting": {"type": "pcgrad"}, **changes}


class Interrupted(Exception):
    """What a person's Ctrl-C is to a test."""


def stop_at(step: int) -> Callable[[str, int, int], None]:
    def progress(what: str, done: int, total: int) -> None:
        if what == "train" and done == step:
            raise Interrupted

    return progress


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone": {"type": "tests.helpers.own_members:TwoLevels"}, "training": {"compile": True}},
            "weighting: TwoLevels does not open its last convolutions, .*shared_parameters",
        ),
        (
            {
                "backbone": {"type": "tests.helpers.own_members:TwoLevels"},
                "weighting": {"type": "ew"},
                "training": {"gradient_diagnostics": 2, "compile": True},
            },
            "training.gradient_diagnostics: TwoLevels does not open",
        ),
        ({"weighting": {"type": "pcgrad", "on": "feature"}}, "weighting.on: must be .*'features'"),
        ({"weighting": {"type": "cagrad", "c": 2.0}}, "weighting: c must be at least 0 and less than 1"),
        ({"weighting": {"type": "pcgard"}}, "unknown weighting 'pcgard'; did you mean 'pcgrad'"),
        ({"backbone": {"type": "unet", "decoders": "seperate"}}, "backbone.decoders: must be 'shared' or"),
    ],
)
def test_a_config_that_cannot_work_is_refused_before_anything_is_read(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(config(**changes))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_from_a_config_and_logs_norms_and_cosines(
    study: Dataset, tmp_path: Path, method: str
) -> None:
    run = train(
        make_job(study, tmp_path / "run", sections(*THREE), weighting={"type": method}, steps_per_epoch=3)
    )
    rows = rows_of(tmp_path / "run" / "weights.csv")
    assert list(rows[0])[-8:] == [
        "total", "gradient_norm", "anatomy.gradient_norm", "t1.gradient_norm", "disease.gradient_norm",
        "cosine.anatomy.t1", "cosine.anatomy.disease", "cosine.t1.disease",
    ]  # fmt: skip
    for row in rows:
        weighted = sum(float(row[f"{t}.loss"]) * float(row[f"{t}.weight"]) for t in THREE)
        assert weighted == pytest.approx(float(row["total"]), rel=1e-3)
        assert all(float(row[f"{t}.gradient_norm"]) >= 0 for t in THREE)
        assert abs(float(row["cosine.anatomy.t1"])) <= 1
    for name, value in load_model(run.folder).network.state_dict().items():
        assert torch.isfinite(value).all(), name


def test_gradnorms_mean_weights_are_told_and_train_again_as_scalarization(
    study: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="medmtl.train"):
        train(make_job(study, tmp_path / "run", sections(*THREE), weighting={"type": "gradnorm"}))
    [message] = [r for r in caplog.records if "gradnorm's weights were" in r.getMessage()]
    rows = rows_of(tmp_path / "run" / "weights.csv")
    assert isinstance(message.args, dict)
    for task in THREE:
        mean = sum(float(row[f"{task}.weight"]) for row in rows) / len(rows)
        assert message.args[task] == pytest.approx(mean, abs=0.02)  # steps that moved nothing do not count
    again = {"type": "scalarization", "weights": dict(message.args)}
    train(make_job(study, tmp_path / "again", sections(*THREE), weighting=again))


def test_losses_fall_under_a_gradient_method(study: Dataset, tmp_path: Path) -> None:
    job = make_job(
        study, tmp_path / "run", sections("anatomy", "disease"), epochs=1, steps_per_epoch=40, batch_size=4,
        learning_rate=2e-2, weighting={"type": "cagrad"},
    )  # fmt: skip
    train(job)
    rows = rows_of(tmp_path / "run" / "weights.csv")
    for task in ("anatomy", "disease"):
        losses = [float(row[f"{task}.loss"]) for row in rows]
        assert sum(losses[-5:]) < 0.8 * sum(losses[:5]), task


@pytest.mark.parametrize("weighting", [{"type": "gradnorm"}, {"type": "pcgrad", "seed": 3}])
def test_a_resumed_run_ends_bit_for_bit_like_one_that_never_stopped(
    study: Dataset, tmp_path: Path, weighting: dict[str, Any]
) -> None:
    def job(name: str) -> Job:
        return make_job(
            study, tmp_path / name, sections(*THREE), weighting=weighting, epochs=3, learning_rate=1e-2
        )

    train(job("whole"))
    with pytest.raises(Interrupted):
        train(job("parts"), resume=True, progress=stop_at(5))
    torch.manual_seed(99)
    train(job("parts"), resume=True)
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    whole, parts = ((tmp_path / name / "weights.csv").read_text() for name in ("whole", "parts"))
    assert whole == parts


def test_diagnostics_are_taken_on_every_nth_step_and_change_nothing(study: Dataset, tmp_path: Path) -> None:
    def job(name: str, every: int) -> Job:
        return make_job(
            study, tmp_path / name, sections(*THREE), weighting={"type": "uw"}, steps_per_epoch=4,
            learning_rate=1e-3, gradient_diagnostics=every,
        )  # fmt: skip

    train(job("without", 0))
    train(job("with", 3))
    without, rows = (rows_of(tmp_path / name / "weights.csv") for name in ("without", "with"))
    assert "cosine.anatomy.t1" not in without[0]
    assert [bool(row["cosine.anatomy.t1"]) for row in rows] == [step % 3 == 0 for step in range(8)]
    assert [bool(row["t1.gradient_norm"]) for row in rows] == [step % 3 == 0 for step in range(8)]
    for one, other in zip(without, rows, strict=True):
        for key in one:
            assert float(one[key]) == pytest.approx(float(other[key]), rel=0.05, abs=1e-3), key


def test_an_absent_task_has_blank_cells(tmp_path: Path) -> None:
    dataset = write_study(tmp_path / "dataset", blank={"c0": ("t1",), "c2": ("t1",), "c3": ("anatomy",)})
    train(
        make_job(
            dataset, tmp_path / "run", sections(*THREE), weighting={"type": "pcgrad"}, batch_size=1,
            steps_per_epoch=5,
        )
    )  # fmt: skip
    rows = rows_of(tmp_path / "run" / "weights.csv")
    for row in rows:
        for task in THREE:
            assert bool(row[f"{task}.gradient_norm"]) == (row[f"{task}.count"] != "0")
        both = row["anatomy.count"] != "0" and row["t1.count"] != "0"
        assert bool(row["cosine.anatomy.t1"]) == both
    assert {bool(row["t1.gradient_norm"]) for row in rows} == {True, False}


def test_gradient_methods_take_a_light_decoder_per_dense_task_unless_told_otherwise(
    study: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def job(**changes: Any) -> Job:
        options: dict[str, Any] = {"weighting": {"type": "pcgrad"}, **changes}
        return make_job(study, tmp_path / "run", options.pop("tasks", sections(*THREE)), **options)

    assert job().backbone["decoders"] == "separate"
    assert job().resolved["backbone"]["decoders"] == "separate"
    assert "decoders" not in job(weighting={"type": "ew"}).backbone
    assert "decoders" not in job(tasks=sections("anatomy", "disease")).backbone
    shared = job(backbone={"type": "unet", "widths": [4, 8], "decoders": "shared"})
    assert shared.backbone["decoders"] == "shared"
    with caplog.at_level(logging.INFO, logger="medmtl.train"):
        train(shared)
    message = "2 dense tasks share one decoder, so its backward runs 2 times per step"
    assert any(message in record.getMessage() for record in caplog.records)


def test_separate_decoders_are_kept_in_the_model_and_predict(study: Dataset, tmp_path: Path) -> None:
    run = train(make_job(study, tmp_path / "run", sections(*THREE), weighting={"type": "mgda"}))
    model = load_model(run.folder)
    assert set(model.network.decoders) == {"anatomy", "t1"}
    case = study.select("test")[0]
    image = torch.randn(2, 1, 16, 16, 4)
    outputs = model.network(image, torch.zeros(2, dtype=torch.int64), torch.ones(1, 3), torch.zeros(1, 0))
    assert set(outputs) == set(THREE)
    assert case.case_id


def test_micro_batches_are_steps_of_more_cases(study: Dataset, tmp_path: Path) -> None:
    train(make_job(study, tmp_path / "run", sections(*THREE), weighting={"type": "gradnorm"}, accumulate=2))
    rows = rows_of(tmp_path / "run" / "weights.csv")
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    assert {row["disease.count"] for row in rows} == {"4"}


def test_a_gradient_that_is_not_finite_is_named_by_its_task(study: Dataset, tmp_path: Path) -> None:
    """The loss is fine, its gradient is not."""
    tasks = {
        "disease": SECTIONS["disease"],
        "own": {"type": "tests.helpers.own_members:BreaksItsGradient", "target": "anatomy"},
    }
    job = make_job(study, tmp_path / "run", tasks, weighting={"type": "cagrad"})
    with pytest.raises(NotFiniteError, match="the gradient of tasks own was not finite at step 2"):
        train(job)
    rows = rows_of(tmp_path / "run" / "weights.csv")
    assert math.isfinite(float(rows[2]["own.loss"]))


def test_float16_is_refused_on_a_cpu(study: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float16 is for GPUs"):
        train(make_job(study, tmp_path / "run", precision="float16"))
    assert not (tmp_path / "run").exists()
