"""Puts planes into an array, each file read once: neighbouring frames in one go, plain slices uncopied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.layout import Layout, layout_key, layout_of
from medmtl.data.dicom.model import Plane
from medmtl.data.dicom.pixels import Frames, values_in
from medmtl.data.dicom.values import Scaling, apply_table
from medmtl.data.dicom.workers import Decode, for_each
from medmtl.types import CaseError

_BATCH_BYTES = 8 << 20
"""Contiguous frames of one file are read together up to this size."""


def frames_of(planes: Sequence[Plane]) -> list[Frames]:
    """Access to the pixels of every plane's file, in the planes' order.

    Raises:
        CaseError: see `layout_of` and `Frames`; ``MIXED_GRID`` where plane and file differ in size.
    """
    layouts: dict[Any, Layout] = {}
    by_instance: dict[int, Frames] = {}
    for plane in planes:
        instance = plane.instance
        if id(instance) in by_instance:
            continue
        key = layout_key(instance)
        if key not in layouts:
            layouts[key] = layout_of(instance)
        by_instance[id(instance)] = Frames(instance, layouts[key])
    found = [by_instance[id(plane.instance)] for plane in planes]
    for plane, of in zip(planes, found, strict=True):
        if plane.tile is None and plane.shape != (of.layout.rows, of.layout.columns):
            size = f"{of.layout.rows} x {of.layout.columns}"
            raise CaseError(
                "MIXED_GRID",
                f"{of.label}: has {size} pixels in a volume of {plane.shape[0]} x {plane.shape[1]}",
            )
    return found


@dataclass
class _File:
    """What is wanted of one file.

    Attributes:
        frames: access to its pixels.
        wanted: by frame, where its planes go: place in the array, number of the plane.
    """

    frames: Frames
    wanted: dict[int, list[tuple[int, int]]] = field(default_factory=dict)


class Filler:
    """Puts planes into arrays.

    Args:
        planes: P of them.
        frames: of each plane's file.
        scaling: of each plane.
        workers: decoding processes for compressed series at most; one per core where None.
    """

    def __init__(
        self, planes: Sequence[Plane], frames: Sequence[Frames], scaling: Scaling, workers: int | None
    ) -> None:
        self._planes, self._frames, self._scaling, self._workers = planes, frames, scaling, workers

    def fill(self, array: NDArray[Any], which: Sequence[int]) -> None:
        """Fill an array: with real values if it is floating point, else with stored ones.

        Args:
            array: ``(len(which), rows, columns)``.
            which: numbers of the planes.

        Raises:
            CaseError: ``TRUNCATED``, ``UNDECODABLE``; the message names the file.
        """
        files: dict[int, _File] = {}
        for place, number in enumerate(which):
            frames = self._frames[number]
            file = files.get(id(frames)) or files.setdefault(id(frames), _File(frames))
            file.wanted.setdefault(self._planes[number].frame, []).append((place, number))
        to_decode: list[tuple[_File, int]] = []
        for file in files.values():
            if file.frames.layout.compressed or file.frames.layout.allocated == 1:
                to_decode += [(file, frame) for frame in file.wanted]
            else:
                self._copy(array, file)

        def work(job: tuple[_File, int], decode: Decode) -> None:
            file, frame = job
            self._put(array, file.frames.read(frame, decode), file.wanted[frame])

        for_each(to_decode, work, workers=self._workers)

    def _copy(self, array: NDArray[Any], file: _File) -> None:
        layout = file.frames.layout
        if len(file.wanted) == 1 and layout.plain and layout.dtype == array.dtype and array.dtype.kind != "f":
            ((frame, places),) = file.wanted.items()
            (place, number), *more = places
            if not more and self._planes[number].tile is None:
                file.frames.read_into(frame, array[place])
                return
        for frame, data in _read_together(file.frames, sorted(file.wanted)):
            self._put(array, values_in(data, layout, file.frames.label), file.wanted[frame])

    def _put(self, array: NDArray[Any], frame: NDArray[Any], places: Sequence[tuple[int, int]]) -> None:
        for place, number in places:
            values = frame
            if (tile := self._planes[number].tile) is not None:
                row, column, rows, columns = tile
                values = frame[row : row + rows, column : column + columns]
            array[place] = values if array.dtype.kind != "f" else self._real(values, number)

    def _real(self, values: NDArray[Any], number: int) -> NDArray[Any]:
        if self._scaling.tables:
            values = apply_table(values, self._scaling.tables[number])
        slope, intercept = self._scaling.slope[number], self._scaling.intercept[number]
        if slope == 1.0 and intercept == 0.0:
            return values
        real = np.multiply(values, slope, dtype=np.float64)
        if intercept != 0.0:
            real += intercept
        return real


def _read_together(frames: Frames, wanted: Sequence[int]) -> Iterator[tuple[int, memoryview | bytes]]:
    """Bytes of the wanted frames of one file, neighbours read in one go."""
    size = frames.layout.frame_bits // 8
    at_once = max(1, _BATCH_BYTES // size)
    start = 0
    while start < len(wanted):
        stop = start + 1
        while stop < len(wanted) and stop - start < at_once and wanted[stop] == wanted[stop - 1] + 1:
            stop += 1
        data = memoryview(frames.read_bytes(wanted[start], stop - start))
        for index in range(stop - start):
            yield wanted[start + index], data[index * size : (index + 1) * size]
        start = stop
