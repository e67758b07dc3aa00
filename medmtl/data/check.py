"""What only voxels can tell about a case: values that are no label, empty masks, images that are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.cases import Case
from medmtl.data.columns import Column
from medmtl.data.dataset import Dataset
from medmtl.data.nifti import Geometry, Volume, frames_first, read_volume
from medmtl.types import UNLABELLED, CaseError, Finding, Severity


def check_volumes(dataset: Dataset, case: Case) -> list[Finding]:
    """Reads all voxels of a case and says what is wrong with them.

    Returns:
        findings with codes ``NOT_AN_IMAGE``, ``LABEL_VALUES``, ``LABEL_GEOMETRY_MISMATCH`` or
        ``MISSING_GEOMETRY``, or the code of a file that cannot be read; ``where`` names the file.
    """
    findings: list[Finding] = []
    volumes: dict[str, Volume] = {}
    for column, path in [*zip(dataset.schema.image_columns, case.images, strict=True), *case.files.items()]:
        try:
            volumes[column] = read_volume(path)
        except CaseError as error:
            findings.append(Finding(error.code, "error", str(error), column, case.case_id))
    images = {name: volumes.pop(name) for name in dataset.schema.image_columns if name in volumes}
    return findings + check_case(case.case_id, images, volumes, dataset.columns)


def check_case(
    case_id: str, images: Mapping[str, Volume], labels: Mapping[str, Volume], columns: Mapping[str, Column]
) -> list[Finding]:
    """Checks the volumes of one case; `check_volumes` for files, this for arrays before they are written.

    Args:
        case_id: for the findings.
        images: one volume per image column, ``(X, Y, Z[, T])``.
        labels: one volume per labelled mask or map column.
        columns: what the label columns mean.
    """
    checker = _Checker(case_id)
    for name, image in images.items():
        checker.image(name, image)
    if images:
        first, reference = next(iter(images.items()))
        for name, volume in [*list(images.items())[1:], *labels.items()]:
            code = "MIXED_GRID" if name in images else "LABEL_GEOMETRY_MISMATCH"
            checker.grid(code, name, volume.geometry, first, reference.geometry)
    for name, volume in labels.items():
        if columns[name].kind == "mask":
            checker.mask(name, volume.array, columns[name].labels)
    return checker.findings


@dataclass
class _Checker:
    """Checks of one case; every problem becomes a finding."""

    case_id: str

    def __post_init__(self) -> None:
        self.findings: list[Finding] = []

    def add(self, code: str, severity: Severity, where: str, message: str) -> None:
        self.findings.append(Finding(code, severity, message, where, self.case_id))

    def image(self, where: str, image: Volume) -> None:
        """NaN, infinity or one value everywhere is no image."""
        if not image.geometry.oriented:
            text = (
                "the file states no orientation (sform and qform codes are 0); axes are taken as they stand"
            )
            self.add("MISSING_GEOMETRY", "warning", where, text)
        for frame, voxels in enumerate(frames_first(image.array)):
            low, high = float(voxels.min()), float(voxels.max())  # NaN passes through both
            if not np.isfinite(low) or not np.isfinite(high):
                count = int(np.count_nonzero(~np.isfinite(voxels)))
                text = f"frame {frame} has {count} voxels that are NaN or infinite; export it again"
            elif low == high:
                text = f"frame {frame} holds the value {low:g} everywhere; export it again"
            else:
                continue
            self.add("NOT_AN_IMAGE", "error", where, text)
            return

    def grid(self, code: str, where: str, geometry: Geometry, first: str, reference: Geometry) -> None:
        """Every volume of a case has the grid and frames of its first image."""
        difference = geometry.differs_from(reference)
        if not difference and geometry.frames != reference.frames:
            difference = f"{geometry.frames} frames instead of {reference.frames}"
        if difference:
            self.add(
                code, "error", where, f"{where} has {difference} of the {first}; bring both onto one grid"
            )

    def mask(self, where: str, array: NDArray[Any], labels: Mapping[str, int]) -> None:
        """Only labels, background and 255; something labelled; slices in the stack without a label."""
        found = _values(array)
        strange = sorted(found - {0, UNLABELLED, *labels.values()})
        if strange:
            shown = ", ".join(f"{value:g}" for value in strange[:5]) + (", ..." if len(strange) > 5 else "")
            known = ", ".join(f"{value} = {name}" for name, value in labels.items())
            text = (
                f"found the value(s) {shown}; known are 0 = background, {known}, {UNLABELLED} = not labelled"
            )
            self.add("LABEL_VALUES", "error", where, text)
            return
        if not found - {0, UNLABELLED}:
            what = "no voxel is labelled" if UNLABELLED in found else "is background everywhere"
            self.add(
                "LABEL_VALUES",
                "warning",
                where,
                f"the mask is empty: {what}; leave its cell blank if nobody drew it",
            )
            return
        self._slices(where, frames_first(array))

    def _slices(self, where: str, mask: NDArray[Any]) -> None:
        drawn = ((mask != 0) & (mask != UNLABELLED)).any(axis=(1, 2))
        judged = (mask != UNLABELLED).all(axis=(1, 2))
        for frame in np.flatnonzero(drawn.any(axis=1)):
            slices = np.flatnonzero(drawn[frame])
            empty = np.flatnonzero(~drawn[frame] & judged[frame])
            between = empty[(empty > slices[0]) & (empty < slices[-1])]
            if between.size:
                text = f"frame {frame}: no label in slice(s) {_ranges(between)}, between slices that have one"
                self.add("LABEL_VALUES", "warning", where, f"{text}; see whether they were forgotten")
            outside = np.setdiff1d(empty, between)
            if outside.size:
                text = f"frame {frame}: no label in slice(s) {_ranges(outside)} at the end of the stack"
                self.add("LABEL_VALUES", "info", where, f"{text}; they count as background")


def _values(array: NDArray[Any]) -> set[float]:
    """The distinct voxel values; a table of 256 is much quicker than sorting."""
    if array.dtype == np.uint8:
        return {int(value) for value in np.flatnonzero(np.bincount(array.ravel(order="K"), minlength=256))}
    return {float(value) for value in np.unique(array)}


def _ranges(numbers: NDArray[np.intp]) -> str:
    """``0-2, 5`` for 0, 1, 2, 5."""
    runs: Sequence[NDArray[np.intp]] = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
