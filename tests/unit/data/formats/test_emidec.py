"""EMIDEC: masks become anatomy and tissue, texts become covariates, and what is wrong is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.data import ingest, open_dataset
from medmtl.data.formats import Emidec, LoadedCase
from medmtl.types import CaseError
from tests.helpers.layouts import blobs, noise, save

AFFINE = np.diag([-1.5, -1.5, 10.0, 1.0])
Write = Callable[..., Path]


def load(root: Path, number: int = 0) -> LoadedCase:
    return list(Emidec().read(root))[number].load()


@pytest.mark.parametrize(
    ("mask", "code", "expected"),
    [
        (blobs({1: 3, 5: 2}), "LABEL_VALUES", "Contours/Case_N006.nii.gz: found the value(s) 5; known are 0"),
        (blobs({1: 3}, (12, 10, 5)), "LABEL_GEOMETRY_MISMATCH", "Contours/Case_N006.nii.gz: has grid"),
        (blobs({1: 3}) * np.float32(0.5), "LABEL_VALUES", "has values that are not whole numbers"),
    ],
)
def test_a_contour_file_that_cannot_be_used_is_named(
    tmp_path: Path, emidec: Write, mask: Any, code: str, expected: str
) -> None:
    save(emidec(tmp_path) / "Case_N006/Contours/Case_N006.nii.gz", mask, AFFINE)
    with pytest.raises(CaseError) as caught:
        load(tmp_path)
    assert caught.value.code == code
    assert expected in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_lines_that_cannot_be_used_are_left_blank_with_a_warning(tmp_path: Path, emidec: Write) -> None:
    text = "Sex : X\nAge : old\nFEVG : 45\nKillip Max :\nTobacco: 2\n"
    (emidec(tmp_path) / "Case N006.txt").write_text(text)
    case = load(tmp_path)
    assert case.values == {"LVEF_echo": 45.0, "tobacco": "2", "disease": "normal"}
    assert [finding.severity for finding in case.findings] == ["warning", "warning"]
    assert "Case N006.txt, sex: found 'X', which is not one of the classes" in case.findings[0].message
    assert "age: found 'old', which is not a number" in case.findings[1].message


def test_a_case_without_its_text_has_no_covariates(tmp_path: Path, emidec: Write) -> None:
    (emidec(tmp_path) / "Case P001.txt").unlink()
    case = load(tmp_path, 1)
    assert case.values == {"disease": "pathological"}
    assert "there is no Case P001.txt" in case.findings[0].message


@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman", "utf-8"])
def test_hard_spaces_of_every_encoding_are_read(tmp_path: Path, emidec: Write, encoding: str) -> None:
    text = "Gap between slices\u00a0: 10 mm\nSex\u00a0: M\nTroponin\u00a0: 1,1\n"
    (emidec(tmp_path) / "Case N006.txt").write_bytes(text.encode(encoding))
    case = load(tmp_path)
    assert case.findings == ()
    assert (case.values["sex"], case.values["troponin"]) == ("M", 1.1)


def test_a_text_becomes_covariates(tmp_path: Path, emidec: Write) -> None:
    case = load(emidec(tmp_path))
    assert case.findings == ()
    assert case.values == {
        "sex": "F",
        "age": 70.0,
        "tobacco": "3",
        "overweight": "N",
        "hypertension": "Y",
        "diabetes": "N",
        "family_history": "N",
        "st_elevation": "Y",
        "troponin": 1.1,
        "killip_max": 1.0,
        "LVEF_echo": 60.0,
        "NTproBNP": 248.0,
        "disease": "normal",
    }


def test_the_contours_become_anatomy_and_tissue(tmp_path: Path, emidec: Write) -> None:
    case = load(emidec(tmp_path), 1)
    anatomy, tissue = (case.labels[name].array for name in ("anatomy", "tissue"))
    schema = Emidec().schema(tmp_path)
    assert schema.columns["anatomy"].labels == {"MYO": 2, "LV": 3}
    assert schema.columns["tissue"].labels == {"healthy": 1, "infarct": 2, "no_reflow": 3}
    assert [int((anatomy == code).sum()) for code in (1, 2, 3)] == [0, 20, 30]
    assert [int((tissue == code).sum()) for code in (1, 2, 3)] == [12, 6, 2]
    assert ((tissue > 0) == (anatomy == 2)).all()


def test_test_cases_have_no_labels_no_group_and_their_own_split(tmp_path: Path, emidec: Write) -> None:
    save(tmp_path / "emidec-segmentation-testset-1.0.0" / "Case_101" / "Images" / "Case_101.nii.gz", noise(0))
    emidec(tmp_path / "emidec-dataset-1.0.1", ["Case_N006"])
    cases = {raw.case_id: raw.load() for raw in Emidec().read(tmp_path)}
    assert (cases["Case_101"].split, cases["Case_101"].labels) == ("test", {})
    assert "disease" not in cases["Case_101"].values
    assert cases["Case_N006"].split == ""


def test_masses_of_infarct_and_no_reflow_follow_from_the_masks(tmp_path: Path, emidec: Write) -> None:
    ingest(emidec(tmp_path / "raw"), tmp_path / "out")
    targets = open_dataset(tmp_path / "out").targets
    gram = 1.5 * 1.5 * 10 / 1000 * 1.05
    assert targets["infarct_mass"].tolist() == pytest.approx([0, 6 * gram, 6 * gram])
    assert targets["no_reflow_mass"].tolist() == pytest.approx([0, 2 * gram, 2 * gram])
    assert targets["MYO_mass"].tolist() == pytest.approx([20 * gram] * 3)


def test_voxel_sizes_come_from_pixdim_where_the_affine_is_a_unit_matrix(tmp_path: Path, nifti: Write) -> None:
    nifti(tmp_path / "Case_N006/Images/Case_N006.nii.gz", noise(0), (1.4, 1.4, 9.0), acdc=True)
    assert load(tmp_path).images[0].geometry.spacing_mm == pytest.approx((1.4, 1.4, 9.0))
