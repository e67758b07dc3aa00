"""A study's pictures for its page: written while the image is in memory, small, read by the report."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.data.viewing import Plane, viewing_plane, window
from medmtl.types import OutputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.inference.read import Subject
    from medmtl.tasks import CaseResult

PREVIEW = "preview.npz"
PIXELS = 3_000_000
"""In all tiles together; what is larger is thinned out: frames first, then slices, then rows and columns."""
JPEG_BYTES = 480_000
_MOST_SLICES, _MOST_FRAMES, _FEWEST = 24, 32, 12
_LARGEST_TILE = 192
_MARGIN = 0.35
"""Around what is segmented, as a part of its extent."""
_BLOCK = 8
"""Tiles are a multiple of JPEG's blocks, so that they do not shine into each other."""


@dataclass(frozen=True)
class Preview:
    """Tiles of a study, frame by frame across and slice by slice down.

    Attributes:
        image: JPEG of all tiles.
        masks: by task, PNG of all tiles; grey value = voxel value x ``about["grey"][task]``.
        about: ``tile`` (pixels down and across, with padding), ``inner`` (without), ``pixel_mm`` (down and
            across), ``slices`` and ``frames`` (which ones), ``n_slices``, ``n_frames``, ``top`` and ``left``
            (directions at the edges), ``time_ms`` (of every frame of the study, or None), ``curves`` (by task
            and voxel value, mL in every frame of the study), ``grey``.
    """

    image: bytes
    masks: Mapping[str, bytes]
    about: Mapping[str, Any]


def write_preview(
    folder: Path, subject: Subject, result: CaseResult, frames: Sequence[int | None] = ()
) -> Path | None:
    """Write ``preview.npz`` of a study into its folder.

    Args:
        folder: of the study.
        subject: with its image, or nothing is written.
        result: whose masks lie on the image's grid.
        frames: 0-based frames that must be among those shown, such as ED and ES.

    Returns:
        the file, or None.
    """
    if subject.image is None:
        return None
    case = subject.case
    image = subject.image if subject.image.ndim == 4 else subject.image[..., None]
    masks = {name: mask for name, mask in result.dense.items() if np.issubdtype(mask.dtype, np.integer)}
    times = subject.time_ms
    if times is None and case.time_step_ms and image.shape[3] > 1:
        times = tuple(round(float(i * case.time_step_ms), 2) for i in range(image.shape[3]))
    source = case.source
    preview = make_preview(image, masks, source.affine, source.voxel_ml, time_ms=times, frames=frames)
    path = folder / PREVIEW
    save_preview(path, preview)
    return path


def save_preview(path: Path, preview: Preview) -> None:
    """Write a preview as ``.npz``; not atomic by itself."""
    arrays = {f"mask.{name}": np.frombuffer(png, np.uint8) for name, png in preview.masks.items()}
    arrays["about"] = np.frombuffer(json.dumps(preview.about).encode(), np.uint8)
    arrays["image"] = np.frombuffer(preview.image, np.uint8)
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_preview(path: Path) -> Preview:
    """Read what `write_preview` wrote.

    Raises:
        OutputError: it is damaged.
    """
    import zipfile

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            data = {name: file[name].tobytes() for name in file.files}
        about = json.loads(data.pop("about"))
        masks = {name.removeprefix("mask."): png for name, png in data.items() if name != "image"}
        return Preview(data["image"], masks, about)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise OutputError(
            f"{path.parent.name}/{path.name}: damaged ({error}); predict the study again"
        ) from None


def make_preview(
    image: NDArray[Any],
    masks: Mapping[str, NDArray[Any]],
    affine: NDArray[np.float64],
    voxel_ml: float,
    *,
    time_ms: Sequence[float] | None = None,
    frames: Sequence[int | None] = (),
) -> Preview:
    """Tiles of an image and its masks.

    Args:
        image: ``(X, Y, Z, T)``.
        masks: by task, ``(T, X, Y, Z)`` labels.
        affine: voxel to RAS+ mm, ``(4, 4)``.
        voxel_ml: volume of a voxel.
        time_ms: of each frame.
        frames: frames that must be among those shown.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    plane = viewing_plane(affine, spacing.tolist())
    sliced = image.shape[plane.slice_axis]
    seen = _seen(masks, image.shape[:3])
    low_high = window(image[::2, ::2, :, :: max(1, image.shape[3] // 4)])
    rows, columns = _box(plane, seen, spacing)
    slices = _spread(sliced, _MOST_SLICES, _extent(seen, plane.slice_axis, sliced))
    shown = _spread(image.shape[3], _MOST_FRAMES, keep=frames)
    step = -(-max(rows.stop - rows.start, columns.stop - columns.start) // _LARGEST_TILE)
    while True:
        size = -(-(rows.stop - rows.start) // step) * -(-(columns.stop - columns.start) // step)
        room = PIXELS // (size * len(slices))
        if len(shown) <= room:
            break
        if len(shown) > _FEWEST:
            shown = _spread(image.shape[3], max(room, _FEWEST), keep=frames)
        elif len(slices) > _FEWEST:
            slices = _spread(sliced, _FEWEST, _extent(seen, plane.slice_axis, sliced))
        else:
            step += 1
    cut = _Cut(plane, rows, columns, step, slices, shown)
    grey = {name: 255 // max(int(mask.max()), 1) for name, mask in masks.items()}
    tiles = cut.sheet(np.moveaxis(image, 3, 0), lambda part: _shade(part, low_high))
    sheets = {name: _png(cut.sheet(mask, partial(_times, grey[name]))) for name, mask in masks.items()}
    about = {
        "tile": cut.tile,
        "inner": cut.inner,
        "pixel_mm": [round(float(spacing[axis]) * step, 4) for axis in (plane.rows, plane.columns)],
        "slices": slices,
        "frames": shown,
        "n_slices": sliced,
        "n_frames": image.shape[3],
        "top": plane.top,
        "left": plane.left,
        "time_ms": None if time_ms is None else [round(float(time), 2) for time in time_ms],
        "curves": {name: _curves(mask, voxel_ml) for name, mask in masks.items()},
        "grey": grey,
    }
    return Preview(_jpeg(tiles), sheets, about)


@dataclass(frozen=True)
class _Cut:
    """Which part of which slices is shown."""

    plane: Plane
    rows: slice
    columns: slice
    step: int
    slices: Sequence[int]
    frames: Sequence[int]

    @property
    def inner(self) -> list[int]:
        """Pixels down and across of a tile's picture."""
        return [-(-(side.stop - side.start) // self.step) for side in (self.rows, self.columns)]

    @property
    def tile(self) -> list[int]:
        """The same with padding."""
        return [-(-side // _BLOCK) * _BLOCK for side in self.inner]

    def sheet(
        self, volume: NDArray[Any], grey: Callable[[NDArray[Any]], NDArray[np.uint8]]
    ) -> NDArray[np.uint8]:
        """All tiles of a ``(T, X, Y, Z)`` volume, its values made grey ones."""
        (down, across), (height, width) = self.tile, self.inner
        sheet = np.zeros((down * len(self.slices), across * len(self.frames)), np.uint8)
        for i, index in enumerate(self.slices):
            for j, frame in enumerate(self.frames):
                part = self.plane.slice(volume[frame], index)[self.rows, self.columns]
                rows, columns = slice(i * down, i * down + height), slice(j * across, j * across + width)
                sheet[rows, columns] = grey(part[:: self.step, :: self.step])
        return sheet


def _seen(masks: Mapping[str, NDArray[Any]], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Where anything is segmented in any frame, ``(X, Y, Z)``."""
    seen = np.zeros(tuple(shape), bool)
    for mask in masks.values():
        seen |= mask.any(axis=0)
    return seen


def _extent(seen: NDArray[np.bool_], axis: int, length: int) -> tuple[int, int]:
    others = tuple(other for other in range(3) if other != axis)
    found = np.flatnonzero(seen.any(axis=others))
    return (0, length) if found.size == 0 else (int(found[0]), int(found[-1]) + 1)


def _box(plane: Plane, seen: NDArray[np.bool_], spacing: NDArray[np.float64]) -> tuple[slice, slice]:
    """Rows and columns on the screen around what is segmented, with a margin; else all."""
    flat = plane.slice(np.asarray(seen.any(axis=plane.slice_axis, keepdims=True)), 0)
    height, width = flat.shape
    if not flat.any():
        return slice(0, height), slice(0, width)
    mm = spacing[plane.rows], spacing[plane.columns]
    ends = [
        (int(found[0]), int(found[-1]) + 1) for found in (np.flatnonzero(flat.any(axis=a)) for a in (1, 0))
    ]
    half = max((stop - start) * size for (start, stop), size in zip(ends, mm, strict=True)) * (0.5 + _MARGIN)
    sides = []
    for (start, stop), size, length in zip(ends, mm, (height, width), strict=True):
        middle, reach = (start + stop) / 2, half / size
        sides.append(slice(max(0, int(middle - reach)), min(length, int(np.ceil(middle + reach)))))
    return sides[0], sides[1]


def _spread(
    length: int, most: int, about: tuple[int, int] | None = None, keep: Sequence[int | None] = ()
) -> list[int]:
    """All indices, or so many of them, evenly over a part and a tenth more; those to keep are among them."""
    if length <= most:
        return list(range(length))
    start, stop = about if about is not None else (0, length)
    margin = (stop - start) // 10
    ends = (max(start - margin, 0), min(stop + margin, length) - 1)
    found = np.unique(np.linspace(*ends, most).round().astype(int))
    for wanted in keep:
        if wanted is not None and wanted not in found:
            found[np.abs(found - wanted).argmin()] = wanted
    return sorted({int(index) for index in found})


def _times(grey: int, labels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(labels.astype(np.uint8) * np.uint8(grey), np.uint8)


def _shade(values: NDArray[Any], low_high: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = low_high
    return (np.clip((values.astype(np.float32) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _curves(mask: NDArray[Any], voxel_ml: float) -> dict[str, list[float]]:
    """Volume in mL of every voxel value in every frame."""
    counts = np.stack([np.bincount(frame.ravel(), minlength=256) for frame in mask])
    values = np.flatnonzero(counts[:, 1:].any(axis=0)) + 1
    return {str(value): [round(float(n) * voxel_ml, 3) for n in counts[:, value]] for value in values}


def _jpeg(sheet: NDArray[np.uint8]) -> bytes:
    """The best quality that stays within `JPEG_BYTES`."""
    from PIL import Image

    data = b""
    for quality in (82, 68, 52, 36, 20):
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "JPEG", quality=quality)
        data = buffer.getvalue()
        if len(data) <= JPEG_BYTES:
            break
    return data


def _png(sheet: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
