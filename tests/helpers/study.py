"""A tiny study that is learned in a few steps: written as a dataset folder, configured, made ready."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
import yaml

from medmtl.config import job_of, parse_config
from medmtl.data.batch import TrainingBatches
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.engine import Job
from medmtl.engine.setup import Ready, set_up

SHAPE = (16, 16, 4)
AFFINE = np.diag([-2.0, -2.0, 8.0, 1.0])
FUNCTION: dict[str, Any] = {
    "LV_EDV": {
        "kind": "value",
        "unit": "mL",
        "derived": {"quantity": "volume", "mask": "anatomy", "structure": "LV", "frame": "ED"},
    },
    "LV_EF": {
        "kind": "value",
        "unit": "%",
        "derived": {"quantity": "ejection_fraction", "mask": "anatomy", "structure": "LV"},
    },
}
COLUMNS: dict[str, Any] = {
    "anatomy": {"kind": "mask", "labels": {"RV": 1, "MYO": 2, "LV": 3}},
    "tissue": {"kind": "mask", "labels": {"healthy": 1, "scar": 2}},
    "t1": {"kind": "map", "unit": "ms"},
    "disease": {"kind": "category", "classes": ["small", "large"]},
    "sex": {"kind": "category", "classes": ["F", "M", "X"]},
    "height": {"kind": "value", "unit": "cm"},
    **FUNCTION,
}
SECTIONS: dict[str, dict[str, Any]] = {
    "anatomy": {"type": "segmentation", "target": "anatomy"},
    "tissue": {"type": "tissue", "target": "tissue", "inside": "anatomy.MYO"},
    "t1": {"type": "dense_regression", "target": "t1"},
    "disease": {"type": "classification", "target": "disease", "hidden": 8},
    "function": {"type": "regression", "targets": ["LV_EDV", "LV_EF"], "hidden": 8},
}
"""One task of every built-in kind."""

SPLITS = ("train", "train", "train", "train", "train", "val", "val", "test", "test")


def heart(radius: float, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Labels ``(X, Y, Z)``: a round LV in a wall of 2 voxels, and an RV beside it."""
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    distance = np.hypot(x - (shape[0] - 1) / 2, y - (shape[1] - 1) / 2)
    plane = np.zeros(shape[:2], np.uint8)
    plane[(distance < radius + 4) & (x < shape[0] / 2 - radius)] = 1
    plane[distance < radius + 2] = 2
    plane[distance < radius] = 3
    return np.repeat(plane[:, :, None], shape[2], axis=2)


def write_case(
    folder: Path,
    number: int,
    *,
    shape: Sequence[int] = SHAPE,
    frames: int = 2,
    channels: Sequence[str] = ("cine",),
    affine: np.ndarray = AFFINE,
) -> dict[str, str]:
    """Files of one case; the cells that name them, and its class and height."""
    rng = np.random.default_rng(number)
    radii = np.linspace(3.0 + number % 2, 1.5 + number % 2, frames)
    anatomy = np.stack([heart(radius, shape) for radius in radii], -1)
    tissue = np.where(anatomy == 2, 1, 0).astype(np.uint8)
    tissue[: shape[0] // 2][tissue[: shape[0] // 2] == 1] = 2
    t1 = np.where(anatomy == 2, 1000.0 + 100 * tissue, np.nan).astype(np.float32)
    cells = {}
    for channel in channels:
        image = 50.0 * anatomy + 30.0 * (tissue == 2) + rng.normal(0, 5, anatomy.shape)
        cells["image" if len(channels) == 1 else f"image_{channel}"] = _save(folder, channel, image, affine)
    cells |= {
        "anatomy": _save(folder, "anatomy", anatomy, affine),
        "tissue": _save(folder, "tissue", tissue, affine),
        "t1": _save(folder, "t1", t1, affine),
        "disease": ("small", "large")[number % 2],
        "sex": ("F", "M", "X")[number % 3],
        "height": str(160 + number),
    }
    return cells


def _save(folder: Path, name: str, array: np.ndarray, affine: np.ndarray) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.nii.gz"
    kept = array if array.dtype == np.uint8 else array.astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(kept if kept.shape[3:] != (1,) else kept[..., 0], affine), path)
    return f"volumes/{folder.name}/{name}.nii.gz"


def write_study(
    root: Path,
    *,
    splits: Sequence[str] = SPLITS,
    frames: int = 2,
    shape: Sequence[int] = SHAPE,
    channels: Sequence[str] = ("cine",),
    blank: Mapping[str, Sequence[str]] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
    cells: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """A dataset folder of cases c0, c1, ...

    Args:
        root: the folder.
        splits: split of every case.
        frames: frames of every case; of more than two, only the first and the last are labelled.
        shape: of every volume.
        channels: of the image.
        blank: columns that are not labelled, by case.
        more: further columns.
        cells: further cells, by case.
    """
    rows = []
    for number, split in enumerate(splits):
        name = f"c{number}"
        row = {"case_id": name, "patient": name, "split": split}
        row |= write_case(root / "volumes" / name, number, frames=frames, shape=shape, channels=channels)
        if frames > 1:
            row |= {"frame_ed": "0", "frame_es": str(frames - 1)}
        if frames > 2:
            _hide_middle(root / row["anatomy"])
        row |= (cells or {}).get(name, {})
        row |= dict.fromkeys((blank or {}).get(name, ()), "")
        rows.append(row)
    schema = {"medmtl_dataset": 1, "name": "tiny", "modality": "MR", "channels": list(channels)}
    cycle = {"mask": "anatomy", "structure": "LV"}
    columns = {**COLUMNS, **(more or {})}
    (root / "dataset.yaml").write_text(yaml.safe_dump({**schema, "columns": columns, "cycle": cycle}))
    with (root / "cases.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return root


def _hide_middle(path: Path) -> None:
    """Mark all frames but the first and the last as not labelled."""
    image = nibabel.load(path)
    data = np.asarray(image.dataobj).copy()
    data[..., 1:-1] = 255
    nibabel.save(nibabel.Nifti1Image(data, image.affine), path)


def sections(*names: str, **changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Config sections of some tasks of `SECTIONS`, all by default, with options changed."""
    return {name: {**SECTIONS[name], **changes.get(name, {})} for name in names or SECTIONS}


def make_job(
    dataset: Dataset | Path,
    output: Path,
    tasks: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    weighting: Mapping[str, Any] | None = None,
    backbone: Mapping[str, Any] | None = None,
    patch: Sequence[int] = SHAPE,
    covariates: Sequence[str] = (),
    seed: int = 0,
    **training: Any,
) -> Job:
    """The job of a small config, through the config that a user would write."""
    settings = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 2, "warmup_steps": 1, "threads": 1}
    config = {
        "seed": seed,
        "device": "cpu",
        "preparation": {"patch": list(patch)},
        "covariates": list(covariates),
        "backbone": dict(backbone or {"type": "unet", "widths": [4, 8]}),
        "tasks": {name: dict(section) for name, section in (tasks or sections()).items()},
        "weighting": dict(weighting or {"type": "balanced"}),
        "training": settings | training,
    }
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    return job_of(parse_config(config), opened, output)


def make_ready(job: Job) -> Ready:
    """Prepared cases, tasks and an untrained network, as training starts from."""
    return set_up(job, torch.device("cpu"))


def make_batches(ready: Ready, batch_size: int = 2, **options: Any) -> TrainingBatches:
    """Batches of the training cases, unchanged by augmentation."""
    patch = ready.plan.preparation.patch
    return TrainingBatches(ready.train, ready.label_columns, patch, batch_size=batch_size, **options)
