"""Small folders in the published layouts of data sets, written file by file as their descriptions say."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy.spatial.transform import Rotation

SHAPE = (12, 10, 4)
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [200, 35, 140], degrees=True).as_matrix() * [1.25, 1.5, 8.0]
OBLIQUE[:3, 3] = [40.0, 55.0, -60.0]
"""A short-axis stack as M&Ms has them: no axis of the voxels is one of the body."""


def save(path: Path, array: Any, affine: Any = OBLIQUE) -> Path:
    """A NIfTI file that states its orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.asarray(array), np.asarray(affine))
    image.set_sform(affine, 1)
    image.set_qform(None, 0)
    nibabel.save(image, path)
    return path


def noise(seed: int, shape: Sequence[int] = SHAPE) -> Any:
    """An image of whole numbers."""
    return np.random.default_rng(seed).integers(0, 400, shape).astype(np.int16)


def blobs(values: Mapping[int, int], shape: Sequence[int] = SHAPE) -> Any:
    """A mask that holds each value as often as asked, in the middle slices."""
    mask = np.zeros(shape, np.uint8)
    flat = mask[:, :, 1:3].reshape(-1)
    start = 0
    for value, count in values.items():
        flat[start : start + count] = value
        start += count
    mask[:, :, 1:3] = flat.reshape(mask[:, :, 1:3].shape)
    return mask


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> Path:
    """A CSV of the columns that the rows have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header, restval="", delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_json(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


# ---- M&Ms

MNMS_TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
MNMS_CODES = ("A0S9V9", "B1T2W3", "C4U5X6")


def mnms_row(code: str, **cells: Any) -> dict[str, Any]:
    """A row of the patients' table: index, code, ..., ED 1, ES 3."""
    row = {
        "": 0,
        "External code": code,
        "VendorName": "Philips",
        "Vendor": "B",
        "Centre": 2,
        "ED": 1,
        "ES": 3,
    }
    return {**row, "Age": 61.0, "Pathology": "HCM", "Sex": "F", "Height": 1.68, "Weight": 70.5, **cells}


def mnms_mask(frames: Mapping[int, tuple[int, int, int]], n_frames: int = 5) -> Any:
    """A 4D mask in M&Ms's values: LV (1), MYO (2) and RV (3) voxels of the frames that are drawn."""
    mask = np.zeros((*SHAPE, n_frames), np.uint8)
    for frame, (lv, myo, rv) in frames.items():
        mask[..., frame] = blobs({1: lv, 2: myo, 3: rv})
    return mask


def write_mnms(root: Path, codes: Sequence[str] = MNMS_CODES, folder: str = "Training/Labeled") -> Path:
    """The open data set's layout: 4D images and masks of which ED and ES are drawn, and the table."""
    for number, code in enumerate(codes):
        case = root / folder / code
        save(case / f"{code}_sa.nii.gz", noise(number, (*SHAPE, 5)))
        mask = mnms_mask({1: (40, 12, 9), 3: (16, 12, 6)})
        save(case / f"{code}_sa_gt.nii.gz", mask)
    path = root / MNMS_TABLE
    if not path.exists():
        write_table(path, [mnms_row(code) for code in codes])
    return root


# ---- EMIDEC

EMIDEC_TEXT = """\
Case N006

Gap between slices\u00a0: 10 mm
Sex\u00a0: F
Age : 70
Tobacco : 3
Overweight : N
Arterial hypertension : Y
Diabetes : N
Familial history of coronary artery disease: N
ECG (ST +) : Y
Troponin : 1,1
Killip Max: 1
FEVG : 60
NTProBNP : 248
"""


def write_emidec(root: Path, cases: Sequence[str] = ("Case_N006", "Case_P001", "Case_P002")) -> Path:
    """Folders with Images and Contours, and a text per case beside them, in the encoding of the originals."""
    for number, case in enumerate(cases):
        affine = np.diag([-1.5, -1.5, 10.0, 1.0])
        save(root / case / "Images" / f"{case}.nii.gz", noise(number), affine)
        counts = {1: 30, 2: 20} if "_N" in case else {1: 30, 2: 12, 3: 6, 4: 2}
        save(root / case / "Contours" / f"{case}.nii.gz", blobs(counts), affine)
        name = case.replace("_", " ")
        text = EMIDEC_TEXT.replace("Case N006", name)
        (root / f"{name}.txt").write_bytes(text.encode("cp1252"))
    return root


# ---- Medical Segmentation Decathlon

MSD_LABELS = {"0": "background", "1": "PZ", "2": "TZ"}


def write_msd(root: Path, channels: Sequence[str] = ("T2", "ADC"), **changes: Any) -> Path:
    """Two training cases and a test case; several channels are the last axis of the image."""
    names = ("prostate_00", "prostate_01", "prostate_02")
    for number, name in enumerate(names):
        part = "Ts" if number == 2 else "Tr"
        shape = SHAPE if len(channels) == 1 else (*SHAPE, len(channels))
        save(root / f"images{part}" / f"{name}.nii.gz", noise(number, shape))
        if part == "Tr":
            save(root / "labelsTr" / f"{name}.nii.gz", blobs({1: 20 + number, 2: 7}))
    data = {
        "name": "PROSTATE",
        "description": "Prostate",
        "reference": "somebody",
        "licence": "CC-BY-SA 4.0",
        "release": "1.0",
        "tensorImageSize": "4D",
        "modality": {str(number): name for number, name in enumerate(channels)},
        "labels": MSD_LABELS,
        "numTraining": 2,
        "numTest": 1,
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names[:2]
        ],
        "test": ["./imagesTs/prostate_02.nii.gz"],
    }
    write_json(root / "dataset.json", {**data, **changes})
    return root


# ---- nnU-Net

NNUNET_LABELS: dict[str, Any] = {"background": 0, "PZ": 1, "TZ": 2}


def write_nnunet(root: Path, channels: Sequence[str] = ("T2", "ADC"), **changes: Any) -> Path:
    """Version 2: two training cases and a test case, a file per channel."""
    names = ("prostate_00", "prostate_01", "prostate_02")
    for number, name in enumerate(names):
        part = "Ts" if number == 2 else "Tr"
        for channel in range(len(channels)):
            save(root / f"images{part}" / f"{name}_{channel:04d}.nii.gz", noise(10 * number + channel))
        if part == "Tr":
            save(root / "labelsTr" / f"{name}.nii.gz", blobs({1: 20 + number, 2: 7}))
    data = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": NNUNET_LABELS,
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    write_json(root / "dataset.json", {**data, **changes})
    return root


def write_nnunet_v1(root: Path) -> Path:
    """Version 1: the decathlon's description, whose images have channel numbers on disk."""
    write_nnunet(root)
    names = ("prostate_00", "prostate_01")
    data = {
        "name": "Prostate",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": MSD_LABELS,
        "numTraining": 2,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": ["./imagesTs/prostate_02.nii.gz"],
    }
    write_json(root / "dataset.json", data)
    return root


# ---- BIDS

BIDS_ROWS = (
    {"participant_id": "sub-01", "age": "34", "sex": "F", "group": "control"},
    {"participant_id": "sub-02", "age": "n/a", "sex": "M", "group": "patient"},
    {"participant_id": "sub-03", "age": "51.5", "sex": "F", "group": "patient"},
)


def write_bids(
    root: Path, kinds: Sequence[str] = ("T1w", "FLAIR"), subjects: Sequence[str] = ("01", "02", "03")
) -> Path:
    """Anatomical images of three subjects, a segmentation of each below derivatives, and participants."""
    write_json(
        root / "dataset_description.json", {"Name": "brains", "BIDSVersion": "1.9.0", "License": "CC0"}
    )
    write_table(root / "participants.tsv", BIDS_ROWS, "\t")
    write_json(
        root / "participants.json", {"age": {"Units": "years"}, "sex": {"Levels": {"F": "f", "M": "m"}}}
    )
    derived = root / "derivatives" / "seg"
    write_json(derived / "dataset_description.json", {"Name": "seg", "DatasetType": "derivative"})
    write_table(
        derived / "desc-tissue_dseg.tsv",
        [{"index": 0, "name": "background"}, {"index": 3, "name": "GM"}, {"index": 41, "name": "WM"}],
        "\t",
    )
    for number, sub in enumerate(subjects):
        for channel, kind in enumerate(kinds):
            save(root / f"sub-{sub}" / "anat" / f"sub-{sub}_{kind}.nii.gz", noise(10 * number + channel))
        path = derived / f"sub-{sub}" / "anat" / f"sub-{sub}_desc-tissue_dseg.nii.gz"
        save(path, blobs({3: 25, 41: 11}))
        lesion = path.with_name(f"sub-{sub}_label-lesion_mask.nii.gz")
        save(lesion, blobs({1: 5}))
    return root


# ---- plain tables

TABLE_ROWS = (
    {
        "case_id": "a",
        "patient": "p1",
        "split": "train",
        "image": "img/a.nii.gz",
        "liver": "seg/a.nii.gz",
        "stage": "early",
        "height [cm]": "170",
        "notes": "x1",
    },
    {
        "case_id": "b",
        "patient": "p2",
        "split": "val",
        "image": "img/b.nii.gz",
        "liver": "",
        "stage": "late",
        "height [cm]": "",
        "notes": "",
    },
    {
        "case_id": "c",
        "patient": "p3",
        "split": "test",
        "image": "img/c.nii.gz",
        "liver": "seg/c.nii.gz",
        "stage": "",
        "height [cm]": "181.5",
        "notes": "x2",
    },
)


def write_plain(
    root: Path, rows: Sequence[Mapping[str, Any]] = TABLE_ROWS, name: str = "cases.csv", delimiter: str = ","
) -> Path:
    """A CSV beside the images that it names."""
    for number, row in enumerate(rows):
        for column, cell in row.items():
            if not str(cell).endswith((".nii.gz", ".nii")):
                continue
            array = noise(number) if column.startswith("image") else blobs({1: 20, 2: 4})
            save(root / str(cell), array)
    write_table(root / name, rows, delimiter)
    return root
