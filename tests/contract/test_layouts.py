"""What every layout that a dataset can be written in has to do: write -> read gives the same back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medmtl.data import Dataset, ingest, open_dataset
from medmtl.data.export import LAYOUTS, export
from medmtl.data.formats import FORMATS, find_format
from medmtl.data.nifti import frames_first, read_volume
from medmtl.types import OutputError
from tests.helpers.study import write_study

Write = Callable[..., Path]
MEMBERS = list(LAYOUTS)
SPLITS = ("train", "val", "test")


@pytest.fixture(params=MEMBERS)
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def labelled(
    dataset: Dataset, column: str = "anatomy"
) -> dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """By patient: image, mask and affine of every labelled frame, in order."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for case in sorted(dataset.cases, key=lambda case: case.case_id):
        if column not in case.files:
            continue
        image, mask = read_volume(case.images[0]), read_volume(case.files[column])
        for voxels, labels in zip(frames_first(image.array), frames_first(mask.array), strict=True):
            if (labels != 255).any():
                found.setdefault(case.patient, []).append((voxels, labels, image.geometry.affine))
    return found


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_the_members_are_known() -> None:
    assert set(MEMBERS) == {"bids", "msd", "nnunet"}
    assert set(MEMBERS) <= set(FORMATS)


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_voxels_labels_and_places_come_back(tmp_path: Path, layout: str, frames: int) -> None:
    write_study(tmp_path / "dataset", frames=frames, splits=SPLITS)
    result = export(tmp_path / "dataset", tmp_path / "there", to=layout)
    assert result.refused == []
    assert type(find_format(tmp_path / "there")) is FORMATS.get(layout)
    assert ingest(tmp_path / "there", tmp_path / "back").refused == []
    before, after = open_dataset(tmp_path / "dataset"), open_dataset(tmp_path / "back")
    assert before.columns["anatomy"].labels == after.columns["anatomy"].labels
    assert before.channels == after.channels
    expected, found = labelled(before), labelled(after)
    assert expected.keys() == found.keys()
    for patient, volumes in expected.items():
        for one, other in zip(volumes, found[patient], strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_several_channels_come_back_in_their_order(tmp_path: Path, layout: str) -> None:
    write_study(tmp_path / "dataset", channels=("cine", "lge"), frames=1, splits=SPLITS)
    export(tmp_path / "dataset", tmp_path / "there", to=layout)
    ingest(tmp_path / "there", tmp_path / "back")
    before, after = open_dataset(tmp_path / "dataset"), open_dataset(tmp_path / "back")
    assert after.channels == ("cine", "lge")
    images = {case.patient: case.images for case in after.cases}
    for case in before.cases:
        for path, other in zip(case.images, images[case.patient], strict=True):
            np.testing.assert_array_equal(read_volume(path).array, read_volume(other).array)


def test_splits_patients_and_targets_come_back(tmp_path: Path, layout: str) -> None:
    write_study(tmp_path / "dataset", blank={"c1": ["disease", "height"]}, splits=SPLITS)
    export(tmp_path / "dataset", tmp_path / "there", to=layout)
    ingest(tmp_path / "there", tmp_path / "back")
    before, after = open_dataset(tmp_path / "dataset"), open_dataset(tmp_path / "back")
    splits = {case.patient: case.split for case in before.cases}
    assert {case.patient: case.split for case in after.cases} == splits
    truth = {case.patient: before.targets.loc[case.case_id] for case in before.cases}
    for case in after.cases:
        for name in ("disease", "sex", "height", "LV_EDV", "LV_EF"):
            found, expected = after.targets.loc[case.case_id, name], truth[case.patient][name]
            assert found == expected or (found != found and expected != expected) or found is expected is None


def test_voxels_that_nobody_labelled_stay_unlabelled(
    tmp_path: Path, layout: str, tiny_dataset: Write, nifti: Write
) -> None:
    mask = np.zeros((12, 10, 4, 2), np.uint8)
    mask[2:5, :, 1] = 3
    mask[:, :, 3] = 255
    nifti(tiny_dataset(tmp_path / "dataset") / "volumes/a/anatomy.nii.gz", mask)
    export(tmp_path / "dataset", tmp_path / "there", to=layout)
    ingest(tmp_path / "there", tmp_path / "back")
    for _, labels, _ in labelled(open_dataset(tmp_path / "back"))["pa"]:
        np.testing.assert_array_equal(labels, mask[..., 0])


def test_codes_with_gaps_come_back(tmp_path: Path, layout: str, tiny_dataset: Write, tiny_yaml: str) -> None:
    yaml = tiny_yaml.replace("RV: 1, MYO: 2, LV: 3", "RV: 1, MYO: 2, LV: 3, scar: 9, fat: 200")
    tiny_dataset(tmp_path / "dataset", yaml=yaml)
    export(tmp_path / "dataset", tmp_path / "there", to=layout)
    ingest(tmp_path / "there", tmp_path / "back")
    labels = {"RV": 1, "MYO": 2, "LV": 3, "scar": 9, "fat": 200}
    assert open_dataset(tmp_path / "back").columns["anatomy"].labels == labels


def test_writing_twice_gives_the_same_bytes(tmp_path: Path, layout: str, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path / "dataset")
    for name in ("one", "two"):
        export(tmp_path / "dataset", tmp_path / name / "out", to=layout)
    assert digests(tmp_path / "one" / "out") == digests(tmp_path / "two" / "out")


def test_a_folder_that_holds_something_is_left_as_it_is(
    tmp_path: Path, layout: str, tiny_dataset: Write
) -> None:
    tiny_dataset(tmp_path / "dataset")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"out is not empty, so it is left as it is; choose a new folder"):
        export(tmp_path / "dataset", tmp_path / "out", to=layout)
    with pytest.raises(OutputError, match="holds the source"):
        export(tmp_path / "dataset", tmp_path, to=layout)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_case_that_cannot_be_read_is_left_out_and_the_others_go_on(
    tmp_path: Path, layout: str, tiny_dataset: Write
) -> None:
    path = tiny_dataset(tmp_path / "dataset") / "volumes/a/image.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    result = export(tmp_path / "dataset", tmp_path / "out", to=layout)
    [finding] = result.refused
    assert (finding.case_id, finding.code, finding.severity) == ("a", "TRUNCATED", "error")
    assert result.written.cases == 2


def test_no_name_of_a_patient_or_path_of_the_source_is_written(
    tmp_path: Path, layout: str, tiny_dataset: Write
) -> None:
    tiny_dataset(tmp_path / "dataset")
    export(tmp_path / "dataset", tmp_path / "out", to=layout)
    for path in (tmp_path / "out").rglob("*"):
        if path.suffix in (".json", ".csv", ".tsv") or path.name == "README":
            assert str(tmp_path) not in path.read_text()
