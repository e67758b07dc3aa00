"""Bad input, through the command line: one clear sentence, the right exit code, and nothing harmed."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml

from medmtl.cli import run
from tests.helpers.study import write_study

Captured = pytest.CaptureFixture[str]
Call = Callable[..., str]

CONFIG = {
    "device": "cpu",
    "preparation": {"patch": [16, 16, 4]},
    "backbone": {"type": "unet", "widths": [4, 8]},
    "tasks": {
        "anatomy": {"type": "segmentation", "target": "anatomy"},
        "disease": {"type": "classification", "target": "disease", "hidden": 8},
        "function": {"type": "regression", "targets": ["LV_EDV"], "hidden": 8},
    },
    "training": {"epochs": 1, "steps_per_epoch": 2, "batch_size": 2, "warmup_steps": 1, "threads": 1},
}


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the hash of its bytes; folders too."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good dataset ``ds``, a good config ``c.yaml`` and a trained ``run``."""
    root = tmp_path_factory.mktemp("study")
    (root / "ds").mkdir()
    write_study(root / "ds")
    (root / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    assert run(["train", str(root / "c.yaml"), f"dataset={root / 'ds'}", "-o", str(root / "run")]) == 0
    return root


@pytest.fixture
def here(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the study to spoil; the calls run in it."""
    shutil.copytree(study, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def refused(here: Path, capsys: Captured) -> Call:
    """Makes a call that must exit with 2 and change nothing; gives its sentence."""

    def call(*arguments: str) -> str:
        before = tree(here)
        assert run(arguments) == 2
        assert tree(here) == before, "nothing was written or changed"
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert captured.err.startswith("error: ")
        return captured.err.removeprefix("error: ").strip()

    return call


@pytest.fixture
def partly_done(here: Path, capsys: Captured) -> Call:
    """Makes a call that must go on without some cases, exit with 1 and spare its input; gives stderr."""

    def call(*arguments: str) -> str:
        before = tree(here)
        assert run(arguments) == 1
        after = tree(here)
        assert {name: after[name] for name in before} == before, "what was there is as it was"
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return captured.err

    return call


def train(*overrides: str) -> list[str]:
    return ["train", "c.yaml", "dataset=ds", *overrides, "-o", "new"]


def change_cells(dataset: Path, case: str, /, **cells: str) -> None:
    with (dataset / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    next(row for row in rows if row["case_id"] == case).update(cells)
    with (dataset / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def change_volume(
    path: Path, change: Callable[[np.ndarray], np.ndarray], scale: Sequence[float] = (1, 1, 1, 1)
) -> None:
    """Write a volume again with other voxels, or on another grid."""
    image = nibabel.load(path)
    voxels = change(np.asarray(image.dataobj).copy())
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine @ np.diag(scale)), path)


def volume(case_id: str, name: str) -> Path:
    return Path("ds") / "volumes" / case_id / f"{name}.nii.gz"


# --------------------------------------------------------------------------------------------------- configs


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.epcohs=3", "c.yaml: training.epcohs: unknown key; did you mean 'epochs'?"),
        ("tasks.anatomy.targt=x", "c.yaml: tasks.anatomy.targt: unknown key; did you mean 'target'?"),
        ("weighting.type=uwso", "c.yaml: unknown weighting 'uwso'; did you mean 'uw-so'?"),
        ("backbone.residul=true", "c.yaml: backbone.residul: unknown key; did you mean 'residual'?"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest(refused: Call, override: str, sentence: str) -> None:
    assert refused(*train(override)) == sentence


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.epochs=ten", "training.epochs: must be a valid integer, found 'ten'"),
        ("backbone.widths=8", "backbone.widths: must be a valid array, found 8"),
        ("backbone.widths=[4, 0]", "backbone.widths.1: must be greater than 0, found 0"),
        ("backbone.strides=[[1, 1, 1], [2, 2]]", "backbone.strides.1.2: is missing"),
        ("backbone.strides=[[1, 1, 1], [0, 2, 1]]", "backbone.strides.1.0: must be greater than 0"),
        ("covariates=height", "covariates: must be a valid array, found 'height'"),
        ("backbone.strides=[[1, 1, 1], [2, 3, 1]]", "patch: 16 voxels along y are not a multiple"),
    ],
)
def test_a_wrong_value_says_what_was_found(refused: Call, override: str, says: str) -> None:
    assert says in refused(*train(override))


def test_a_target_that_the_dataset_has_not_is_named(refused: Call) -> None:
    sentence = refused(*train("tasks.disease.target=diseas"))
    assert sentence == "task 'disease': the dataset has no column 'diseas'; did you mean 'disease'?"


def test_a_target_of_another_kind_is_named(refused: Call) -> None:
    assert "needs a category column, but 'height' is a value" in refused(
        *train("tasks.disease.target=height")
    )


def test_a_target_that_no_case_has_is_named(here: Path, refused: Call) -> None:
    for number in range(9):
        change_cells(here / "ds", f"c{number}", disease="")
    sentence = refused(*train())
    assert sentence.startswith(
        "task 'disease' learns from disease, but none of the 5 training cases has that"
    )


def test_a_covariate_that_is_no_value_is_named(refused: Call) -> None:
    assert "covariates: 'heigth' is no value column of the dataset; did you mean 'height'" in refused(
        *train("covariates=[heigth]")
    )


def test_a_config_that_is_not_there_is_named(refused: Call) -> None:
    assert refused("train", "no.yaml", "-o", "new") == "no.yaml: no such config file"


def test_a_config_without_a_dataset_says_how_to_name_one(refused: Call) -> None:
    assert "no dataset: name it in the config" in refused("train", "c.yaml", "-o", "new")


# -------------------------------------------------------------------------------------------------- datasets


@pytest.mark.parametrize(
    "call",
    [
        ["train", "c.yaml", "dataset=nowhere", "-o", "new"],
        ["evaluate", "run", "nowhere", "-o", "new"],
        ["plan", "nowhere", "-o", "new.yaml"],
        ["predict", "run", "nowhere", "-o", "new"],
        ["ingest", "nowhere", "-o", "new"],
    ],
    ids=lambda call: call[0],
)
def test_a_folder_that_does_not_exist_is_named(refused: Call, call: list[str]) -> None:
    assert "nowhere" in refused(*call)


def test_a_file_that_cases_csv_names_and_is_not_there_is_named_with_its_row(refused: Call) -> None:
    volume("c1", "anatomy").unlink()
    sentence = refused(*train())
    assert "cases.csv, row 3, column 'anatomy'" in sentence
    assert "there is no such file" in sentence


def test_a_mask_on_another_grid_is_named_with_its_row(refused: Call) -> None:
    change_volume(volume("c1", "anatomy"), lambda a: a, (1, 1, 2, 1))
    assert "cases.csv, row 3, column 'anatomy'" in refused(*train())


def test_a_mask_of_another_shape_is_named_with_its_row(refused: Call) -> None:
    change_volume(volume("c1", "anatomy"), lambda a: a[:-1])
    assert "cases.csv, row 3, column 'anatomy'" in refused(*train())


def test_a_mask_of_several_frames_beside_a_single_volume_is_refused(refused: Call) -> None:
    for name in ("cine", "tissue", "t1"):
        change_volume(volume("c1", name), lambda a: a[..., 0])
    change_cells(Path("ds"), "c1", frame_es="")
    sentence = refused(*train())
    assert "column 'anatomy'" in sentence
    assert "has 2 frame(s) and the image 1" in sentence


def test_a_2d_image_is_refused_with_its_row(refused: Call) -> None:
    for name in ("cine", "anatomy", "tissue", "t1"):
        change_volume(volume("c1", name), lambda a: a[:, :, :1])
    sentence = refused(*train())
    assert "cases.csv, row 3, column 'image'" in sentence
    assert "found a 2D image" in sentence


def test_an_array_of_five_dimensions_is_refused_with_its_row(refused: Call) -> None:
    change_volume(volume("c1", "cine"), lambda a: np.stack([a, a], -1))
    assert "found an array of 5 dimensions" in refused(*train())


def test_a_case_in_two_splits_is_refused(here: Path, refused: Call) -> None:
    change_cells(here / "ds", "c8", case_id="c0")
    assert "the case 'c0' is in two splits" in refused(*train())


def test_a_patient_in_training_and_test_is_refused(here: Path, refused: Call) -> None:
    change_cells(here / "ds", "c8", patient="c0")
    sentence = refused(*train())
    assert "the patient 'c0' is in two splits, 'train' in row 2 and 'test' here" in sentence


def test_a_split_that_no_case_has_is_named(here: Path, refused: Call) -> None:
    for number in (7, 8):
        change_cells(here / "ds", f"c{number}", split="")
    assert "split" in refused("evaluate", "run", "ds", "-o", "new")
    assert "split" in refused("predict", "run", "ds", "-o", "new", "--split", "test")


def test_a_dataset_without_training_cases_says_so(here: Path, refused: Call) -> None:
    for number in range(5):
        change_cells(here / "ds", f"c{number}", split="")
    assert "no case has split = train" in refused(*train())


def test_a_mask_with_an_unknown_value_leaves_its_case_out(partly_done: Call) -> None:
    change_volume(volume("c1", "anatomy"), lambda a: np.where(a == 3, 7, a).astype(np.uint8))
    told = partly_done(*train())
    assert "1 case was left out of training" in told
    assert "c1: LABEL_VALUES: " in told
    assert "has value 7" in told
    assert Path("new/model/model.yaml").is_file()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: np.where(a > a.mean(), np.nan, a), "NaN or infinite"),
        (lambda a: np.full_like(a, 4.0), "every voxel is 4"),
    ],
    ids=["nan", "constant"],
)
def test_a_volume_that_is_no_image_leaves_its_case_out(
    partly_done: Call, change: Callable[[np.ndarray], np.ndarray], says: str
) -> None:
    change_volume(volume("c1", "cine"), change)
    told = partly_done(*train())
    assert "c1: NOT_AN_IMAGE: " in told
    assert says in told


def test_no_usable_training_case_is_an_error(refused: Call) -> None:
    for number in range(5):
        change_volume(volume(f"c{number}", "cine"), np.zeros_like)
    assert "no training case could be used; the first: " in refused(*train())


def test_an_empty_mask_is_a_label_that_says_background(here: Path) -> None:
    before = tree(here / "ds")
    change_volume(volume("c1", "anatomy"), np.zeros_like)
    assert run(train()) == 0
    assert Path("new/model/model.yaml").is_file()
    assert tree(here / "ds").keys() == before.keys()


def test_masks_that_nobody_drew_are_no_label_at_all(refused: Call) -> None:
    for number in range(5):
        change_volume(volume(f"c{number}", "anatomy"), lambda a: np.full_like(a, 255))
    assert "task 'anatomy' learns from anatomy, but none of the 5 training cases" in refused(*train())


# ------------------------------------------------------------------------------------- models and prediction


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_model_that_is_not_there_is_named(refused: Call, verb: str) -> None:
    assert refused(verb, "ds", "ds", "-o", "new").startswith("ds: no model.yaml here; give the model folder")


def test_a_model_whose_weights_are_cut_off_is_named(here: Path, refused: Call) -> None:
    weights = here / "run" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    assert "model.safetensors" in refused("predict", "run", "ds", "-o", "new")


def test_a_task_that_the_model_has_not_is_named(refused: Call) -> None:
    assert refused("predict", "run", "ds", "-o", "new", "--tasks", "anatmy") == (
        "the model has no task 'anatmy'; did you mean 'anatomy'?"
    )


def test_an_image_that_cannot_be_used_is_refused_and_the_others_are_predicted(
    here: Path, partly_done: Call
) -> None:
    (here / "images").mkdir()
    for name in ("good", "flat", "text", "plane"):
        shutil.copy(volume("c0", "cine"), here / "images" / f"{name}.nii.gz")
    (here / "images" / "text.nii.gz").write_text("no image")
    change_volume(here / "images" / "flat.nii.gz", np.zeros_like)
    change_volume(here / "images" / "plane.nii.gz", lambda a: a[:, :, 0, 0])
    told = partly_done("predict", "run", "images", "-o", "new")
    assert "3 cases were not predicted" in told
    assert "flat: NOT_AN_IMAGE: " in told
    assert "text: UNDECODABLE: " in told
    assert "plane: SINGLE_SLICE: " in told
    with Path("new/predictions.csv").open(newline="") as file:
        status = {row["case_id"]: row["status"] for row in csv.DictReader(file)}
    assert status == {"flat": "refused", "good": "ok", "plane": "refused", "text": "refused"}


def test_a_folder_without_images_is_named(here: Path, refused: Call) -> None:
    (here / "images").mkdir()
    assert refused("predict", "run", "images", "-o", "new").startswith(
        f"{here / 'images'}: no DICOM and no NIfTI file"
    )


def test_predictions_on_another_grid_are_listed_and_not_scored(here: Path, partly_done: Call) -> None:
    assert run(["predict", "run", "ds", "--split", "test", "-o", "predicted"]) == 0
    change_volume(here / "predicted" / "c7" / "segmentation.nii.gz", lambda a: a, (2, 1, 1, 1))
    told = partly_done("evaluate", "predicted", "ds", "-o", "new")
    assert "1 case was not scored" in told
    assert "c7: LABEL_GEOMETRY_MISMATCH: " in told
    assert Path("new/report.html").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(
    "call",
    [
        train("--device", "cuda"),
        train("device=cuda:1"),
        ["evaluate", "run", "ds", "-o", "new", "--device", "cuda"],
        ["predict", "run", "ds", "-o", "new", "--device", "cuda"],
    ],
    ids=["train", "train by config", "evaluate", "predict"],
)
def test_a_gpu_that_is_not_there_is_an_error(refused: Call, call: list[str]) -> None:
    assert "was asked for, but PyTorch sees 0 GPUs here; use device=cpu or auto" in refused(*call)


def test_an_unknown_device_lists_the_known(refused: Call) -> None:
    assert "use auto, cpu, cuda or cuda:N" in refused(*train("--device", "gpu"))


# -------------------------------------------------------------------------------------------- output folders


@pytest.fixture
def phantoms(here: Path, phantom: Callable[..., Path]) -> Path:
    return phantom(here / "phantoms", (1, 2, 3, 4))


@pytest.mark.parametrize("theirs", ["folder", "file"])
@pytest.mark.parametrize(
    "call",
    [
        ["ingest", "phantoms", "-o"],
        ["ingest", "phantoms", "--overwrite", "-o"],
        ["train", "c.yaml", "dataset=ds", "-o"],
        ["train", "c.yaml", "dataset=ds", "--resume", "auto", "-o"],
        ["evaluate", "run", "ds", "-o"],
        ["predict", "run", "ds", "-o"],
        ["demo", "-o"],
        ["plan", "ds", "-o"],
        ["schema", "-o"],
    ],
    ids=" ".join,
)
def test_what_is_not_ours_is_never_written_into(
    here: Path, phantoms: Path, refused: Call, call: list[str], theirs: str
) -> None:
    assert phantoms.is_dir()
    place = here / "theirs"
    if theirs == "folder":
        place.mkdir()
        (place / "thesis.txt").write_text("the only copy")
    else:
        place.write_text("the only copy")
    assert "theirs" in refused(*call, "theirs")


@pytest.mark.parametrize(
    "call",
    [
        ["ingest", "phantoms", "-o", "ds"],
        ["ingest", "phantoms", "--overwrite", "-o", "run"],
        ["train", "c.yaml", "dataset=ds", "-o", "run"],
        ["train", "c.yaml", "dataset=ds", "-o", "ds"],
        ["evaluate", "run", "ds", "-o", "ds"],
        ["evaluate", "run", "ds", "-o", "run"],
        ["predict", "run", "ds", "-o", "ds"],
        ["predict", "run", "ds", "-o", "run"],
        ["demo", "-o", "run"],
        ["report", "ds"],
    ],
    ids=" ".join,
)
def test_one_kind_of_output_never_replaces_another(phantoms: Path, refused: Call, call: list[str]) -> None:
    assert phantoms.is_dir()
    assert refused(*call)
