"""The 100 training patients of ACDC, ingested once and held against what is known about them."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data import Dataset, IngestResult, check_volumes, ingest, open_dataset


@pytest.fixture(scope="module")
def source(realdata: Path) -> Path:
    path = realdata / "acdc" / "training"
    if not path.is_dir():
        pytest.skip(f"no ACDC in {path}")
    return path


@pytest.fixture(scope="module")
def ingested(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[IngestResult, float]:
    output = tmp_path_factory.mktemp("acdc") / "dataset"
    start = time.perf_counter()
    return ingest(source, output), time.perf_counter() - start


@pytest.fixture(scope="module")
def dataset(ingested: tuple[IngestResult, float]) -> Dataset:
    return open_dataset(ingested[0].dataset_path)


def test_all_hundred_patients_are_used_within_a_minute(ingested: tuple[IngestResult, float]) -> None:
    result, seconds = ingested
    assert (result.cases, result.refused) == (100, [])
    assert seconds < 60


def test_opening_takes_less_than_a_second_and_a_half(dataset: Dataset) -> None:
    start = time.perf_counter()
    open_dataset(dataset.root)
    assert time.perf_counter() - start < 1.5


def test_the_dataset_holds_two_volumes_per_case_and_its_tables(dataset: Dataset) -> None:
    names = sorted(
        path.relative_to(dataset.root).as_posix() for path in dataset.root.rglob("*") if path.is_file()
    )
    assert len(names) == 203
    assert [name for name in names if "/" not in name] == ["cases.csv", "dataset.yaml", "findings.csv"]


def test_every_group_has_twenty_patients_and_four_of_them_test(dataset: Dataset) -> None:
    groups = dataset.targets["disease"]
    assert Counter(groups) == dict.fromkeys(["NOR", "MINF", "DCM", "HCM", "RV"], 20)
    tested = Counter(groups[case.case_id] for case in dataset.select("test"))
    assert set(tested.values()) == {4}
    assert [len(dataset.select(split)) for split in ("train", "val", "test")] == [72, 8, 20]


def test_values_of_info_cfg_are_kept(dataset: Dataset) -> None:
    patient001 = dataset.targets.loc["patient001"]
    assert (patient001["disease"], patient001["height"], patient001["weight"]) == ("DCM", 184.0, 95.0)


def test_patient090_keeps_its_whole_cine_with_masks_on_two_frames(dataset: Dataset) -> None:
    [case] = [case for case in dataset.cases if case.case_id == "patient090"]
    assert (case.frame_ed, case.frame_es) == (3, 10)
    mask = np.asanyarray(nib.load(case.files["anatomy"]).dataobj)
    assert mask.shape[3] == 12
    labelled = np.flatnonzero((mask != 255).all(axis=(0, 1, 2)))
    assert labelled.tolist() == [3, 10]
    others = [case for case in dataset.cases if case.case_id != "patient090"]
    assert {(case.frame_ed, case.frame_es) for case in others} == {(0, 1)}
    assert {dataset.geometry[case.case_id].frames for case in others} == {2}


def test_spacing_is_what_pixdim_says_and_voxels_are_untouched(source: Path, dataset: Dataset) -> None:
    for case in dataset.cases[::10]:
        info = dict(
            line.split(": ") for line in (source / case.case_id / "Info.cfg").read_text().splitlines()
        )
        original = nib.load(source / case.case_id / f"{case.case_id}_frame{int(info['ED']):02d}.nii.gz")
        geometry = dataset.geometry[case.case_id]
        assert geometry.spacing_mm == pytest.approx(original.header.get_zooms(), rel=1e-5)
        assert np.sign(np.diag(geometry.affine)).tolist() == np.sign(np.diag(original.affine)).tolist()
        made = np.asanyarray(nib.load(case.images[0]).dataobj)[..., case.frame_ed]
        np.testing.assert_array_equal(made, np.asanyarray(original.dataobj))
        assert made.dtype.kind in "iu"


def test_derived_values_are_those_of_hearts(dataset: Dataset) -> None:
    targets = dataset.targets
    assert targets["LV_EDV"].between(40, 450).all()
    assert targets["RV_EDV"].between(40, 450).all()
    assert targets["LV_EF"].between(5, 90).all()
    assert targets["MYO_mass"].between(30, 320).all()
    assert (targets["LV_EDV"] > targets["LV_ESV"]).all()
    np.testing.assert_allclose(targets["LV_SV"], targets["LV_EDV"] - targets["LV_ESV"])
    mean = targets.groupby("disease").mean(numeric_only=True)
    assert mean["LV_EF"]["NOR"] > 50 > 40 > mean["LV_EF"]["DCM"]
    assert mean["LV_EDV"]["DCM"] > 1.5 * mean["LV_EDV"]["NOR"]
    assert mean["MYO_mass"]["HCM"] > 1.5 * mean["MYO_mass"]["NOR"]
    assert mean["RV_EF"]["RV"] < 40 < 50 < mean["LV_EF"]["RV"]


def test_ed_and_es_of_info_cfg_are_the_largest_and_smallest_cavity(dataset: Dataset) -> None:
    for case in dataset.cases:
        mask = np.asanyarray(nib.load(case.files["anatomy"]).dataobj)
        cavity = (mask == 3).sum(axis=(0, 1, 2))
        assert cavity[case.frame_ed] == cavity.max()
        assert cavity[case.frame_es] > 0


def test_findings_tell_of_slices_without_a_label_and_of_nothing_worse(
    ingested: tuple[IngestResult, float], dataset: Dataset
) -> None:
    assert {(finding.code, finding.severity) for finding in ingested[0].findings} == {
        ("LABEL_VALUES", "info")
    }
    assert len(dataset.findings) == len(ingested[0].findings)
    first = next(case for case in dataset.cases if case.case_id == dataset.findings["case_id"][0])
    assert [finding.code for finding in check_volumes(dataset, first)][:1] == ["LABEL_VALUES"]


def test_a_second_ingest_writes_the_same_bytes(source: Path, dataset: Dataset, tmp_path: Path) -> None:
    ingest(source, tmp_path / "again")

    def digests(root: Path) -> dict[str, str]:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        }

    assert digests(tmp_path / "again") == digests(dataset.root)
