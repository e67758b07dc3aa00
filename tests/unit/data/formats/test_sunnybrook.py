"""Sunnybrook's layouts: contours that are not of these images first, then what good ones become."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from medmtl.data import ingest, open_dataset
from medmtl.data.formats import LoadedCase, Sunnybrook
from medmtl.types import CaseError, DatasetError, Finding
from tests.helpers.sunnybrook import (
    CENTRES,
    ED,
    ES,
    ONE,
    ORIGINAL,
    PHASES,
    SIZE,
    SLICES,
    THREE,
    TWO,
    circle,
    write_contour,
    write_contours,
    write_images,
    write_study,
)


def load(root: Path, number: int = 0) -> LoadedCase:
    return Sunnybrook().find([root]).cases[number].load()


def refusal(root: Path, number: int = 0) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        load(root, number)
    return caught.value.code, str(caught.value)


def told(case: LoadedCase, code: str) -> list[Finding]:
    return [finding for finding in case.findings if finding.code == code]


# ---- contours of somebody else


def test_contours_that_a_list_gives_to_the_wrong_patient_are_refused(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE, TWO)
    (root / "link.csv").write_text("patient_id,original_id\nSCD0000101,SC-N-02\nSCD0000201,SC-HF-I-1\n")
    for number in (0, 1):
        code, message = refusal(root, number)
        assert code == "LABEL_WRONG_PATIENT"
        assert "do not lie on the borders in these images" in message


def test_the_only_contours_at_hand_are_refused_where_they_do_not_fit(tmp_path: Path) -> None:
    write_images(tmp_path / "dicoms" / ONE, ONE)
    write_contours(tmp_path / "contourfiles" / "SC-N-2", TWO)
    assert refusal(tmp_path)[0] == "LABEL_WRONG_PATIENT"
    assert "link.csv" in refusal(tmp_path)[1]


def test_contours_of_images_that_the_series_does_not_have_are_refused(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    write_contour(root / "contourfiles/SC-HF-I-1/i-contours", 30, 0, "i", circle(CENTRES[ONE], 12))
    code, message = refusal(root)
    assert code == "LABEL_GEOMETRY_MISMATCH"
    assert "contours of SC-HF-I-1: the series has no image 121 that contours were drawn on" in message


def test_a_contour_file_that_cannot_be_read_refuses_its_patient_alone(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE, TWO)
    path = sorted((root / "contourfiles/SC-HF-I-1/i-contours").iterdir())[0]
    path.write_text("1 2\n3 four\n5 6\n")
    assert refusal(root)[0] == "UNDECODABLE"
    assert f"contours of SC-HF-I-1: {path.name}, line 2: found '3 four'" in refusal(root)[1]
    assert set(load(root, 1).labels) == {"anatomy", "myocardium"}


def test_two_contours_of_one_kind_on_one_image_are_refused(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    first = sorted((root / "contourfiles/SC-HF-I-1/i-contours").iterdir())[0]
    shutil.copy(first, root / "contourfiles/SC-HF-I-1" / first.name)
    assert refusal(root)[0] == "LABEL_VALUES"
    assert f"{first.name} stands there twice" in refusal(root)[1]


def test_outer_contours_that_another_patient_has_byte_for_byte_are_reported_and_left_out(
    tmp_path: Path,
) -> None:
    root = write_study(tmp_path, ONE, TWO)
    theirs, mine = (root / "contourfiles" / ORIGINAL[p] / "o-contours" for p in (ONE, TWO))
    shutil.rmtree(mine)
    shutil.copytree(theirs, mine)
    owner, copied = load(root, 0), load(root, 1)
    assert set(owner.labels) == {"anatomy", "myocardium"}
    assert set(copied.labels) == {"anatomy"}
    [first] = told(owner, "LABEL_WRONG_PATIENT")
    assert (
        "3 outer contour(s) of SC-HF-I-1 are byte for byte those of SC-N-2; they fit these images"
        in first.message
    )
    shared, outside = told(copied, "LABEL_WRONG_PATIENT")
    assert "3 outer contour(s) of SC-N-2 are byte for byte those of SC-HF-I-1" in shared.message
    assert "they do not fit and were left out" in shared.message
    assert "the inner contour reaches out of the outer one in 3 of 3 images" in outside.message
    assert {finding.severity for finding in (first, shared, outside)} == {"warning"}


def test_all_contours_of_another_patient_refuse_the_one_that_they_do_not_fit(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE, TWO)
    shutil.rmtree(root / "contourfiles/SC-N-2")
    shutil.copytree(root / "contourfiles/SC-HF-I-1", root / "contourfiles/SC-N-2")
    assert refusal(root, 1)[0] == "LABEL_WRONG_PATIENT"
    assert "9 inner and outer contour(s)" in told(load(root, 0), "LABEL_WRONG_PATIENT")[0].message


def test_one_outer_contour_that_is_off_is_left_out_by_itself(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    write_contour(root / "contourfiles/SC-HF-I-1/o-contours", 2, ED, "o", circle((20.0, 50.0), 17))
    case = load(root)
    [finding] = told(case, "LABEL_VALUES")[:1]
    assert (
        "the inner contour reaches out of the outer one in 1 of 3 images; the outer one was left out"
        in finding.message
    )
    wall = case.labels["myocardium"].array[..., ED]
    assert (wall[:, :, 2] == 255).all()
    assert set(np.unique(wall[:, :, [1, 3]])) == {0, 2}


def test_a_list_that_contradicts_itself_ends_the_run(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    (root / "scd_patientdata.csv").write_text("PatientID,OriginalID\nSCD0000101,SC-N-3\n")
    with pytest.raises(DatasetError, match=r"row 2: SCD0000101 is SC-N-3 here and SC-HF-I-1 elsewhere"):
        Sunnybrook().find([root])


def test_contours_without_any_images_end_the_run(tmp_path: Path) -> None:
    write_contours(tmp_path / "contourfiles" / "SC-N-2", TWO)
    with pytest.raises(DatasetError, match="has contours and no images"):
        Sunnybrook().find([tmp_path])


# ---- images that are not complete


def test_half_the_images_are_refused_as_an_incomplete_grid(tmp_path: Path) -> None:
    folder = tmp_path / ONE
    write_images(folder / "Images_og", ONE)
    write_contours(folder / "Expert", ONE)
    for number in range(1, SLICES * PHASES + 1):
        if (number - 1) % PHASES not in (ED, ES) or number == ED + 1:
            (folder / f"Images_og/{number}.dcm").unlink()
    code, message = refusal(tmp_path)
    assert code == "INCOMPLETE_GRID"
    assert "\n" not in message


def test_a_folder_without_images_in_its_files_is_refused(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    (root / "dicoms" / TWO).mkdir()
    (root / "dicoms" / TWO / "notes").write_text("nothing")
    assert refusal(root, 1)[0] == "NO_USABLE_SERIES"


# ---- whose contours they are


def test_without_a_list_contours_go_where_they_fit(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE, TWO, THREE, link=False)
    for number, patient in enumerate((ONE, TWO, THREE)):
        case = load(root, number)
        [finding] = told(case, "LABEL_WRONG_PATIENT")
        assert finding.severity == "info"
        assert f"contours of {ORIGINAL[patient]} were taken for this patient's" in finding.message
        assert case.values["disease"] == ORIGINAL[patient].rpartition("-")[0].removeprefix("SC-")


def test_a_patient_without_contours_is_a_case_without_labels(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    write_images(root / "dicoms" / TWO, TWO)
    with (root / "link.csv").open("a") as file:
        file.write("SCD0000201,SC-N-2\n")
    case = load(root, 1)
    assert (case.labels, case.frame_ed) == ({}, None)
    assert case.values == {"disease": "N"}
    assert [f.message for f in told(case, "LABEL_VALUES")] == ["has no contours; nothing is labelled"]


def test_contours_without_images_are_named(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    write_contours(root / "contourfiles" / "SC-N-2", TWO)
    with (root / "link.csv").open("a") as file:
        file.write("SCD0000201,SC-N-2\n")
    [finding] = Sunnybrook().find([root]).findings
    assert finding.message == "contours of SC-N-2 belong to no images here"


@pytest.mark.parametrize("layout", ["atlas", "challenge", "one folder"])
def test_every_layout_gives_the_same_case(tmp_path: Path, layout: str) -> None:
    if layout == "atlas":
        write_images(tmp_path / "SCD_IMAGES_01" / ONE / "CINESAX_300", ONE)
        write_contours(tmp_path / "SCD_ManualContours/SC-HF-I-01/contours-manual/IRCCI-expert", ONE)
        (tmp_path / "scd_patientdata.csv").write_text(
            "PatientID,OriginalID,Gender,Age,Pathology\nSCD0000101,SC-HF-I-01,Female,63,HF\n"
        )
    elif layout == "challenge":
        write_images(tmp_path / "challenge_training" / "SC-HF-I-1", ONE)
        write_contours(tmp_path / "TrainingDataContours/SC-HF-I-01/contours-manual/IRCCI-expert", ONE)
    else:
        write_images(tmp_path / ONE / "Images_og", ONE)
        write_contours(tmp_path / ONE / "Expert", ONE)
    case = load(tmp_path)
    cavity = case.labels["anatomy"].array
    assert int((cavity[..., ED] == 3).sum()) == pytest.approx(3 * np.pi * 144, rel=0.03)
    assert (case.frame_ed, case.frame_es) == (ED, ES)
    if layout == "atlas":
        assert case.values == {"disease": "HF-I", "age": 63.0, "sex": "F"}


def test_numbers_in_the_names_of_image_files_serve_where_instance_numbers_do_not(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    import pydicom

    for path in (root / "dicoms" / ONE).iterdir():
        ds = pydicom.dcmread(path)
        ds.InstanceNumber = 1
        ds.save_as(path)
    assert set(load(root).labels) == {"anatomy", "myocardium"}


# ---- what good ones become


def test_drawn_frames_are_labelled_and_no_others(tmp_path: Path) -> None:
    case = load(write_study(tmp_path, ONE))
    assert case.images[0].array.shape == (SIZE, SIZE, SLICES, PHASES)
    assert case.images[0].time_step_ms == pytest.approx(46.0)
    cavity, wall = (case.labels[name].array for name in ("anatomy", "myocardium"))
    assert [t for t in range(PHASES) if (cavity[..., t] != 255).any()] == [ES, ED]
    assert [t for t in range(PHASES) if (wall[..., t] != 255).any()] == [ED]
    assert not cavity[:, :, [0, 4], ED].any()  # beyond the slices that were drawn there is no heart
    assert set(np.unique(cavity[..., ED])) == {0, 3}
    assert set(np.unique(wall[..., ED])) == {0, 2}
    assert not ((cavity[..., ED] == 3) & (wall[..., ED] == 2)).any()


def test_a_slice_left_out_between_drawn_ones_is_not_labelled(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    (
        root / f"contourfiles/SC-HF-I-1/i-contours/IM-0001-{2 * PHASES + ES + 1:04d}-icontour-manual.txt"
    ).unlink()
    case = load(root)
    assert (case.labels["anatomy"].array[:, :, 2, ES] == 255).all()
    assert "no inner contour in slice(s) 2, between drawn ones" in told(case, "LABEL_VALUES")[0].message


def test_papillary_muscles_are_a_mask_of_their_own(tmp_path: Path) -> None:
    root = write_study(tmp_path, ONE)
    x, y = CENTRES[ONE]
    for name, at in (("p1", (x - 5, y)), ("p2", (x + 5, y))):
        write_contour(root / "contourfiles/SC-HF-I-1", 2, ED, name, circle(at, 2.3))
    found = Sunnybrook().find([root])
    assert found.schema.columns["papillary"].labels == {"PAP": 1}
    muscle = found.cases[0].load().labels["papillary"].array
    assert int((muscle[:, :, 2, ED] == 1).sum()) == pytest.approx(2 * np.pi * 2.3**2, rel=0.2)


def test_an_archive_of_images_and_contours_is_read_like_its_folder(tmp_path: Path) -> None:
    write_study(tmp_path / "raw", ONE)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "raw")
    made = ingest(tmp_path / "packed.zip", tmp_path / "out")
    assert made.recognized.startswith("sunnybrook, ")
    assert set(open_dataset(tmp_path / "out").cases[0].files) == {"anatomy", "myocardium"}


def test_volumes_and_ejection_fraction_are_those_inside_the_contours(tmp_path: Path) -> None:
    root = write_study(tmp_path / "raw", ONE, TWO)
    made = ingest(root, tmp_path / "out")
    assert made.recognized.startswith("sunnybrook, because of the contour contourfiles/")
    assert (made.cases, made.refused) == (2, [])
    dataset = open_dataset(tmp_path / "out")
    targets = dataset.targets.loc[ONE]
    per_slice = np.pi * 1.4**2 * 8.0 / 1000.0
    assert targets["LV_EDV"] == pytest.approx(3 * 144 * per_slice, rel=0.02)
    assert targets["LV_ESV"] == pytest.approx(3 * 64 * per_slice, rel=0.03)
    assert targets["LV_EF"] == pytest.approx(100 * (1 - 64 / 144), abs=1.0)
    assert targets["MYO_mass"] == pytest.approx(3 * (17**2 - 144) * per_slice * 1.05, rel=0.03)
    assert dataset.targets["disease"].tolist() == ["HF-I", "N"]
    assert "Radau" in dataset.schema.citation
