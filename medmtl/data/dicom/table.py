"""Many headers or planes side by side, an element's values as one column: what makes thousands of files fast.

The files of a series repeat most of their elements, and headers share what they repeat (`Header.layers`): an
element that no header has for itself is decoded once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.model import Plane

if TYPE_CHECKING:
    from medmtl.data.dicom.header import Header


class Columns:
    """Values of elements for many things that can be asked for them.

    Args:
        getters: how to ask each of N things for an element.
        own: keywords whose values may differ from thing to thing.
        families: ``N`` keys; things with one key agree in all other elements.
    """

    def __init__(
        self, getters: Sequence[Callable[[str], Any]], own: set[str], families: Sequence[Hashable]
    ) -> None:
        self._getters = getters
        self._own = own
        self._families = families
        self._columns: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        return len(self._getters)

    def column(self, keyword: str) -> list[Any]:
        """N values of an element, None where it is absent."""
        known = self._columns.get(keyword)
        if known is None:
            if keyword in self._own:
                known = [get(keyword) for get in self._getters]
            elif len(self._heads) == 1:
                known = [self._getters[0](keyword)] * len(self._getters)
            else:
                of_family = {key: get(keyword) for key, get in self._heads.items()}
                known = [of_family[key] for key in self._families]
            self._columns[keyword] = known
        return known

    def numbers(self, keyword: str) -> NDArray[np.float64]:
        """``(N,)`` values of an element, NaN where it is absent."""
        values = [np.nan if value is None else value for value in self.column(keyword)]
        return np.array(values, dtype=np.float64)

    def only(self, keyword: str) -> Any:
        """The value that all have; None where they differ or have none."""
        values = set(self.column(keyword))
        return values.pop() if len(values) == 1 else None

    @cached_property
    def _heads(self) -> dict[Hashable, Callable[[str], Any]]:
        """One of each family."""
        return dict(zip(self._families, self._getters, strict=True))


def columns_of(headers: Sequence[Header]) -> Columns:
    """Columns over the headers of files."""
    own, families = _layers(headers)
    return Columns([header.get for header in headers], own, families)


def _layers(headers: Sequence[Header]) -> tuple[set[str], list[Hashable]]:
    """Keywords that headers have for themselves, and whose elements each shares."""
    layers = [header.layers for header in headers]
    shared = {id(common) for _, common, _ in layers if common}
    own: set[str] = set()
    families: list[Hashable] = []
    for number, (stored, common, _) in enumerate(layers):
        if id(stored) in shared:
            families.append(id(stored))
        else:
            own.update(stored)
            families.append(id(common) if common else -1 - number)
    return own, families


class Table(Columns):
    """Columns over planes in a fixed order.

    Args:
        planes: of one or more series.
    """

    def __init__(self, planes: Sequence[Plane]) -> None:
        self.planes = tuple(planes)
        headers = list({id(plane.instance): plane.instance.header for plane in planes}.values())
        own, families = _layers(headers)
        of_header = dict(zip(map(id, headers), families, strict=True))
        seen: set[int] = set()
        for plane in self.planes:
            for item in plane.items:
                if id(item) not in seen:
                    seen.add(id(item))
                    own.update(item.layers[0], item.layers[1])
            own.update(plane.extra)
        super().__init__(
            [p.get if p.items or p.extra else p.instance.header.get for p in self.planes],
            own,
            [of_header[id(plane.instance.header)] for plane in self.planes],
        )

    @cached_property
    def position(self) -> NDArray[np.float64]:
        """``(N, 3)`` first pixels, LPS mm; every plane must have one."""
        return np.array([plane.position for plane in self.planes], dtype=np.float64).reshape(-1, 3)

    def take(self, which: NDArray[np.int64] | Sequence[int]) -> Table:
        """The planes with these numbers, in this order."""
        index = np.asarray(which, dtype=np.int64).tolist()
        taken = Table([self.planes[i] for i in index])
        taken._columns = {key: [values[i] for i in index] for key, values in self._columns.items()}
        return taken
