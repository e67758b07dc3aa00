"""What the headers of a dataset say: voxel sizes and shapes, with the slice axis of a stack last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel
import numpy as np

from medmtl.data.dataset import Case, Dataset
from medmtl.data.prepare import ANISOTROPIC, stack_axcodes


@dataclass(frozen=True)
class Fingerprint:
    """Medians over cases, along the network's axes.

    Attributes:
        spacing_mm: median voxel size.
        shape: median number of voxels.
        largest: largest number of voxels along each axis.
        is_stack: whether most cases are stacks of thick slices.
    """

    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    largest: tuple[int, int, int]
    is_stack: bool


def fingerprint(dataset: Dataset, cases: Sequence[Case]) -> Fingerprint:
    """Measure the given cases from their headers alone."""
    spacings, shapes = [], []
    for case in cases:
        geometry = dataset.geometry[case.case_id]
        own = nibabel.io_orientation(geometry.affine)
        wanted = nibabel.orientations.axcodes2ornt(tuple(stack_axcodes(geometry.affine)))
        order = [int(np.flatnonzero(own[:, 0] == axis)[0]) for axis in wanted[:, 0]]
        spacings.append([geometry.spacing_mm[axis] for axis in order])
        shapes.append([geometry.shape[axis] for axis in order])
    spacing = np.array(spacings)
    is_stack = bool(np.median(spacing.max(1) / spacing.min(1)) >= ANISOTROPIC)
    sx, sy, sz = (float(s) for s in np.median(spacing, axis=0))
    x, y, z = (int(s) for s in np.median(shapes, axis=0))
    lx, ly, lz = (int(s) for s in np.max(shapes, axis=0))
    return Fingerprint((sx, sy, sz), (x, y, z), (lx, ly, lz), is_stack)
