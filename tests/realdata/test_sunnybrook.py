"""Sunnybrook's contours against what they enclose, and against images that are not theirs."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data import Dataset, IngestResult, ingest, open_dataset
from medmtl.data.dicom.contour_fit import DOUBTFUL, FITS, border_fit
from medmtl.data.dicom.contours import read_contour
from medmtl.data.dicom.rasterize import area, fill
from medmtl.data.formats import Sunnybrook
from medmtl.types import CaseError

Outlines = dict[int, np.ndarray]


@pytest.fixture(scope="module")
def source(realdata: Path) -> Path:
    path = realdata / "sunnybrook"
    if not path.is_dir():
        pytest.skip(f"no Sunnybrook data in {path}")
    return path


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> IngestResult:
    return ingest(source, tmp_path_factory.mktemp("sunnybrook") / "dataset")


@pytest.fixture(scope="module")
def dataset(made: IngestResult) -> Dataset:
    return open_dataset(made.dataset_path)


def test_the_complete_study_is_a_case_and_the_half_one_is_refused_in_one_sentence(made: IngestResult) -> None:
    assert made.recognized.startswith("sunnybrook, because of the contour ")
    assert made.cases == 1
    [refused] = made.refused
    assert (refused.case_id, refused.code) == ("SCD0003701", "INCOMPLETE_GRID")
    assert refused.message.count(".") == 0


def test_the_cine_has_its_slices_and_frames_and_its_true_gap(dataset: Dataset) -> None:
    [case] = dataset.cases
    geometry = dataset.geometry[case.case_id]
    assert (geometry.shape, geometry.frames) == ((256, 256, 10), 20)
    assert geometry.spacing_mm == pytest.approx((1.2891, 1.2891, 8.0), abs=1e-3)
    assert (case.frame_ed, case.frame_es) == (19, 6)
    assert case.values["disease"] == "HF-I"


def test_volumes_are_those_inside_the_contours_within_five_percent_and_ef_within_a_point(
    source: Path, dataset: Dataset
) -> None:
    inside = {19: 0.0, 6: 0.0}
    for path in (source / "contourfiles/SC-HF-I-4/i-contours").iterdir():
        contour = read_contour(path)
        inside[(contour.number - 1) % 20] += area(contour.points)
    voxel_ml = dataset.geometry["SCD0000301"].voxel_ml
    edv, esv = inside[19] * voxel_ml, inside[6] * voxel_ml
    targets = dataset.targets.loc["SCD0000301"]
    assert targets["LV_EDV"] == pytest.approx(edv, rel=0.005)
    assert targets["LV_ESV"] == pytest.approx(esv, rel=0.005)
    assert targets["LV_EF"] == pytest.approx(100 * (edv - esv) / edv, abs=0.2)
    assert 100 < targets["MYO_mass"] < 200


def test_drawn_frames_are_labelled_throughout_and_no_others(dataset: Dataset) -> None:
    [case] = dataset.cases
    labelled = {}
    for name, path in case.files.items():
        mask = np.asanyarray(nib.load(path).dataobj)
        labelled[name] = np.flatnonzero((mask != 255).all(axis=(0, 1, 2))).tolist()
        assert (mask[..., [t for t in range(20) if t not in labelled[name]]] == 255).all()
    assert labelled == {"anatomy": [6, 19], "myocardium": [19]}


def test_masks_by_another_program_have_the_same_areas_within_three_percent(source: Path) -> None:
    paths = sorted((source / "SCD0003701" / "Expert").glob("*-icontour-manual.txt"))
    assert len(paths) == 9
    for path in paths:
        match = re.match(
            rb"P5\s+(?:#[^\n]*\n)?\s*(\d+)\s+(\d+)\s+\d+\s", data := path.with_suffix(".pgm").read_bytes()
        )
        assert match is not None
        theirs = np.frombuffer(data[match.end() :], np.uint8).reshape(int(match[2]), int(match[1])).T > 0
        mine = fill([read_contour(path).points], theirs.shape)
        assert mine.sum() == pytest.approx(theirs.sum(), rel=0.025)
        # theirs takes numbers for centres of pixels, which lies half a pixel off the borders in the images
        assert 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum()) > 0.95


# ---- whose contours they are


def test_the_contours_of_the_other_patient_are_refused(source: Path, tmp_path: Path) -> None:
    shutil.copytree(source / "dicoms", tmp_path / "dicoms")
    theirs = tmp_path / "contourfiles" / "SC-HF-I-4" / "i-contours"
    theirs.mkdir(parents=True)
    for path in (source / "SCD0003701" / "Expert").glob("*.txt"):
        shutil.copy(path, theirs / path.name)
    (tmp_path / "link.csv").write_text("patient_id,original_id\nSCD0000301,SC-HF-I-4\n")
    [case] = Sunnybrook().find([tmp_path]).cases
    with pytest.raises(CaseError) as caught:
        case.load()
    assert caught.value.code == "LABEL_WRONG_PATIENT"


def test_contours_copied_to_a_second_patient_are_reported(source: Path, tmp_path: Path) -> None:
    for name in ("SC-HF-I-4", "SC-HF-I-5"):
        shutil.copytree(source / "contourfiles" / "SC-HF-I-4", tmp_path / "contourfiles" / name)
    shutil.copytree(source / "dicoms" / "SCD0000301", tmp_path / "dicoms" / "SCD0000301")
    (tmp_path / "link.csv").write_text("patient_id,original_id\nSCD0000301,SC-HF-I-4\nSCD0000401,SC-HF-I-5\n")
    [case] = Sunnybrook().find([tmp_path]).cases
    [finding] = [f for f in case.load().findings if f.code == "LABEL_WRONG_PATIENT"]
    assert (
        "30 inner and outer contour(s) of SC-HF-I-4 are byte for byte those of SC-HF-I-5" in finding.message
    )


def test_contours_fit_their_own_images_and_seldom_those_of_others(realdata: Path) -> None:
    """Of ACDC's patients, whose masks come from one reader and scanner each, every eighth."""
    folder = realdata / "acdc" / "training"
    if not folder.is_dir():
        pytest.skip(f"no ACDC in {folder}")
    patients = [acdc_patient(folder / f"patient{number:03d}") for number in range(1, 101, 8)]
    own = [fit(patient, patient) for patient in patients]
    assert min(own) > FITS
    draw = random.Random(0)
    others = [fit(*draw.sample(patients, 2)) for _ in range(40)]
    assert np.mean(np.array(others) < DOUBTFUL) > 0.85


def acdc_patient(folder: Path) -> tuple[list[tuple[np.ndarray, Outlines]], float]:
    """ED and ES images with the outlines of their cavities, and the pixel size."""
    import contourpy

    info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())
    frames = []
    for phase in ("ED", "ES"):
        stem = folder / f"{folder.name}_frame{int(info[phase]):02d}"
        image, mask = (nib.load(next(folder.glob(f"{stem.name}{end}.nii*"))) for end in ("", "_gt"))
        cavity = np.asanyarray(mask.dataobj) == 3
        outlines = {
            z: max(contourpy.contour_generator(z=cavity[:, :, z].T.astype(float)).lines(0.5), key=len)
            for z in range(cavity.shape[2])
            if cavity[:, :, z].sum() >= 60
        }
        frames.append((np.asanyarray(image.dataobj), outlines))
    return frames, float(image.header.get_zooms()[0])


def fit(
    of_images: tuple[list[tuple[np.ndarray, Outlines]], float],
    of_contours: tuple[list[tuple[np.ndarray, Outlines]], float],
) -> float:
    """Contours of one patient on another's images, centre on centre."""
    drawn = []
    for (image, _), (other, outlines) in zip(of_images[0], of_contours[0], strict=True):
        here, there = np.array(image.shape[:2]) / 2, np.array(other.shape[:2]) / 2
        up = (image.shape[2] - other.shape[2]) // 2
        drawn += [
            (image[:, :, z + up], (points - there) * of_contours[1] / of_images[1] + here)
            for z, points in outlines.items()
            if 0 <= z + up < image.shape[2]
        ]
    found = border_fit(drawn, (of_images[1], of_images[1]))
    return found if found is not None else 0.0
