"""Frames of a segmentation onto the voxels of an image, exactly where they say they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.labelgrid import LabelGrid
from medmtl.data.dicom.seg import Segmentation
from medmtl.data.dicom.segplace import Slab, slab_of
from medmtl.types import CaseError

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

    def _raw(self, number: int, threshold: float) -> NDArray[np.bool_]:
        """``(T, X, Y, Z)`` before any correction."""
        mask = np.zeros((self.grid.frames, *self.grid.shape), dtype=bool)
        for slab, pixels in self._of(number):
            self._stamp(mask, slab, inside(self.source, pixels, number, threshold))
        return mask

    def _of(self, number: int) -> Iterator[tuple[Slab, NDArray[Any]]]:
        """Frames of one segment, decoded."""
        if number not in self.source.segments:
            known = ", ".join(str(n) for n in sorted(self.source.segments))
            raise CaseError("LABEL_VALUES", f"{self.source.name}: has no segment {number}; known are {known}")
        for slab in self.slabs:
            if slab.frame.segment in (None, number):
                yield slab, self._pixels(slab)

    def _pixels(self, slab: Slab) -> NDArray[Any]:
        """Stored values of a frame ``(rows, columns)``; a label map's are kept for its next segment."""
        index = slab.frame.index
        if index in self._kept:
            return self._kept[index]
        pixels = self.source.pixels(index)
        if pixels.shape != self.source.shape:
            raise CaseError("UNDECODABLE", f"{self.source.name}: a frame has the wrong size")
        if self.source.kind == "LABELMAP":
            self._check_described(slab, pixels)
            self._kept[index] = pixels
        return pixels

    @cached_property
    def _kept(self) -> dict[int, NDArray[Any]]:
        return {}

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
