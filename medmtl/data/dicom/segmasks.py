"""Frames of a segmentation onto the voxels of an image, exactly where they say they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.labelgrid import LabelGrid
from medmtl.data.dicom.seg import Segmentation
from medmtl.data.dicom.segplace import Slab, slab_of
from medmtl.types import UNLABELLED, CaseError

THRESHOLD = 0.5
"""Share of the maximum from which a fractional voxel counts as inside, probability and occupancy alike."""


@dataclass(frozen=True, eq=False)
class PlacedSegmentation:
    """A segmentation whose frames all lie on a grid; masks are decoded when they are asked for.

    Attributes:
        source: the segmentation.
        grid: where it lies.
        slabs: its frames on the grid.
    """

    source: Segmentation
    grid: LabelGrid
    slabs: tuple[Slab, ...]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Image frames that the file is about, ``(T,)``; what no segment covers there is background."""
        labelled = np.zeros(self.grid.frames, dtype=bool)
        labelled[[slab.time for slab in self.slabs]] = True
        return labelled

    def mask(self, number: int, threshold: float = THRESHOLD) -> NDArray[np.bool_]:
        """Voxels of one segment.

        Args:
            number: its number.
            threshold: of a fractional segmentation, the share of the maximum from which a voxel is inside.

        Returns:
            ``(X, Y, Z)``, or ``(X, Y, Z, T)`` on a 4D plan, boolean.

        Raises:
            CaseError: ``LABEL_GEOMETRY_MISMATCH``: labelled pixels lie outside the image.
        """
        mask = self._raw(number, threshold)
        return self._shaped(np.stack([self.grid.corrected(mask[t]) for t in range(len(mask))]))

    def fraction(self, number: int) -> NDArray[np.float32]:
        """Stored share of a segment in 0..1: its probability, or how much of the voxel it occupies.

        Args:
            number: segment number.

        Returns:
            ``(X, Y, Z)`` or ``(X, Y, Z, T)`` float32; its sum times the voxel size is the volume where the
            segmentation is of OCCUPANCY.

        Raises:
            CaseError: as for `mask`; or ``LABEL_GEOMETRY_MISMATCH`` where the image had to be resampled.
        """
        if self.grid.correction is not None:
            raise CaseError(
                "LABEL_GEOMETRY_MISMATCH",
                f"{self.source.name}: fractions cannot be put on an image that was resampled; ask for masks",
            )
        found = np.zeros((self.grid.frames, *self.grid.shape), dtype=np.float32)
        for slab, pixels in self._of(number):
            share = (pixels == number) if self.source.kind == "LABELMAP" else pixels / self.source.maximum
            self._stamp(found, slab, share.astype(np.float32))
        return self._shaped(found)

    def label_map(
        self,
        values: Mapping[int, int] | None = None,
        *,
        priority: Sequence[int] | None = None,
        threshold: float = THRESHOLD,
    ) -> NDArray[np.uint8]:
        """All segments in one array.

        Args:
            values: voxel value by segment number, for those that are wanted; by default the numbers
                themselves.
            priority: segment numbers, the one that wins where segments overlap first; the others follow by
                their numbers. Without it, segments that overlap are refused.
            threshold: as for `mask`.

        Returns:
            ``(X, Y, Z)`` or ``(X, Y, Z, T)`` uint8, 0 where no segment is, 255 in frames of a 4D image that
            the file is not about.

        Raises:
            CaseError: ``LABEL_VALUES``: segments overlap, or a value is not in 1..254; or as for `mask`.
        """
        wanted = dict(values) if values is not None else {number: number for number in self.drawn}
        for number, value in wanted.items():
            if not 0 < value < UNLABELLED:
                text = (
                    f"segment {number} would have the value {value}; give it one from 1 to {UNLABELLED - 1}"
                )
                raise CaseError("LABEL_VALUES", f"{self.source.name}: {text}")
        if self.source.kind == "LABELMAP" and self.grid.correction is None:
            return self._one_pass(wanted)
        rank = {number: place for place, number in enumerate(priority or ())}
        last_wins = sorted(wanted, key=lambda number: (rank.get(number, len(rank)), number), reverse=True)
        taken = np.zeros((self.grid.frames, *self.grid.shape), dtype=np.uint8)
        found = np.stack([self.grid.corrected(frame != 0) for frame in taken]).astype(np.uint8)
        for number in last_wins:
            raw = self._raw(number, threshold)
            if priority is None and bool((overlap := raw & (taken != 0)).any()):
                other = next(n for n, value in wanted.items() if value == taken[overlap][0])
                raise CaseError("LABEL_VALUES", self._overlap(number, other, int(overlap.sum())))
            taken[raw] = wanted[number]
            for t in range(len(raw)):
                found[t][self.grid.corrected(raw[t])] = wanted[number]
        found[~self.labelled] = UNLABELLED
        return self._shaped(found)

    def _one_pass(self, wanted: Mapping[int, int]) -> NDArray[np.uint8]:
        """A label map as it is, values exchanged; every frame is decoded once."""
        found = np.zeros((self.grid.frames, *self.grid.shape), dtype=np.uint8)
        for slab, pixels in self._frames(None):
            painted = np.zeros(pixels.shape, dtype=np.uint8)
            for number in np.unique(pixels).tolist():
                if number in wanted:
                    painted[pixels == number] = wanted[number]
            self._stamp(found, slab, painted)
        found[~self.labelled] = UNLABELLED
        return self._shaped(found)

    @property
    def drawn(self) -> tuple[int, ...]:
        """Numbers of the segments that the file describes, the background of a label map left out."""
        background = self.source.background if self.source.kind == "LABELMAP" else None
        return tuple(sorted(number for number in self.source.segments if number != background and number > 0))

    def _overlap(self, number: int, other: int, count: int) -> str:
        first, second = sorted((number, other))
        labels = {n: self.source.segments[n].label for n in (first, second)}
        both = f"segments {first} ({labels[first]}) and {second} ({labels[second]}) share {count} voxels"
        return f"{self.source.name}: {both}; say which one wins, or take them as separate masks"

    def _raw(self, number: int, threshold: float) -> NDArray[np.bool_]:
        """``(T, X, Y, Z)`` before any correction."""
        mask = np.zeros((self.grid.frames, *self.grid.shape), dtype=bool)
        for slab, pixels in self._of(number):
            self._stamp(mask, slab, inside(self.source, pixels, number, threshold))
        return mask

    def _of(self, number: int) -> Iterator[tuple[Slab, NDArray[Any]]]:
        if number not in self.source.segments:
            known = ", ".join(str(n) for n in sorted(self.source.segments))
            raise CaseError("LABEL_VALUES", f"{self.source.name}: has no segment {number}; known are {known}")
        return self._frames(number)

    def _frames(self, number: int | None) -> Iterator[tuple[Slab, NDArray[Any]]]:
        """Frames of one segment, or all, decoded."""
        for slab in self.slabs:
            if number is None or slab.frame.segment in (None, number):
                pixels = self.source.pixels(slab.frame.index)
                if pixels.shape != self.source.shape:
                    raise CaseError("UNDECODABLE", f"{self.source.name}: a frame has the wrong size")
                if self.source.kind == "LABELMAP":
                    self._check_described(slab, pixels)
                yield slab, pixels

    def _check_described(self, slab: Slab, pixels: NDArray[Any]) -> None:
        """Makes sure that every pixel of a label map is of a segment, or of none.

        Raises:
            CaseError: ``LABEL_VALUES``: it is not.
        """
        counts = np.bincount(pixels.ravel())
        strange = (
            set(np.flatnonzero(counts).tolist()) - self.source.segments.keys() - {0, self.source.background}
        )
        if strange:
            shown = ", ".join(map(str, sorted(strange)[:3]))
            at = f"{self.source.name}, frame {slab.frame.index + 1}"
            raise CaseError("LABEL_VALUES", f"{at}: holds the value(s) {shown}, which no segment describes")

    def _stamp(self, target: NDArray[Any], slab: Slab, pixels: NDArray[Any]) -> None:
        """Puts one frame's pixels ``(rows, columns)`` into ``target`` ``(T, X, Y, Z)``, over zeros only.

        Raises:
            CaseError: ``LABEL_GEOMETRY_MISMATCH``: pixels that are not zero fall outside the grid.
        """
        block = pixels.T  # (columns, rows)
        where: list[slice] = [slice(int(index), int(index) + 1) for index in slab.start]
        for axis, (grid_axis, sign) in enumerate((slab.column, slab.row)):
            if sign < 0:
                block = np.flip(block, axis)
            first = int(slab.start[grid_axis]) - (block.shape[axis] - 1 if sign < 0 else 0)
            where[grid_axis] = slice(first, first + block.shape[axis])
        third = 3 - slab.column[0] - slab.row[0]
        block = np.expand_dims(block if slab.column[0] < slab.row[0] else block.T, third)
        inside = [slice(max(s.start, 0), min(s.stop, n)) for s, n in zip(where, self.grid.shape, strict=True)]
        cut = tuple(
            slice(i.start - s.start, max(i.stop - s.start, i.start - s.start))
            for i, s in zip(inside, where, strict=True)
        )
        kept = block[cut]
        lost = int(np.count_nonzero(block)) - int(np.count_nonzero(kept))
        if lost:
            at = f"frame {slab.frame.index + 1} has {lost} labelled pixels outside the image"
            raise CaseError(
                "LABEL_GEOMETRY_MISMATCH", f"{self.source.name}: {at}; see whose image it was drawn on"
            )
        if kept.size:
            view = target[slab.time][tuple(inside)]
            np.maximum(view, kept, out=view)

    def _shaped(self, array: NDArray[Any]) -> NDArray[Any]:
        return array[0] if self.grid.frames == 1 else np.ascontiguousarray(np.moveaxis(array, 0, 3))


def inside(
    segmentation: Segmentation, pixels: NDArray[Any], number: int, threshold: float = THRESHOLD
) -> NDArray[np.bool_]:
    """Which stored pixels of a frame belong to a segment; ``threshold`` is that of a fractional one."""
    if segmentation.kind == "LABELMAP":
        return pixels == number
    if segmentation.kind == "FRACTIONAL":
        return pixels >= max(threshold * segmentation.maximum, 1)
    return pixels != 0


def place(segmentation: Segmentation, grid: LabelGrid) -> PlacedSegmentation:
    """Finds the voxels that every frame of a segmentation covers.

    Raises:
        CaseError: ``LABEL_GEOMETRY_MISMATCH`` (a frame lies between the image's voxels or slices, or has
            another spacing), ``MISSING_GEOMETRY`` (it says neither where it is nor which image it was made
            from) or ``TIME_AMBIGUOUS`` (it does not say to which frame of a 4D image it belongs).
    """
    slabs = tuple(slab_of(segmentation, frame, grid) for frame in segmentation.frames)
    return PlacedSegmentation(segmentation, grid, slabs)
