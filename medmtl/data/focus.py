"""What training patches are centred on, where volumes are larger than the patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator

from medmtl.data.prepare import PreparedCase

Focus = Literal["organ", "foreground"]
ON_FOREGROUND = 1 / 3
"""Share of the patches that are centred on a labelled voxel (Isensee et al. 2021); the others lie
anywhere."""
MOST = 0.95
"""The organ is what patches are centred on where it fits them in this share of the cases."""


def choose_focus(cases: Sequence[PreparedCase], patch: Sequence[int]) -> Focus:
    """The organ where it fits the patch, as prediction then reads the patch around it; else foreground.

    Where nothing is segmented, patches lie anywhere unless whole volumes fit.

    Args:
        cases: prepared training cases.
        patch: ``(X, Y, Z)`` voxels.
    """
    sizes = [case.extent if any(case.extent) else case.shape for case in cases]
    fitting = sum(all(n <= p for n, p in zip(size, patch, strict=True)) for size in sizes)
    return "organ" if fitting >= MOST * len(sizes) else "foreground"


def draw_centre(
    case: PreparedCase, patch: Sequence[int], frames: Sequence[int], generator: Generator
) -> tuple[float, float, float]:
    """Centre of one patch in voxels: on a labelled voxel of the frames for a third, else anywhere inside.

    Every structure is as likely, however small it is. A patch stays inside the volume where it is smaller.

    Args:
        case: whose index of labelled voxels is drawn from.
        patch: ``(X, Y, Z)`` voxels.
        frames: that the sample has.
        generator: as many numbers are drawn from it whatever they are.
    """
    on_foreground, which, where, *anywhere = torch.rand(6, generator=generator).tolist()
    low = [min((p - 1) / 2, (n - 1) / 2) for n, p in zip(case.shape, patch, strict=True)]
    high = [max(n - 1 - (p - 1) / 2, (n - 1) / 2) for n, p in zip(case.shape, patch, strict=True)]
    wanted = [a + u * (b - a) for a, b, u in zip(low, high, anywhere, strict=True)]
    if on_foreground < ON_FOREGROUND:
        rows = case.foreground
        rows = rows[torch.isin(rows[:, 1], torch.tensor(list(frames), dtype=rows.dtype))]
        if len(rows):
            structures = torch.unique(rows[:, 0])
            rows = rows[rows[:, 0] == structures[int(which * len(structures))]]
            wanted = rows[int(where * len(rows)), 2:].tolist()
    x, y, z = (min(max(float(c), a), b) for c, a, b in zip(wanted, low, high, strict=True))
    return (x, y, z)
