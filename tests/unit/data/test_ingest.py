"""Ingest: output folders that are not ours, bad cases, then what a dataset made from good ones is."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data import ingest, open_dataset
from medmtl.data.phantom import generate_cohort
from medmtl.types import ConfigError, DatasetError, OutputError

Write = Callable[..., Path]


def tree(root: Path) -> dict[str, str]:
    """Every file below a folder with a digest of its bytes."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


# ---- nothing is written where something is wrong


@pytest.mark.parametrize(
    ("files", "overwrite", "expected"),
    [
        ({"notes.txt": "mine"}, False, "is not empty and holds no dataset, so it is left as it is"),
        ({"notes.txt": "mine"}, True, "is not empty and holds no dataset"),
        ({"dataset.yaml": "path: ../coco"}, True, "is not empty and holds no dataset"),
        ({"dataset.yaml": "medmtl_dataset: 1"}, False, "is a dataset already, so it is left as it is"),
        (
            {"dataset.yaml": "medmtl_dataset: 1", "notes.txt": "mine"},
            True,
            "holds 'notes.txt', which is no part",
        ),
    ],
)
def test_an_output_folder_that_is_not_ours_is_left_as_it_is(
    tmp_path: Path, acdc: Write, files: dict[str, str], overwrite: bool, expected: str
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    for name, text in files.items():
        (output / name).write_text(text)
    before = tree(output)
    with pytest.raises(OutputError, match=expected):
        ingest(acdc(tmp_path / "raw"), output, overwrite=overwrite)
    assert tree(output) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_an_output_that_is_a_file_or_holds_the_source_is_refused(tmp_path: Path, acdc: Write) -> None:
    source = acdc(tmp_path / "raw")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file; choose another"):
        ingest(source, tmp_path / "file")
    for output in (source, tmp_path):
        with pytest.raises(OutputError, match="holds the source"):
            ingest(source, output, overwrite=True)


def test_an_unknown_source_or_bad_fractions_write_nothing(tmp_path: Path, acdc: Write) -> None:
    with pytest.raises(DatasetError, match="of a known format; looked for"):
        ingest(tmp_path, tmp_path / "sub" / "out")
    with pytest.raises(ConfigError, match="sum to"):
        ingest(acdc(tmp_path / "raw"), tmp_path / "out", split={"train": 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_source_without_one_usable_case_is_an_error_and_writes_nothing(tmp_path: Path, acdc: Write) -> None:
    source = acdc(tmp_path / "raw", [1, 2])
    for folder in source.iterdir():
        (folder / "Info.cfg").unlink()
    with pytest.raises(DatasetError) as caught:
        ingest(source, tmp_path / "out")
    assert "2 of 2 cases cannot be used, and nothing was written" in str(caught.value)
    assert "- patient001: UNDECODABLE: Info.cfg cannot be read" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_failed_overwrite_keeps_the_earlier_dataset(tmp_path: Path, acdc: Write) -> None:
    source = acdc(tmp_path / "raw", [1, 2])
    ingest(source, tmp_path / "out")
    before = tree(tmp_path / "out")
    (source / "patient001/Info.cfg").unlink()
    with pytest.raises(DatasetError, match="1 of 2 cases cannot be used"):
        ingest(source, tmp_path / "out", overwrite=True, strict=True)
    assert tree(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


# ---- one bad case never ends the run


@pytest.fixture
def with_bad_cases(tmp_path: Path, acdc: Write, nifti: Write) -> Path:
    """Seven patients, of which the first five are bad, each in its own way."""
    root = acdc(tmp_path / "raw", range(1, 8))
    (root / "patient001/Info.cfg").unlink()
    path = root / "patient002/patient002_frame01.nii.gz"
    path.write_bytes(path.read_bytes()[:700])
    mask = np.zeros((12, 10, 4), np.uint8)
    mask[3] = 9
    nifti(root / "patient003/patient003_frame01_gt.nii.gz", mask, acdc=True)
    image = np.ones((12, 10, 4), np.float32)
    image[0, 0, 0] = np.nan
    nifti(root / "patient004/patient004_frame03.nii.gz", image, acdc=True)
    nifti(root / "patient005/patient005_frame01_gt.nii.gz", np.zeros((12, 10, 5), np.uint8), acdc=True)
    return root


def test_bad_cases_are_refused_with_a_finding_each_and_the_others_go_on(
    tmp_path: Path, with_bad_cases: Path
) -> None:
    result = ingest(with_bad_cases, tmp_path / "out")
    assert result.cases == 2
    assert [(finding.case_id, finding.code) for finding in result.refused] == [
        ("patient001", "UNDECODABLE"),
        ("patient002", "TRUNCATED"),
        ("patient003", "LABEL_VALUES"),
        ("patient004", "NOT_AN_IMAGE"),
        ("patient005", "LABEL_GEOMETRY_MISMATCH"),
    ]
    dataset = open_dataset(tmp_path / "out")
    assert [case.case_id for case in dataset.cases] == ["patient006", "patient007"]
    assert sorted(path.name for path in (tmp_path / "out/volumes").iterdir()) == ["patient006", "patient007"]
    errors = dataset.findings[dataset.findings["severity"] == "error"]
    assert errors["case_id"].tolist() == [f"patient00{number}" for number in range(1, 6)]
    assert str(tmp_path) not in (tmp_path / "out/findings.csv").read_text()


def test_strict_makes_a_bad_case_an_error(tmp_path: Path, with_bad_cases: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        ingest(with_bad_cases, tmp_path / "out", strict=True)
    assert "5 of 7 cases cannot be used" in str(caught.value)
    assert "patient003, anatomy: LABEL_VALUES: found the value(s) 9" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_case_that_is_there_twice_is_taken_once(tmp_path: Path, acdc: Write) -> None:
    acdc(tmp_path / "raw/training", [1, 2])
    acdc(tmp_path / "raw/testing", [2])
    result = ingest(tmp_path / "raw", tmp_path / "out")
    assert result.cases == 2
    assert [finding.where for finding in result.refused] == ["testing/patient002"]
    assert "is in the source twice" in result.refused[0].message


# ---- what good cases become


def test_an_ingested_dataset_opens_with_its_targets(tmp_path: Path, acdc: Write) -> None:
    result = ingest(acdc(tmp_path / "raw", range(1, 11), four_d=[4]), tmp_path / "new" / "out", seed=3)
    assert (result.cases, result.refused, result.dataset_path) == (10, [], tmp_path / "new" / "out")
    dataset = open_dataset(result.dataset_path)
    assert dataset.targets["LV_EF"].tolist() == pytest.approx([60.0] * 10)
    assert dataset.targets["disease"].tolist()[:5] == ["MINF", "DCM", "HCM", "RV", "NOR"]
    assert [dataset.geometry[f"patient{n:03d}"].frames for n in (3, 4)] == [2, 4]
    assert Counter(case.split for case in dataset.cases) == {"train": 7, "val": 1, "test": 2}
    assert "Bernard" in dataset.schema.citation


def test_voxels_spacing_and_direction_survive(tmp_path: Path, acdc: Write) -> None:
    source = acdc(tmp_path / "raw", [1])
    ingest(source, tmp_path / "out")
    made = nib.load(tmp_path / "out/volumes/patient001/image.nii.gz")
    assert made.get_data_dtype() == np.int16
    assert made.header.get_zooms()[:3] == pytest.approx((1.5, 1.5, 8.0))
    np.testing.assert_allclose(made.affine, np.diag([-1.5, -1.5, 8.0, 1.0]))
    np.testing.assert_allclose(made.header.get_qform(), made.affine, atol=1e-6)
    for frame, name in enumerate(("frame01", "frame03")):
        original = np.asanyarray(nib.load(source / f"patient001/patient001_{name}.nii.gz").dataobj)
        np.testing.assert_array_equal(np.asanyarray(made.dataobj)[..., frame], original)


def test_an_image_that_is_not_of_whole_numbers_stays_exact(tmp_path: Path, acdc: Write, nifti: Write) -> None:
    image = np.random.default_rng(0).random((12, 10, 4)).astype(np.float32)
    nifti(acdc(tmp_path / "raw", [1]) / "patient001/patient001_frame01.nii.gz", image, acdc=True)
    ingest(tmp_path / "raw", tmp_path / "out")
    made = nib.load(tmp_path / "out/volumes/patient001/image.nii.gz")
    assert made.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asanyarray(made.dataobj)[..., 0], image)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, phantom: Write) -> None:
    source = phantom(tmp_path / "raw", range(1, 6))
    ingest(source, tmp_path / "one")
    ingest(source, tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    before = tree(tmp_path / "one")
    ingest(source, tmp_path / "one", seed=1, overwrite=True)
    changed = {name for name, digest in tree(tmp_path / "one").items() if before[name] != digest}
    assert changed == {"cases.csv"}


def test_the_typed_truth_of_a_phantom_wins_over_its_masks(tmp_path: Path, phantom: Write) -> None:
    ingest(phantom(tmp_path / "raw"), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert dataset.channels == ("cine", "lge")
    assert dataset.targets["LV_EF"].tolist() == [57.5] * 3
    assert dataset.targets["LV_SV"].tolist() == pytest.approx([24 * 0.018] * 3)  # not typed: 40 - 16 voxels
    t1 = np.asanyarray(nib.load(dataset.cases[0].files["t1"]).dataobj)
    assert t1.dtype == np.float32
    assert float(np.nanmax(t1)) == 1200.5
    cine = nib.load(dataset.cases[0].images[0])
    assert float(cine.header["pixdim"][4]) == pytest.approx(0.04)


def test_a_generated_cohort_keeps_its_splits_and_its_masks_agree_with_its_truth(tmp_path: Path) -> None:
    shares = {"train": 0.6, "val": 0.2, "test": 0.2}
    source = generate_cohort(tmp_path / "raw", cases=5, frames=3, shape=(64, 64, 10), splits=shares)
    assert ingest(source, tmp_path / "out").refused == []
    dataset = open_dataset(tmp_path / "out")
    assert Counter(case.split for case in dataset.cases) == {"train": 3, "val": 1, "test": 1}
    untyped = [replace(case, values={}) for case in dataset.cases]
    derived = replace(dataset, cases=tuple(untyped)).targets
    for name in ("LV_EDV", "RV_EDV", "MYO_mass"):
        np.testing.assert_allclose(derived[name], dataset.targets[name], rtol=0.15)


def test_the_test_cases_of_the_source_stay_test_cases(tmp_path: Path, acdc: Write) -> None:
    acdc(tmp_path / "raw/training", range(1, 21))
    acdc(tmp_path / "raw/testing", range(101, 104))
    ingest(tmp_path / "raw", tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert [case.case_id for case in dataset.select("test")] == ["patient101", "patient102", "patient103"]
    assert (len(dataset.select("train")), len(dataset.select("val"))) == (18, 2)


def test_progress_counts_every_case(tmp_path: Path, acdc: Write) -> None:
    seen: list[tuple[int, int]] = []
    ingest(
        acdc(tmp_path / "raw", [1, 2, 3]),
        tmp_path / "out",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_format_of_somebody_else_is_named_by_module_and_class(tmp_path: Path, acdc: Write) -> None:
    result = ingest(acdc(tmp_path / "raw"), tmp_path / "out", format="medmtl.data.formats.acdc:ACDC")
    assert result.cases == 3


# ---- several sources, and archives


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent).as_posix())
    return path


def test_several_folders_of_one_format_become_one_dataset(tmp_path: Path, acdc: Write) -> None:
    sources = [acdc(tmp_path / "one", [1, 2]), acdc(tmp_path / "two", [3])]
    assert ingest(sources, tmp_path / "out").cases == 3
    assert ingest(acdc(tmp_path / "whole", [1, 2, 3]), tmp_path / "same").cases == 3
    assert tree(tmp_path / "out") == tree(tmp_path / "same")


def test_several_folders_with_other_columns_are_an_error(tmp_path: Path, acdc: Write, phantom: Write) -> None:
    sources = [acdc(tmp_path / "one"), phantom(tmp_path / "two")]
    with pytest.raises(
        DatasetError, match=r"one is of the format acdc and .*two of phantom; ingest them apart"
    ):
        ingest(sources, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_is_read_like_the_folder_in_it(tmp_path: Path, acdc: Write) -> None:
    source = acdc(tmp_path / "training", [1, 2])
    made = ingest(zipped(source, tmp_path / "ACDC.zip"), tmp_path / "out")
    assert made.recognized == "acdc, because of the patient folder patient001"
    assert (made.cases, made.refused) == (2, [])
    ingest(source, tmp_path / "same")
    out, same = tree(tmp_path / "out"), tree(tmp_path / "same")
    assert out.keys() == same.keys()
    assert {name for name in out if out[name] != same[name]} <= {"findings.csv"}  # it names the inner folder


def test_an_archive_of_nothing_known_or_of_nothing_is_an_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    with pytest.raises(DatasetError, match=r"nothing in .*notes is of a known format"):
        ingest(tmp_path / "notes.zip", tmp_path / "out")
    with pytest.raises(DatasetError, match=r"empty\.zip: is an empty archive"):
        ingest(tmp_path / "empty.zip", tmp_path / "out")
