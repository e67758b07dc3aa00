"""Kernels and strides from spacing and patch, after the rules of nnU-Net (Isensee et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST = 4
"""No axis is pooled below this many voxels."""
LEVELS = 7
"""A U-Net that the data shapes has at most this many levels."""
FIRST_WIDTH, LAST_WIDTH = 32, 320
"""Channels double from level to level, from the first of these to the last (nnU-Net's)."""


def network_topology(
    spacing_mm: Sequence[float],
    patch: Sequence[int],
    levels: int = LEVELS,
    *,
    keep_slices: bool = False,
    pad: bool = False,
) -> tuple[list[list[int]], list[list[int]]]:
    """Kernels and strides of a U-Net with at most ``levels`` levels.

    An axis is pooled while it keeps at least 4 voxels and its voxel is less than twice the finest one among
    the axes that can still be pooled; it is convolved over (kernel 3) from the first level on which its voxel
    is no more than twice the finest. A single axis is pooled alone while it keeps at least 6. Unlike nnU-Net,
    an odd number of voxels is not pooled (nothing is padded), and the coarsest level has kernels by the same
    rule.

    Args:
        spacing_mm: voxel size along each axis.
        patch: voxels along each axis.
        levels: at most this many.
        keep_slices: never pool the third axis, and convolve over it only from the level on which voxels are
            as wide as slices lie apart: what was measured best on short-axis stacks
            (`benchmarks/results/acdc.json`).
        pad: pool odd numbers too; `padded` says how much larger the patch has to be.

    Returns:
        kernels and strides, one triple per level; the first stride is ``[1, 1, 1]``.
    """
    spacing, size = [float(s) for s in spacing_mm], [int(p) for p in patch]
    reach = [2.0, 2.0, 1.0 if keep_slices else 2.0]
    kernels: list[list[int]] = []
    strides: list[list[int]] = []
    kernel, stride = [1, 1, 1], [1, 1, 1]
    for _ in range(levels):
        strides.append(stride)
        finest = min(spacing[:2]) if keep_slices else min(spacing)
        kernel = [
            3 if k == 3 or s <= r * finest else 1 for k, s, r in zip(kernel, spacing, reach, strict=True)
        ]
        kernels.append(kernel)
        poolable = [n >= 2 * SMALLEST and (pad or n % 2 == 0) for n in size]
        poolable[2] = poolable[2] and not keep_slices
        finest = min((s for s, can in zip(spacing, poolable, strict=True) if can), default=0.0)
        stride = [2 if can and s < 2 * finest else 1 for can, s in zip(poolable, spacing, strict=True)]
        pooled = [n for n, f in zip(size, stride, strict=True) if f == 2]
        if not pooled or (len(pooled) == 1 and pooled[0] < 3 * SMALLEST):
            break
        spacing = [s * f for s, f in zip(spacing, stride, strict=True)]
        size = [-(-n // f) for n, f in zip(size, stride, strict=True)]
    return kernels, strides


def total_stride(strides: Sequence[Sequence[int]]) -> list[int]:
    """What each side of a patch has to be a multiple of."""
    total = [1, 1, 1]
    for stride in strides:
        total = [t * s for t, s in zip(total, stride, strict=True)]
    return total


def padded(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> list[int]:
    """The patch, each side made as large as the strides ask."""
    return [-(-n // t) * t for n, t in zip(patch, total_stride(strides), strict=True)]


def usual_widths(levels: int) -> list[int]:
    """nnU-Net's channels per level."""
    return [min(LAST_WIDTH, FIRST_WIDTH * 2**level) for level in range(levels)]
