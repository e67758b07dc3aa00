"""Folders, archives, datasets and single files as items of work."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from medmtl.data.dataset import Dataset
from medmtl.inference.find import Rule, find_again, find_items, parse_rule
from medmtl.inference.find import index as finding
from medmtl.inference.items import Item, fingerprint_of
from medmtl.types import ConfigError, Finding
from tests.conftest import write_acdc, write_nifti
from tests.helpers import dicom_writer as writer


@dataclass(frozen=True)
class Wants:
    channels: tuple[str, ...] = ("cine",)
    covariates: tuple[str, ...] = ()
    select: Rule = field(default_factory=Rule)


def find(*sources: Path, wants: Wants = Wants(), **options: Any) -> list[Item]:
    return list(find_items(sources, wants, **options))


def cine(name: str) -> writer.Export:
    return replace(writer.ge_cine(phases=2), name=name)


def test_each_study_is_one_item_wherever_its_series_lie(tmp_path: Path) -> None:
    writer.write(cine("a"), tmp_path / "one" / "series")
    writer.write(cine("b"), tmp_path / "two")
    writer.write(replace(cine("c"), tags={"StudyInstanceUID": writer.uid("a", "study")}), tmp_path / "late")
    items = find(tmp_path)
    assert [item.study_uid for item in items] == [writer.uid(n, "study") for n in ("a", "b")]
    assert [item.key for item in items] == [f"study:{item.study_uid}" for item in items]
    assert [item.case_id for item in items] == [item.study_uid for item in items]
    assert items[0].left[0] == "1 series left: 1 rank"
    assert all(item.refused is None and item.chosen == "s003" for item in items)


def test_a_study_in_two_sources_is_one_item(tmp_path: Path) -> None:
    first = writer.write(cine("a"), tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    assert len(find(tmp_path / "first", tmp_path / "second", tmp_path / "first")) == 1


def test_studies_in_one_flat_folder_are_told_apart(tmp_path: Path) -> None:
    writer.write(cine("a"), tmp_path, "A{:04d}".format)
    writer.write(cine("b"), tmp_path, "B{:04d}".format)
    items = find(tmp_path)
    assert len(items) == 2
    for item, letter in zip(items, "AB", strict=True):
        names = {Path(path).name[0] for path in item.paths if not Path(path).is_dir()}
        assert item.paths == (str(tmp_path),) or names == {letter}


def test_archives_files_and_folders_are_mixed(tmp_path: Path) -> None:
    folder = writer.write(cine("a"), tmp_path / "folder")
    with zipfile.ZipFile(tmp_path / "studies.zip", "w") as archive:
        for file in sorted(writer.write(cine("b"), tmp_path / "b").iterdir()):
            archive.write(file, f"b/{file.name}")
    (lone,) = writer.write(replace(writer.philips_cine(), name="c"), tmp_path / "c").iterdir()
    nifti = write_nifti(tmp_path / "d.nii.gz", [[[1.0, 2.0]] * 3] * 3)
    items = find(folder, tmp_path / "studies.zip", lone, nifti)
    assert [item.kind for item in items] == ["nifti", "dicom", "dicom", "dicom"]
    assert [Path(item.paths[0]).name for item in items] == ["d.nii.gz", "folder", "studies.zip", lone.name]
    assert all(item.refused is None for item in items)


def test_headers_that_are_not_kept_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        writer.write(cine(name), tmp_path / name)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for file in sorted(writer.write(cine("d"), tmp_path / "d").iterdir()):
            archive.write(file, file.name)
    shutil.rmtree(tmp_path / "d")
    kept = find(tmp_path)
    monkeypatch.setattr(finding, "KEPT", 12)
    assert find(tmp_path) == kept
    assert len(kept) == 4


def test_a_changed_file_changes_the_fingerprint_and_nothing_else_does(tmp_path: Path) -> None:
    folder = writer.write(cine("a"), tmp_path / "a")
    (item,) = find(tmp_path)
    assert item.fingerprint == fingerprint_of(item.watched or item.paths) == find(tmp_path)[0].fingerprint
    os.utime(folder / "IM0003", (1e9, 1e9))
    assert find(tmp_path)[0].fingerprint != item.fingerprint


def test_a_study_that_grew_is_found_again_with_what_came(tmp_path: Path) -> None:
    export = cine("a")
    whole = writer.write(export, tmp_path / "whole")
    folder = tmp_path / "a"
    folder.mkdir()
    for file in sorted(whole.iterdir())[:8]:  # four of five slices
        shutil.copy(file, folder)
    (item,) = find(folder)
    for file in whole.iterdir():
        shutil.copy(file, folder)
    assert item.fingerprint_now() != item.fingerprint
    again = find_again(item, Wants())
    assert again.fingerprint == again.fingerprint_now() == find(folder)[0].fingerprint
    assert again.key == item.key


def test_a_pseudonym_stands_for_every_uid(tmp_path: Path) -> None:
    writer.write(cine("a"), tmp_path / "a")
    (item,) = find(tmp_path, key=b"k" * 16)
    (other,) = find(tmp_path, key=b"l" * 16)
    (plain,) = find(tmp_path)
    written = f"{item.key} {item.case_id} {item.study_uid} {item.series_uid} {item.left}"
    assert plain.study_uid not in written
    assert plain.series_uid not in written
    assert item.case_id == item.study_uid
    assert len(item.case_id) == 16
    assert item.case_id != other.case_id
    assert item == find(tmp_path, key=b"k" * 16)[0]
    assert plain.study_uid not in repr(item)


def test_no_name_and_no_patient_id_is_in_an_item(tmp_path: Path) -> None:
    writer.write(cine("a"), tmp_path / "a")
    writer.write(replace(writer.ct(), name="a"), tmp_path / "ct")
    assert not any(word in repr(find(tmp_path)) for word in ("Nobody", "Known", "secret-1", "19000101"))


def broken_cine(folder: Path) -> Path:
    export = cine("a")
    export.frames = [frame for frame in export.frames if (frame.z, frame.t) != (2, 1)]
    return writer.write(export, folder, "DOE{:03d}".format)


def test_names_of_folders_are_in_no_message(tmp_path: Path) -> None:
    broken_cine(tmp_path / "Doe Jane" / "1957")
    (tmp_path / "Roe").mkdir()
    (tmp_path / "Roe" / "x.dcm").write_bytes(b"")
    items = find(tmp_path)
    told = " ".join(f"{item.refused} {item.left}" for item in items)
    assert [item.refused is not None for item in items] == [True, True]
    assert "DOE" in told
    assert not any(name in told for name in ("Jane", "1957", "Roe"))
    hidden = " ".join(f"{item.refused} {item.left}" for item in find(tmp_path, key=b"k" * 16))
    assert not any(name in hidden for name in ("DOE", "Jane", "1957", "Roe", "x.dcm"))


def test_images_of_two_patients_under_one_study_uid_are_refused(tmp_path: Path) -> None:
    writer.write(cine("a"), tmp_path / "a")
    writer.write(
        replace(cine("b"), tags={"StudyInstanceUID": writer.uid("a", "study"), "PatientID": "other"}),
        tmp_path / "b",
    )
    (item,) = find(tmp_path)
    assert item.refused is not None
    assert "2 patients" in item.refused[1]


def test_a_folder_of_which_nothing_can_be_read_is_an_item_too(tmp_path: Path) -> None:
    writer.write(cine("a"), tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.dcm").write_bytes(b"")
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 nothing")
    findings: list[Finding] = []
    items = find(tmp_path, findings=findings)
    assert [item.refused and item.refused[0] for item in items] == [None, "TRUNCATED", "UNDECODABLE"]
    assert len({item.case_id for item in items}) == 3
    assert items[2].paths == (str(tmp_path / "broken.zip"),)
    assert [finding.code for finding in findings] == ["UNDECODABLE"]


def test_a_broken_file_beside_a_study_does_not_take_it_away(tmp_path: Path) -> None:
    folder = writer.write(cine("a"), tmp_path / "a")
    (folder / "x.dcm").write_bytes(b"")
    (item,) = find(tmp_path)
    assert item.refused is None


def test_a_study_without_uid_is_named_by_its_place(tmp_path: Path) -> None:
    writer.write(replace(writer.mr_volume(), tags={"StudyInstanceUID": None}), tmp_path / "a")
    (item,) = find(tmp_path)
    assert item.case_id.startswith("study-")
    assert item.refused is None


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_uid_that_is_none_becomes_a_safe_folder_name(tmp_path: Path) -> None:
    writer.write(replace(writer.mr_volume(), tags={"StudyInstanceUID": "../../etc/x"}), tmp_path / "a")
    (item,) = find(tmp_path)
    assert "/" not in item.case_id
    assert not item.case_id.startswith(".")


def test_a_dataset_gives_its_cases_with_what_the_table_knows(study: Dataset) -> None:
    wants = Wants(covariates=("height",))
    items = find(study.root, wants=wants, split="test")
    cases = study.select("test")
    assert [item.case_id for item in items] == [case.case_id for case in cases]
    assert [dict(item.values) for item in items] == [
        {"height": case.values.get("height"), "frame_ed": case.frame_ed, "frame_es": case.frame_es}
        for case in cases
    ]
    assert all(item.key.startswith("dataset:") for item in items)


def test_nifti_files_are_named_by_their_path(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "sub/a.nii", "sub/.hidden.nii.gz"):
        write_nifti(tmp_path / name, [[[1.0, 2.0]] * 3] * 3)
    assert sorted(item.case_id for item in find(tmp_path)) == ["a", "sub_.hidden", "sub_a"]


def test_channels_lie_side_by_side(tmp_path: Path) -> None:
    for name in ("x_cine.nii.gz", "x_lge.nii.gz"):
        write_nifti(tmp_path / name, [[[1.0, 2.0]] * 3] * 3)
    (item,) = find(tmp_path, wants=Wants(("lge", "cine")))
    assert [Path(path).name for path in item.paths] == ["x_lge.nii.gz", "x_cine.nii.gz"]
    (tmp_path / "x_lge.nii.gz").unlink()
    with pytest.raises(ConfigError, match="has no file for channel 'lge'"):
        find(tmp_path, wants=Wants(("lge", "cine")))


def refused_sources(tmp_path: Path, study: Dataset) -> dict[str, tuple[Path, dict[str, Any], str]]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("nothing")
    shutil.copytree(study.root, tmp_path / "above" / "dataset", ignore=shutil.ignore_patterns("run"))
    write_acdc(tmp_path / "acdc")
    writer.write(cine("a"), tmp_path / "dicom")
    two = Wants(("a", "b"), select=parse_rule(None, ["a", "b"]))
    return {
        "nowhere": (tmp_path / "nowhere", {}, "no such file or folder"),
        "empty": (tmp_path / "empty", {}, "no DICOM and no NIfTI file"),
        "text": (tmp_path / "notes.txt", {}, "no DICOM and no NIfTI file"),
        "folder above a dataset": (tmp_path / "above", {}, "is a dataset, so labels lie among its images"),
        "labels among images": (tmp_path / "acdc", {}, "run `medmtl ingest`"),
        "channels": (study.root, {"wants": Wants(("lge",))}, "was trained on"),
        "split": (tmp_path / "above" / "dataset", {"split": "none"}, "split"),
        "rule": (tmp_path / "dicom", {"select": "modality"}, "is no condition"),
        "same rule": (tmp_path / "dicom", {"wants": two}, "ask for the same volume"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "nowhere",
        "empty",
        "text",
        "folder above a dataset",
        "labels among images",
        "channels",
        "split",
        "rule",
        "same rule",
    ],
)
def test_a_source_that_cannot_be_used_is_one_sentence(name: str, tmp_path: Path, study: Dataset) -> None:
    source, options, told = refused_sources(tmp_path, study)[name]
    with pytest.raises(ConfigError, match=told):
        find(source, **options)


def test_two_cases_of_one_name_are_told(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_nifti(tmp_path / folder / "a.nii.gz", [[[1.0, 2.0]] * 3] * 3)
    with pytest.raises(ConfigError, match="would both be the case 'a'"):
        find(tmp_path / "one", tmp_path / "two")
