"""Brings slices that lie askew or unevenly onto a right-angled grid, by linear interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.model import Correction


@dataclass(frozen=True, eq=False)
class Shift:
    """Moves every slice within its plane, as a tilted gantry asks for.

    What lies outside a slice becomes the least value of the stack: air in CT, nothing in MR and PET.

    Attributes:
        rows_down: ``(Z,)`` where each slice's first row lies on the new grid, in rows, not negative.
        columns_right: ``(Z,)`` likewise its first column.
        shape: ``(rows, columns)`` of the new grid.
    """

    rows_down: NDArray[np.float64]
    columns_right: NDArray[np.float64]
    shape: tuple[int, int]

    def __call__(self, stack: NDArray[Any]) -> NDArray[Any]:
        """``(Z, rows, columns)`` -> ``(Z, *shape)`` float32, or float64 of float64."""
        values = stack if stack.dtype == np.float64 else stack.astype(np.float32)
        outside = values.min()
        moved = np.full((len(values), *self.shape), outside, dtype=values.dtype)
        for z, (down, right) in enumerate(zip(self.rows_down, self.columns_right, strict=True)):
            slice_ = _moved(values[z], 0, float(down), self.shape[0], outside)
            moved[z] = _moved(slice_, 1, float(right), self.shape[1], outside)
        return moved


@dataclass(frozen=True, eq=False)
class Respace:
    """Interpolates between the slices on either side.

    Attributes:
        below: ``(Z',)`` index of the slice below each new one.
        share: ``(Z',)`` how far it is towards the next one, 0 to 1.
    """

    below: NDArray[np.int64]
    share: NDArray[np.float64]

    def __call__(self, stack: NDArray[Any]) -> NDArray[Any]:
        """``(Z, rows, columns)`` -> ``(Z', rows, columns)`` float32, or float64 of float64."""
        values = stack if stack.dtype == np.float64 else stack.astype(np.float32)
        above = np.minimum(self.below + 1, len(values) - 1)
        share = self.share.astype(values.dtype)[:, None, None]
        return np.asarray(values[self.below] * (1 - share) + values[above] * share)


@dataclass(frozen=True)
class Chain:
    """One correction after another."""

    steps: Sequence[Correction]

    def __call__(self, stack: NDArray[Any]) -> NDArray[Any]:
        """``(Z, rows, columns)`` -> what the last step makes of it."""
        for step in self.steps:
            stack = step(stack)
        return stack


def respaced(heights: NDArray[np.float64], step: float, count: int) -> Respace:
    """New slices ``heights[0] + k * step`` from those at ``heights`` ``(Z,)`` mm, ascending."""
    wanted = np.minimum(heights[0] + step * np.arange(count), heights[-1])
    below = np.clip(np.searchsorted(heights, wanted, side="right") - 1, 0, len(heights) - 2)
    share = (wanted - heights[below]) / (heights[below + 1] - heights[below])
    return Respace(below.astype(np.int64), np.clip(share, 0.0, 1.0))


def _moved(
    plane: NDArray[Any], axis: int, distance: float, length: int, outside: np.floating[Any]
) -> NDArray[Any]:
    """A plane moved along an axis onto one of ``length`` lines.

    A new line beyond the outermost old one takes its value within half a pixel, and is outside otherwise.
    """
    whole = int(np.floor(distance))
    part = distance - whole
    if part < 1e-6 or part > 1 - 1e-6:
        whole, part = round(distance), 0.0
    lines = np.moveaxis(plane, axis, 0)
    if part > 0.0:
        blended = np.empty((len(lines) + 1, lines.shape[1]), dtype=plane.dtype)
        blended[1:-1] = lines[1:] * (1 - part) + lines[:-1] * part
        blended[0] = lines[0] if part <= 0.5 else outside
        blended[-1] = lines[-1] if part >= 0.5 else outside
        lines = blended
    moved = np.full((length, lines.shape[1]), outside, dtype=plane.dtype)
    kept = min(len(lines), length - whole)
    moved[whole : whole + kept] = lines[:kept]
    return np.moveaxis(moved, 0, axis)
