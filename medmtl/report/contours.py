"""Drawing true and predicted outlines on slices of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.data.viewing import Plane, viewing_plane, window
from medmtl.report.canvas import ORANGE, SKY, plain
from medmtl.report.volumes import Volume
from medmtl.types import UNLABELLED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_LEVELS = (0.1, 0.35, 0.65, 0.9)
"""Slices to show, as parts of the labelled stack."""
_MARGIN_MM = 12.0
_SHADE = {"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 1.5}


@dataclass(frozen=True)
class Outline:
    """A mask to be outlined: the volume, its voxel value of every structure, and the line."""

    mask: Volume
    labels: Mapping[str, int]
    color: str
    style: str


def truth_outline(mask: Volume, labels: Mapping[str, int]) -> Outline:
    """The truth: a blue solid line."""
    return Outline(mask, labels, SKY, "solid")


def prediction_outline(mask: Volume, labels: Mapping[str, int]) -> Outline:
    """The prediction: an orange dashed line."""
    return Outline(mask, labels, ORANGE, "dashed")


def draw_contours(image: Volume, outlines: Sequence[Outline], frames: Mapping[str, int]) -> Figure:
    """Panels on black: a row per frame, a column per slice.

    Args:
        image: what lies under the contours.
        outlines: masks on the image's grid, the last one on top.
        frames: name -> index of the frames to show.
    """
    from matplotlib.figure import Figure

    plane = viewing_plane(image.affine, image.spacing_mm)
    shown = list(frames.values())
    inside = [_inside(outline.mask.data[..., shown], outline.labels).any(axis=3) for outline in outlines]
    labelled_XYZ = np.any(inside, axis=0)
    slices = _slices(labelled_XYZ, plane.slice_axis)
    left, right, top, bottom = _box(plane, labelled_XYZ, image.spacing_mm)
    inch = 10.0 / max(len(slices), 3)
    height = inch * (bottom - top) / (right - left)
    figure = Figure(figsize=(inch * len(slices), height * len(frames)), facecolor="black")
    pixel_mm = (image.spacing_mm[plane.rows], image.spacing_mm[plane.columns])
    for row, (name, frame) in enumerate(frames.items()):
        for column, index in enumerate(slices):
            place = (column / len(slices), 1 - (row + 1) / len(frames), 1 / len(slices), 1 / len(frames))
            axes = figure.add_axes(place)
            _grey(axes, image.data[..., frame], plane, index, pixel_mm)
            for outline in outlines:
                _contours(axes, plane.slice(outline.mask.data[..., frame], index), outline, pixel_mm)
            axes.set(xlim=(left, right), ylim=(bottom, top))
            axes.axis("off")
            number = f"slice {index + 1} of {image.data.shape[plane.slice_axis]}"
            _annotate(axes, f"{name}, {number}" if name else number, plane if row == column == 0 else None)
    return figure


def _grey(
    axes: Axes, frame_XYZ: NDArray[Any], plane: Plane, index: int, pixel_mm: tuple[float, float]
) -> None:
    low, high = window(frame_XYZ)
    picture = plane.slice(frame_XYZ, index)
    extent = (0.0, picture.shape[1] * pixel_mm[1], picture.shape[0] * pixel_mm[0], 0.0)
    axes.imshow(picture, cmap="gray", vmin=low, vmax=high, extent=extent, interpolation="bilinear")


def _annotate(axes: Axes, text: str, plane: Plane | None) -> None:
    style: dict[str, Any] = {"transform": axes.transAxes, "color": "white", "fontsize": 9, "bbox": _SHADE}
    axes.text(0.03, 0.97, plain(text), va="top", **style)
    if plane is not None:
        axes.text(0.5, 0.88, plane.top, ha="center", va="top", **style)
        axes.text(0.03, 0.5, plane.left, va="center", **style)


def _contours(axes: Axes, mask: NDArray[np.uint8], outline: Outline, pixel_mm: tuple[float, float]) -> None:
    """Outline of every structure of one slice, in mm from the upper left corner."""
    from scipy.ndimage import binary_fill_holes

    y = (np.arange(mask.shape[0]) + 0.5) * pixel_mm[0]
    x = (np.arange(mask.shape[1]) + 0.5) * pixel_mm[1]
    line: dict[str, Any] = {"colors": [outline.color], "linestyles": [outline.style], "linewidths": 1.5}
    drawn = np.isin(mask, list(outline.labels.values()))
    for code in outline.labels.values():
        # A structure inside another (the cavity in its wall) has its own outline: their border is drawn once.
        inside = (mask == code) | (binary_fill_holes(mask == code) & drawn)
        if inside.any() and not inside.all() and min(mask.shape) > 1:
            axes.contour(x, y, inside.astype(float), levels=[0.5], **line)


def _inside(mask: NDArray[np.uint8], labels: Mapping[str, int]) -> NDArray[np.bool_]:
    return np.isin(mask, list(labels.values())) & (mask != UNLABELLED)


def _slices(labelled_XYZ: NDArray[np.bool_], axis: int) -> Sequence[int]:
    """Slices spread over the labelled part of the stack, from near one end to near the other, each once."""
    others = tuple(other for other in range(3) if other != axis)
    stack = np.flatnonzero(labelled_XYZ.any(axis=others))
    if len(stack) == 0:
        stack = np.arange(labelled_XYZ.shape[axis])
    return sorted({int(stack[round(level * (len(stack) - 1))]) for level in _LEVELS})


def _box(
    plane: Plane, labelled_XYZ: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[float, float, float, float]:
    """Left, right, top, bottom in mm: a region around everything labelled, or the whole slice."""
    flat = np.asarray(labelled_XYZ.any(axis=plane.slice_axis, keepdims=True))
    seen = plane.slice(flat, 0)
    rows, columns = spacing_mm[plane.rows], spacing_mm[plane.columns]
    if not seen.any():
        return 0.0, seen.shape[1] * columns, 0.0, seen.shape[0] * rows
    down, across = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    top, bottom = down[0] * rows, (down[-1] + 1) * rows
    left, right = across[0] * columns, (across[-1] + 1) * columns
    half = max(bottom - top, right - left) / 2 + _MARGIN_MM
    left, right = _span((left + right) / 2, half, seen.shape[1] * columns)
    top, bottom = _span((top + bottom) / 2, half, seen.shape[0] * rows)
    return left, right, top, bottom


def _span(middle: float, half: float, size: float) -> tuple[float, float]:
    """An interval of width 2 half about `middle`, moved and, where it must be, cut to lie inside 0..size."""
    start = min(max(middle - half, 0.0), max(size - 2 * half, 0.0))
    return start, min(start + 2 * half, size)
