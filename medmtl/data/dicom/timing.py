"""When the frames of a volume were taken: times from the most trusted element that agrees with their order.

RepetitionTime is no time step, but for echo-planar series, where it is the time of a volume.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.clocks import IN_MS, ORDER_OF_TRUST, TRIGGERS, read_clock
from medmtl.data.dicom.model import Sureness, TimeAxis
from medmtl.data.dicom.mosaic import TILE_DELAY
from medmtl.data.dicom.phases import Phases
from medmtl.data.dicom.table import Table
from medmtl.types import Finding

SAME_MS = 0.5
"""Slices whose times differ by less are taken at the same time."""


def time_axis(table: Table, phases: Phases) -> tuple[TimeAxis, list[Finding]]:
    """Times of ordered planes, from the most trusted element that agrees with their order."""
    grid = phases.planes
    sure: Sureness = "guess" if phases.how == "InstanceNumber" else "certain"
    for keyword in [k for k in ORDER_OF_TRUST if k in IN_MS]:
        times = read_clock(table, keyword)[grid]
        if not np.isfinite(times).all() or not (np.diff(times, axis=1) > 0).all():
            continue
        if keyword not in TRIGGERS:
            overlap = bool((times.max(axis=0)[:-1] >= times.min(axis=0)[1:]).any())
            times = times - (times[:, :1] if overlap else times.min())
            times = times + _tile_delays(table, grid)
        how = keyword if keyword == phases.how else f"{keyword} (order: {phases.how})"
        if keyword == "ContentTime" and sure == "certain":
            sure = "likely"
        return _axis(times, how, sure), []
    step, rule = _constant_step(table, grid.shape[1])
    times = np.arange(grid.shape[1]) * step + _tile_delays(table, grid)
    how = f"{phases.how} x {rule}" if rule else f"{phases.how} (order only)"
    findings = []
    if not rule:
        findings.append(
            Finding("TIME_AMBIGUOUS", "warning", "no element says how much time passes between frames")
        )
    return _axis(times, how, "guess" if sure == "guess" or not rule else "likely"), findings


def of_several_phases(table: Table) -> bool:
    """Whether the only plane of every slice comes from another phase of a cine: no volume of one moment."""
    images = table.numbers("CardiacNumberOfImages")
    times = read_clock(table, "TriggerTime")
    if not np.isfinite(images).all() or images.min() < 2 or not np.isfinite(times).all():
        return False
    beats = table.numbers("NominalInterval")
    beat = float(np.nanmedian(beats)) if np.isfinite(beats).any() else 1000.0
    return bool(np.ptp(times) > max(1.5 * beat / float(images.max()), SAME_MS))


def said_and_found(table: Table, found: int) -> list[Finding]:
    """A note where headers announce more phases than there are."""
    for keyword in ("CardiacNumberOfImages", "NumberOfTemporalPositions"):
        said = table.only(keyword)
        if said is not None and said > found:
            message = f"{keyword} announces {said} phases, and there are files of {found}"
            return [Finding("INCOMPLETE_GRID", "info", message)]
    return []


def _constant_step(table: Table, phases: int) -> tuple[float, str]:
    """Milliseconds between frames where headers state them, and the rule; NaN and blank otherwise."""
    for keyword in ("TemporalResolution", "FrameTime"):
        step = table.only(keyword)
        if step is not None and step > 0:
            return float(step), keyword
    images, beat = table.only("CardiacNumberOfImages"), table.numbers("NominalInterval")
    beat = beat[np.isfinite(beat) & (beat > 0)]
    if images == phases and phases > 1 and len(beat):
        return float(np.median(beat)) / phases, "NominalInterval / CardiacNumberOfImages"
    repetition = table.only("RepetitionTime")
    if repetition is not None and repetition > 0 and _echo_planar(table):
        return float(repetition), "RepetitionTime"
    return float("nan"), ""


def _echo_planar(table: Table) -> bool:
    """Whether one excitation reads a whole slice, so that RepetitionTime is the time of a volume."""
    get = table.planes[0].get
    by_train = (get("GradientEchoTrainLength") or 0) > 16 and not get("RFEchoTrainLength")
    said = get("EchoPlanarPulseSequence") == "YES" or "EP" in (get("ScanningSequence") or ())
    return (said or by_train) and get("MRAcquisitionType") != "3D"


def _tile_delays(table: Table, grid: NDArray[np.int64]) -> NDArray[np.float64]:
    """``(Z, T)`` ms from a volume's begin to each tile of a mosaic; 0 where that is not known."""
    if TILE_DELAY not in table.planes[0].extra:
        return np.zeros(grid.shape)
    delays = np.array([plane.extra.get(TILE_DELAY, np.nan) for plane in table.planes])[grid]
    return delays - delays.min() if np.isfinite(delays).all() else np.zeros(grid.shape)


def _axis(times: NDArray[np.float64], how: str, sure: Sureness) -> TimeAxis:
    """Times ``(Z, T)`` or ``(T,)`` as an axis, per slice where slices differ."""
    if times.ndim == 1:
        return TimeAxis(times, None, how, sure)
    if not np.isfinite(times).all() or (np.abs(times - times[0]) <= SAME_MS).all():
        return TimeAxis(times[0].copy(), None, how, sure)
    return TimeAxis(times.mean(axis=0), times, how, sure)
