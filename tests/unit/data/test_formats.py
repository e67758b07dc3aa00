"""ACDC and the phantom's raw layout: what is wrong with one case is said of that case."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.data.formats import ACDC, LoadedCase, Phantom
from medmtl.data.formats.find import find_format
from medmtl.data.nifti import frames_first
from medmtl.types import CaseError, ConfigError, DatasetError

Write = Callable[..., Path]


def load(root: Path, number: int = 0) -> LoadedCase:
    return list(find_format(root).read(root))[number].load()


def refusal(root: Path) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        load(root)
    assert str(root) not in str(caught.value)
    return caught.value.code, str(caught.value)


# ---- finding the format


def test_a_folder_that_nothing_recognizes_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        find_format(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"nothing in {tmp_path} is of a known format; looked for ")
    assert "patient001, patient002, ... with Info.cfg" in message
    assert "phantom_0001, phantom_0002, ... beside truth.csv" in message
    assert "\n" not in message


def test_a_folder_that_is_missing_or_of_another_format_is_an_error(tmp_path: Path, acdc: Write) -> None:
    with pytest.raises(DatasetError, match=r"there is no .*gone"):
        find_format(tmp_path / "gone")
    with pytest.raises(
        DatasetError, match=r"is not of the format 'phantom': looked for folders phantom_0001"
    ):
        find_format(acdc(tmp_path), "phantom")
    with pytest.raises(ConfigError, match="unknown dataset format 'acdcc'; did you mean 'acdc'"):
        find_format(tmp_path, "acdcc")


def test_a_folder_of_two_formats_asks_which(tmp_path: Path, acdc: Write, phantom: Write) -> None:
    phantom(acdc(tmp_path))
    with pytest.raises(
        DatasetError, match=r"may be of several formats .*acdc because of .*patient001.*--format acdc"
    ):
        find_format(tmp_path)
    assert isinstance(find_format(tmp_path, "acdc"), ACDC)


# ---- ACDC


@pytest.mark.parametrize(
    ("old", "new", "code", "expected"),
    [
        ("ED: 1\n", "", "UNDECODABLE", "Info.cfg, ED: found ''; it has to be the number of a frame"),
        (
            "ED: 1\n",
            "ED: 0\n",
            "UNDECODABLE",
            "found '0'; it has to be the number of a frame, and the first one is 1",
        ),
        ("ES: 3\n", "ES: x\n", "UNDECODABLE", "Info.cfg, ES: found 'x'"),
        ("ES: 3\n", "ES: 1\n", "TIME_AMBIGUOUS", "names frame 1 for both ED and ES"),
        ("ES: 3\n", "ES: 2\n", "NO_USABLE_SERIES", "patient001_frame02.nii.gz: there is no such file"),
        (
            "Group: MINF",
            "Group: MINFF",
            "LABEL_VALUES",
            "Group: found 'MINFF', which is not one of the classes",
        ),
        (
            "Height: 161.0",
            "Height: tall",
            "UNDECODABLE",
            "Info.cfg, Height: found 'tall', which is not a number",
        ),
    ],
)
def test_an_info_cfg_that_cannot_be_used_is_named(
    tmp_path: Path, acdc: Write, old: str, new: str, code: str, expected: str
) -> None:
    path = acdc(tmp_path) / "patient001" / "Info.cfg"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert refusal(tmp_path)[0] == code
    assert expected in refusal(tmp_path)[1]


def test_a_patient_without_info_cfg_is_refused(tmp_path: Path, acdc: Write) -> None:
    (acdc(tmp_path) / "patient001" / "Info.cfg").unlink()
    assert refusal(tmp_path) == (
        "UNDECODABLE",
        "Info.cfg cannot be read (there is no such file); it says which frames are ED and ES",
    )


def test_an_empty_patient_folder_is_a_case_that_is_refused(tmp_path: Path, acdc: Write) -> None:
    acdc(tmp_path, [2])
    (tmp_path / "patient001").mkdir()
    assert [raw.case_id for raw in ACDC().read(tmp_path)] == ["patient001", "patient002"]
    assert refusal(tmp_path)[0] == "UNDECODABLE"


@pytest.mark.parametrize(
    ("file", "shape", "code"),
    [
        ("frame03", (12, 10, 5), "MIXED_GRID"),
        ("frame03_gt", (12, 10, 5), "LABEL_GEOMETRY_MISMATCH"),
        ("frame03", (12, 10, 4, 2), "MIXED_GRID"),
    ],
)
def test_files_on_different_grids_are_refused(
    tmp_path: Path, acdc: Write, nifti: Write, file: str, shape: tuple[int, ...], code: str
) -> None:
    acdc(tmp_path)
    nifti(tmp_path / f"patient001/patient001_{file}.nii.gz", np.ones(shape, np.uint8), acdc=True)
    assert refusal(tmp_path)[0] == code


def test_a_mask_with_broken_values_is_refused(tmp_path: Path, acdc: Write, nifti: Write) -> None:
    acdc(tmp_path)
    mask = np.full((12, 10, 4), 0.5, np.float32)
    nifti(tmp_path / "patient001/patient001_frame01_gt.nii.gz", mask, acdc=True)
    assert refusal(tmp_path)[0] == "LABEL_VALUES"


def test_an_acdc_case_is_its_ed_and_es_frames_with_the_spacing_of_pixdim(tmp_path: Path, acdc: Write) -> None:
    case = load(acdc(tmp_path))
    [image] = case.images
    assert image.array.shape == (12, 10, 4, 2)
    assert image.geometry.spacing_mm == pytest.approx((1.5, 1.5, 8.0))
    assert np.sign(np.diag(image.geometry.affine)).tolist() == [-1, -1, 1, 1]
    assert (case.frame_ed, case.frame_es) == (0, 1)
    assert [int((frame == 3).sum()) for frame in frames_first(case.labels["anatomy"].array)] == [40, 16]
    assert case.values == {"disease": "MINF", "height": 161.0, "weight": 70.5}
    assert (case.split, case.findings) == ("", ())


def test_an_acdc_case_with_its_4d_file_keeps_all_frames_and_labels_two(tmp_path: Path, acdc: Write) -> None:
    case = load(acdc(tmp_path, four_d=[1]))
    assert case.images[0].array.shape == (12, 10, 4, 4)
    assert (case.frame_ed, case.frame_es) == (0, 2)
    frames = frames_first(case.labels["anatomy"].array)
    assert [bool((frame == 255).all()) for frame in frames] == [False, True, False, True]
    assert [int((frame == 3).sum()) for frame in frames] == [40, 0, 16, 0]


@pytest.mark.parametrize(
    ("change", "code", "expected"),
    [
        (lambda cine: cine + 1, "TIME_AMBIGUOUS", "differs from the frame file at frame 1"),
        (lambda cine: cine[..., :2], "TIME_AMBIGUOUS", "has 2 frames and Info.cfg names frame 3"),
        (lambda cine: cine[:10], "MIXED_GRID", "has grid 10 x 10 x 4 instead of 12 x 10 x 4"),
    ],
)
def test_a_4d_file_that_contradicts_the_frames_is_left_out_with_a_warning(
    tmp_path: Path, acdc: Write, nifti: Write, change: Callable[[Any], Any], code: str, expected: str
) -> None:
    acdc(tmp_path)
    cine = np.random.default_rng(0).integers(0, 9, (12, 10, 4, 4)).astype(np.int16)
    folder = tmp_path / "patient001"
    for frame in (0, 2):
        nifti(folder / f"patient001_frame{frame + 1:02d}.nii.gz", cine[..., frame], acdc=True)
    nifti(folder / "patient001_4d.nii.gz", change(cine), acdc=True)
    case = load(tmp_path)
    assert case.images[0].array.shape[3] == 2
    [finding] = case.findings
    assert (finding.code, finding.severity) == (code, "warning")
    assert expected in finding.message
    assert "the ED and ES frames are used without it" in finding.message


def test_frames_without_a_mask_are_unlabelled(tmp_path: Path, acdc: Write) -> None:
    acdc(tmp_path)
    (tmp_path / "patient001/patient001_frame03_gt.nii.gz").unlink()
    frames = frames_first(load(tmp_path).labels["anatomy"].array)
    assert [bool((frame == 255).all()) for frame in frames] == [False, True]
    (tmp_path / "patient001/patient001_frame01_gt.nii.gz").unlink()
    assert load(tmp_path).labels == {}


def test_values_that_info_cfg_leaves_out_are_unlabelled(tmp_path: Path, acdc: Write) -> None:
    (acdc(tmp_path) / "patient001/Info.cfg").write_text("ED: 1\nES: 3\nNbFrame: 4\n")
    assert load(tmp_path).values == {}


def test_the_archive_with_training_and_testing_keeps_its_test_cases(tmp_path: Path, acdc: Write) -> None:
    acdc(tmp_path / "training", [1])
    acdc(tmp_path / "testing", [101])
    raw = list(ACDC().read(tmp_path))
    assert [(case.case_id, case.where, case.load().split) for case in raw] == [
        ("patient001", "training/patient001", ""),
        ("patient101", "testing/patient101", "test"),
    ]


def test_one_patient_folder_is_a_source_too(tmp_path: Path, acdc: Write) -> None:
    assert [case.where for case in ACDC().read(acdc(tmp_path) / "patient002")] == ["patient002"]


# ---- phantom


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("disease", "diseases", "truth.csv, row 1: unknown column 'diseases'; did you mean 'disease'"),
        ("case_id", "patient", "truth.csv, row 1: the column 'case_id' is missing"),
        ("phantom_0002,", "phantom_0001,", "row 3, column 'case_id': 'phantom_0001' stands there twice"),
        ("phantom_0002,", ",", "row 3, column 'case_id': is blank"),
    ],
)
def test_a_truth_table_that_cannot_be_used_ends_the_run(
    tmp_path: Path, phantom: Write, old: str, new: str, expected: str
) -> None:
    path = phantom(tmp_path) / "truth.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DatasetError) as caught:
        list(Phantom().read(tmp_path))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "code", "expected"),
    [
        (",MINF,", ",MINX,", "LABEL_VALUES", "phantom_0001, column 'disease': found 'MINX'"),
        (",170,", ",tall,", "LABEL_VALUES", "column 'height': found 'tall', which is not a number"),
        (",0,2,", ",0.5,2,", "LABEL_VALUES", "column 'frame_ed': found '0.5'; a frame is a whole number"),
    ],
)
def test_a_cell_of_the_truth_that_cannot_be_used_refuses_its_case(
    tmp_path: Path, phantom: Write, old: str, new: str, code: str, expected: str
) -> None:
    path = phantom(tmp_path) / "truth.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    assert refusal(tmp_path)[0] == code
    assert expected in refusal(tmp_path)[1]


def test_a_phantom_without_an_image_or_a_row_is_refused(tmp_path: Path, phantom: Write) -> None:
    phantom(tmp_path)
    (tmp_path / "phantom_0001/lge.nii.gz").unlink()
    assert refusal(tmp_path) == ("NO_USABLE_SERIES", "phantom_0001/lge.nii.gz: there is no such file")
    shutil.copytree(tmp_path / "phantom_0002", tmp_path / "phantom_0000")
    assert refusal(tmp_path) == ("UNDECODABLE", "phantom_0000 has no row in truth.csv; add one")


def test_missing_label_files_and_blank_cells_are_unlabelled(tmp_path: Path, phantom: Write) -> None:
    path = phantom(tmp_path) / "truth.csv"
    path.write_text(path.read_text().replace(",170,70.5,130.25,", ",,,,"))
    for name in ("tissue", "t1"):
        (tmp_path / f"phantom_0001/{name}.nii.gz").unlink()
    case = load(tmp_path)
    assert set(case.labels) == {"anatomy"}
    assert not {"height", "weight", "LV_EDV"} & set(case.values)
    assert case.values["LV_EF"] == 57.5


def test_a_phantom_case_has_two_channels_its_truth_and_its_time_step(tmp_path: Path, phantom: Write) -> None:
    case = load(phantom(tmp_path))
    assert [image.array.shape for image in case.images] == [(12, 10, 4, 3)] * 2
    assert case.images[0].time_step_ms == 40.0
    assert set(case.labels) == {"anatomy", "tissue", "t1"}
    assert (case.frame_ed, case.frame_es, case.patient) == (0, 2, "phantom_0001")
    assert (case.values["scar_mass"], case.values["disease"]) == (12.5, "MINF")
    scar_mass = Phantom().schema(tmp_path).columns["scar_mass"]
    assert scar_mass.derived is not None
    assert (scar_mass.derived.mask, scar_mass.derived.structure) == ("tissue", "scar")
