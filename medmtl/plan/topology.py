"""Kernels and strides from spacing and patch, after the rules of nnU-Net (Isensee et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST = 4
"""No axis is pooled below this many voxels."""


def network_topology(
    spacing_mm: Sequence[float], patch: Sequence[int], levels: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Kernels and strides of a U-Net with at most ``levels`` levels.

    An axis is pooled while it keeps at least 4 voxels and its voxel is less than twice the finest one among
    the axes that can still be pooled; it is convolved over (kernel 3) from the first level on which its voxel
    is no more than twice the finest. Unlike nnU-Net, an odd number of voxels is not pooled (nothing is
    padded), a single axis is pooled like any other, and the coarsest level has kernels by the same rule.

    Args:
        spacing_mm: voxel size along each axis.
        patch: voxels along each axis.
        levels: at most this many.

    Returns:
        kernels and strides, one triple per level; the first stride is ``[1, 1, 1]``.
    """
    spacing, size = [float(s) for s in spacing_mm], [int(p) for p in patch]
    kernels: list[list[int]] = []
    strides: list[list[int]] = []
    kernel, stride = [1, 1, 1], [1, 1, 1]
    for _ in range(levels):
        strides.append(stride)
        kernel = [3 if k == 3 or s <= 2 * min(spacing) else 1 for k, s in zip(kernel, spacing, strict=True)]
        kernels.append(kernel)
        poolable = [n >= 2 * SMALLEST and n % 2 == 0 for n in size]
        finest = min((s for s, can in zip(spacing, poolable, strict=True) if can), default=0.0)
        stride = [2 if can and s < 2 * finest else 1 for can, s in zip(poolable, spacing, strict=True)]
        if stride == [1, 1, 1]:
            break
        spacing = [s * f for s, f in zip(spacing, stride, strict=True)]
        size = [n // f for n, f in zip(size, stride, strict=True)]
    return kernels, strides
