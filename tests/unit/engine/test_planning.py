"""What a training leaves to the plan, and what a plan from a file leaves to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from medmtl import verbs
from medmtl.config import job_of, parse_config
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine.planning import continued, plan_job
from medmtl.engine.train import train
from medmtl.tasks import build_task
from medmtl.types import ConfigError, OutputError
from tests.helpers.study import make_job, sections, write_study

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


@pytest.fixture(scope="module")
def plan_file(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "plan.yaml"
    verbs.plan(study, path, memory_gib=2.0, device="cpu")
    return path


def config(**more: Any) -> dict[str, Any]:
    return {"device": "cpu", "tasks": sections("anatomy", "disease"), "training": {"threads": 1}, **more}


# ------------------------------------------------------------------------------------------- unhappy


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"preparation": {"patch": [16, 16, 8]}},
            r"preparation\.patch: the config says \[16, 16, 8\], .* says \[",
        ),
        ({"preparation": {"spacing_mm": [1.0, 1.0, None]}}, r"preparation\.spacing_mm: the config says"),
        ({"preparation": {"normalization": "none"}}, r"preparation\.normalization: the config says \[none\]"),
        ({"backbone": {"type": "unet", "widths": [4, 8]}}, r"backbone\.widths: the config says \[4, 8\]"),
        (
            {"training": {"batch_size": 17}},
            r"training\.batch_size: the config says 17, .*leave it out of the config",
        ),
    ],
)
def test_a_config_and_a_plan_that_disagree_are_refused(
    study: Dataset, plan_file: Path, more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        job_of(parse_config(config(plan=str(plan_file), **more)), study, Path("run"))


def test_a_plan_is_not_written_over(study: Dataset, plan_file: Path) -> None:
    with pytest.raises(OutputError, match="exists; remove it or choose another file"):
        verbs.plan(study, plan_file)


def test_what_the_planner_does_not_know_is_named(study: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--slices: 'both' is not known; use keep or resample"):
        verbs.plan(study, tmp_path / "plan.yaml", slices="both")
    with pytest.raises(ConfigError, match="device: 'gpu' is not known"):
        verbs.plan(study, tmp_path / "plan.yaml", device="gpu")
    assert not any(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------- happy


def test_a_run_by_a_plan_has_a_config_that_is_complete_without_it(study: Dataset, plan_file: Path) -> None:
    job = job_of(parse_config(config(plan=str(plan_file))), study, Path("run"))
    planned = yaml.safe_load(plan_file.read_text())
    assert job.resolved["plan"] is None
    assert job.resolved["preparation"]["patch"] == planned["patch"]
    assert job.resolved["training"]["batch_size"] == planned["batch_size"]
    again = job_of(parse_config({**dict(job.resolved), "dataset": None}), study, Path("run"))
    assert {**again.resolved} == {**job.resolved}
    tasks = {name: build_task(name, section, study.columns) for name, section in job.tasks.items()}
    made = plan_job(job, tasks, CPU).plan
    assert made.as_dict() == {key: planned[key] for key in made.as_dict()}


def test_keys_that_say_the_same_in_both_are_no_contradiction(study: Dataset, plan_file: Path) -> None:
    planned = yaml.safe_load(plan_file.read_text())
    same = {"patch": planned["patch"], "spacing_mm": planned["spacing_mm"], "normalization": "zscore"}
    backbone = {"type": "unet", "residual": False}
    job = job_of(
        parse_config(config(plan=str(plan_file), preparation=same, backbone=backbone)), study, Path("run")
    )
    assert job.backbone == {**planned["backbone"], "residual": False}


def test_a_run_goes_on_with_the_plan_it_was_started_with(study: Dataset, tmp_path: Path) -> None:
    job = make_job(study, tmp_path / "run", sections("anatomy"), epochs=1, steps_per_epoch=1)
    train(job)
    path = tmp_path / "run" / "plan.yaml"
    path.write_text(path.read_text().replace("patch: [16, 16, 4]", "patch: [16, 8, 4]"))
    again = continued(replace(job, patch=None), path)
    assert again.patch == (16, 8, 4)
    assert again.training.batch_size == 2
    assert continued(job, tmp_path / "nowhere" / "plan.yaml") is job


def test_a_config_that_says_nothing_is_planned_for_and_trains(study: Dataset, tmp_path: Path) -> None:
    plain = config(
        preparation={"memory_gib": 1.6},
        training={"threads": 1, "epochs": 1, "steps_per_epoch": 1},
        tasks=sections("anatomy"),
    )
    run = verbs.train(parse_config(plain), study, output=tmp_path / "run")
    planned = yaml.safe_load((tmp_path / "run" / "plan.yaml").read_text())
    assert planned["batch_size"] >= 2
    assert list(run.model.preparation.patch) == planned["patch"]
    assert run.model.backbone["widths"][0] == 32


def test_a_window_is_measured_and_predicts_with_the_same_constants(tmp_path: Path) -> None:
    dataset = open_dataset(write_study(tmp_path / "dataset"))
    ct = replace(dataset, schema=replace(dataset.schema, modality="CT", channels=("ct",)))
    job = make_job(ct, tmp_path / "run", sections("anatomy"), epochs=1, steps_per_epoch=1)
    run = train(job)
    (window,) = run.model.preparation.normalizations
    assert window.type == "window"
    assert window.is_complete
    assert "ct: window" in (tmp_path / "run" / "plan.yaml").read_text()
    assert run.model.preparation == run.model.preparation.from_plain(run.model.preparation.as_plain())
