"""Bodies of ellipsoids on any grid: drawn inside their boxes only, with soft edges, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
FIELD_MM = (400.0, 400.0, 400.0)
"""What a scan covers: a trunk from the neck to the pelvis."""


@dataclass(frozen=True)
class Ellipsoid:
    """A shape in mm from the middle of the field: x to the left, y to the back, z to the head."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]

    @property
    def volume_ml(self) -> float:
        """Its analytic volume."""
        a, b, c = self.radii
        return 4 / 3 * np.pi * a * b * c / 1000

    def moved(self, rng: np.random.Generator, shift_mm: float, stretch: float) -> Ellipsoid:
        """The same shape of another patient: shifted by a few mm, each radius by a few per cent."""
        x, y, z = (c + float(rng.normal(0, shift_mm)) for c in self.centre)
        a, b, c = (r * float(np.exp(rng.normal(0, stretch))) for r in self.radii)
        return Ellipsoid((x, y, z), (a, b, c))


class Grid:
    """Voxels of a scan over `FIELD_MM`.

    Args:
        shape: ``(X, Y, Z)`` voxels.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        x, y, z = (int(n) for n in shape)
        self.shape = (x, y, z)
        self.spacing_mm = (FIELD_MM[0] / x, FIELD_MM[1] / y, FIELD_MM[2] / z)
        self.axes = [
            ((np.arange(n) - (n - 1) / 2) * mm).astype(np.float32)
            for n, mm in zip(self.shape, self.spacing_mm, strict=True)
        ]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing_mm)) / 1000

    def box(self, solid: Ellipsoid) -> tuple[slice, ...]:
        """The voxels around a shape."""
        spans = []
        for axis, centre, radius, mm in zip(
            self.axes, solid.centre, solid.radii, self.spacing_mm, strict=True
        ):
            first, last = np.searchsorted(axis, (centre - radius - mm, centre + radius + mm))
            spans.append(slice(int(first), int(last)))
        return tuple(spans)

    def share(self, solid: Ellipsoid, box: tuple[slice, ...]) -> Volume:
        """Share of each voxel of the box that lies inside, about; the edge is a voxel wide."""
        x, y, z = (
            ((axis[part] - centre) / radius) ** 2
            for axis, part, centre, radius in zip(self.axes, box, solid.centre, solid.radii, strict=True)
        )
        distance = np.sqrt(x[:, None, None] + y[None, :, None] + z[None, None, :])
        width = float(np.mean(self.spacing_mm)) / min(solid.radii)
        return np.clip((1 - distance) / width + 0.5, 0, 1).astype(np.float32)

    def paint(self, volume: Volume, solid: Ellipsoid, value: float) -> None:
        """Replace what was there by a value, blended at the edge."""
        box = self.box(solid)
        volume[box] += self.share(solid, box) * (np.float32(value) - volume[box])

    def label(self, mask: NDArray[np.uint8], solid: Ellipsoid, value: int) -> None:
        """Mark the voxels of which at least half lies inside."""
        box = self.box(solid)
        mask[box][self.share(solid, box) >= 0.5] = value

    def trunk(self, skin: float, fat: float, muscle: float, air: float) -> Volume:
        """An elliptic cylinder of muscle in a layer of fat, in air: ``(X, Y, Z)``."""
        x, y = self.axes[0][:, None] / 175, self.axes[1][None, :] / 125
        radius = np.sqrt(x**2 + y**2)
        plane = np.select([radius < 0.88, radius < 0.98, radius < 1], [muscle, fat, skin], air).astype(
            np.float32
        )
        return np.repeat(plane[:, :, None], self.shape[2], axis=2)


def noisy(volume: Volume, sd: float, rng: np.random.Generator) -> Volume:
    """White noise added, in place."""
    noise = rng.standard_normal(volume.shape, dtype=np.float32)
    noise *= np.float32(sd)
    volume += noise
    return volume
