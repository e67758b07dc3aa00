"""DICOM studies as a dataset: options, tables and labels that cannot be used, then good cases."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medmtl.data import ingest, open_dataset
from medmtl.data.formats import Dicom, LoadedCase
from medmtl.data.formats.find import recognize
from medmtl.types import CaseError, ConfigError, DatasetError
from tests.helpers.dicom_labels import encoded, images, segmentation, structure_set
from tests.helpers.dicom_writer import COLUMNS, ROWS, SLICES, Export, ct, ge_cine, mr_volume, uid


def files_of(export: Export, name: str, patient: str, description: str = "planes") -> list[Dataset]:
    """Image files of a study of its own."""
    made = images(replace(export, name=name, tags={**export.tags, "PatientID": patient}))
    for ds in made:
        ds.SeriesDescription = description
        ds.FrameOfReferenceUID = made[0].FrameOfReferenceUID
    return made


def save(folder: Path, *files: Dataset, prefix: str = "IM") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, ds in enumerate(files):
        (folder / f"{prefix}{number:04d}.dcm").write_bytes(encoded(ds))
    return folder


def mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((SLICES, ROWS, COLUMNS)) < 0.3


def as_read(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 1, 0)


def load(root: Path, number: int = 0, **options: Any) -> LoadedCase:
    return Dicom(names="folder", **options).find([root]).cases[number].load()


def refusal(root: Path, number: int = 0, **options: Any) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        load(root, number, **options)
    return caught.value.code, str(caught.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two studies of two patients, ``a`` and ``b``, an MR volume each."""
    for name in ("a", "b"):
        save(tmp_path / "raw" / name, *files_of(mr_volume(), name, f"secret-{name}"))
    return tmp_path / "raw"


def labelled(root: Path, name: str, ds: Dataset) -> None:
    save(root / name, ds, prefix="label")


def images_of(name: str) -> list[Dataset]:
    return files_of(mr_volume(), name, f"secret-{name}")


# ---- options and sources that cannot be used


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"select": ["modalty=MR"]}, "select: 'modalty=MR' is no condition; did you mean 'modality'"),
        ({"select": ["MR"]}, r"select: 'MR' is no condition; write it as description=\*SAX\*"),
        ({"select": ["modality=MR", "modality=CT"]}, "select: modality stands there twice"),
        ({"structures": ["GTV="]}, "structure: 'GTV=' is blank or there already"),
        ({"structures": ["GTV=a*", "GTV=b*"]}, r"structure: 'GTV=b\*' is blank or there already"),
        ({"labels": "all"}, "labels: 'all' is not known"),
        ({"names": "patient"}, "names: 'patient' is not known"),
        ({"suv": "max"}, "suv: 'max' is not known"),
    ],
)
def test_an_option_that_cannot_be_used_says_what_can(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        Dicom(**options)


def test_a_folder_without_dicom_is_not_of_this_format(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert Dicom().recognizes(tmp_path) is None
    with pytest.raises(DatasetError, match="is not of the format 'dicom': looked for DICOM files"):
        ingest(tmp_path, tmp_path / "out", format="dicom")
    with pytest.raises(DatasetError, match="is not of the format dicom: looked for DICOM files"):
        ingest(tmp_path, tmp_path / "out", format=Dicom(names="folder"))


def test_a_study_without_a_volume_is_refused_with_the_reason(root: Path) -> None:
    save(root / "c", *files_of(mr_volume(), "c", "secret-c")[:1])
    assert refusal(root, 2)[0] == "SINGLE_SLICE"


def test_a_broken_file_is_named_with_its_case_and_refused_where_that_is_wanted(root: Path) -> None:
    (root / "a" / "IM0000.dcm").write_bytes(b"")
    found = Dicom(names="folder").find([root])
    [finding] = [finding for finding in found.findings if finding.where == "a/IM0000.dcm"]
    assert (finding.code, finding.severity, finding.case_id) == ("TRUNCATED", "warning", "a")
    with pytest.raises(DatasetError, match=r"a/IM0000\.dcm is empty.* without --strict it is left out"):
        Dicom(names="folder").find([root], strict=True)


def test_a_wish_that_no_volume_fulfils_is_refused_and_names_what_there_is(root: Path) -> None:
    code, message = refusal(root, 0, select=["description=*SAX*"])
    assert code == "NO_USABLE_SERIES"
    assert message == "none of its volumes (MR planes) is description=*SAX*; choose otherwise with --select"


def test_folders_can_name_cases_only_where_each_study_has_one(root: Path) -> None:
    save(root / "a", *files_of(mr_volume(), "c", "secret-c"), prefix="other")
    with pytest.raises(DatasetError, match="2 studies lie in folders called a, so folders cannot name cases"):
        Dicom(names="folder").find([root])
    assert len(Dicom().find([root]).cases) == 3


# ---- tables that cannot be used


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            "name,ef\na,50\n",
            "row 1: no column says which study a row is about; call one of case_id, study_uid",
        ),
        ("folder,ef\na,50\na,60\n", "row 3, column 'folder': 'a' stands in row 2 already"),
        ("folder,ef\n,50\n", "row 2, column 'folder': is blank"),
        ("PatientID,ef\nsecret-a,50\nsecret-a,51\n", "row 3, column 'PatientID': is that of row 2 already"),
        ("folder,ef\na,50\nb,51\nc,x1\n", "row 4, column 'ef': holds numbers, but 'x1' here"),
        ("folder,PatientName\na,Me\n", "the column 'PatientName' speaks of personal data"),
        ("folder,ef,ef [%]\na,1,2\n", "two columns are called 'ef'"),
    ],
)
def test_a_table_that_cannot_be_used_names_row_and_column(
    root: Path, tmp_path: Path, table: str, expected: str
) -> None:
    (tmp_path / "targets.csv").write_text(table)
    with pytest.raises(DatasetError) as caught:
        Dicom(targets=tmp_path / "targets.csv").find([root])
    assert expected in str(caught.value)
    assert "secret-a" not in str(caught.value)


def test_a_table_that_is_not_there_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"targets\.csv: cannot be read \(there is no such file\)"):
        Dicom(targets=tmp_path / "targets.csv").find([root])


def test_a_cell_that_its_column_does_not_allow_refuses_its_case(root: Path, tmp_path: Path) -> None:
    (tmp_path / "targets.csv").write_text("folder,group\na,NOR\nb,NOX\n")
    (tmp_path / "targets.yaml").write_text("columns: {group: {kind: category, classes: [NOR, DCM]}}\n")
    code, message = refusal(root, 1, targets=tmp_path / "targets.csv")
    assert code == "LABEL_VALUES"
    assert message.startswith(
        "targets.csv, row 3, column 'group': found 'NOX', which is not one of the classes"
    )
    assert load(root, 0, targets=tmp_path / "targets.csv").values == {"group": "NOR"}


def test_a_row_about_no_study_is_named_without_what_it_says(root: Path, tmp_path: Path) -> None:
    (tmp_path / "targets.csv").write_text("PatientID,ef\nsecret-b,51\nsecret-nobody,52\n")
    found = Dicom(targets=tmp_path / "targets.csv").find([root])
    [finding] = [finding for finding in found.findings if finding.where == "targets.csv"]
    assert finding.message == "row 3 is about no study that was found; see to its PatientID"


# ---- labels that do not belong


def test_labels_on_another_grid_refuse_their_case_unless_resampling_is_asked_for(root: Path) -> None:
    files, drawn = images_of("a"), mask(1)
    ds = segmentation(files, {"heart": drawn})
    for frame in ds.PerFrameFunctionalGroupsSequence:
        position = frame.PlanePositionSequence[0]
        position.ImagePositionPatient = [float(v) + 0.2 for v in position.ImagePositionPatient]
    labelled(root, "a", ds)
    code, message = refusal(root)
    assert code == "LABEL_GEOMETRY_MISMATCH"
    assert message.startswith("a/label0000.dcm, frame 1: does not lie on the image's grid")
    case = load(root, resample_labels=True)
    np.testing.assert_array_equal(case.labels["segmentation"].array, as_read(drawn))
    assert [f.severity for f in case.findings if f.code == "LABEL_GEOMETRY_MISMATCH"] == ["warning"]


def test_labels_that_carry_another_patient_are_refused(root: Path) -> None:
    ds = segmentation(images_of("a"), {"heart": mask(1)})
    ds.PatientID = "secret-b"
    labelled(root, "a", ds)
    code, message = refusal(root)
    assert code == "LABEL_WRONG_PATIENT"
    assert "secret" not in message


def test_structures_that_overlap_are_refused_in_one_mask_and_kept_in_separate_ones(root: Path) -> None:
    one, two = mask(1), mask(2)
    labelled(root, "a", segmentation(images_of("a"), {"one": one, "two": two}))
    assert refusal(root, labels="joined")[0] == "LABEL_VALUES"
    assert "ask for separate masks (--labels separate)" in refusal(root, labels="joined")[1]
    case = load(root, labels="separate")
    np.testing.assert_array_equal(case.labels["one"].array, as_read(one))
    np.testing.assert_array_equal(case.labels["two"].array, as_read(two))


def test_two_files_that_draw_one_structure_are_refused(root: Path) -> None:
    first = segmentation(images_of("a"), {"heart": mask(1)})
    second = segmentation(images_of("a"), {"heart": mask(2)})
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = uid("second")
    save(root / "a", first, second, prefix="label")
    assert refusal(root)[0] == "LABEL_VALUES"
    assert "a/label0000.dcm and a/label0001.dcm both draw heart" in refusal(root)[1]


def test_a_label_file_that_cannot_be_read_is_named_and_the_case_goes_on(root: Path) -> None:
    ds = segmentation(images_of("a"), {"heart": mask(1)})
    del ds.SegmentationType
    labelled(root, "a", ds)
    case = load(root)
    assert case.labels == {}
    [finding] = [f for f in case.findings if "its labels were left out" in f.message]
    assert (finding.severity, finding.where, finding.case_id) == ("warning", "a, a/label0000.dcm", "a")


def test_labels_of_images_that_are_not_here_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a", *images_of("a"))
    save(tmp_path / "labels", segmentation(images_of("b"), {"heart": mask(1)}))
    found = Dicom().find([tmp_path])
    assert len(found.cases) == 1
    assert [f.message for f in found.findings] == [
        "labels of images that are not here; name their folder too"
    ]


def test_labels_of_another_series_are_left_out_and_named(tmp_path: Path) -> None:
    mr, other = files_of(mr_volume(), "s", "secret"), files_of(ge_cine(), "t", "secret", "cine")
    for ds in other:
        ds.StudyInstanceUID = mr[0].StudyInstanceUID
    labelled(tmp_path, "s", segmentation(mr, {"heart": mask(1)}))
    save(tmp_path / "s", *mr)
    save(tmp_path / "s", *other, prefix="cine")
    case = load(tmp_path, select=["description=cine"])
    assert case.labels == {}
    messages = [finding.message for finding in case.findings]
    assert "labels of another series than the one that was chosen; see --select" in messages
    assert any("(planes, 12 x 16 x 5) was not chosen" in message for message in messages)
    chosen = load(tmp_path)  # a volume with labels comes before a larger one without
    assert set(chosen.labels) == {"segmentation"}


# ---- what good studies become


def test_structures_that_all_cases_have_become_one_mask(root: Path) -> None:
    drawn = {}
    for name, seed in (("a", 1), ("b", 2)):
        one = mask(seed)
        drawn[name] = one + 2 * (mask(seed + 5) & ~one)
        two_masks = {"left lung": drawn[name] == 1, "heart": drawn[name] == 2}
        labelled(root, name, segmentation(images_of(name), two_masks))
    found = Dicom(names="folder").find([root])
    assert dict(found.schema.columns["segmentation"].labels) == {"left lung": 1, "heart": 2}
    for case, name in zip(found.cases, ("a", "b"), strict=True):
        np.testing.assert_array_equal(case.load().labels["segmentation"].array, as_read(drawn[name]))


def test_structures_that_some_cases_lack_are_masks_of_their_own(root: Path) -> None:
    labelled(root, "a", segmentation(images_of("a"), {"heart": mask(1), "left lung": mask(2) & ~mask(1)}))
    labelled(root, "b", segmentation(images_of("b"), {"heart": mask(3)}))
    found = Dicom(names="folder").find([root])
    assert set(found.schema.columns) == {"heart", "left_lung"}
    assert dict(found.schema.columns["left_lung"].labels) == {"left lung": 1}
    assert [set(case.load().labels) for case in found.cases] == [{"heart", "left_lung"}, {"heart"}]
    joined = Dicom(names="folder", labels="joined").find([root]).cases[1].load()
    assert [f.message for f in joined.findings if f.code == "LABEL_VALUES"] == [
        "no file draws left lung, which count(s) as background here"
    ]


def test_wanted_structures_are_taken_by_pattern_under_a_name(root: Path) -> None:
    regions = {
        name: [("CLOSED_PLANAR", corners(images_of("a"), z)) for z in (1, 2)] for name in ("GTV_1", "Body")
    }
    regions["centre"] = [("POINT", corners(images_of("a"), 1)[:1])]
    labelled(root, "a", structure_set(images_of("a"), regions))
    case = load(root, structures=["GTV=gtv*"], labels="joined")
    assert set(np.unique(case.labels["segmentation"].array)) == {0, 1}
    assert case.labels["segmentation"].array.sum() == 2 * 6 * 8
    found = Dicom(names="folder").find([root])
    assert set(found.schema.columns) == {"GTV_1", "Body"}  # regions may overlap
    messages = [finding.message for finding in found.cases[0].load().findings]
    assert "region 3 (centre) is drawn as POINT and was left out" in messages


def test_frames_of_a_cine_that_nobody_drew_are_not_labelled(tmp_path: Path) -> None:
    cine, drawn = files_of(ge_cine(), "cine", "secret"), mask(4)
    save(tmp_path / "cine", *cine)
    labelled(tmp_path, "cine", segmentation(cine[2::4], {"heart": drawn}))
    case = load(tmp_path)
    labels = case.labels["segmentation"].array
    assert labels.shape == case.images[0].array.shape == (COLUMNS, ROWS, SLICES, 4)
    np.testing.assert_array_equal(labels[..., 2], as_read(drawn))
    assert (labels[..., [0, 1, 3]] == 255).all()
    assert case.images[0].time_step_ms == pytest.approx(46.0)


@pytest.mark.parametrize("key", ["case_id", "study_uid", "folder", "patient_id", "PatientID"])
def test_a_table_is_matched_by_any_of_its_keys(root: Path, tmp_path: Path, key: str) -> None:
    cells = {
        "case_id": ("a", "b"),
        "study_uid": tuple(images_of(name)[0].StudyInstanceUID for name in ("a", "b")),
        "folder": ("a", "b/"),
        "patient_id": ("secret-a", "secret-b"),
        "PatientID": ("secret-a", "secret-b"),
    }[key]
    rows = [[key, "ef [%]", "group", "split", "note"], [cells[0], "61.5", "NOR", "test", "x"]]
    rows.append([cells[1], "n/a", "DCM", "", "y"])
    with (tmp_path / "targets.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "targets.yaml").write_text("ignore: [note]\n")
    made = ingest(root, tmp_path / "out", format=Dicom(targets=tmp_path / "targets.csv", names="folder"))
    assert made.refused == []
    dataset = open_dataset(tmp_path / "out")
    assert dataset.columns["ef"].unit == "%"
    assert dataset.targets["ef"].tolist()[0] == 61.5
    assert np.isnan(dataset.targets["ef"].tolist()[1])
    assert dataset.targets["group"].tolist() == ["NOR", "DCM"]
    assert [case.case_id for case in dataset.select("test")] == ["a"]
    for name in ("cases.csv", "findings.csv", "dataset.yaml"):
        assert "secret" not in (tmp_path / "out" / name).read_text()


def test_modalities_are_not_mixed_and_what_is_left_out_is_named(root: Path, tmp_path: Path) -> None:
    save(root / "c", *files_of(ct(), "c", "secret-c"))
    made = ingest(root, tmp_path / "out", format="dicom")
    assert made.cases == 2
    [refused] = made.refused
    assert refused.code == "NO_USABLE_SERIES"
    assert "(CT planes) is of the modality that the other studies have" in refused.message
    assert open_dataset(tmp_path / "out").modality == "MR"
    assert ingest(root, tmp_path / "ct", format=Dicom(select=["modality=CT"])).cases == 1


def test_several_sources_folders_and_archives_are_one_dataset(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for path in sorted((root / "b").iterdir()):
            archive.write(path, f"b/{path.name}")
    made = ingest([root / "a", tmp_path / "b.zip"], tmp_path / "out")
    assert (made.cases, made.refused) == (2, [])
    assert made.recognized.startswith("dicom, because of the DICOM file IM0000.dcm")
    dataset = open_dataset(tmp_path / "out")
    whole = ingest(root, tmp_path / "whole")
    assert [c.case_id for c in dataset.cases] == [c.case_id for c in open_dataset(whole.dataset_path).cases]
    assert all(case.case_id.startswith("study-") for case in dataset.cases)
    assert len({case.patient for case in dataset.cases}) == 2


def test_sources_of_different_formats_are_an_error(root: Path, tmp_path: Path, acdc: Any) -> None:
    with pytest.raises(DatasetError, match=r"a is of the format dicom and .*acdc of acdc; ingest them apart"):
        ingest([root / "a", acdc(tmp_path / "acdc")], tmp_path / "out")
    with pytest.raises(ConfigError, match="nothing to ingest"):
        ingest([], tmp_path / "out")


def test_dicom_is_recognized_by_its_first_bytes_too(tmp_path: Path) -> None:
    for number, ds in enumerate(images_of("a")):
        path = tmp_path / "raw" / f"x{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(ds))
    assert str(recognize(tmp_path / "raw")) == "dicom, because of the DICOM file x0"


def corners(files: list[Dataset], z: int) -> np.ndarray:
    """A rectangle of 6 x 8 voxels in slice z, LPS mm."""
    ds = files[z]
    across, down = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    height, width = (float(v) for v in ds.PixelSpacing)
    at = [(2.5, 3.5), (8.5, 3.5), (8.5, 11.5), (2.5, 11.5)]
    first = np.array(ds.ImagePositionPatient, float)
    return np.array([first + x * width * across + y * height * down for x, y in at])
