"""A cross-validation: every case is held out once, and its folds predict as one model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from medmtl import verbs
from medmtl.cli import run
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.data.load import prepare_case
from medmtl.inference import load_model
from medmtl.inference.predictor import predict_prepared
from medmtl.types import ConfigError, OutputError
from tests.helpers.study import make_job, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_study(tmp_path_factory.mktemp("study") / "dataset"))


def config_of(study: Dataset, tmp: Path) -> Path:
    job = make_job(study, tmp / "unused", epochs=1, steps_per_epoch=2)
    resolved: dict[str, Any] = {**job.resolved, "dataset": str(study.root), "folds": 3, "device": "cpu"}
    path = tmp / "config.yaml"
    path.write_text(yaml.safe_dump(resolved))
    return path


@pytest.fixture(scope="module")
def folds(study: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    verbs.train_folds(config_of(study, folder), output=folder / "runs")
    return folder / "runs"


def test_every_case_outside_the_test_split_is_held_out_once_with_its_patient(
    study: Dataset,
) -> None:
    dealt = [study.with_fold(fold, 3) for fold in range(3)]
    held_out = [case.case_id for one in dealt for case in one.select("val")]
    assert sorted(held_out) == sorted(c.case_id for c in study.cases if c.split != "test")
    for one in dealt:
        assert one.select("test") == study.select("test")
        assert not {c.patient for c in one.select("val")} & {c.patient for c in one.select("train")}


@pytest.mark.parametrize(("fold", "folds"), [(3, 3), (-1, 3), (0, 99)])
def test_a_fold_that_does_not_exist_is_refused(study: Dataset, fold: int, folds: int) -> None:
    with pytest.raises(ConfigError, match=r"fold 3|fold -1|99"):
        study.with_fold(fold, folds)


def test_the_folds_of_a_cross_validation_say_the_mean_of_what_each_says(folds: Path, study: Dataset) -> None:
    ensemble = load_model(folds)
    assert len(ensemble.others) == 2
    members = [load_model(folds / f"fold{number}") for number in range(3)]
    case = prepare_case(study.cases[7], ensemble.columns, ensemble.preparation, wanted=())
    cpu = torch.device("cpu")
    names = list(ensemble.tasks)
    together = predict_prepared(ensemble.context(cpu), case, names)
    alone = [predict_prepared(member.context(cpu), case, names) for member in members]
    for key, value in together.values["function"].items():
        assert value == pytest.approx(np.mean([one.values["function"][key] for one in alone]))
    disease = together.values["disease"]
    probabilities = {k: np.mean([one.values["disease"][k] for one in alone]) for k in disease if k != "class"}
    assert {k: v for k, v in disease.items() if k != "class"} == pytest.approx(probabilities)
    assert f"probability.{disease['class']}" == max(probabilities, key=probabilities.__getitem__)
    mean_t1 = np.mean([one.dense["t1"] for one in alone], axis=0)
    np.testing.assert_allclose(together.dense["t1"], mean_t1, rtol=1e-4)
    agreed = np.all([one.dense["anatomy"] == alone[0].dense["anatomy"] for one in alone], axis=0)
    assert (together.dense["anatomy"] == alone[0].dense["anatomy"])[agreed].mean() > 0.99


def test_the_command_line_predicts_with_all_folds_and_trains_one_of_them(
    folds: Path, study: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(folds), str(study.root), "-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 1 + len(study.cases)
    config = config_of(study, tmp_path)
    assert run(["train", str(config), "--fold", "1", "-o", str(tmp_path / "one")]) == 0
    one, whole = tmp_path / "one" / "model", folds / "fold1" / "model"
    assert (one / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert yaml.safe_load((tmp_path / "one" / "config.yaml").read_text())["fold"] == 1
    assert run(["train", str(config), "--fold", "last", "-o", str(tmp_path / "two")]) == 2
    assert "no fold" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


def test_a_cross_validation_that_is_not_finished_is_told_and_can_go_on(
    folds: Path, study: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(folds, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "fold1")
    with pytest.raises(ConfigError, match=r"fold1 .* no finished model"):
        load_model(tmp_path / "runs")
    verbs.train_folds(config_of(study, tmp_path), output=tmp_path / "runs", resume=True)
    again = tmp_path / "runs" / "fold1" / "model" / "model.safetensors"
    assert again.read_bytes() == (folds / "fold1" / "model" / "model.safetensors").read_bytes()


def test_models_that_differ_are_not_averaged(folds: Path, study: Dataset, tmp_path: Path) -> None:
    shutil.copytree(folds, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "fold2")
    verbs.train(
        config_of(study, tmp_path),
        output=tmp_path / "runs" / "fold2",
        overrides=["preparation.patch=[24,24,4]"],
    )
    with pytest.raises(ConfigError, match="preparation differ"):
        load_model(tmp_path / "runs")


def test_a_folder_that_is_no_cross_validation_is_left_alone(study: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputError, match="not a cross-validation"):
        verbs.train_folds(config_of(study, tmp_path), output=tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]
