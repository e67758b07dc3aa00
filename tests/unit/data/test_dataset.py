"""Opening a dataset folder: every way in which it can contradict itself, then what it gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data import check_volumes, open_dataset
from medmtl.types import ConfigError, DatasetError

Write = Callable[..., Path]


def message_of(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    return str(caught.value)


# ---- dataset.yaml


def test_a_folder_that_is_no_dataset_says_how_to_make_one(tmp_path: Path) -> None:
    assert "no dataset.yaml in" in message_of(tmp_path)
    assert "medmtl ingest" in message_of(tmp_path)
    assert "no folder" in message_of(tmp_path / "gone")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "modality: MR",
            "modalty: MR",
            ["unknown key 'modalty'; did you mean 'modality'?", "'modality' is missing"],
        ),
        ("name: tiny", "name: 7", ["name: found 7; it has to be text"]),
        ("channels: [cine]", "channels: cine", ["channels: found 'cine'; it has to be a list"]),
        ("channels: [cine]", "channels: [cine, cine]", ["channels: 'cine' stands there more than once"]),
        ("medmtl_dataset: 1", "medmtl_dataset: 2", ["found version 2", "reads 1"]),
        ("medmtl_dataset: 1", "", ["'medmtl_dataset' is missing"]),
        ("kind: map", "kind: mapp", ["columns.t1.kind: found 'mapp'", "did you mean 'map'?"]),
        ("{kind: map, unit: ms}", "{unit: ms}", ["columns.t1: the key 'kind' is missing"]),
        ("{kind: map, unit: ms}", "map", ["columns.t1: found 'map'; it has to be a mapping"]),
        ("unit: ms", "units: ms", ["columns.t1: unknown key 'units' of a map column; did you mean 'unit'?"]),
        ("labels: {RV: 1,", "labels: {RV: 0,", ["columns.anatomy.labels.RV: found 0", "from 1 to 254"]),
        ("labels: {RV: 1,", "labels: {RV: 255,", ["found 255", "255 means not labelled"]),
        ("labels: {RV: 1,", "labels: {RV: true,", ["columns.anatomy.labels.RV: found True"]),
        ("labels: {RV: 1,", "labels: {RV: 2,", ["RV and MYO have the same value 2"]),
        ("labels: {RV: 1,", "labels: {NO: 1,", ["found the key False, which is not text", "in quotes"]),
        ("labels: {RV: 1, MYO: 2, LV: 3}", "labels:", ["a mask column names its structures"]),
        ("classes: [NOR, MINF, DCM]", "classes: [NO, MINF]", ["found False, which is not a name", "quotes"]),
        ("classes: [NOR, MINF, DCM]", "classes: []", ["columns.disease.classes: found []"]),
        ("quantity: volume", "quantity: volum", ["found 'volum'", "did you mean 'volume'?"]),
        ("quantity: volume, ", "", ["columns.LV_EDV.derived: the key 'quantity' is missing"]),
        (
            "structure: LV, frame: ED",
            "structure: LW, frame: ED",
            ["found 'LW', which is not a label of 'anatomy'"],
        ),
        (
            "mask: anatomy, structure: LV, frame",
            "mask: t1, structure: LV, frame",
            ["'t1', which is not a mask column"],
        ),
        ("frame: ED", "frame: mid", ["columns.LV_EDV.derived.frame: found 'mid'", "known are ED, ES"]),
        (
            "ejection_fraction, mask",
            "ejection_fraction, frame: ED, mask",
            ["uses both ED and ES; leave `frame` out"],
        ),
        ("unit: mL", "unit: L", ["found 'L', and volume is measured in 'mL'"]),
        (
            "cycle: {mask: anatomy, structure: LV}",
            "cycle: {mask: anatomy}",
            ["cycle: the key 'structure' is missing"],
        ),
        (
            "cycle: {mask: anatomy",
            "cycle: {mask: anatomie",
            ["cycle.mask: found 'anatomie'", "did you mean 'anatomy'?"],
        ),
        ("height:", "patient:", ["columns.patient: this name has its own meaning"]),
        ("name: tiny", "name: tiny\nname: twice", ["row 3", "the key 'name' stands there twice"]),
        ("channels: [cine]", "channels: [cine", ["cannot be read as YAML"]),
        (
            "  height: {kind: value, unit: cm}",
            "  height: !!python/object:os.x {}",
            ["cannot be read as YAML"],
        ),
    ],
)
def test_a_mistake_in_dataset_yaml_is_named_with_its_key(
    tmp_path: Path, tiny_dataset: Write, tiny_yaml: str, old: str, new: str, expected: list[str]
) -> None:
    assert old in tiny_yaml
    message = message_of(tiny_dataset(tmp_path, yaml=tiny_yaml.replace(old, new, 1)))
    assert "dataset.yaml" in message
    for text in expected:
        assert text in message


def test_a_dataset_yaml_that_is_not_text_is_an_error(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path)
    (tmp_path / "dataset.yaml").write_bytes(b"name: \xff\xfe")
    assert "is not UTF-8 text" in message_of(tmp_path)
    (tmp_path / "dataset.yaml").write_text("")
    assert "found nothing; it has to be a mapping" in message_of(tmp_path)


# ---- the volumes' headers


def test_a_missing_image_is_named_with_row_and_column(tmp_path: Path, tiny_dataset: Write) -> None:
    message = message_of(tiny_dataset(tmp_path, {"b": {"image": "volumes/b/imag.nii.gz"}}))
    assert "cases.csv, row 3, column 'image'" in message
    assert "imag.nii.gz: there is no such file" in message


def test_a_2d_image_is_refused(tmp_path: Path, tiny_dataset: Write, nifti: Write) -> None:
    tiny_dataset(tmp_path, {"a": {"anatomy": "", "frame_es": ""}})
    nifti(tmp_path / "volumes/a/image.nii.gz", np.ones((12, 10)))
    assert "row 2, column 'image'" in (message := message_of(tmp_path))
    assert "found a 2D image, 12 x 10" in message
    nifti(tmp_path / "volumes/a/image.nii.gz", np.ones((12, 10, 1)))
    assert "found a 2D image, 12 x 10 x 1" in message_of(tmp_path)


def test_an_array_of_five_dimensions_is_refused(tmp_path: Path, tiny_dataset: Write, nifti: Write) -> None:
    tiny_dataset(tmp_path)
    nifti(tmp_path / "volumes/a/image.nii.gz", np.ones((4, 4, 4, 2, 3)))
    assert "found an array of 5 dimensions" in message_of(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a volume", b"\x1f\x8b\x08\x00broken"])
def test_a_file_that_is_no_nifti_is_named(tmp_path: Path, tiny_dataset: Write, content: bytes) -> None:
    tiny_dataset(tmp_path)
    (tmp_path / "volumes/c/image.nii.gz").write_bytes(content)
    message = message_of(tmp_path)
    assert "row 4, column 'image'" in message
    assert "volumes/c/image.nii.gz" in message


def test_a_mask_on_another_grid_is_refused(
    tmp_path: Path, tiny_dataset: Write, nifti: Write, heart_mask: Callable[..., np.ndarray]
) -> None:
    tiny_dataset(tmp_path)
    nifti(tmp_path / "volumes/a/anatomy.nii.gz", np.zeros((12, 10, 5, 2), np.uint8))
    assert "has grid 12 x 10 x 5 instead of 12 x 10 x 4 of the image" in (message := message_of(tmp_path))
    assert "row 2, column 'anatomy'" in message
    nifti(tmp_path / "volumes/a/anatomy.nii.gz", np.zeros((12, 10, 4, 2), np.uint8), (1.5, 1.5, 10.0))
    assert "another affine: corners lie up to 6.0 mm apart" in message_of(tmp_path)


def test_a_mask_with_another_frame_count_is_refused(
    tmp_path: Path, tiny_dataset: Write, nifti: Write
) -> None:
    tiny_dataset(tmp_path)
    nifti(tmp_path / "volumes/a/anatomy.nii.gz", np.zeros((12, 10, 4), np.uint8))
    message = message_of(tmp_path)
    assert "row 2, column 'anatomy'" in message
    assert "has 1 frame(s) and the image 2" in message


def test_two_channels_on_different_grids_are_refused(
    tmp_path: Path, tiny_dataset: Write, tiny_yaml: str, nifti: Write
) -> None:
    tiny_dataset(tmp_path, yaml=tiny_yaml.replace("[cine]", "[cine, lge]"))
    table = (tmp_path / "cases.csv").read_text().replace("image,", "image_cine,image_lge,")
    for case_id in "abc":
        table = table.replace(
            f"/{case_id}/image.nii.gz,", f"/{case_id}/image.nii.gz,volumes/{case_id}/lge.nii.gz,"
        )
        nifti(tmp_path / f"volumes/{case_id}/lge.nii.gz", np.zeros((12, 10, 4, 2)))
    (tmp_path / "cases.csv").write_text(table)
    assert [len(case.images) for case in open_dataset(tmp_path).cases] == [2, 2, 2]
    nifti(tmp_path / "volumes/b/lge.nii.gz", np.zeros((12, 11, 4, 2)))
    assert "row 3, column 'image_lge'" in (message := message_of(tmp_path))
    assert "grid 12 x 11 x 4 instead of 12 x 10 x 4 of the image_cine" in message


def test_a_frame_beyond_the_image_is_refused(tmp_path: Path, tiny_dataset: Write) -> None:
    message = message_of(tiny_dataset(tmp_path, {"c": {"frame_es": "2"}}))
    assert (
        "cases.csv, row 4, column 'frame_es': found 2, and the image has 2 frame(s), counted from 0"
        in message
    )


def test_a_header_whose_affine_contradicts_its_pixdim_is_refused(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path)
    path = tmp_path / "volumes/a/image.nii.gz"
    image = nib.Nifti1Image(np.ones((12, 10, 4, 2), np.float32), np.eye(4))
    image.header.set_zooms((1.5, 1.5, 8.0, 1.0))
    nib.save(image, path)
    message = message_of(tmp_path)
    assert "its affine says voxels of 1 x 1 x 1 mm and its pixdim 1.5 x 1.5 x 8 mm" in message


def test_a_volume_derived_without_a_phase_needs_a_case_of_one_frame(
    tmp_path: Path, tiny_dataset: Write, tiny_yaml: str
) -> None:
    message = message_of(tiny_dataset(tmp_path, yaml=tiny_yaml.replace(", frame: ED", "")))
    assert "column 'LV_EDV': is derived without a phase, and the case has 2 frames" in message
    assert "write `frame: ED` or `frame: ES`" in message


def test_several_problems_come_in_one_message(tmp_path: Path, tiny_dataset: Write) -> None:
    rows = {
        case_id: {"disease": "NR", "height": "tall", "frame_ed": "-1", "split": "tran"} for case_id in "abc"
    }
    message = message_of(tiny_dataset(tmp_path, rows))
    assert message.startswith(f"{tmp_path}: 12 problems")
    assert message.count("\n- cases.csv, row") == 10
    assert message.endswith("... and 2 more")


# ---- what an opened dataset gives


def test_an_opened_dataset_has_its_cases_columns_and_splits(tmp_path: Path, tiny_dataset: Write) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path))
    assert (dataset.name, dataset.modality, dataset.channels) == ("tiny", "MR", ("cine",))
    assert list(dataset.columns) == ["anatomy", "t1", "disease", "height", "LV_EDV", "LV_EF"]
    assert [case.case_id for case in dataset.select("val")] == ["b"]
    assert dataset.select("all") == dataset.cases
    case = dataset.cases[0]
    assert (case.frame_ed, case.frame_es) == (0, 1)
    assert set(case.files) == {"anatomy"}
    assert case.values == {"disease": "NOR", "height": 170.5}
    assert dataset.geometry["a"].spacing_mm == pytest.approx((1.5, 1.5, 8.0))


def test_an_unknown_split_suggests_the_nearest(tmp_path: Path, tiny_dataset: Write) -> None:
    with pytest.raises(ConfigError, match="unknown split 'tst'; did you mean 'test'"):
        open_dataset(tiny_dataset(tmp_path)).select("tst")


def test_targets_hold_typed_cells_then_derived_values_then_blanks(
    tmp_path: Path, tiny_dataset: Write
) -> None:
    rows = {"b": {"LV_EDV": "99.5", "disease": ""}, "c": {"anatomy": "", "height": ""}}
    targets = open_dataset(tiny_dataset(tmp_path, rows)).targets
    voxel_ml = 1.5 * 1.5 * 8 / 1000
    assert list(targets.columns) == ["disease", "height", "LV_EDV", "LV_EF"]
    assert list(targets.index) == ["a", "b", "c"]
    assert targets["LV_EDV"].tolist()[:2] == pytest.approx([40 * voxel_ml, 99.5])
    assert targets["LV_EF"].tolist()[:2] == pytest.approx([60.0, 60.0])
    assert np.isnan(targets.loc["c", ["height", "LV_EDV", "LV_EF"]].to_numpy(float)).all()
    assert targets["disease"].tolist() == ["NOR", None, "NOR"]
    assert [str(dtype) for dtype in targets.dtypes] == ["object", "float64", "float64", "float64"]


def test_where_ed_and_es_are_not_given_the_cycle_finds_them(
    tmp_path: Path, tiny_dataset: Write, nifti: Write, heart_mask: Callable[..., np.ndarray]
) -> None:
    tiny_dataset(tmp_path, {"a": {"frame_ed": "", "frame_es": ""}})
    cine = np.stack([heart_mask(16), heart_mask(40)], axis=-1)
    nifti(tmp_path / "volumes/a/anatomy.nii.gz", cine)
    assert open_dataset(tmp_path).targets.loc["a", "LV_EF"] == pytest.approx(60.0)
    cine[0, 0, 0, 0] = 255
    nifti(tmp_path / "volumes/a/anatomy.nii.gz", cine)
    assert np.isnan(open_dataset(tmp_path).targets.loc["a", "LV_EF"])


def test_a_dataset_without_findings_csv_has_no_findings(tmp_path: Path, tiny_dataset: Write) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path))
    assert len(dataset.findings) == 0
    assert list(dataset.findings.columns) == ["case_id", "code", "severity", "message", "where"]


def test_a_dataset_can_be_moved(tmp_path: Path, tiny_dataset: Write) -> None:
    shutil.move(tiny_dataset(tmp_path / "here"), tmp_path / "there")
    assert open_dataset(str(tmp_path / "there")).cases[0].images[0].is_file()


# ---- what only voxels tell


def findings_of(root: Path) -> list[tuple[str, str, str]]:
    dataset = open_dataset(root)
    found = check_volumes(dataset, dataset.cases[0])
    assert all(finding.case_id == "a" for finding in found)
    return [(finding.code, finding.severity, finding.message) for finding in found]


def test_a_mask_value_that_is_no_label_is_an_error(tmp_path: Path, tiny_dataset: Write, nifti: Write) -> None:
    tiny_dataset(tmp_path)
    mask = np.zeros((12, 10, 4, 2), np.uint8)
    mask[0, 0, 0] = (3, 7)
    nifti(tmp_path / "volumes/a/anatomy.nii.gz", mask)
    [(code, severity, text)] = findings_of(tmp_path)
    assert (code, severity) == ("LABEL_VALUES", "error")
    assert (
        "found the value(s) 7; known are 0 = background, 1 = RV, 2 = MYO, 3 = LV, 255 = not labelled" in text
    )


@pytest.mark.parametrize(("value", "why"), [(0, "is background everywhere"), (255, "no voxel is labelled")])
def test_an_empty_mask_is_a_warning(
    tmp_path: Path, tiny_dataset: Write, nifti: Write, value: int, why: str
) -> None:
    tiny_dataset(tmp_path)
    nifti(tmp_path / "volumes/a/anatomy.nii.gz", np.full((12, 10, 4, 2), value, np.uint8))
    [(code, severity, text)] = findings_of(tmp_path)
    assert (code, severity) == ("LABEL_VALUES", "warning")
    assert why in text


@pytest.mark.parametrize(
    ("value", "why"), [(np.nan, "1 voxels that are NaN"), (np.inf, "1 voxels"), (None, "7 every")]
)
def test_an_image_of_nan_or_of_one_value_is_none(
    tmp_path: Path, tiny_dataset: Write, nifti: Write, value: float | None, why: str
) -> None:
    tiny_dataset(tmp_path, {"a": {"anatomy": ""}})
    image = np.random.default_rng(0).random((12, 10, 4, 2)).astype(np.float32)
    if value is None:
        image[..., 1] = 7
    else:
        image[0, 0, 0, 1] = value
    nifti(tmp_path / "volumes/a/image.nii.gz", image)
    [(code, severity, text)] = findings_of(tmp_path)
    assert (code, severity) == ("NOT_AN_IMAGE", "error")
    assert text.startswith("frame 1 ")
    assert why in text


def test_slices_without_a_label_are_told_apart_by_where_they_are(
    tmp_path: Path, tiny_dataset: Write, nifti: Write, heart_mask: Callable[..., np.ndarray]
) -> None:
    tiny_dataset(tmp_path)
    assert [severity for _, severity, _ in findings_of(tmp_path)] == ["info", "info"]
    assert "frame 0: no label in slice(s) 0, 3 at the end of the stack" in findings_of(tmp_path)[0][2]
    mask = np.stack([heart_mask(40), heart_mask(16)], axis=-1)
    mask[:, :, 0, 0] = mask[:, :, 3, 0] = mask[:, :, 1, 0]
    mask[:, :, 2, 0] = 0
    nifti(tmp_path / "volumes/a/anatomy.nii.gz", mask)
    found = [text for _, severity, text in findings_of(tmp_path) if severity == "warning"]
    assert found == [
        "frame 0: no label in slice(s) 2, between slices that have one; see whether they were forgotten"
    ]


def test_voxels_that_cannot_be_read_are_a_finding(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path)
    dataset = open_dataset(tmp_path)
    path = dataset.cases[0].images[0]
    path.write_bytes(path.read_bytes()[:600])
    [finding] = [
        finding for finding in check_volumes(dataset, dataset.cases[0]) if finding.severity == "error"
    ]
    assert (finding.code, finding.where) == ("TRUNCATED", "image")
    assert "copy the file again" in finding.message
