"""Planes of one series -> stacks of planes that may share a volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.geometry import SAME_DIRECTION
from medmtl.data.dicom.table import Table

SAME_SPACING = 1e-3
"""Relative difference up to which pixel spacings are one."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes of one orientation and grid, taken and reconstructed in one way.

    Attributes:
        table: its planes, N.
        orientation: ``(2, 3)`` LPS unit vectors.
        spacing_mm: between rows, between columns.
        shape: ``(rows, columns)``.
        attributes: what sets it apart from the other stacks of its series.
        mixed: ``MIXED_ORIENTATION`` and ``MIXED_GRID`` where the series' other stacks differ so.
    """

    table: Table
    orientation: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    attributes: dict[str, Any] = field(default_factory=dict)
    mixed: tuple[str, ...] = ()

    @property
    def pixel_mm(self) -> float:
        """The smaller pixel size."""
        return min(self.spacing_mm)

    def part(self, which: NDArray[np.int64], **attributes: Any) -> Stack:
        """Some of the planes, set apart by further attributes."""
        return replace(self, table=self.table.take(which), attributes=self.attributes | attributes)


def stacks_of(table: Table) -> list[Stack]:
    """The stacks of a series' planes, in an order that depends on what they are only."""
    if not len(table):
        return []
    keys: dict[str, list[Any]] = {
        "Modality": table.column("Modality"),
        "orientation": _orientations(table),
        "grid": _grids(table),
        "ImageType": _image_types(table),
        "StackID": table.column("StackID"),
        "EchoTime": _close(
            [a if a is not None else b for a, b in _pairs(table, "EffectiveEchoTime", "EchoTime")], 0.01
        ),
        "EchoNumbers": table.column("EchoNumbers"),
        "DiffusionBValue": (b_values := _b_values(table)),
        "DiffusionGradientOrientation": _gradients(table, b_values),
        "ConvolutionKernel": table.column("ConvolutionKernel"),
        "Units": table.column("Units"),
    }
    telling = {name: values for name, values in keys.items() if len(set(values)) > 1}
    parts = split(list(zip(*telling.values(), strict=True)) if telling else [()] * len(table))
    mixed = _mixed(telling)
    stacks = []
    for key, which in parts:
        part = table.take(which) if len(parts) > 1 else table
        first = part.planes[0]
        assert first.spacing_mm is not None
        stacks.append(
            Stack(
                part,
                _commonest([plane.orientation for plane in part.planes]),
                min(plane.spacing_mm for plane in part.planes if plane.spacing_mm is not None),
                first.shape,
                {name: value for name, value in zip(telling, key, strict=True) if value is not None},
                mixed,
            )
        )
    return stacks


def _mixed(telling: dict[str, list[Any]]) -> tuple[str, ...]:
    """What a series mixes: orientations, and grids of one orientation."""
    codes = ["MIXED_ORIENTATION"] if "orientation" in telling else []
    if "grid" in telling:
        grids = set(zip(telling.get("orientation", telling["grid"]), telling["grid"], strict=True))
        orientations = {one for one, _ in grids}
        if len(grids) > len(orientations) or not codes:
            codes.append("MIXED_GRID")
    return tuple(codes)


def split(keys: Sequence[Hashable]) -> list[tuple[Any, NDArray[np.int64]]]:
    """Numbers of the planes with each key, sorted by key."""
    groups: dict[Any, list[int]] = {}
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    return [(key, np.array(groups[key])) for key in sorted(groups, key=sortable)]


def sortable(value: Any) -> Any:
    """A key that sorts values of unlike types, None first."""
    if isinstance(value, tuple):
        return (3, tuple(sortable(part) for part in value))
    if isinstance(value, str):
        return (2, value)
    return (0, 0.0) if value is None else (1, float(value))


def _pairs(table: Table, first: str, second: str) -> list[tuple[Any, Any]]:
    return list(zip(table.column(first), table.column(second), strict=True))


def _close(values: Sequence[float | None], tolerance: float) -> list[float | None]:
    """Values, those that differ by rounding made equal."""
    known = sorted({value for value in values if value is not None})
    stands_for: dict[float | None, float | None] = {None: None}
    last = None
    for value in known:
        if last is None or value - last > tolerance:
            leader = value
        stands_for[value] = leader
        last = value
    return [stands_for[value] for value in values]


def _commonest(orientations: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    """The orientation that most planes have; of equally common ones the least, whatever the files' order."""
    by_id = {id(one): one for one in orientations if one is not None}
    counts = Counter(id(one) for one in orientations)
    return by_id[min(by_id, key=lambda i: (-counts[i], by_id[i].ravel().tolist()))]


def _orientations(table: Table) -> list[int]:
    """A number for each plane's orientation: the same where direction cosines differ by rounding."""
    counts = Counter(id(plane.orientation) for plane in table.planes)
    if len(counts) == 1:
        return [0] * len(table)
    arrays = {id(plane.orientation): plane.orientation for plane in table.planes}
    flat = {key: np.ravel(array).tolist() for key, array in arrays.items() if array is not None}
    by_value = Counter[tuple[float, ...]]()
    for key, count in counts.items():
        by_value[tuple(flat[key])] += count
    leaders: list[NDArray[np.float64]] = []
    number_of = {}
    for value in sorted(by_value, key=lambda v: (-by_value[v], v)):
        found = [n for n, leader in enumerate(leaders) if np.abs(leader - value).max() <= SAME_DIRECTION]
        if not found:
            leaders.append(np.array(value))
        number_of[value] = found[0] if found else len(leaders) - 1
    of_id = {key: number_of[tuple(value)] for key, value in flat.items()}
    return [of_id[id(plane.orientation)] for plane in table.planes]


def _grids(table: Table) -> list[tuple[int, ...]]:
    """Rows, columns and a number for the pixel spacing of each plane."""
    spacings = sorted({plane.spacing_mm for plane in table.planes if plane.spacing_mm is not None})
    leaders: list[tuple[float, float]] = []
    number_of: dict[tuple[float, float] | None, int] = {}
    for spacing in spacings:
        close = [n for n, one in enumerate(leaders) if np.allclose(one, spacing, rtol=SAME_SPACING, atol=0)]
        if not close:
            leaders.append(spacing)
        number_of[spacing] = close[0] if close else len(leaders) - 1
    return [(*plane.shape, number_of.get(plane.spacing_mm, -1)) for plane in table.planes]


def _image_types(table: Table) -> list[str | None]:
    """FrameType or ImageType, with what enhanced files and GE say elsewhere: magnitude, phase, ..."""
    types = [own or of_file for own, of_file in _pairs(table, "FrameType", "ImageType")]
    components = table.column("ComplexImageComponent")
    private = table.column("GE.ImageType")
    known: dict[Any, str | None] = {}
    names = []
    for key in zip(types, components, private, strict=True):
        if key not in known:
            parts = [*(key[0] or ()), *([key[1]] if key[1] else [])]
            if key[2] in (1, 2, 3):
                parts.append(("P", "R", "I")[key[2] - 1])
            known[key] = "\\".join(parts) or None
        names.append(known[key])
    return names


def _b_values(table: Table) -> list[float | None]:
    """b-value in s/mm2; GE adds 1e9 to it on some releases."""
    ge = [value[0] % 100_000 if value else None for value in table.column("GE.BValue")]
    columns = [
        table.column("DiffusionBValue"),
        table.column("Siemens.BValue"),
        ge,
        table.column("Philips.DiffusionBFactor"),
    ]
    first: list[float | None] = [
        next((v for v in row if v is not None), None) for row in zip(*columns, strict=True)
    ]
    return _close(first, 0.5)


def _gradients(table: Table, b_values: Sequence[float | None]) -> list[tuple[float, ...] | None]:
    """Direction of the diffusion gradient, where there is any."""
    if len(set(b_values)) == 1 and not b_values[0]:
        return [None] * len(b_values)
    standard = table.column("DiffusionGradientOrientation")
    siemens = table.column("Siemens.DiffusionGradientDirection")
    philips = zip(
        *(table.column(f"Philips.DiffusionDirection{axis}") for axis in ("RL", "AP", "FH")), strict=True
    )
    ge = zip(*(table.column(f"GE.DiffusionDirection{axis}") for axis in "XYZ"), strict=True)
    return [
        next((way for way in map(_rounded, ways) if way), None) if b else None
        for b, *ways in zip(b_values, standard, siemens, philips, ge, strict=True)
    ]


def _rounded(way: tuple[float | None, ...] | None) -> tuple[float, ...] | None:
    if way is None or None in way or not any(way):
        return None
    return tuple(round(part, 3) + 0.0 for part in way if part is not None)
