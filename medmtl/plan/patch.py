"""The patch: as much of a volume as fits the memory, nnU-Net's way down from a whole one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from medmtl.plan.fingerprint import Fingerprint
from medmtl.plan.topology import LEVELS, network_topology, padded, total_stride

LARGEST = 256**3
"""Voxels of the patch to start from; nobody trains on more."""
DEEP = 24
"""A kept stack that is deeper than this is pooled along itself like any axis."""
SMALLEST_SIDE = 16
"""A patch is not made smaller than this along a side, whatever the memory."""


@dataclass(frozen=True)
class Shaped:
    """A patch and the network that suits it."""

    patch: list[int]
    kernels: list[list[int]]
    strides: list[list[int]]


def first_patch(found: Fingerprint, target: Sequence[float | None]) -> list[int]:
    """Where to start: voxels in the spacing's proportions, at most the median volume.

    A stack that keeps its slices is taken whole, so that case tasks see all of it: as deep as the deepest
    case, if that is not more than twice the median.
    """
    spacing = spacing_of(found, target)
    shapes = found.resampled(target)
    proportions = 1 / np.array(spacing)
    start = proportions * (LARGEST / proportions.prod()) ** (1 / 3)
    median = np.median(shapes, axis=0)
    least = (SMALLEST_SIDE, SMALLEST_SIDE, 1)  # in-plane there has to be something to pool
    patch = [max(low, round(min(s, m))) for low, s, m in zip(least, start, median, strict=True)]
    if target[2] is None:
        deepest = min(int(shapes[:, 2].max()), 2 * int(np.median(shapes[:, 2])))
        patch[2] = max(1, round(min(start[2], deepest)))
    return patch


def spacing_of(found: Fingerprint, target: Sequence[float | None]) -> list[float]:
    """Voxel size on the network's grid; where each case keeps its own, their median."""
    return [own if wanted is None else wanted for own, wanted in zip(found.spacing_mm, target, strict=True)]


@dataclass(frozen=True)
class Shaping:
    """How a network follows from a patch.

    Attributes:
        spacing: voxel size on the network's grid.
        keep_slices: each case keeps its own slices.
        levels: of the network, at most.
        strides: into each level, where they are not left to the data.
    """

    spacing: Sequence[float]
    keep_slices: bool = False
    levels: int = LEVELS
    strides: Sequence[Sequence[int]] | None = None

    def __call__(self, patch: Sequence[int], *, pad: bool = True) -> Shaped:
        """The network that suits a patch, which is made as large as the poolings ask."""
        keep = self.keep_slices and patch[2] <= DEEP
        kernels, strides = network_topology(self.spacing, patch, self.levels, keep_slices=keep, pad=pad)
        used = strides if self.strides is None else [list(stride) for stride in self.strides]
        return Shaped(padded(patch, used) if pad else list(patch), kernels, used)


def fit_patch(start: Sequence[int], shape: Shaping, fits: Callable[[Shaped], bool]) -> Shaped | None:
    """Make a patch smaller until it fits, each time along the side that is largest beside where it started.

    Args:
        start: the patch to start from.
        shape: how a network follows from a patch.
        fits: whether training on a patch fits the memory.

    Returns:
        the first that fits, or None when not even the smallest does.
    """
    shaped = shape(start)
    while not fits(shaped):
        steps = total_stride(shaped.strides)
        sides = [a for a in range(3) if shaped.patch[a] - steps[a] >= min(SMALLEST_SIDE, start[a])]
        if not sides:
            return None
        axis = max(sides, key=lambda side: shaped.patch[side] / start[side])
        before, patch, smaller = prod(shaped.patch), list(shaped.patch), list(shaped.patch)
        smaller[axis] -= steps[axis]
        # with one pooling less a smaller step will do: 224 lies between 256 and 192
        patch[axis] -= total_stride(shape(smaller).strides)[axis]
        shaped = shape(patch)
        while prod(shaped.patch) >= before:  # padding gave back what was taken
            if smaller[axis] < 1:
                return None
            shaped = shape(smaller)
            smaller[axis] -= steps[axis]
    return shaped
