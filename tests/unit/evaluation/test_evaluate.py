"""Scores of small folders, each worked out by hand (see conftest: RV 8, LV 32 and 16 voxels of 0.015 mL)."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from medmtl.data import open_dataset
from medmtl.evaluation import evaluate_predictions
from medmtl.types import UNLABELLED


def value(result: Any, task: str, metric: str) -> float:
    return result.metrics[task][metric]["value"]


def test_dice_and_distance_are_those_of_a_heart_moved_by_one_voxel(folders: Any, tmp_path: Path) -> None:
    # Moved 2 mm along x: RV shares 4 of 8 voxels, LV 24 of 32 at ED and 8 of 16 at ES.
    dataset = open_dataset(folders.dataset({"a": folders.heart(), "b": folders.heart()}))
    masks = {"a": folders.heart(), "b": folders.heart(1)}
    predictions = folders.predictions([{"case_id": "a"}, {"case_id": "b"}], masks)
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    expected = {
        "dice": (1 + 0.5625) / 2,
        "dice.RV": 0.75,
        "dice.LV": (1 + 0.625) / 2,
        "dice.LV.ED": (1 + 0.75) / 2,
        "dice.LV.ES": 0.75,
        "hd95": 1.0,
        "hd95.LV.ES": 1.0,
    }
    for metric, number in expected.items():
        assert value(result, "anatomy", metric) == pytest.approx(number), metric
    assert result.metrics["anatomy"]["hd95.LV"]["unit"] == "mm"
    assert result.metrics["anatomy"]["dice"]["n"] == 2
    assert result.metrics["anatomy"]["dice"]["ci_low"] == pytest.approx(0.5625)
    frame = result.cases.set_index(["case_id", "frame"]).loc[("b", "ED")]
    assert frame["anatomy.dice.LV"] == pytest.approx(0.75)
    assert frame["anatomy.hd95.LV"] == pytest.approx(2.0)


def test_values_are_measured_on_the_masks_where_the_table_has_none(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    larger = folders.heart()
    larger[5:9, 8, 1:3, 0] = 3
    predictions = folders.predictions([{"case_id": "a"}], {"a": larger})
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    row = result.cases.iloc[0]
    assert row["anatomy.LV_EDV [mL]"] == pytest.approx(40 * 0.015)
    assert row["anatomy.truth.LV_EDV [mL]"] == pytest.approx(32 * 0.015)
    assert row["anatomy.error.LV_EDV [mL]"] == pytest.approx(8 * 0.015)
    assert row["anatomy.LV_EF [%]"] == pytest.approx(60.0)
    assert value(result, "anatomy", "mae.LV_EF") == pytest.approx(10.0)


def test_values_of_the_table_win_over_measuring(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({name: folders.heart() for name in "ab"}))
    rows = [
        {"case_id": "a", "anatomy.LV_EDV [mL]": 0.58, "function.LV_EF [%]": 53},
        {"case_id": "b", "anatomy.LV_EDV [mL]": 0.38, "function.LV_EF [%]": 51},
    ]
    predictions = folders.predictions(rows, {name: folders.heart() for name in "ab"})
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert value(result, "anatomy", "mae.LV_EDV") == pytest.approx(0.1)
    assert value(result, "anatomy", "bias.LV_EDV") == pytest.approx(0, abs=1e-12)
    assert value(result, "anatomy", "sd.LV_EDV") == pytest.approx(0.1 * math.sqrt(2))
    assert value(result, "anatomy", "loa_high.LV_EDV") == pytest.approx(1.959964 * 0.1 * math.sqrt(2))
    assert value(result, "anatomy", "r.LV_EDV") is None
    assert value(result, "function", "bias.LV_EF") == pytest.approx(2.0)
    assert result.metrics["function"]["bias.LV_EF"]["unit"] == "%"


def test_classes_and_probabilities_are_scored(folders: Any, tmp_path: Path) -> None:
    truth = {"a": "NOR", "b": "NOR", "c": "DCM", "d": "DCM"}
    dataset = open_dataset(
        folders.dataset(dict.fromkeys(truth), cells={name: {"disease": cls} for name, cls in truth.items()})
    )
    scores = {"a": (0.8, 0.2, 0), "b": (0.3, 0.6, 0.1), "c": (0.4, 0.5, 0.1), "d": (0.1, 0.9, 0)}
    rows = [
        {"case_id": name, "disease.class": ("NOR", "DCM", "HCM")[int(np.argmax(score))]}
        | {f"disease.probability.{cls}": p for cls, p in zip(("NOR", "DCM", "HCM"), score, strict=True)}
        for name, score in scores.items()
    ]
    result = evaluate_predictions(folders.predictions(rows), dataset, tmp_path / "out")
    assert value(result, "disease", "accuracy") == 0.75
    assert value(result, "disease", "balanced_accuracy") == 0.75
    # NOR scores .8 .3 against .4 .1: 3 of 4 pairs in order; DCM .5 .9 against .2 .6: 3 of 4; HCM has no case.
    assert value(result, "disease", "auc") == pytest.approx(0.75)
    assert any("AUC is over 2 of 3 classes" in note for note in result.notes)
    assert result.metrics["disease"]["accuracy"]["ci_low"] == pytest.approx(0.3006, abs=1e-3)


def test_a_class_that_only_the_prediction_knows_is_a_wrong_answer(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": None}, cells={"a": {"disease": "DCM"}}))
    row = {"case_id": "a", "disease.class": "ARVC", "disease.probability.ARVC": 1.0}
    result = evaluate_predictions(folders.predictions([row]), dataset, tmp_path / "out")
    assert value(result, "disease", "accuracy") == 0
    assert value(result, "disease", "auc") is None


def test_a_map_is_scored_over_its_labelled_voxels(folders: Any, tmp_path: Path) -> None:
    truth = np.full((*folders.heart().shape,), np.nan, np.float32)
    truth[:4, 0, 0, 0] = (1000, 1100, 1200, 1300)
    dataset = open_dataset(folders.dataset({"a": None}, maps={"a": truth}))
    predictions = folders.predictions([{"case_id": "a"}])
    folders.nifti(predictions / "a" / "t1.nii.gz", np.nan_to_num(truth, nan=5.0) + 20)
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert value(result, "t1", "mae") == pytest.approx(20)
    assert value(result, "t1", "r") == pytest.approx(1)
    assert result.metrics["t1"]["mae"]["unit"] == "ms"


def test_unlabelled_frames_are_skipped_and_unlabelled_slices_left_out(folders: Any, tmp_path: Path) -> None:
    truth, prediction = folders.heart(), folders.heart()
    truth[..., 1] = UNLABELLED
    truth[:, :, 2, 0] = UNLABELLED
    prediction[:, :, 2, :] = 1
    dataset = open_dataset(folders.dataset({"a": truth}))
    result = evaluate_predictions(
        folders.predictions([{"case_id": "a"}], {"a": prediction}), dataset, tmp_path / "out"
    )
    assert value(result, "anatomy", "dice.LV.ED") == 1
    assert value(result, "anatomy", "hd95.RV.ED") == 0
    assert result.metrics["anatomy"]["dice.LV.ES"]["n"] == 0
    assert result.cases["frame"].tolist() == ["", "ED"]
    assert value(result, "anatomy", "mae.LV_EDV") is None


def test_other_labelled_frames_have_rows_but_the_mean_is_over_ed_and_es(folders: Any, tmp_path: Path) -> None:
    truth = np.concatenate([folders.heart(), folders.heart()[..., :1]], axis=3)
    prediction = truth.copy()
    prediction[..., 2] = 0
    dataset = open_dataset(folders.dataset({"a": truth}))
    result = evaluate_predictions(
        folders.predictions([{"case_id": "a"}], {"a": prediction}), dataset, tmp_path / "out"
    )
    assert result.cases["frame"].tolist() == ["", "ED", "ES", "2"]
    assert value(result, "anatomy", "dice") == 1
    assert result.cases.iloc[3]["anatomy.dice.LV"] == 0


def test_phases_that_are_not_given_are_found_by_the_cycle(folders: Any, tmp_path: Path) -> None:
    cycle = {"mask": "anatomy", "structure": "LV"}
    truth = folders.heart()[..., ::-1].copy()
    dataset = open_dataset(folders.dataset({"a": truth}, phases=("", ""), cycle=cycle))
    result = evaluate_predictions(
        folders.predictions([{"case_id": "a"}], {"a": truth}), dataset, tmp_path / "out"
    )
    assert result.cases["frame"].tolist() == ["", "ES", "ED"]
    assert value(result, "anatomy", "mae.LV_EF") == pytest.approx(0)


def test_a_single_volume_has_no_phases(folders: Any, tmp_path: Path) -> None:
    columns = {"anatomy": {"kind": "mask", "labels": {"RV": 1, "LV": 3}}}
    truth = folders.heart()[..., 0]
    dataset = open_dataset(folders.dataset({"a": truth}, phases=("", ""), columns=columns))
    result = evaluate_predictions(
        folders.predictions([{"case_id": "a"}], {"a": truth}), dataset, tmp_path / "out"
    )
    assert result.cases["frame"].tolist() == ["", "0"]
    assert set(result.metrics["anatomy"]) == {"dice", "dice.RV", "dice.LV", "hd95", "hd95.RV", "hd95.LV"}


def test_structures_are_compared_by_name_where_the_prediction_has_other_codes(
    folders: Any, tmp_path: Path
) -> None:
    truth = folders.heart()
    prediction = np.select([truth == 1, truth == 3], [3, 1], 0).astype(np.uint8)
    task = {"kind": "segmentation", "target": "anatomy", "file": "segmentation.nii.gz"}
    outputs = {"heart": task | {"labels": {"LV": 1, "RV": 3}}}
    dataset = open_dataset(folders.dataset({"a": truth}))
    predictions = folders.predictions([{"case_id": "a"}], {"a": prediction}, outputs)
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert value(result, "heart", "dice") == 1
    assert value(result, "heart", "mae.LV_EF") == pytest.approx(0)


def test_the_files_say_what_the_result_says_and_nothing_else_is_left(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({name: folders.heart() for name in "ab"}))
    predictions = folders.predictions([{"case_id": "a"}], {"a": folders.heart(1)})
    output = tmp_path / "out"
    result = evaluate_predictions(predictions, dataset, output, run=tmp_path / "run", seed=3)
    assert sorted(path.name for path in output.iterdir()) == ["cases.csv", "evaluation.yaml", "metrics.json"]
    assert json.loads((output / "metrics.json").read_text()) == result.metrics
    read_back = pd.read_csv(output / "cases.csv", dtype={"case_id": str, "frame": str})
    assert read_back["anatomy.dice.LV"].tolist() == pytest.approx(
        result.cases["anatomy.dice.LV"].tolist(), nan_ok=True
    )
    description = yaml.safe_load((output / "evaluation.yaml").read_text())
    assert description["dataset"] == str(dataset.root.resolve())
    assert description["predictions"] == str(predictions.resolve())
    assert (description["split"], description["seed"], description["n_cases"]) == ("test", 3, 2)
    assert description["run"] == str((tmp_path / "run").resolve())


def test_predictions_inside_the_output_are_named_relative_to_it(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a"}], {"a": folders.heart()})
    evaluate_predictions(predictions, dataset, tmp_path)
    assert yaml.safe_load((tmp_path / "evaluation.yaml").read_text())["predictions"] == "predictions"


def test_threads_and_a_second_run_change_nothing(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({name: folders.heart() for name in "abc"}))
    masks = {name: folders.heart(shift) for shift, name in enumerate("abc")}
    predictions = folders.predictions([{"case_id": name} for name in "abc"], masks)
    seen: list[tuple[int, int]] = []
    evaluate_predictions(predictions, dataset, tmp_path / "one", progress=lambda *now: seen.append(now))
    evaluate_predictions(predictions, dataset, tmp_path / "two", workers=2)
    for name in ("metrics.json", "cases.csv", "evaluation.yaml"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert seen == [(1, 3), (2, 3), (3, 3)]
