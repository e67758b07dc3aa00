"""What benchmarks/predict.py works on: a model of phantoms, and DICOM studies, some of them bad."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medmtl import verbs
from medmtl.config import parse_config
from medmtl.data.dataset import open_dataset
from medmtl.data.nifti import Geometry, Volume, write_volume
from medmtl.data.phantom import generate_cohort, make_case
from medmtl.data.phantom.dicom import write_dicom

BASES = 5
"""Different hearts; studies are these with noise of their own."""
_HEARTS: dict[tuple[tuple[int, int, int], int], NDArray[np.int16]] = {}


class Size:
    """How large everything is.

    Args:
        shape: voxels of a study.
        spacing_mm: of a study.
        frames: of a study.
        patch: that the network sees, at 2.5 mm.
        widths: of the network.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing_mm: tuple[float, float, float],
        frames: int,
        patch: list[int],
        widths: list[int],
    ) -> None:
        self.shape, self.spacing_mm, self.frames = shape, spacing_mm, frames
        self.patch, self.widths = patch, widths


SIZES = {
    "tiny": Size((40, 40, 9), (4.0, 4.0, 10.0), 4, [32, 32, 9], [4, 8, 16]),
    "small": Size((96, 96, 10), (2.0, 2.0, 9.0), 10, [64, 64, 10], [16, 32, 64]),
    "acdc": Size((216, 216, 10), (1.5, 1.5, 9.0), 25, [96, 96, 10], [32, 64, 128, 256]),
}


def make_model(folder: Path, size: Size, device: str) -> Path:
    """A model of a few steps, which are enough to find a heart: more would not make it faster or slower."""
    source = generate_cohort(
        folder / "cohort", cases=6, frames=2, shape=size.shape, spacing_mm=size.spacing_mm, seed=3
    )
    truth = pd.read_csv(source / "truth.csv")
    case_id = truth["case_id"]
    columns = {
        "case_id": case_id,
        "image_cine": case_id + "/cine.nii.gz",
        "anatomy": case_id + "/anatomy.nii.gz",
        "disease": truth["disease"],
        "LV_EF [%]": truth["LV_EF"],
    }
    pd.DataFrame(columns).to_csv(source / "cases.csv", index=False)
    (source / "cases.yaml").write_text(
        "modality: MR\ncolumns:\n  anatomy: {labels: {RV: 1, MYO: 2, LV: 3}}\n"
        "  LV_EF: {derived: {quantity: ejection_fraction, mask: anatomy, structure: LV}}\n"
        "cycle: {mask: anatomy, structure: LV}\n"
    )
    verbs.ingest(source / "cases.csv", folder / "dataset")
    config = parse_config(
        {
            "device": device,
            "preparation": {
                "spacing_mm": [2.5 if size.patch[0] > 40 else 4.0] * 2 + [None],
                "patch": size.patch,
            },
            "backbone": {"type": "unet", "widths": size.widths, "residual": False},
            "tasks": {
                "anatomy": {"type": "segmentation", "target": "anatomy"},
                "disease": {"type": "classification", "target": "disease", "masks": []},
                "function": {"type": "regression", "targets": ["LV_EF"]},
            },
            "weighting": {"type": "balanced"},
            "training": {
                "epochs": 1,
                "steps_per_epoch": 60,
                "batch_size": 2,
                "learning_rate": 5e-3,
                "warmup_steps": 5,
            },
        },
        where="benchmark",
    )
    verbs.train(config, open_dataset(folder / "dataset"), output=folder / "run")
    return folder / "run" / "model"


def write_studies(folder: Path, count: int, size: Size, *, seed: int = 0, nifti: bool = False) -> list[Path]:
    """As many studies as asked: a folder of DICOM files each, or a NIfTI file each."""
    made = [folder / f"{number:05d}{'.nii.gz' if nifti else ''}" for number in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    fork, processes = get_context("fork"), min(16, len(os.sched_getaffinity(0)))
    missing = [base for base in range(min(BASES, count)) if (size.shape, base) not in _HEARTS]
    with fork.Pool(processes) as pool:
        hearts = pool.starmap(_make_heart, [(size, base) for base in missing])
    _HEARTS.update({(size.shape, base): heart for base, heart in zip(missing, hearts, strict=True)})
    jobs = [(path, number % BASES, size, (seed, number)) for number, path in enumerate(made)]
    with fork.Pool(processes) as pool:  # which sees the hearts
        pool.starmap(_write_study, jobs, chunksize=4)
    return made


def _make_heart(size: Size, base: int) -> NDArray[np.int16]:
    options = {"seed": 40, "frames": size.frames, "shape": size.shape, "spacing_mm": size.spacing_mm}
    return make_case(base, **options).images["cine"]


def _write_study(path: Path, base: int, size: Size, seed: tuple[int, int]) -> None:
    cine = _HEARTS[size.shape, base]
    noise = np.random.default_rng(seed).integers(0, 9, size.shape, dtype=np.int16)
    if path.suffix:
        affine = np.diag([-size.spacing_mm[0], -size.spacing_mm[1], size.spacing_mm[2], 1.0])
        grid = Geometry(size.shape, size.frames, affine)
        write_volume(path, Volume(np.moveaxis(cine + noise, 0, -1), grid, 40.0))
    else:
        write_dicom(path, cine + noise, spacing_mm=size.spacing_mm, time_step_ms=40.0)


def _truncated(study: Path) -> None:
    for path in study.iterdir():
        path.write_bytes(path.read_bytes()[:-1000])


def _without_a_slice(study: Path) -> None:
    for path in study.glob("slice04_*"):
        path.unlink()


def _without_a_phase_in_each_slice(study: Path) -> None:
    phases = 1 + max(int(path.stem[-2:]) for path in study.iterdir())
    for path in sorted(study.iterdir()):
        if int(path.name[5:7]) % phases == int(path.stem[-2:]):
            path.unlink()


def _one_slice(study: Path) -> None:
    for path in study.iterdir():
        if not path.name.startswith("slice02"):
            path.unlink()


FAULTS: dict[str, tuple[Callable[[Path], None], frozenset[str]]] = {
    "truncated": (_truncated, frozenset({"TRUNCATED", "NO_USABLE_SERIES"})),
    "a slice is missing": (_without_a_slice, frozenset({"GAP", "NO_USABLE_SERIES"})),
    "every phase lacks a slice": (_without_a_phase_in_each_slice, frozenset({"INCOMPLETE_GRID"})),
    "one slice": (_one_slice, frozenset({"SINGLE_SLICE", "NO_USABLE_SERIES"})),
}
"""What is done to a study, and the codes that name it."""
