"""What an evaluation does with what cannot be scored: nothing disappears, nothing is made up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medmtl.data import open_dataset
from medmtl.evaluation import evaluate_predictions
from medmtl.types import ConfigError, OutputError


def missing_of(folder: Path) -> list[tuple[str, str, str, str]]:
    listed = yaml.safe_load((folder / "evaluation.yaml").read_text())["missing"]
    return [(found["case_id"], found["task"], found["status"], found["code"]) for found in listed]


def test_a_case_that_was_not_predicted_refused_or_failed_is_listed_and_enters_no_mean(
    folders: Any, tmp_path: Path
) -> None:
    dataset = open_dataset(folders.dataset({name: folders.heart() for name in "abcd"}))
    rows = [
        {"case_id": "a", "status": "ok"},
        {"case_id": "b", "status": "refused", "code": "GAP", "message": "a slice is missing"},
        {"case_id": "c", "status": "failed", "code": "OUT_OF_MEMORY", "message": "too large"},
    ]
    predictions = folders.predictions(rows, {"a": folders.heart(1), "b": folders.heart()})
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert missing_of(tmp_path / "out") == [
        ("b", "", "refused", "GAP"),
        ("c", "", "failed", "OUT_OF_MEMORY"),
        ("d", "", "missing", ""),
    ]
    assert result.metrics["anatomy"]["dice"]["value"] == pytest.approx(0.5625)
    assert result.metrics["anatomy"]["dice"]["n"] == 1
    cases = result.cases[result.cases["frame"] == ""].set_index("case_id")
    assert cases["status"].tolist() == ["ok", "refused", "failed", "missing"]
    assert cases["anatomy.truth.LV_EDV [mL]"].tolist() == pytest.approx([0.48] * 4)


def test_a_row_without_its_mask_is_listed(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart(), "b": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a"}, {"case_id": "b"}], {"a": folders.heart()})
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert missing_of(tmp_path / "out") == [("b", "anatomy", "error", "NO_USABLE_SERIES")]
    assert result.metrics["anatomy"]["dice"]["n"] == 1


@pytest.mark.parametrize(
    ("array", "spacing", "what"),
    [
        (np.zeros((11, 10, 4, 2), np.uint8), (2.0, 1.5, 5.0), "grid 11 x 10 x 4 instead of 12 x 10 x 4"),
        (np.zeros((12, 10, 4, 2), np.uint8), (2.0, 1.5, 8.0), "another affine"),
        (np.zeros((12, 10, 4, 3), np.uint8), (2.0, 1.5, 5.0), "3 frame"),
    ],
)
def test_a_prediction_on_another_grid_is_a_finding_and_not_resampled(
    folders: Any, tmp_path: Path, array: np.ndarray, spacing: tuple[float, ...], what: str
) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a"}])
    folders.nifti(predictions / "a" / "segmentation.nii.gz", array, spacing)
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert missing_of(tmp_path / "out") == [("a", "anatomy", "error", "LABEL_GEOMETRY_MISMATCH")]
    assert what in result.missing[0].message
    assert "a/segmentation.nii.gz" in result.missing[0].message
    assert result.metrics["anatomy"]["dice"] == {
        "value": None, "ci_low": None, "ci_high": None, "n": 0, "unit": "",
    }  # fmt: skip


def test_probabilities_in_place_of_labels_are_a_finding(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a"}], {"a": folders.heart().astype(np.float32) * 0.4})
    evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert missing_of(tmp_path / "out") == [("a", "anatomy", "error", "LABEL_VALUES")]


def test_a_damaged_file_is_a_finding(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a"}], {"a": folders.heart()})
    file = predictions / "a" / "segmentation.nii.gz"
    file.write_bytes(file.read_bytes()[:-10])
    evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert missing_of(tmp_path / "out") == [("a", "anatomy", "error", "TRUNCATED")]


def test_a_blank_value_or_class_beside_a_true_one_is_listed(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}, cells={"a": {"disease": "DCM"}}))
    row = {"case_id": "a", "disease.class": "", "function.LV_EF [%]": "", "function.LV_EDV [mL]": ""}
    result = evaluate_predictions(folders.predictions([row]), dataset, tmp_path / "out")
    assert missing_of(tmp_path / "out") == [("a", "disease", "error", ""), ("a", "function", "error", "")]
    assert "LV_EF, LV_EDV" in result.missing[1].message
    assert result.metrics["disease"]["accuracy"]["n"] == 0


def test_a_class_that_nobody_knows_is_an_error_that_names_the_cell_and_the_nearest(
    folders: Any, tmp_path: Path
) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}, cells={"a": {"disease": "DCM"}}))
    predictions = folders.predictions([{"case_id": "a", "disease.class": "DCMM"}])
    with pytest.raises(
        ConfigError, match=r"predictions.csv, row 2, column 'disease.class': found 'DCMM'.*mean 'DCM'"
    ):
        evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["12,5", "high", "inf"])
def test_a_cell_that_is_no_number_is_an_error_that_names_it(folders: Any, tmp_path: Path, text: str) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a", "function.LV_EF [%]": text}])
    with pytest.raises(ConfigError, match=rf"row 2, column 'function.LV_EF \[%\]': found '{text}'"):
        evaluate_predictions(predictions, dataset, tmp_path / "out")


def test_another_unit_than_the_datasets_is_an_error(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a", "function.LV_EDV [L]": "0.1"}])
    with pytest.raises(ConfigError, match="the prediction is in 'L' and the dataset's LV_EDV in 'mL'"):
        evaluate_predictions(predictions, dataset, tmp_path / "out")


def test_a_case_that_stands_twice_in_the_table_is_an_error(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a"}, {"case_id": "a"}])
    with pytest.raises(ConfigError, match="row 3, column case_id: 'a' stands in row 2 already"):
        evaluate_predictions(predictions, dataset, tmp_path / "out")


def test_a_folder_without_a_table_or_a_table_without_cases_is_an_error(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    with pytest.raises(ConfigError, match=r"no predictions.csv in .*; write one"):
        evaluate_predictions(tmp_path, dataset, tmp_path / "out")
    with pytest.raises(ConfigError, match="row 1: no column case_id, found name"):
        evaluate_predictions(folders.predictions([{"name": "a"}]), dataset, tmp_path / "out")


def test_a_split_without_a_case_is_an_error_that_tells_what_there_is(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a"}])
    with pytest.raises(ConfigError, match=r"no case is in 'val' \(found test 1\)"):
        evaluate_predictions(predictions, dataset, tmp_path / "out", split="val")
    with pytest.raises(ConfigError, match="unknown split 'tset'; did you mean 'test'"):
        evaluate_predictions(predictions, dataset, tmp_path / "out", split="tset")


def test_an_output_that_is_a_file_is_an_error(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a"}], {"a": folders.heart()})
    (tmp_path / "out").write_text("taken")
    with pytest.raises(OutputError, match="cannot make the folder"):
        evaluate_predictions(predictions, dataset, tmp_path / "out")


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"kind": "segmentatoin"}, r"tasks.anatomy.kind: found 'segmentatoin'; did you mean 'segmentation'"),
        ({"kind": "segmentation", "file": "../x.nii.gz", "labels": {"LV": 1}}, r"tasks.anatomy.file"),
        ({"kind": "segmentation", "file": "x.nii.gz"}, r"tasks.anatomy.labels: none found"),
        ({"kind": "segmentation", "file": "x.nii.gz", "labels": {"LV": "3"}}, r"labels.LV: found '3'"),
        ({"kind": "regression", "targets": ["a", "b"], "units": ["mL"]}, "found 1 units for 2 targets"),
        ("segmentation", "write a mapping with `kind:`"),
    ],
)
def test_an_outputs_file_that_cannot_be_used_is_an_error_that_names_the_entry(
    folders: Any, tmp_path: Path, entry: object, what: str
) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    predictions = folders.predictions([{"case_id": "a"}], outputs={"anatomy": entry})
    with pytest.raises(ConfigError, match=what):
        evaluate_predictions(predictions, dataset, tmp_path / "out")


def test_a_dataset_without_labels_gives_blank_cells_and_no_case(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": None, "b": None}, phases=("", "")))
    rows = [{"case_id": name, "disease.class": "DCM", "function.LV_EF [%]": 55} for name in "ab"]
    predictions = folders.predictions(rows, {"a": folders.heart(), "b": folders.heart()})
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    entries = [entry for task in result.metrics.values() for entry in task.values()]
    assert set(result.metrics) == {"anatomy", "disease", "function"}
    assert {"dice", "dice.LV", "hd95.RV", "mae.LV_EDV"} <= set(result.metrics["anatomy"])
    assert all(entry["value"] is None and entry["n"] == 0 for entry in entries)
    assert result.missing == ()
    labels = [name for name in result.cases if ".truth" in name or ".error" in name or ".dice" in name]
    assert result.cases[labels].isna().all().all()
    assert result.cases["function.LV_EF [%]"].tolist() == [55.0, 55.0]
    json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_a_dataset_without_columns_is_a_dataset_too(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": None}, columns={}))
    row = {"case_id": "a", "disease.class": "DCM", "disease.probability.DCM": 1, "function.LV_EF [%]": 55}
    predictions = folders.predictions([row], {"a": folders.heart()})
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    entries = [entry for task in result.metrics.values() for entry in task.values()]
    assert entries
    assert all(entry["n"] == 0 for entry in entries)
    assert "function: the dataset has no value column 'LV_EF' to hold it against" in result.notes


def test_a_structure_that_was_missed_or_invented_costs_the_diagonal_of_the_image(
    folders: Any, tmp_path: Path
) -> None:
    truth, prediction = folders.heart(), folders.heart()
    prediction[prediction == 1] = 0
    dataset = open_dataset(folders.dataset({"a": truth}))
    predictions = folders.predictions([{"case_id": "a"}], {"a": prediction})
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    metrics = result.metrics["anatomy"]
    assert metrics["dice.RV"]["value"] == 0
    assert metrics["hd95.RV"]["value"] == pytest.approx(np.sqrt(24.0**2 + 15.0**2 + 20.0**2))
    assert any("RV not found" in note and "(2 times)" in note for note in result.notes)


def test_a_structure_that_is_nowhere_is_undefined_and_left_out(folders: Any, tmp_path: Path) -> None:
    mask = folders.heart()
    mask[mask == 1] = 0
    dataset = open_dataset(folders.dataset({"a": mask}))
    predictions = folders.predictions([{"case_id": "a"}], {"a": mask})
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert result.metrics["anatomy"]["dice.RV"]["n"] == 0
    assert result.metrics["anatomy"]["dice"]["value"] == 1
    assert any("neither there nor predicted" in note for note in result.notes)


def test_a_voxel_value_that_is_no_structure_is_told(folders: Any, tmp_path: Path) -> None:
    dataset = open_dataset(folders.dataset({"a": folders.heart()}))
    mask = folders.heart()
    mask[0, 0, 0, 0] = 9
    predictions = folders.predictions([{"case_id": "a"}], {"a": mask})
    result = evaluate_predictions(predictions, dataset, tmp_path / "out")
    assert any("voxel value(s) 9 are no structure" in note for note in result.notes)
