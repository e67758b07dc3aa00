"""Small folders of every kind that ingest reads, and a dataset folder, written by functions."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.helpers import layouts

SHAPE = (12, 10, 4)
SPACING_MM = (1.5, 1.5, 8.0)
GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")

Write = Callable[..., Path]


def write_nifti(
    path: Path, array: Any, spacing_mm: Sequence[float] = SPACING_MM, *, acdc: bool = False
) -> Path:
    """A NIfTI file; ``acdc`` leaves the affine a unit matrix and states the voxel size in pixdim only."""
    array = np.asarray(array)
    unit = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = unit if acdc else unit @ np.diag([*spacing_mm, 1.0])
    image = nib.Nifti1Image(array, affine)
    image.header.set_zooms([*spacing_mm[: min(array.ndim, 3)], *([1.0] * (array.ndim - 3))])
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def heart(lv_voxels: int, shape: tuple[int, ...] = SHAPE) -> Any:
    """A mask (X, Y, Z) with 8 RV, 8 MYO and as many LV voxels as asked, in the two middle slices."""
    mask = np.zeros(shape, np.uint8)
    for z in (1, 2):
        mask[1, :4, z] = 1
        mask[3, :4, z] = 2
        mask[5:, :, z].flat[: lv_voxels // 2] = 3
    return mask


def noise(seed: int, shape: tuple[int, ...] = SHAPE) -> Any:
    return np.random.default_rng(seed).integers(0, 400, shape).astype(np.float32)


def write_acdc(root: Path, numbers: Sequence[int] = (1, 2, 3), *, four_d: Sequence[int] = ()) -> Path:
    """ACDC's layout; ED is frame 1 and ES frame 3 (1-based), LV of 40 and 16 voxels."""
    for number in numbers:
        name = f"patient{number:03d}"
        folder = root / name
        folder.mkdir(parents=True)
        group = GROUPS[number % 5]
        info = f"ED: 1\nES: 3\nGroup: {group}\nHeight: {160 + number}.0\nNbFrame: 4\nWeight: 70.5\n"
        (folder / "Info.cfg").write_text(info)
        (folder / "MANDATORY_CITATION.md").write_text("cite it")
        cine = np.stack([noise(10 * number + t) for t in range(4)], axis=-1)
        for frame, lv in ((1, 40), (3, 16)):
            write_nifti(folder / f"{name}_frame{frame:02d}.nii.gz", cine[..., frame - 1], acdc=True)
            write_nifti(folder / f"{name}_frame{frame:02d}_gt.nii.gz", heart(lv), acdc=True)
        if number in four_d:
            write_nifti(folder / f"{name}_4d.nii.gz", cine, acdc=True)
    return root


PHANTOM_COLUMNS = [
    "case_id",
    "patient",
    "disease",
    "frame_ed",
    "frame_es",
    "height",
    "weight",
    "LV_EDV",
    "LV_ESV",
    "LV_EF",
    "RV_EDV",
    "RV_ESV",
    "RV_EF",
    "MYO_mass",
    "scar_mass",
    "time_step_ms",
]


def write_phantom(root: Path, numbers: Sequence[int] = (1, 2, 3)) -> Path:
    """The phantom's raw layout: three frames, all label files, and a full row of truth per case."""
    rows = []
    for number in numbers:
        name = f"phantom_{number:04d}"
        folder = root / name
        anatomy = np.stack([heart(40), heart(24), heart(16)], axis=-1)
        write_nifti(folder / "cine.nii.gz", np.stack([noise(number + t) for t in range(3)], axis=-1))
        write_nifti(folder / "lge.nii.gz", np.stack([noise(9 * number + t) for t in range(3)], axis=-1))
        write_nifti(folder / "anatomy.nii.gz", anatomy)
        write_nifti(folder / "tissue.nii.gz", np.where(anatomy == 2, 2, 0).astype(np.uint8))
        write_nifti(folder / "t1.nii.gz", np.where(anatomy == 2, 1200.5, np.nan).astype(np.float32))
        numbers_text = [
            "0",
            "2",
            "170",
            "70.5",
            "130.25",
            "55",
            "57.5",
            "140",
            "70",
            "50",
            "110",
            "12.5",
            "40",
        ]
        rows.append([name, name, GROUPS[number % 5], *numbers_text])
    with (root / "truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows([PHANTOM_COLUMNS, *rows])
    return root


DATASET_YAML = """\
medmtl_dataset: 1
name: tiny
modality: MR
channels: [cine]
columns:
  anatomy: {kind: mask, labels: {RV: 1, MYO: 2, LV: 3}}
  t1: {kind: map, unit: ms}
  disease: {kind: category, classes: [NOR, MINF, DCM]}
  height: {kind: value, unit: cm}
  LV_EDV: {kind: value, unit: mL, derived: {quantity: volume, mask: anatomy, structure: LV, frame: ED}}
  LV_EF: {kind: value, unit: "%", derived: {quantity: ejection_fraction, mask: anatomy, structure: LV}}
cycle: {mask: anatomy, structure: LV}
"""


def write_dataset(
    root: Path, rows: Mapping[str, Mapping[str, str]] | None = None, yaml: str = DATASET_YAML
) -> Path:
    """A dataset of the cases a (train), b (val), c (test), two frames each; ``rows`` replaces cells."""
    cells: dict[str, dict[str, str]] = {}
    for seed, (case_id, split) in enumerate({"a": "train", "b": "val", "c": "test"}.items()):
        folder = root / "volumes" / case_id
        write_nifti(folder / "image.nii.gz", np.stack([noise(seed), noise(seed + 50)], axis=-1))
        write_nifti(folder / "anatomy.nii.gz", np.stack([heart(40), heart(16)], axis=-1))
        cells[case_id] = {
            "case_id": case_id,
            "patient": f"p{case_id}",
            "split": split,
            "image": f"volumes/{case_id}/image.nii.gz",
            "frame_ed": "0",
            "frame_es": "1",
            "anatomy": f"volumes/{case_id}/anatomy.nii.gz",
            "disease": "NOR",
            "height": "170.5",
        }
    for case_id, changed in (rows or {}).items():
        cells[case_id] |= changed
    header = list(dict.fromkeys(name for row in cells.values() for name in row))
    (root / "dataset.yaml").write_text(yaml)
    with (root / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, header, restval="")
        writer.writeheader()
        writer.writerows(cells.values())
    return root


@pytest.fixture
def nifti() -> Write:
    """Writes a NIfTI file: ``nifti(path, array, spacing_mm)``."""
    return write_nifti


@pytest.fixture
def heart_mask() -> Callable[..., Any]:
    """Makes a mask (X, Y, Z): ``heart_mask(lv_voxels)``."""
    return heart


@pytest.fixture
def acdc() -> Write:
    """Writes ACDC's layout: ``acdc(root, numbers, four_d=...)``."""
    return write_acdc


@pytest.fixture
def phantom() -> Write:
    """Writes the phantom's raw layout: ``phantom(root, numbers)``."""
    return write_phantom


@pytest.fixture
def tiny_dataset() -> Write:
    """Writes a dataset folder: ``tiny_dataset(root, rows, yaml)``."""
    return write_dataset


@pytest.fixture
def tiny_yaml() -> str:
    """The dataset.yaml that ``tiny_dataset`` writes."""
    return DATASET_YAML


# Layouts of formats: a fixture per registered name, which writes three cases that can be used.


@pytest.fixture
def mnms() -> Write:
    """Writes M&Ms's layout: ``mnms(root, codes, folder)``."""
    return layouts.write_mnms


@pytest.fixture
def emidec() -> Write:
    """Writes EMIDEC's layout: ``emidec(root, cases)``."""
    return layouts.write_emidec


@pytest.fixture
def msd() -> Write:
    """Writes the decathlon's layout: ``msd(root, channels, **dataset_json)``."""
    return layouts.write_msd


@pytest.fixture
def nnunet() -> Write:
    """Writes nnU-Net's layout: ``nnunet(root, channels, **dataset_json)``."""
    return layouts.write_nnunet


@pytest.fixture
def bids() -> Write:
    """Writes a BIDS data set: ``bids(root, kinds, subjects)``."""
    return layouts.write_bids


@pytest.fixture
def table() -> Write:
    """Writes a plain table beside its images: ``table(root, rows)``."""
    return layouts.write_plain


@pytest.fixture
def dicom() -> Write:
    """Writes DICOM studies of one volume each: ``dicom(root, names)``."""

    def write(root: Path, names: Sequence[str] = ("a", "b", "c")) -> Path:
        from tests.helpers.dicom_writer import mr_volume
        from tests.helpers.dicom_writer import write as write_export

        for name in names:
            export = mr_volume()
            export.name, export.tags = name, {"PatientID": f"secret-{name}"}
            write_export(export, root / name, "IM{:04d}.dcm".format)
        return root

    return write


@pytest.fixture
def sunnybrook() -> Write:
    """Writes Sunnybrook's images, contours and list: ``sunnybrook(root, *patients, link=...)``."""
    from tests.helpers.sunnybrook import write_study

    return write_study
