"""Cases from files into a PREDICTIONS folder: grids, quantities, refusals, folders that are not ours."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

from medmtl.data.dataset import Case, Dataset
from medmtl.data.derive import measure
from medmtl.data.nifti import read_volume, write_volume
from medmtl.inference import Model, PredictionRun, predict_cases
from medmtl.inference.run import predict_source
from medmtl.types import ConfigError, OutputError
from tests.helpers.study import AFFINE, heart


def write_image(
    path: Path, shape: Sequence[int] = (16, 16, 4), affine: np.ndarray = AFFINE, seed: int = 0
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).normal(100, 30, shape)
    data[..., : shape[3] if len(shape) == 4 else None] += 50.0 * (
        heart(4, shape[:3]) if len(shape) == 3 else heart(4, shape[:3])[..., None]
    )
    nibabel.save(nibabel.Nifti1Image(data.astype(np.float32), affine), path)
    return path


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def run(model: Model, source: Path, output: Path, **options: object) -> PredictionRun:
    return predict_source(model, source, output, device="cpu", **options)  # type: ignore


def test_a_dataset_is_predicted_into_the_folder_of_the_contract(
    model: Model, study: Dataset, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    found = run(model, study.root, tmp_path / "out", split="test", progress=lambda *n: told.append(n))
    assert told == [(1, 2), (2, 2)]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"predictions.csv", "outputs.yaml", "c7", "c8"}
    assert {p.name for p in (tmp_path / "out" / "c7").iterdir()} == {
        "segmentation.nii.gz",
        "tissue.nii.gz",
        "t1.nii.gz",
        "prediction.json",
        "preview.npz",
    }
    rows = rows_of(tmp_path / "out")
    assert [row["case_id"] for row in rows] == ["c7", "c8"]
    assert list(rows[0])[:7] == [
        "case_id",
        "study_uid",
        "series_uid",
        "status",
        "code",
        "message",
        "seconds",
    ]
    columns = {"disease.class", "disease.probability.small", "function.LV_EF [%]", "anatomy.LV_EDV [mL]"}
    assert columns | {"anatomy.LV_EF [%]", "blind.class"} <= set(rows[0])
    assert {row["status"] for row in rows} == {"ok"}
    assert found.findings == []
    assert list(found.table["case_id"]) == ["c7", "c8"]


def test_outputs_yaml_says_how_to_read_the_folder(model: Model, study: Dataset, tmp_path: Path) -> None:
    run(model, study.root, tmp_path / "out", split="test")
    tasks = yaml.safe_load((tmp_path / "out" / "outputs.yaml").read_text())["tasks"]
    assert tasks["anatomy"] == {
        "kind": "segmentation",
        "target": "anatomy",
        "labels": dict(study.columns["anatomy"].labels),
        "file": "segmentation.nii.gz",
    }
    assert tasks["tissue"]["file"] == "tissue.nii.gz"
    assert tasks["t1"] == {"kind": "dense_regression", "target": "t1", "unit": "ms", "file": "t1.nii.gz"}
    assert tasks["disease"]["classes"] == ["small", "large"]
    assert tasks["function"]["units"] == ["mL", "%"]


def test_prediction_json_holds_the_row_with_frames(model: Model, study: Dataset, tmp_path: Path) -> None:
    run(model, study.root, tmp_path / "out", split="test")
    record = json.loads((tmp_path / "out" / "c7" / "prediction.json").read_text())
    row = rows_of(tmp_path / "out")[0]
    assert (record["case_id"], record["frames"], record["frame_ed"], record["frame_es"]) == ("c7", 2, 0, 1)
    assert record["tasks"]["disease"]["class"] == row["disease.class"]
    assert record["tasks"]["anatomy"]["LV_EDV [mL]"] == pytest.approx(float(row["anatomy.LV_EDV [mL]"]))


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PSR", "SAL", "RIA"])
@pytest.mark.parametrize("frames", [0, 3])
def test_outputs_lie_on_the_grid_of_the_file_however_it_is_stored(
    model: Model, tmp_path: Path, codes: str, frames: int
) -> None:
    """Storing the same image with its axes turned turns the outputs the same way, and nothing else."""
    first = write_image(tmp_path / "in" / "a.nii.gz", (18, 16, 4, *([frames] if frames else [])))
    image = nibabel.load(first)
    own = nibabel.io_orientation(image.affine)
    turn = nibabel.orientations.ornt_transform(own, nibabel.orientations.axcodes2ornt(codes))
    nibabel.save(image.as_reoriented(turn), tmp_path / "in" / "b.nii.gz")
    run(model, tmp_path / "in", tmp_path / "out")
    files = ("segmentation", "tissue", "t1")
    for name in files:
        straight = nibabel.load(tmp_path / "out" / "a" / f"{name}.nii.gz")
        turned = nibabel.load(tmp_path / "out" / "b" / f"{name}.nii.gz")
        source = nibabel.load(tmp_path / "in" / "b.nii.gz")
        assert turned.shape == source.shape
        np.testing.assert_allclose(turned.affine, source.affine, atol=1e-4)
        assert turned.get_data_dtype() == (np.float32 if name == "t1" else np.uint8)
        expected = np.asarray(straight.as_reoriented(turn).dataobj)
        same = np.isclose(np.asarray(turned.dataobj), expected, rtol=1e-3)
        assert same.mean() > 0.999  # of two nearly equal scores, rounding may prefer the other
    one, other = rows_of(tmp_path / "out")
    assert float(one["function.LV_EF [%]"]) == pytest.approx(float(other["function.LV_EF [%]"]), rel=1e-3)
    assert one["disease.class"] == other["disease.class"]


def test_a_file_is_resampled_to_the_networks_spacing_and_back(model: Model, tmp_path: Path) -> None:
    model.preparation = replace(model.preparation, spacing_mm=(2.0, 2.0, 8.0))
    path = write_image(tmp_path / "in.nii.gz", (23, 27, 5), np.diag([1.4, 1.4, 9.5, 1.0]))
    run(model, path, tmp_path / "out")
    mask = nibabel.load(tmp_path / "out" / "in" / "segmentation.nii.gz")
    assert mask.shape == (23, 27, 5)
    np.testing.assert_allclose(mask.affine, nibabel.load(path).affine, atol=1e-5)


def test_a_3d_file_gives_3d_outputs_and_a_4d_file_4d_ones(model: Model, tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "one.nii.gz", (16, 16, 4))
    write_image(tmp_path / "in" / "cine.nii", (16, 16, 4, 5))
    run(model, tmp_path / "in", tmp_path / "out")
    assert nibabel.load(tmp_path / "out" / "one" / "segmentation.nii.gz").shape == (16, 16, 4)
    assert nibabel.load(tmp_path / "out" / "cine" / "segmentation.nii.gz").shape == (16, 16, 4, 5)
    rows = {row["case_id"]: row for row in rows_of(tmp_path / "out")}
    assert rows["one"]["anatomy.LV_EDV [mL]"] != ""
    assert rows["one"]["anatomy.LV_EF [%]"] == ""
    assert rows["cine"]["anatomy.LV_EF [%]"] != ""


def test_quantities_are_those_of_the_written_masks(model: Model, tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "cine.nii.gz", (16, 16, 4, 5))
    run(model, tmp_path / "in", tmp_path / "out")
    [row] = rows_of(tmp_path / "out")
    volume = read_volume(tmp_path / "out" / "cine" / "segmentation.nii.gz")
    mask = np.moveaxis(volume.array, 3, 0)
    sizes = (mask == 3).sum((1, 2, 3))
    ed, es = int(sizes.argmax()), int(sizes.argmin())
    record = json.loads((tmp_path / "out" / "cine" / "prediction.json").read_text())
    assert (record["frame_ed"], record["frame_es"]) == (ed, es)
    for name, unit in (("LV_EDV", "mL"), ("LV_EF", "%")):
        derived = model.columns[name].derived
        assert derived is not None
        labels = model.columns["anatomy"].labels
        expected = measure(derived, {"anatomy": mask}, labels, volume.geometry.voxel_ml, ed, es)
        assert float(row[f"anatomy.{name} [{unit}]"]) == pytest.approx(expected)


def test_only_what_was_asked_is_written(model: Model, tmp_path: Path) -> None:
    path = write_image(tmp_path / "in.nii.gz")
    found = run(model, path, tmp_path / "out", tasks=["disease"])
    assert {p.name for p in (tmp_path / "out" / "in").iterdir()} == {"prediction.json", "preview.npz"}
    assert set(found.outputs) == {"disease"}
    assert not any(name.startswith(("function", "anatomy")) for name in found.table.columns)


def test_one_bad_file_among_many_is_refused_and_the_others_go_on(model: Model, tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_image(source / "a.nii.gz")
    whole = write_image(source / "b_truncated.nii.gz").read_bytes()
    (source / "b_truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    (source / "c_text.nii.gz").write_text("not an image")
    nan = np.full((16, 16, 4), np.nan, np.float32)
    nibabel.save(nibabel.Nifti1Image(nan, AFFINE), source / "d_nan.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.ones((16, 16, 4), np.float32), AFFINE), source / "e_constant.nii.gz")
    flat = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(flat, AFFINE), source / "f_flat.nii.gz")
    write_image(source / "g.nii.gz")
    found = run(model, source, tmp_path / "out")
    rows = {row["case_id"]: row for row in rows_of(tmp_path / "out")}
    refused = {
        "b_truncated": "TRUNCATED",
        "c_text": "UNDECODABLE",
        "d_nan": "NOT_AN_IMAGE",
        "e_constant": "NOT_AN_IMAGE",
        "f_flat": "SINGLE_SLICE",
    }
    assert {name: row["code"] for name, row in rows.items() if row["status"] == "refused"} == refused
    assert [rows[name]["status"] for name in ("a", "g")] == ["ok", "ok"]
    assert {f.case_id: f.code for f in found.findings} == refused
    for name in refused:
        assert name in rows[name]["message"]
        assert not (tmp_path / "out" / name).exists()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"predictions.csv", "outputs.yaml", "a", "g"}


def test_a_refused_case_leaves_nothing_of_an_earlier_prediction(model: Model, tmp_path: Path) -> None:
    path = write_image(tmp_path / "in.nii.gz")
    run(model, path, tmp_path / "out")
    assert (tmp_path / "out" / "in" / "segmentation.nii.gz").is_file()
    path.write_text("damaged")
    run(model, path, tmp_path / "out")
    assert not (tmp_path / "out" / "in").exists()
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["refused"]


class Interrupted(Exception):
    """What a person's Ctrl-C is to a test."""


def test_an_interrupted_run_leaves_whole_cases_only_and_can_be_run_again(
    model: Model, tmp_path: Path
) -> None:
    for name in "abc":
        write_image(tmp_path / "in" / f"{name}.nii.gz")

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(model, tmp_path / "in", tmp_path / "out", progress=stop)
    left = {p.name for p in (tmp_path / "out").iterdir()} - {"outputs.yaml", "predictions.csv"}
    assert len(left) in (2, 3)  # the third may have been at its last step
    assert left < set("abcd")
    for name in left:
        assert json.loads((tmp_path / "out" / name / "prediction.json").read_text())["case_id"] == name
    assert len(rows_of(tmp_path / "out")) == 2
    run(model, tmp_path / "in", tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == 3


def test_a_case_that_breaks_while_it_is_written_leaves_no_folder_and_the_others_go_on(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(path: Path, *rest: Any) -> None:
        if "a" in path.parent.name.split("."):
            raise ZeroDivisionError("SMITH^JOHN")
        write_volume(path, *rest)

    monkeypatch.setattr("medmtl.inference.write.write_volume", breaks)
    for name in "ab":
        write_image(tmp_path / "in" / f"{name}.nii.gz")
    found = run(model, tmp_path / "in", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"outputs.yaml", "predictions.csv", "b"}
    bad, good = rows_of(tmp_path / "out")
    assert (bad["status"], bad["code"], good["status"]) == ("failed", "UNEXPECTED", "ok")
    assert "ZeroDivisionError at " in bad["message"]
    assert "write.py:" in bad["message"]
    assert "SMITH" not in str(found.findings)


def test_a_folder_that_is_not_a_prediction_is_refused_and_left_intact(model: Model, tmp_path: Path) -> None:
    path = write_image(tmp_path / "in.nii.gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something other than predictions; choose another folder"):
        run(model, path, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    with pytest.raises(OutputError, match="choose another folder"):
        run(model, path, tmp_path / "out" / "thesis.txt")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_an_unknown_task_or_device_is_refused_before_anything_is_written(
    model: Model, tmp_path: Path
) -> None:
    path = write_image(tmp_path / "in.nii.gz")
    with pytest.raises(ConfigError, match="no task 'diseas'; did you mean 'disease'"):
        run(model, path, tmp_path / "out", tasks=["diseas"])
    with pytest.raises(ConfigError, match="device: 'tpu' is not known; use auto, cpu, cuda"):
        predict_cases(model, [], tmp_path / "out", device="tpu")
    assert not (tmp_path / "out").exists()


def test_no_case_still_gives_a_table_with_its_columns(model: Model, tmp_path: Path) -> None:
    predict_cases(model, [], tmp_path / "out", device="cpu")
    header = (tmp_path / "out" / "predictions.csv").read_text().strip()
    assert header == "case_id,study_uid,series_uid,status,code,message,seconds"


def test_a_second_dense_task_called_segmentation_does_not_overwrite_the_first(
    model: Model, tmp_path: Path
) -> None:
    model.tasks["segmentation"] = model.tasks.pop("t1")
    model.tasks["segmentation"].name = "segmentation"
    model.network.heads["segmentation"] = model.network.heads.pop("t1")
    model.network._order = tuple("segmentation" if n == "t1" else n for n in model.network._order)
    found = run(model, write_image(tmp_path / "in.nii.gz"), tmp_path / "out")
    files = {name: entry["file"] for name, entry in found.outputs.items() if "file" in entry}
    assert files["anatomy"] == "segmentation.nii.gz"
    assert len(set(files.values())) == len(files) == 3
    assert {p.name for p in (tmp_path / "out" / "in").iterdir()} == {
        *files.values(),
        "prediction.json",
        "preview.npz",
    }


def test_mirroring_is_an_option(model: Model, tmp_path: Path) -> None:
    path = write_image(tmp_path / "in.nii.gz")
    run(model, path, tmp_path / "plain", tasks=["t1"])
    run(model, path, tmp_path / "mirrored", tasks=["t1"], mirror=True)
    plain, mirrored = (
        np.asarray(nibabel.load(tmp_path / name / "in" / "t1.nii.gz").dataobj)
        for name in ("plain", "mirrored")
    )
    assert plain.shape == mirrored.shape
    assert not np.array_equal(plain, mirrored)


def test_a_prediction_is_plotted_slice_by_slice_and_a_wrong_name_is_told(
    model: Model, tmp_path: Path
) -> None:
    prediction = model.predict(write_image(tmp_path / "in.nii.gz"), tasks=["anatomy"], device="cpu")
    figure = prediction.plot()
    assert len(figure.axes) % 4 == 0
    assert all(axes.images and axes.get_title().startswith("frame ") for axes in figure.axes)
    with pytest.raises(ConfigError, match="'anatomi' is no dense task; did you mean 'anatomy'"):
        prediction.plot("anatomi")


def test_model_predict_gives_rows_volumes_and_a_folder_to_keep(model: Model, tmp_path: Path) -> None:
    prediction = model.predict(write_image(tmp_path / "in.nii.gz"), device="cpu")
    assert list(prediction.values["case_id"]) == ["in"]
    assert prediction.volume("anatomy", "in").shape == (16, 16, 4)
    assert prediction.findings == []
    kept = prediction.save(tmp_path / "kept")
    assert (kept / "in" / "segmentation.nii.gz").is_file()
    assert (kept / "predictions.csv").is_file()


def test_a_case_with_too_few_channels_is_refused(model: Model, tmp_path: Path) -> None:
    path = write_image(tmp_path / "in.nii.gz")
    case = Case(case_id="two", patient="", split="", images=(path, path))
    found = predict_cases(model, [case], tmp_path / "out", device="cpu")
    assert [f.code for f in found.findings] == ["MIXED_GRID"]
    assert "has 2 channels, the model needs 1" in found.findings[0].message
