"""Sunnybrook's layouts in small: cines of a bright cavity in dark muscle, and contours on its borders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.helpers.dicom_writer import AXIAL, ge_cine, grid, write

SIZE, SLICES, PHASES = 72, 5, 4
ED, ES = 3, 1
ONE, TWO, THREE = "SCD0000101", "SCD0000201", "SCD0000301"
CENTRES = {ONE: (36.3, 33.6), TWO: (26.4, 42.2), THREE: (46.2, 26.4)}
ORIGINAL = {ONE: "SC-HF-I-1", TWO: "SC-N-2", THREE: "SC-HYP-3"}

_RADIUS = {ED: 12.0, ES: 8.0}


def write_images(folder: Path, patient: str) -> Path:
    """A cine, ``1.dcm`` to ``20.dcm``."""
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    centre = CENTRES[patient]
    away = np.hypot(x - centre[0], y - centre[1])
    cine = np.zeros((SIZE, SIZE, SLICES, PHASES))
    for t in range(PHASES):
        radius = _RADIUS.get(t, 10.0)
        cine[..., t] = np.where(away < radius, 300, np.where(away < 17, 60, 150))[..., None]
    cine += np.random.default_rng(0).integers(0, 20, cine.shape)
    export = replace(ge_cine(cine, grid(SLICES, orientation=AXIAL, spacing=(1.4, 1.4, 8.0))), name=patient)
    export.tags = {**export.tags, "PatientID": patient}
    return write(export, folder, lambda number: f"{number + 1}.dcm")


def circle(centre: tuple[float, float], radius: float) -> np.ndarray:
    """Outline ``(N, 2)`` in voxels."""
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return np.column_stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)])


def write_contour(folder: Path, z: int, t: int, kind: str, points: np.ndarray) -> Path:
    """A contour file; its coordinates count from the corner of the first pixel."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"IM-0001-{z * PHASES + t + 1:04d}-{kind}contour-manual.txt"
    path.write_text("".join(f"{x + 0.5:.2f} {y + 0.5:.2f}\n" for x, y in points))
    return path


def write_contours(folder: Path, patient: str) -> Path:
    """Inner contours at ED and ES, outer ones at ED, on three slices."""
    for z in (1, 2, 3):
        for t, radius in _RADIUS.items():
            write_contour(folder / "i-contours", z, t, "i", circle(CENTRES[patient], radius))
        write_contour(folder / "o-contours", z, ED, "o", circle(CENTRES[patient], 17))
    return folder


def write_study(root: Path, *patients: str, link: bool = True) -> Path:
    """The layout with ``dicoms``, ``contourfiles`` and ``link.csv``; three patients by default."""
    patients = patients or (ONE, TWO, THREE)
    for patient in patients:
        write_images(root / "dicoms" / patient, patient)
        write_contours(root / "contourfiles" / ORIGINAL[patient], patient)
    if link:
        rows = [f"{patient},{ORIGINAL[patient]}\n" for patient in patients]
        (root / "link.csv").write_text("patient_id,original_id\n" + "".join(rows))
    return root
