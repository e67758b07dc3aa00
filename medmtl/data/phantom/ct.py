"""CT of the trunk: a liver with lesions to segment, and fluid around a lung far away that names the class.

Whether there is an effusion (of blood, 45 to 70 HU) cannot be told from anywhere near the liver, nor from
the middle of the image: it lies in the back of the left lung, high in the chest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medmtl.data.phantom.folder import class_of, stream
from medmtl.data.phantom.scan import CLASSES, Scan, write_scans
from medmtl.data.phantom.solids import Ellipsoid, Grid, Volume, noisy

LIVER, LESION = 1, 2
AIR, LUNG, FAT, SKIN = -1000.0, -830.0, -100.0, 20.0

FLOOR_MM = 80.0
"""The fluid is encapsulated above this height from the middle, far from the liver and from the middle."""

_LIVER = Ellipsoid((-72, -10, -65), (62, 70, 58))
_LUNGS = (Ellipsoid((-75, 0, 95), (55, 80, 92)), Ellipsoid((75, 0, 95), (55, 80, 92)))
_OTHERS = (  # shape, HU as in a portal-venous scan
    (Ellipsoid((15, -35, 55), (48, 45, 48)), 45.0),  # heart
    (Ellipsoid((95, 40, -70), (32, 38, 48)), 105.0),  # spleen
    (Ellipsoid((58, 62, -120), (24, 24, 45)), 130.0),  # kidneys
    (Ellipsoid((-55, 68, -130), (24, 24, 45)), 130.0),
    (Ellipsoid((40, -60, -90), (35, 28, 32)), -500.0),  # gas in the stomach
)
_SPINE = Ellipsoid((0, 85, 0), (24, 24, 1000))


def generate_ct(output: Path, **options: Any) -> Path:
    """Writes a cohort of CT phantoms; see `medmtl.data.phantom.scan.write_scans`.

    Example:
        >>> import tempfile
        >>> root = generate_ct(Path(tempfile.mkdtemp()), cases=1, shape=(48, 48, 24))
        >>> sorted(path.name for path in root.glob("*/*"))
        ['ct.nii.gz', 'organs.nii.gz']
    """
    return write_scans(output, make_ct, "effusion", **options)


def make_ct(index: int, *, seed: int = 0, shape: tuple[int, int, int] = (512, 512, 200)) -> Scan:
    """Case number ``index`` (0-based) of the cohort with this seed, whatever the cohort's size.

    Args:
        index: position in the cohort.
        seed: of the cohort.
        shape: voxels along x, y, z of a field of 400 mm; the same patient at any.

    Returns:
        channel ``ct`` (HU), mask ``organs`` (liver 1, lesion 2), ``effusion`` (no, yes) and its volume in mL.
    """
    draw = stream(seed, 0, index)
    grid, effusion = Grid(shape), class_of(index, seed, CLASSES)
    image = grid.trunk(SKIN, FAT, 55.0 + float(draw.normal(0, 4)), AIR)
    lungs = [lung.moved(draw, 4, 0.05) for lung in _LUNGS]
    for lung in lungs:
        grid.paint(image, lung, LUNG + float(draw.normal(0, 20)))
    for solid, value in (*_OTHERS, (_SPINE, 320.0)):
        grid.paint(image, solid.moved(draw, 3, 0.05), value + float(draw.normal(0, 8)))
    liver = _LIVER.moved(draw, 5, 0.06)
    grid.paint(image, liver, 100.0 + float(draw.normal(0, 8)))
    mask = np.zeros(grid.shape, np.uint8)
    grid.label(mask, liver, LIVER)
    for _ in range(int(draw.integers(1, 5))):
        lesion = _inside(liver, float(draw.uniform(9, 20)), draw)
        grid.paint(image, lesion, float(draw.uniform(15, 60)))
        grid.label(mask, lesion, LESION)
    # Bloody fluid: a window that is measured on the liver hides water. Drawn for both classes alike.
    level, value = float(draw.uniform(0.25, 0.45)), float(draw.uniform(45, 70))
    fluid_ml = _pour(grid, image, lungs[1], level, value) if effusion == "yes" else 0.0
    sd = float(draw.uniform(9, 14))
    noisy(image, sd, stream(seed, 3, index))
    return Scan(
        grid=grid,
        images={"ct": np.rint(image).astype(np.int16)},
        masks={"organs": mask},
        values={"effusion": effusion, "effusion_ml": round(fluid_ml, 3)},
    )


def _inside(organ: Ellipsoid, radius: float, rng: np.random.Generator) -> Ellipsoid:
    """A ball somewhere within an organ."""
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    reach = float(rng.uniform(0, 0.9))
    x, y, z = (
        c + reach * d * max(0.0, r - radius)
        for c, d, r in zip(organ.centre, direction, organ.radii, strict=True)
    )
    return Ellipsoid((float(x), float(y), float(z)), (radius, radius, radius))


def _pour(grid: Grid, image: Volume, lung: Ellipsoid, level: float, value: float) -> float:
    """Fluid in the back of a lung, above `FLOOR_MM`, as deep as a share of it; returns its volume in mL."""
    box = grid.box(lung)
    share = grid.share(lung, box)
    surface = lung.centre[1] + lung.radii[1] * (1 - 2 * level)
    depth = (grid.axes[1][box[1]] - surface) / grid.spacing_mm[1] + 0.5
    height = (grid.axes[2][box[2]] - FLOOR_MM) / grid.spacing_mm[2] + 0.5
    share *= np.clip(depth, 0, 1)[None, :, None] * np.clip(height, 0, 1)[None, None, :]
    image[box] += share * (np.float32(value) - image[box])
    return float(share.sum(dtype=np.float64)) * grid.voxel_ml
