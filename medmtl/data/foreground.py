"""Where the labelled structures of a case lie: the box around them, and voxels to centre patches on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmtl.types import UNLABELLED

Ends = tuple[tuple[int, int, int], tuple[int, int, int]]
"""First and last voxel along each axis."""
PER_STRUCTURE = 512
"""Voxels that are remembered of each structure of a case, evenly spread over all that it has."""


def labelled_box(mask: Tensor) -> Ends | None:
    """First and last voxel along each axis of what a mask ``(T, X, Y, Z)`` labels in any frame, or None."""
    drawn = ((mask > 0) & (mask != UNLABELLED)).any(0)
    if not drawn.any():
        return None
    sides = [drawn.any(2).any(1), drawn.any(2).any(0), drawn.any(1).any(0)]
    found = [torch.nonzero(side)[:, 0] for side in sides]
    (ax, bx), (ay, by), (az, bz) = ((int(index[0]), int(index[-1])) for index in found)
    return (ax, ay, az), (bx, by, bz)


def organ_place(
    boxes: Sequence[Ends | None], shape: Sequence[int]
) -> tuple[tuple[float, float, float], tuple[int, int, int]]:
    """Where the organ lies: middle and size of the first of some boxes; the image centre without any.

    Args:
        boxes: of the masks, in their order; None of one that labels nothing.
        shape: of the volume.
    """
    ends = next((box for box in boxes if box is not None), None)
    if ends is None:
        x, y, z = ((n - 1) / 2 for n in shape)
        return (x, y, z), (0, 0, 0)
    x, y, z = ((first + last) / 2 for first, last in zip(*ends, strict=True))
    width, depth, height = (last - first + 1 for first, last in zip(*ends, strict=True))
    return (x, y, z), (width, depth, height)


def foreground_index(masks: Mapping[str, Tensor]) -> Tensor:
    """Voxels of every structure: ``(N, 5)`` int32 rows of structure, frame, x, y, z.

    The number of a structure is 256 times its mask's place among the sorted columns, plus its value.

    Args:
        masks: by column, ``(T, X, Y, Z)`` uint8.
    """
    rows = []
    for position, name in enumerate(sorted(masks)):
        mask = masks[name]
        for value in torch.unique(mask).tolist():
            if value in (0, UNLABELLED):
                continue
            places = torch.nonzero(mask.flatten() == value)[:, 0]
            step = max(1.0, len(places) / PER_STRUCTURE)
            chosen = places[(torch.arange(min(len(places), PER_STRUCTURE)) * step).long()]
            number = torch.full_like(chosen, 256 * position + value)
            rows.append(torch.stack([number, *torch.unravel_index(chosen, mask.shape)], dim=1))
    return torch.cat(rows).int() if rows else torch.empty((0, 5), dtype=torch.int32)
