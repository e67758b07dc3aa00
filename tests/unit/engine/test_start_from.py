"""Training that starts from a model's weights: what does not fit is named, what fits is where it begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine import Job, Run, train
from medmtl.inference import load_model
from medmtl.types import ConfigError
from tests.helpers.study import make_job, make_ready, sections, write_study

TASKS = ("anatomy", "disease")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


@pytest.fixture(scope="module")
def origin(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(make_job(study, tmp_path_factory.mktemp("runs") / "origin", sections(*TASKS)))


def job(study: Dataset, output: Path, start: object, **options: Any) -> Job:
    return make_job(study, output, options.pop("tasks", sections(*TASKS)), start_from=str(start), **options)


def test_a_folder_without_a_model_is_refused_before_anything_is_written(
    study: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"training\.start_from: .*no model\.yaml here"):
        train(job(study, tmp_path / "run", tmp_path / "nothing"))
    assert not (tmp_path / "run").exists()


def test_a_network_of_another_shape_is_refused_with_the_first_tensors_and_their_shapes(
    study: Dataset, origin: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"has shape \(.*\) there and \(.*\) here") as error:
        make_ready(job(study, tmp_path, origin.folder, backbone={"type": "unet", "widths": [4, 12]}))
    assert "and " in str(error.value)
    assert "more. Start from a model of the same backbone" in str(error.value)


def test_a_task_that_the_model_does_not_have_begins_anew_beside_those_it_has(
    study: Dataset, origin: Run, tmp_path: Path
) -> None:
    fresh = make_ready(make_job(study, tmp_path / "fresh", sections("anatomy", "function")))
    ready = make_ready(job(study, tmp_path, origin.folder, tasks=sections("anatomy", "function")))
    there, here, new = (m.network.state_dict() for m in (load_model(origin.folder), ready.model, fresh.model))
    for name, value in here.items():
        assert torch.equal(value, (new if name.startswith("heads.function.") else there)[name]), name
    assert ready.started == "the backbone and anatomy; function begin anew; disease of the model are left out"


def test_a_task_of_the_same_name_with_other_targets_is_refused_although_the_shapes_fit(
    study: Dataset, tmp_path: Path
) -> None:
    both = sections("anatomy", "function")
    origin = train(make_job(study, tmp_path / "origin", both))
    turned = {**both, "function": {**both["function"], "targets": ["LV_EF", "LV_EDV"]}}
    with pytest.raises(ConfigError, match=r"targets of function are \('LV_EDV', 'LV_EF'\) there"):
        make_ready(job(study, tmp_path / "run", origin.folder, tasks=turned))


def test_the_scale_of_a_regression_comes_with_its_head_and_is_kept_on_resume(
    study: Dataset, tmp_path: Path
) -> None:
    tasks = sections("anatomy", "function")
    origin = train(make_job(study, tmp_path / "origin", tasks))
    other = open_dataset(write_study(tmp_path / "other", splits=["test", "train", "test", "train", "val"]))
    own = make_ready(make_job(other, tmp_path / "own", tasks)).model.tasks["function"].state()
    scale = origin.model.tasks["function"].state()
    assert own != scale
    whole = train(job(other, tmp_path / "whole", origin.folder, tasks=tasks, epochs=2))
    part = job(other, tmp_path / "part", origin.folder, tasks=tasks, epochs=2)

    def stop(what: str, done: int, total: int) -> None:
        if what == "train" and done > total // 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(part, progress=stop)
    resumed = train(part, resume=True)
    assert whole.model.tasks["function"].state() == resumed.model.tasks["function"].state() == scale
    for name, value in whole.model.network.state_dict().items():
        assert torch.equal(resumed.model.network.state_dict()[name], value), name


def test_classes_in_another_order_are_refused_although_the_shapes_fit(origin: Run, tmp_path: Path) -> None:
    folder = write_study(tmp_path / "dataset")
    text = (folder / "dataset.yaml").read_text()
    (folder / "dataset.yaml").write_text(text.replace("- small\n    - large", "- large\n    - small"))
    with pytest.raises(ConfigError, match=r"classes of disease are \('small', 'large'\) there and"):
        make_ready(job(open_dataset(folder), tmp_path / "run", origin.folder))


def test_an_ensemble_is_no_single_model(study: Dataset, origin: Run, tmp_path: Path) -> None:
    for fold in range(2):
        shutil.copytree(origin.folder, tmp_path / "folds" / f"fold{fold}")
    with pytest.raises(ConfigError, match="is an ensemble of 2 models; name one"):
        make_ready(job(study, tmp_path / "run", tmp_path / "folds"))


@pytest.mark.parametrize("part", ["", "model"])
def test_training_begins_with_the_models_weights(
    study: Dataset, origin: Run, tmp_path: Path, part: str
) -> None:
    ready = make_ready(job(study, tmp_path, origin.folder / part, seed=5))
    weights = load_model(origin.folder).network.state_dict()
    begun = ready.model.network.state_dict()
    assert all(torch.equal(begun[name], value) for name, value in weights.items())


def test_a_run_is_resumed_without_the_model_that_it_started_from(
    study: Dataset, origin: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "origin"
    shutil.copytree(origin.folder, folder)
    part = train(job(study, tmp_path / "part", folder, epochs=2))
    shutil.rmtree(folder)
    again = train(job(study, tmp_path / "part", folder, epochs=2), resume=True)
    for name, value in part.model.network.state_dict().items():
        assert torch.equal(again.model.network.state_dict()[name], value)


def test_metrics_have_every_tasks_score(origin: Run) -> None:
    header = (origin.folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {f"val.{task}.score" for task in TASKS} <= set(header)
