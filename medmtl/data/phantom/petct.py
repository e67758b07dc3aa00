"""PET/CT of the trunk: hot lesions to segment, and a class that follows from one of them far from the others.

As in Hodgkin lymphoma, a large mass in the chest makes the disease bulky. Every patient has small
lesions below the diaphragm, and they tell nothing. Organs are hot in every patient, on both sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from medmtl.data.phantom.folder import class_of, stream
from medmtl.data.phantom.scan import CLASSES, Scan, write_scans
from medmtl.data.phantom.solids import Ellipsoid, Grid, Volume, noisy

LESION = 1

_LUNGS = (Ellipsoid((-75, 0, 95), (55, 80, 92)), Ellipsoid((75, 0, 95), (55, 80, 92)))
_ORGANS = (  # shape, HU, SUV
    (Ellipsoid((15, -35, 55), (48, 45, 48)), 45.0, 3.0),  # heart
    (Ellipsoid((-72, -10, -65), (62, 70, 58)), 60.0, 2.4),  # liver
    (Ellipsoid((95, 40, -70), (32, 38, 48)), 55.0, 1.9),  # spleen
    (Ellipsoid((58, 62, -120), (24, 24, 45)), 35.0, 4.5),  # kidneys
    (Ellipsoid((-55, 68, -130), (24, 24, 45)), 35.0, 4.5),
    (Ellipsoid((0, -20, -180), (34, 30, 30)), 10.0, 12.0),  # bladder
)
_SPINE = Ellipsoid((0, 85, 0), (24, 24, 1000))
_NOISE_MM = 6.0
"""What a PET resolves, about; its noise is as coarse."""


def generate_petct(output: Path, **options: Any) -> Path:
    """Writes a cohort of PET/CT phantoms; see `medmtl.data.phantom.scan.write_scans`."""
    return write_scans(output, make_petct, "bulk", **options)


def make_petct(index: int, *, seed: int = 0, shape: tuple[int, int, int] = (512, 512, 200)) -> Scan:
    """Case number ``index`` (0-based) of the cohort with this seed, whatever the cohort's size.

    Args:
        index: position in the cohort.
        seed: of the cohort.
        shape: voxels along x, y, z of a field of 400 mm; the same patient at any.

    Returns:
        channels ``ct`` (HU) and ``suv`` on one grid, mask ``lesions`` (lesion 1), ``bulk`` (no, yes) and
        ``metabolic_volume``, that of all lesions in mL, analytic.
    """
    draw = stream(seed, 0, index)
    bulk, grid = class_of(index, seed, CLASSES), Grid(shape)
    ct = grid.trunk(20.0, -100.0, 55.0 + float(draw.normal(0, 4)), -1000.0)
    suv = grid.trunk(0.3, 0.4, 0.9 + float(draw.normal(0, 0.1)), 0.0)
    for lung in _LUNGS:
        moved = lung.moved(draw, 4, 0.05)
        grid.paint(ct, moved, -830.0)
        grid.paint(suv, moved, 0.5)
    for solid, hu, uptake in (*_ORGANS, (_SPINE, 320.0, 1.4)):
        moved = solid.moved(draw, 3, 0.05)
        grid.paint(ct, moved, hu + float(draw.normal(0, 8)))
        grid.paint(suv, moved, uptake * float(np.exp(draw.normal(0, 0.15))))
    mask = np.zeros(grid.shape, np.uint8)
    lesions = _draw_lesions(bulk, draw)
    for lesion in lesions:
        grid.paint(ct, lesion, float(draw.uniform(35, 60)))
        grid.paint(suv, lesion, float(draw.uniform(6, 14)))
        grid.label(mask, lesion, LESION)
    noise = stream(seed, 3, index)
    noisy(ct, float(draw.uniform(12, 20)), noise)
    _add_pet_noise(grid, suv, float(draw.uniform(0.08, 0.14)), noise)
    total = sum(lesion.volume_ml for lesion in lesions)
    return Scan(
        grid=grid,
        images={"ct": np.rint(ct).astype(np.int16), "suv": suv},
        masks={"lesions": mask},
        values={"bulk": bulk, "metabolic_volume": round(float(total), 3)},
    )


def _draw_lesions(bulk: str, rng: np.random.Generator) -> list[Ellipsoid]:
    """Two to four small balls below the diaphragm (z = 0), and a large one high in the chest where bulky.

    Those below do not depend on the class.
    """
    below = int(rng.integers(2, 5))
    found: list[Ellipsoid] = []
    while len(found) < below:
        radius = float(rng.uniform(10, 20))
        x, y, z = (float(c) for c in (rng.uniform(-110, 110), rng.uniform(-60, 55), -rng.uniform(45, 150)))
        gaps = [np.linalg.norm(np.subtract((x, y, z), o.centre)) - o.radii[0] - radius for o in found]
        if min(gaps, default=1.0) > 0:
            found.append(Ellipsoid((x, y, z), (radius, radius, radius)))
    radius, side = float(rng.uniform(34, 44)), float(rng.choice([-1, 1]))
    mass = (side * float(rng.uniform(25, 80)), float(rng.uniform(-30, 20)), float(rng.uniform(112, 140)))
    return [*found, Ellipsoid(mass, (radius, radius, radius))] if bulk == "yes" else found


def _add_pet_noise(grid: Grid, suv: Volume, relative: float, rng: np.random.Generator) -> None:
    """Noise as coarse as the camera sees, in proportion to the signal; nothing falls below 0."""
    coarse = [
        min(n, max(2, round(n * mm / _NOISE_MM))) for n, mm in zip(grid.shape, grid.spacing_mm, strict=True)
    ]
    noise = rng.standard_normal(coarse, dtype=np.float32)
    if list(noise.shape) != list(grid.shape):
        factors = [n / c for n, c in zip(grid.shape, coarse, strict=True)]
        noise = ndimage.zoom(noise, factors, order=1, mode="nearest", grid_mode=True)
    noise *= np.float32(relative)
    noise += 1
    suv *= noise
    np.maximum(suv, 0, out=suv)
