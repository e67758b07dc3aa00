"""Voxel values of a source's mask -> codes of a dataset's mask column, by the names of structures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.types import UNLABELLED, CaseError, DatasetError

MAX_LABELS = UNLABELLED - 1


@dataclass(frozen=True)
class LabelMap:
    """What the values of a mask file become.

    Attributes:
        names: structure of each value that the source uses.
        codes: dataset code of each structure; several values may be one structure, and a structure without a
            code is background here.
        unlabelled: values that mean "nobody labelled this voxel".
    """

    names: Mapping[int, str]
    codes: Mapping[str, int]
    unlabelled: tuple[int, ...] = ()

    def apply(self, array: NDArray[Any], what: str) -> NDArray[np.uint8]:
        """A mask in the dataset's codes.

        Args:
            array: ``(X, Y, Z[, T])`` of any type.
            what: the file, for messages.

        Raises:
            CaseError: ``LABEL_VALUES``: a value that is not a whole number or that has no name.
        """
        found = _whole_values(array, what)
        known = {0: 0, **{value: self.codes.get(name, 0) for value, name in self.names.items()}}
        known |= dict.fromkeys(self.unlabelled, UNLABELLED)
        strange = sorted(found - known.keys())
        if strange:
            shown = ", ".join(str(value) for value in strange[:5]) + (", ..." if len(strange) > 5 else "")
            names = ", ".join(f"{value} = {name}" for value, name in self.names.items())
            raise CaseError(
                "LABEL_VALUES", f"{what}: found the value(s) {shown}; known are 0 = background, {names}"
            )
        if all(known[value] == value for value in found):
            return array.astype(np.uint8, copy=False)
        labels = np.zeros(array.shape, dtype=np.uint8)
        for value in found - {0}:
            labels[array == value] = known[value]
        return labels


def plain_codes(names: Mapping[int, str], where: str) -> LabelMap:
    """Keeps the values of a source that fit into a dataset, and counts from 1 where one does not.

    Args:
        names: structure of each value; 0 (background) is left out.
        where: the file that names them, for messages.

    Raises:
        DatasetError: there are no structures, too many, or two of one name.
    """
    if not names:
        raise DatasetError(f"{where}: names no structure besides the background; add one")
    doubled = first_doubled(names.values())
    if doubled is not None:
        raise DatasetError(f"{where}: {doubled!r} names two values; give each structure its own name")
    if len(names) > MAX_LABELS:
        raise DatasetError(f"{where}: names {len(names)} structures, and a mask can hold {MAX_LABELS}")
    if all(0 < value < UNLABELLED for value in names):
        return LabelMap(names, {name: value for value, name in names.items()})
    return LabelMap(names, {names[value]: code for code, value in enumerate(sorted(names), start=1)})


def first_doubled(names: Iterable[str]) -> str | None:
    """The first name that stands there twice, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _whole_values(array: NDArray[Any], what: str) -> set[int]:
    """The distinct values of a mask."""
    if array.dtype == np.uint8:
        return {int(value) for value in np.flatnonzero(np.bincount(array.ravel(order="K"), minlength=256))}
    values = np.unique(array)
    if array.dtype.kind == "f" and not bool(np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise CaseError("LABEL_VALUES", f"{what}: has values that are not whole numbers; a mask holds labels")
    return {int(value) for value in values}
