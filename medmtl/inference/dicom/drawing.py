"""Label arrays as the frames of a segmentation: which planes are written, and their pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.inference.dicom.canvas import Canvas, Sheet
from medmtl.inference.dicom.codes import Kind, Segment
from medmtl.types import CaseError


@dataclass(frozen=True, eq=False)
class Drawing:
    """One frame to write: a segment on a plane, or all segments of a label map."""

    sheet: Sheet
    segment: int | None


def segment_numbers(segments: Sequence[Segment], kind: Kind) -> dict[int, int]:
    """SegmentNumber by voxel value: the value itself in a label map, else counted from 1."""
    values = sorted(segment.number for segment in segments)
    return {value: value if kind == "labelmap" else place for place, value in enumerate(values, start=1)}


def as_frames(labels: NDArray[Any], canvas: Canvas) -> NDArray[Any]:
    """Labels as ``(T, X, Y, Z)``.

    Raises:
        ValueError: they are not on the plan's grid.
    """
    labels = labels[None] if labels.ndim == 3 else labels
    if labels.shape != canvas.shape:
        raise ValueError(f"labels of {labels.shape} do not lie on a grid of {canvas.shape}")
    return labels


def check_values(labels: NDArray[Any], segments: Sequence[Segment]) -> None:
    """Make sure that every value stands for a segment.

    Raises:
        CaseError: ``LABEL_VALUES``: one does not.
    """
    if labels.dtype.kind not in "ub" and labels.size and labels.min() < 0:
        raise CaseError("LABEL_VALUES", "the labels hold negative values")
    known = {0, *(segment.number for segment in segments)}
    if not labels.size or known.issuperset(range(int(labels.max()) + 1)):
        return
    found: set[int] = set()
    for frame in labels:
        for plane in frame:  # one at a time, since counting takes eight bytes a voxel
            found.update(np.flatnonzero(np.bincount(plane.reshape(-1))).tolist())
    if strange := sorted(found - known):
        raise CaseError("LABEL_VALUES", f"the labels hold the value {strange[0]}, which no segment describes")


def drawn(
    canvas: Canvas, stack: NDArray[Any], segments: Sequence[Segment], kind: Kind
) -> tuple[list[Drawing], bytes]:
    """Frames in the order of the file, and their pixels."""
    filled: NDArray[np.bool_] = np.any(stack, axis=(2, 3))
    blank = _blank(filled)
    if kind == "labelmap":
        places = np.argwhere(filled | blank)
        dtype = np.uint8 if max(s.number for s in segments) < 256 else np.dtype("<u2")
        pixels = stack[filled | blank].astype(dtype, copy=False).tobytes()
        return [Drawing(canvas.sheet(t, z), None) for t, z in places.tolist()], pixels
    drawings: list[Drawing] = []
    sheets: dict[tuple[int, int], Sheet] = {}

    def masks() -> Iterator[NDArray[np.bool_]]:
        for place, segment in enumerate(sorted(segments, key=lambda segment: segment.number)):
            mask = stack == segment.number
            wanted = mask.any(axis=(2, 3))
            if place == 0:
                wanted |= blank
            for t, z in np.argwhere(wanted).tolist():
                sheet = sheets.setdefault((t, z), canvas.sheet(t, z))
                drawings.append(Drawing(sheet, segment.number))
            yield mask[wanted]

    pixels = packed(masks())
    return drawings, pixels


def _blank(filled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``(T, Z)``: the middle slice of every phase in which nothing is."""
    blank = np.zeros_like(filled)
    blank[~filled.any(axis=1), filled.shape[1] // 2] = True
    return blank


def packed(masks: Iterable[NDArray[np.bool_]]) -> bytes:
    """Bits of masks, one behind the other without gaps between frames (PS3.5 8.1.1)."""
    parts, rest = [], np.zeros(0, bool)
    for mask in masks:
        bits = mask.reshape(-1) if not rest.size else np.concatenate([rest, mask.reshape(-1)])
        whole = bits.size - bits.size % 8
        parts.append(np.packbits(bits[:whole], bitorder="little").tobytes())
        rest = bits[whole:]
    return b"".join([*parts, np.packbits(rest, bitorder="little").tobytes()])
