"""Slices x phases: in which order the planes at one position were taken, and how far that can be trusted.

Order of trust: place in the heart's cycle (TriggerTime), temporal position, acquisition and content times,
counters, and, as a guess that is always reported, InstanceNumber.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.clocks import CLOCKS, ORDER_OF_TRUST, POSITIONS, TRIGGERS, read_clock
from medmtl.data.dicom.table import Table
from medmtl.types import CaseError, Finding

KEPT_SHARE = 0.75
"""Share of the planes that must remain where phases that lack slices are dropped."""
UNEVEN_STEP = 1.6
"""A step so many times as long as a slice's others, where other slices have none, spans a missing phase."""


@dataclass(frozen=True, eq=False)
class Phases:
    """Planes in time.

    Attributes:
        planes: ``(Z, T)`` numbers of planes.
        how: the element that orders them.
        findings: about order and completeness.
    """

    planes: NDArray[np.int64]
    how: str
    findings: tuple[Finding, ...] = ()


@dataclass(eq=False)
class _Survey:
    """What the elements that may order planes say.

    Attributes:
        complete: all slices have equally many planes, of the same phases.
        orders: elements that give every slice distinct moments, most trusted first, and planes ``(Z, T)``.
        wild: likewise of those whose moments do not fit together from slice to slice.
        doubled: an element that gives two planes of a slice one moment, how many, and its values.
        partial: the phases that all slices have, where some have more.
    """

    complete: bool
    orders: list[tuple[str, NDArray[np.int64]]] = field(default_factory=list)
    wild: list[tuple[str, NDArray[np.int64]]] = field(default_factory=list)
    doubled: tuple[str, int, NDArray[np.float64]] | None = None
    partial: Phases | None = None


def in_phases(table: Table, of_plane: NDArray[np.int64], *, strict: bool = False) -> Phases:
    """Orders planes that share positions.

    Args:
        table: N planes of one stack.
        of_plane: ``(N,)`` slice of each.
        strict: refuse an incomplete grid instead of dropping its incomplete phases.

    Raises:
        CaseError: ``DUPLICATE_POSITION``, ``INCOMPLETE_GRID`` or ``TIME_AMBIGUOUS``.
    """
    counts = np.bincount(of_plane)
    survey = _survey(table, of_plane, counts)
    if survey.orders:
        return _most_trusted(table, of_plane, survey)
    if survey.doubled is not None or np.median(counts) == 1:
        twice = survey.doubled[1] if survey.doubled else int((counts - 1).sum())
        same = f" and have its {survey.doubled[0]}" if survey.doubled else ""
        raise CaseError(
            "DUPLICATE_POSITION",
            f"{twice} image(s) lie where another one does{same}, and nothing tells which is right; "
            "remove the superfluous files",
        )
    if survey.complete:
        return _by_instance_number(table, of_plane, int(counts[0]))
    if survey.partial is not None and not strict:
        return survey.partial
    found = (
        f"{counts.min()} to {counts.max()} images each"
        if np.ptp(counts)
        else f"{counts[0]} images each, of other phases"
    )
    raise CaseError(
        "INCOMPLETE_GRID",
        f"{len(counts)} slices have {found}, so slices x phases are not complete; find the missing files",
    )


def _survey(table: Table, of_plane: NDArray[np.int64], counts: NDArray[np.int64]) -> _Survey:
    survey = _Survey(complete=bool((counts == counts[0]).all()))
    for keyword in ORDER_OF_TRUST:
        values = read_clock(table, keyword)
        if not np.isfinite(values).all():
            continue
        order = np.lexsort((values, of_plane))
        twice = int(((np.diff(values[order]) == 0) & (np.diff(of_plane[order]) == 0)).sum())
        of_phases = keyword in (*TRIGGERS, *POSITIONS)
        if twice:
            if of_phases and survey.doubled is None and twice <= (1 - KEPT_SHARE) * len(values):
                survey.doubled = (keyword, twice, values)
        elif not survey.complete:
            survey.partial = survey.partial or _without_gaps(values, of_plane, keyword)
        else:
            grid = order.reshape(len(counts), -1)
            astray = _astray(values[grid]) if of_phases else 0.0
            if 0.0 < astray <= 0.5 and not survey.orders:  # some slices lack one phase, some another
                survey.complete = False
                survey.partial = _without_gaps(values, of_plane, keyword)
                break
            fits = survey.doubled is None or bool((np.diff(survey.doubled[2][grid], axis=1) >= 0).all())
            if fits:
                (survey.wild if astray else survey.orders).append((keyword, grid))
    return survey


def _most_trusted(table: Table, of_plane: NDArray[np.int64], survey: _Survey) -> Phases:
    """The first element's order, unless its times jump about and a clock's do not."""
    how, grid = survey.orders[0]
    others = [(k, g) for k, g in survey.orders[1:] if not np.array_equal(g, grid)]
    against = [k for k, _ in others if k in (*TRIGGERS, *POSITIONS)]
    clock = next((o for o in others if o[0] in ("AcquisitionDateTime", "AcquisitionTime")), None)
    jumps = how == "TriggerTime" and _jumps(read_clock(table, how)[grid])
    if jumps and clock is not None and not _jumps(read_clock(table, clock[0])[clock[1]]):
        against, (how, grid) = [how], clock
    elif how in CLOCKS:
        counted = _counted(table, of_plane)
        numbered = [] if counted is None else [("InstanceNumber", counted)]
        against = [k for k, g in (*survey.wild, *numbered) if not np.array_equal(g, grid)]
    if not against:
        return Phases(grid, how)
    message = f"{how} and {against[0]} order frames differently; {how} was used"
    return Phases(grid, how, (Finding("TIME_AMBIGUOUS", "warning", message),))


def _astray(times: NDArray[np.float64]) -> float:
    """Share of slices whose times ``(Z, T)`` are those of other phases than most slices'.

    A slower heart stretches times, and a delay of part of a step moves them; a phase that is missing
    in one slice and there in others doubles one of its steps, or moves all by one.
    """
    if times.shape[1] < 2:
        return 0.0
    usual = np.median(times, axis=0)
    steps = np.diff(usual)
    if steps.min() <= 0:
        return 1.0
    stretch = np.diff(times, axis=1) / steps
    plain = np.median(stretch, axis=1) if times.shape[1] > 3 else stretch.min(axis=1)
    gaps = stretch.max(axis=1) > UNEVEN_STEP * plain
    late = np.abs(times[:, 0] - usual[0]) > 0.75 * float(np.median(steps))
    return float((gaps | late).mean())


def _jumps(times: NDArray[np.float64]) -> bool:
    """Whether steps between frames ``(Z, T)`` are of very different lengths."""
    steps = np.diff(times, axis=1)
    return bool(steps.size and (steps.max(axis=1) > 4 * np.median(steps, axis=1)).mean() > 0.5)


def _without_gaps(values: NDArray[np.float64], of_plane: NDArray[np.int64], keyword: str) -> Phases | None:
    """The phases that all slices have, where most planes are in them."""
    slices = int(of_plane.max()) + 1
    order = np.lexsort((values, of_plane))
    within = of_plane[order][1:] == of_plane[order][:-1]
    steps = np.diff(values[order])[within]
    ascending = np.argsort(values, kind="stable")
    starts = np.concatenate([[True], np.diff(values[ascending]) > 0.25 * float(np.median(steps))])
    phase = np.empty(len(values), dtype=np.int64)
    phase[ascending] = np.cumsum(starts) - 1
    table = np.full((slices, int(phase.max()) + 1), -1, dtype=np.int64)
    table[of_plane, phase] = np.arange(len(values))
    if int((table >= 0).sum()) < len(values):
        return None  # times differ so much between slices that it is not plain which phase is missing
    whole: NDArray[np.bool_] = np.all(table >= 0, axis=0)
    kept = table[:, whole]
    if kept.shape[1] < 2 or kept.size < KEPT_SHARE * len(values):
        return None
    message = (
        f"{int((~whole).sum())} of {len(whole)} phases lack a slice and were left out "
        f"({len(values) - kept.size} images); find the missing files"
    )
    return Phases(kept, keyword, (Finding("INCOMPLETE_GRID", "warning", message),))


def _by_instance_number(table: Table, of_plane: NDArray[np.int64], phases: int) -> Phases:
    """The order of InstanceNumber, where it counts volume by volume or slice by slice; a guess."""
    grid = _counted(table, of_plane)
    if grid is None:
        raise CaseError(
            "TIME_AMBIGUOUS",
            f"{phases} images lie at each of {of_plane.max() + 1} positions, and no element orders them in "
            "time; export the series with its times",
        )
    message = (
        f"only InstanceNumber tells in which order {phases} images at each position were taken; check it"
    )
    return Phases(grid, "InstanceNumber", (Finding("TIME_AMBIGUOUS", "warning", message),))


def _counted(table: Table, of_plane: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Planes ``(Z, T)`` in the order of InstanceNumber, None where it counts neither volumes nor slices."""
    numbers = table.numbers("InstanceNumber")
    slices = int(of_plane.max()) + 1
    if not np.isfinite(numbers).all():
        return None
    grid = np.lexsort((numbers, of_plane)).reshape(slices, -1)
    of_grid = numbers[grid]
    if not (np.diff(of_grid, axis=1) > 0).all():
        return None
    sequence = of_plane[np.argsort(numbers, kind="stable")]
    by_volume, by_slice = sequence.reshape(-1, slices), sequence.reshape(slices, -1)
    counts_volumes = bool((by_volume == by_volume[0]).all()) and len(set(by_volume[0].tolist())) == slices
    counts_slices = bool((by_slice == by_slice[:, :1]).all())
    restarts = bool((of_grid == of_grid[0]).all())
    return grid if counts_volumes or counts_slices or restarts else None
