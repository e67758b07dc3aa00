"""The decathlon's layout: a description that cannot be used ends the run, a bad case is refused alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.data.formats import MSD, LoadedCase, find_format
from medmtl.types import CaseError, DatasetError
from tests.helpers.layouts import OBLIQUE, SHAPE, blobs, noise, save

Write = Callable[..., Path]


def load(root: Path, number: int = 0) -> LoadedCase:
    return list(MSD().read(root))[number].load()


def refusal(root: Path) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        load(root)
    assert str(root) not in str(caught.value)
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"training": [}', "dataset.json: is not JSON, line 1: Expecting value"),
        ("[1, 2]", "dataset.json: holds a list; it has to be an object"),
        ("\udcff", "dataset.json: is not UTF-8 text"),
    ],
)
def test_a_description_that_is_no_json_object_is_named(
    tmp_path: Path, msd: Write, text: str, expected: str
) -> None:
    (msd(tmp_path) / "dataset.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert MSD().recognizes(tmp_path)
    with pytest.raises(DatasetError) as caught:
        list(find_format(tmp_path).read(tmp_path))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"labels": {}}, "'labels': found {}; it has to be an object of `name: value`"),
        ({"labels": {"0": "background"}}, "'labels': names no structure besides the background"),
        ({"labels": {"liver": 1}}, "'labels': found 'liver': 1; write numbers and names"),
        ({"labels": {"1": "a", "2": "a"}}, "'labels': 'a' names two values"),
        (
            {"modality": {"0": "T2", "2": "ADC"}},
            "'modality': found the channels '0', '2'; number them 0, 1, ...",
        ),
        ({"modality": {"0": 7}}, "'modality': a channel's name has to be text"),
        ({"training": {"a": 1}}, "'training': found {'a': 1}; it has to be a list"),
        ({"training": [{"label": "x"}]}, "training[0]: found {'label': 'x'}, which names no image"),
        ({"training": ["../../etc/passwd.nii.gz"]}, "which is not in this folder; list relative paths"),
        ({"test": ["/etc/passwd.nii.gz"]}, "names '/etc/passwd.nii.gz', which is not in this folder"),
    ],
)
def test_a_description_that_contradicts_itself_is_named(
    tmp_path: Path, msd: Write, changes: dict[str, Any], expected: str
) -> None:
    msd(tmp_path, **changes)
    with pytest.raises(DatasetError) as caught:
        list(MSD().read(tmp_path))
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "code", "expected"),
    [
        (blobs({1: 3, 7: 1}), "LABEL_VALUES", "prostate_00.nii.gz: found the value(s) 7; known are 0"),
        (
            blobs({1: 3}, (12, 10, 5)),
            "LABEL_GEOMETRY_MISMATCH",
            "has grid 12 x 10 x 5 instead of 12 x 10 x 4",
        ),
    ],
)
def test_a_label_that_cannot_be_used_refuses_its_case(
    tmp_path: Path, msd: Write, mask: Any, code: str, expected: str
) -> None:
    save(msd(tmp_path) / "labelsTr/prostate_00.nii.gz", mask)
    found = refusal(tmp_path)
    assert found[0] == code
    assert expected in found[1]


def test_a_listed_file_that_is_missing_refuses_its_case(tmp_path: Path, msd: Write) -> None:
    (msd(tmp_path) / "labelsTr/prostate_00.nii.gz").unlink()
    assert refusal(tmp_path) == ("NO_USABLE_SERIES", "prostate_00.nii.gz: there is no such file")


def test_an_image_with_another_number_of_channels_is_refused(tmp_path: Path, msd: Write) -> None:
    save(msd(tmp_path) / "imagesTr/prostate_00.nii.gz", noise(0, (*SHAPE, 3)))
    code, message = refusal(tmp_path)
    assert (code, message.split(": ")[1]) == (
        "MIXED_GRID",
        "holds 3 channel(s), and dataset.json names 2 under 'modality'",
    )


def test_the_last_axis_becomes_channels(tmp_path: Path, msd: Write) -> None:
    case = load(msd(tmp_path))
    expected = noise(0, (*SHAPE, 2))
    for number in range(2):
        np.testing.assert_array_equal(case.images[number].array, expected[..., number])
        np.testing.assert_allclose(case.images[number].geometry.affine, OBLIQUE, atol=1e-5)
    schema = MSD().schema(tmp_path)
    assert (schema.name, schema.channels, schema.modality) == ("PROSTATE", ("T2", "ADC"), "MR")
    assert schema.columns["segmentation"].labels == {"PZ": 1, "TZ": 2}
    assert (schema.citation, schema.licence) == ("somebody", "CC-BY-SA 4.0")


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 1)])
def test_one_modality_is_a_3d_image_or_a_4d_image_of_one(
    tmp_path: Path, msd: Write, shape: tuple[int, ...]
) -> None:
    msd(tmp_path, ("CT",))
    save(tmp_path / "imagesTr/prostate_00.nii.gz", noise(0, shape))
    assert load(tmp_path).images[0].array.shape == SHAPE
    assert MSD().schema(tmp_path).modality == "CT"


def test_cases_of_test_are_test_cases_without_labels(tmp_path: Path, msd: Write) -> None:
    case = load(msd(tmp_path), 2)
    assert (case.split, case.labels) == ("test", {})


def test_hidden_twins_of_macos_are_passed_over(tmp_path: Path, msd: Write) -> None:
    listed = [{"image": f"./imagesTr/{name}prostate_00.nii.gz", "label": "x"} for name in ("", "._")]
    msd(tmp_path, training=listed)
    assert [raw.case_id for raw in MSD().read(tmp_path)] == ["prostate_00", "prostate_02"]


def test_structures_of_numbers_beyond_a_byte_are_counted_from_1(tmp_path: Path, msd: Write) -> None:
    msd(tmp_path, labels={"0": "background", "5": "a", "1000": "b"})
    mask = blobs({1: 9, 2: 4}).astype(np.int16)
    save(
        tmp_path / "labelsTr/prostate_00.nii.gz",
        np.select([mask == 1, mask == 2], [5, 1000], 0).astype(np.int16),
    )
    case = load(tmp_path)
    assert MSD().schema(tmp_path).columns["segmentation"].labels == {"a": 1, "b": 2}
    assert [int((case.labels["segmentation"].array == code).sum()) for code in (1, 2)] == [9, 4]


def test_an_msd_folder_whose_files_end_in_four_digits_is_not_taken_for_nnunet(
    tmp_path: Path, msd: Write
) -> None:
    msd(tmp_path)
    data = json.loads((tmp_path / "dataset.json").read_text())
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name / "prostate_00.nii.gz").rename(tmp_path / name / "scan_0001.nii.gz")
    data["training"] = [{"image": "./imagesTr/scan_0001.nii.gz", "label": "./labelsTr/scan_0001.nii.gz"}]
    (tmp_path / "dataset.json").write_text(json.dumps(data))
    assert isinstance(find_format(tmp_path), MSD)
