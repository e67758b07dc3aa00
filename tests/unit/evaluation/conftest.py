"""Small dataset and predictions folders, written file by file, whose scores can be worked out by hand."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from tests.helpers.study import FUNCTION

SHAPE = (12, 10, 4)
SPACING = (2.0, 1.5, 5.0)
LABELS = {"RV": 1, "LV": 3}
COLUMNS = {
    "anatomy": {"kind": "mask", "labels": LABELS},
    "t1": {"kind": "map", "unit": "ms"},
    "disease": {"kind": "category", "classes": ["NOR", "DCM", "HCM"]},
    **FUNCTION,
}


def _box(frame: np.ndarray, value: int, start: Sequence[int], size: Sequence[int]) -> None:
    """Writes a label into a box of one frame (X, Y, Z)."""
    frame[tuple(slice(first, first + n) for first, n in zip(start, size, strict=True))] = value


def _heart(shift: int = 0) -> np.ndarray:
    """ED and ES (X, Y, Z, 2): RV 2 x 2 x 2 voxels, LV 4 x 4 x 2 at ED and 2 x 4 x 2 at ES, moved along x."""
    mask = np.zeros((*SHAPE, 2), np.uint8)
    for index, length in enumerate((4, 2)):
        _box(mask[..., index], LABELS["RV"], (1 + shift, 1, 1), (2, 2, 2))
        _box(mask[..., index], LABELS["LV"], (5 + shift, 4, 1), (length, 4, 2))
    return mask


def _write_nifti(path: Path, array: np.ndarray, spacing: Sequence[float] = SPACING) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.diag([*spacing, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


@dataclass
class Folders:
    """Writes folders below a temporary one."""

    root: Path

    @staticmethod
    def heart(shift: int = 0) -> np.ndarray:
        return _heart(shift)

    def dataset(
        self,
        masks: Mapping[str, np.ndarray | None],
        *,
        columns: Mapping[str, object] | None = None,
        cells: Mapping[str, Mapping[str, object]] | None = None,
        maps: Mapping[str, np.ndarray] | None = None,
        phases: tuple[object, object] = (0, 1),
        cycle: Mapping[str, str] | None = None,
        split: str = "test",
    ) -> Path:
        """A dataset of one case per mask; a case whose mask is None is not labelled."""
        root = self.root / "dataset"
        columns = COLUMNS if columns is None else columns
        content = {"medmtl_dataset": 1, "name": "small", "modality": "MR", "channels": ["cine"]}
        content["columns"] = columns
        if cycle is not None:
            content["cycle"] = dict(cycle)
        root.mkdir()
        (root / "dataset.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        rows = []
        for case_id, mask in masks.items():
            shape = (*SHAPE, 2) if mask is None else mask.shape
            files = {"image": np.zeros(shape, np.int16), "anatomy": mask, "t1": (maps or {}).get(case_id)}
            row: dict[str, object] = {"case_id": case_id, "patient": case_id, "split": split, "image": ""}
            row |= {"frame_ed": phases[0], "frame_es": phases[1]} | dict.fromkeys(columns, "")
            for name, array in files.items():
                if array is not None:
                    row[name] = f"volumes/{case_id}/{name}.nii.gz"
                    self.nifti(root / f"volumes/{case_id}/{name}.nii.gz", array)
            rows.append(row | dict((cells or {}).get(case_id, {})))
        _write_csv(root / "cases.csv", rows)
        return root

    def predictions(
        self,
        rows: Sequence[Mapping[str, object]],
        masks: Mapping[str, np.ndarray] | None = None,
        outputs: Mapping[str, object] | None = None,
    ) -> Path:
        """A predictions folder as another program would write it: a table and a mask per case."""
        root = self.root / "predictions"
        _write_csv(root / "predictions.csv", rows)
        for case_id, mask in (masks or {}).items():
            self.nifti(root / case_id / "segmentation.nii.gz", mask)
        if outputs is not None:
            (root / "outputs.yaml").write_text(yaml.safe_dump({"tasks": outputs}), encoding="utf-8")
        return root

    def nifti(self, path: Path, array: np.ndarray, spacing: Sequence[float] = SPACING) -> None:
        _write_nifti(path, array, spacing)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)
