"""Series that are one volume in pieces: one per slice, or one per phase, as some scanners store cines.

The rule, all of it needed: same study, modality, scanner, protocol, sequence, image type, echo and grid;
descriptions that differ by a trailing number at most; parallel planes. Then either single slices in line
along the normal, each position once; or stacks at the same positions whose TriggerTime or temporal position
differs from series to series. A repeated scan has no such times, and stays a volume of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from medmtl.data.dicom.clocks import POSITIONS, TRIGGERS, read_clock
from medmtl.data.dicom.geometry import SAME_DIRECTION, Slices, slices_of
from medmtl.data.dicom.grouping import SAME_SPACING, Stack
from medmtl.data.dicom.model import Instance, VolumePlan
from medmtl.data.dicom.table import Table
from medmtl.types import CaseError, Finding

IN_LINE_PIXELS = 2.0
"""How far single slices may lie beside the common normal."""

MOST_SERIES = 1000
"""More series of one protocol than any volume has slices are left as they are, which bounds the time."""

_TRAILING_NUMBER = re.compile(
    r"(?:^|[\s_.\-]+|(?<=sax)|(?<=lax))(?:slice|sl|pos|loc|level|b|ph|phase|#)?[\s_.\-]*\d+\s*%?$"
)
_SAME = (
    "Manufacturer",
    "ManufacturerModelName",
    "MRAcquisitionType",
    "ScanningSequence",
    "SequenceName",
    "ImageType",
    "EchoNumbers",
    "ConvolutionKernel",
    "Units",
)


@dataclass(eq=False)
class Draft:
    """A series while its volumes are worked out.

    Attributes:
        number: its SeriesNumber.
    """

    study_uid: str
    series_uid: str
    files: list[Instance]
    number: int | None = None
    stacks: list[Stack] = field(default_factory=list)
    plans: list[VolumePlan] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Piece:
    """A stack that may be a piece of a volume."""

    draft: Draft
    stack: Stack
    slices: Slices


def join(drafts: Sequence[Draft], *, strict: bool = False) -> None:
    """Moves stacks that are one volume with those of other series into the first of their series.

    Args:
        drafts: in the order of their numbers; their stacks and findings are changed.
        strict: leave slices that were taken twice apart, instead of keeping the later ones.
    """
    groups: dict[Any, list[tuple[Draft, Stack]]] = {}
    for draft in drafts:
        for stack in draft.stacks:
            groups.setdefault((draft.study_uid, *_protocol(stack.table)), []).append((draft, stack))
    for members in groups.values():
        if not 1 < len({id(draft) for draft, _ in members}) <= MOST_SERIES:
            continue
        pieces = _pieces(members)
        grids = _by_grid(pieces)
        joined = False
        for same in grids:
            for line in _lines([piece for piece in same if len(piece.slices) == 1]):
                joined |= _join_slices(line, strict)
            whole = [p for p in same if len(p.slices) > 1 and len(p.stack.table) == len(p.slices)]
            if _are_phases(whole):
                _merge(whole, "phase")
        if joined and len(grids) > 1:
            _mark_lone(grids)


def _pieces(members: list[tuple[Draft, Stack]]) -> list[_Piece]:
    """Stacks with their slices; without those whose planes do not form any."""
    pieces = []
    for draft, stack in members:
        try:
            slices = slices_of(stack.table.position, stack.orientation, stack.pixel_mm)
        except CaseError:
            continue
        pieces.append(_Piece(draft, stack, slices))
    return pieces


def _join_slices(line: list[_Piece], strict: bool) -> bool:
    """Joins single slices in line; of one position, the later series' where another was taken anew."""
    most = max((len(piece.stack.table) for piece in line), default=0)
    line = [piece for piece in line if 2 * len(piece.stack.table) >= most]
    at: dict[int, list[_Piece]] = {}
    if len(line) < 2:
        return False
    corners = np.concatenate([piece.slices.corner for piece in line])
    slices = slices_of(corners, line[0].stack.orientation, 10 * IN_LINE_PIXELS * line[0].stack.pixel_mm)
    for piece, number in zip(line, slices.of_plane.tolist(), strict=True):
        at.setdefault(number, []).append(piece)
    if len(at) < 2:
        return False
    rounds = list(zip(*at.values(), strict=True)) if len({len(found) for found in at.values()}) == 1 else []
    if len(rounds) > 1 and all(
        max(_order(piece) for piece in one) < min(_order(piece) for piece in next_)
        for one, next_ in pairwise(rounds)
    ):
        for one in rounds:
            _merge(list(one), "slice")
        return True
    again = [found for found in at.values() if len(found) > 1]
    for found in again:
        late = found[-1].draft
        for piece in found[:-1]:
            piece.draft.stacks = [stack for stack in piece.draft.stacks if stack is not piece.stack]
            message = f"series {late.number} shows the same slice, and was taken for a repetition of this one"
            finding = Finding(
                "DUPLICATE_POSITION", "error" if strict else "warning", message, _where(piece.draft)
            )
            piece.draft.findings.append(finding)
    if again and strict:
        return False
    _merge([found[-1] for found in at.values()], "slice")
    return True


def _merge(pieces: list[_Piece], what: str) -> None:
    """Puts the planes of pieces into the first one's series."""
    pieces = sorted(pieces, key=_order)
    host = pieces[0]
    table = Table([plane for piece in pieces for plane in piece.stack.table.planes])
    numbers = tuple(piece.draft.number for piece in pieces)
    attributes = host.stack.attributes | {"JoinedSeries": numbers}
    merged = replace(host.stack, table=table, attributes=attributes)
    host.draft.stacks = [merged if stack is host.stack else stack for stack in host.draft.stacks]
    message = f"one {what} per series: series {_listed(numbers)} were joined"
    host.draft.findings.append(Finding("JOINED_SERIES", "info", message, _where(host.draft)))
    for piece in pieces[1:]:
        draft = piece.draft
        draft.stacks = [stack for stack in draft.stacks if stack is not piece.stack]
        message = f"one {what} of the volume that series {host.draft.number} is listed with"
        draft.findings.append(Finding("JOINED_SERIES", "info", message, _where(draft)))


def _by_grid(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Pieces of one orientation, size and pixel spacing together."""
    grids: list[list[_Piece]] = []
    for piece in pieces:
        one = piece.stack
        for grid in grids:
            other = grid[0].stack
            if (
                one.shape == other.shape
                and np.allclose(one.spacing_mm, other.spacing_mm, rtol=SAME_SPACING, atol=0)
                and np.abs(one.orientation - other.orientation).max() <= SAME_DIRECTION
            ):
                grid.append(piece)
                break
        else:
            grids.append([piece])
    return grids


def _lines(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Single slices whose first pixels lie on one normal."""
    lines: list[tuple[Any, list[_Piece]]] = []
    for piece in pieces:
        orientation, pixel = pieces[0].stack.orientation, pieces[0].stack.pixel_mm
        beside = orientation @ piece.slices.corner[0]
        for leader, line in lines:
            if np.abs(beside - leader).max() <= IN_LINE_PIXELS * pixel:
                line.append(piece)
                break
        else:
            lines.append((beside, [piece]))
    return [line for _, line in lines]


def _are_phases(pieces: list[_Piece]) -> bool:
    """Whether stacks of single images at the same positions are told apart by a time of the heart's cycle."""
    if len(pieces) < 2 or len({id(piece.draft) for piece in pieces}) < len(pieces):
        return False
    fullest = max(pieces, key=lambda piece: len(piece.slices)).slices
    for piece in pieces:
        nearest = np.abs(piece.slices.corner[:, None] - fullest.corner[None]).max(axis=2).min(axis=1)
        if nearest.max() > 0.1:
            return False
    for keyword in (*TRIGGERS, *POSITIONS):
        values = [read_clock(piece.stack.table, keyword) for piece in pieces]
        if not all(np.isfinite(value).all() for value in values):
            continue
        middle = np.sort([float(np.median(value)) for value in values])
        spread = max(float(np.ptp(value)) for value in values)
        said = [p.stack.table.only("NumberOfTemporalPositions") or len(pieces) for p in pieces]
        if spread < np.diff(middle).min() and min(said) >= len(pieces):
            return True
    return False


def _mark_lone(grids: list[list[_Piece]]) -> None:
    """Notes for single slices that were left over why they did not fit those that were joined."""
    main = max(grids, key=len)[0].stack
    for grid in grids:
        for piece in grid:
            one = piece.stack
            if piece.draft.stacks != [one] or len(piece.slices) > 1 or grid[0].stack is main:
                continue
            turned = np.abs(one.orientation - main.orientation).max() > SAME_DIRECTION
            code = "MIXED_ORIENTATION" if turned else "MIXED_GRID"
            piece.draft.stacks = [replace(one, mixed=(code,))]


def _order(piece: _Piece) -> tuple[bool, int, str]:
    number = piece.draft.number
    return (number is None, number or 0, piece.draft.series_uid)


def _where(draft: Draft) -> str:
    return f"series {draft.number}"


def _listed(numbers: tuple[int | None, ...]) -> str:
    """``3, 4 and 5``."""
    words = [str(number) for number in numbers]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _protocol(table: Table) -> tuple[Any, ...]:
    get = table.planes[0].get
    words = [_stem(get(keyword)) for keyword in ("SeriesDescription", "ProtocolName")]
    echo, flip = get("EchoTime"), get("FlipAngle")
    return (
        get("Modality"),
        *words,
        *(get(keyword) for keyword in _SAME),
        None if echo is None else round(echo, 1),
        None if flip is None else round(flip),
    )


def _stem(text: str | None) -> str:
    """A description without its trailing number."""
    return _TRAILING_NUMBER.sub("", (text or "").strip().lower())
