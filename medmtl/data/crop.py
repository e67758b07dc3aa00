"""The part of a volume that a patch is sampled from, so that no more is read than is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Box:
    """Voxels ``low .. high - 1`` along each axis."""

    low: tuple[int, int, int]
    high: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        x, y, z = (h - low for low, h in zip(self.low, self.high, strict=True))
        return (x, y, z)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index of the last three axes."""
        x, y, z = (slice(low, high) for low, high in zip(self.low, self.high, strict=True))
        return (x, y, z)


@dataclass(frozen=True)
class Crop:
    """Some frames of a case inside a box.

    Attributes:
        image: ``(F, C, *box)``.
        masks: by column, ``(F, *box)``.
        maps: by column, ``(F, *box)``.
    """

    image: Tensor
    masks: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]


def box_of(grid: Tensor, shape: Sequence[int]) -> Box:
    """The voxels that a sampling grid reads, interpolating linearly.

    Args:
        grid: ``(1, X, Y, Z, 3)`` in grid_sample's coordinates, corners at voxel edges; on the CPU.
        shape: of the volume; what lies outside is not read.
    """
    flat = grid.reshape(-1, 3)
    lowest, highest = flat.amin(0).tolist()[::-1], flat.amax(0).tolist()[::-1]
    low, high = [], []
    for size, first, last in zip(shape, lowest, highest, strict=True):
        # one more on each side: grid_sample rounds in float32, and may look at a neighbour with no weight
        start = int(((first + 1) * size - 1) // 2) - 1
        stop = int(((last + 1) * size - 1) // 2) + 3
        low.append(min(max(start, 0), size - 1))
        high.append(max(min(stop, size), low[-1] + 1))
    return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


def into_box(grid: Tensor, shape: Sequence[int], box: Box) -> Tensor:
    """The same grid for the part of the volume inside a box.

    What lies outside the volume lies outside the box too, as a box ends inside the volume only where nothing
    beyond it is read.
    """
    sizes = torch.tensor(list(shape)[::-1], dtype=grid.dtype)
    parts = torch.tensor(box.shape[::-1], dtype=grid.dtype)
    low = torch.tensor(box.low[::-1], dtype=grid.dtype)
    return (grid + 1) * (sizes / parts) - 2 * low / parts - 1
