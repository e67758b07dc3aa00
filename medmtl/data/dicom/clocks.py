"""What each element says about when planes were taken, as numbers that can be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.clock import DAY, seconds_of_date, seconds_of_date_time, seconds_of_time
from medmtl.data.dicom.table import Table

TRIGGERS = (
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "ActualCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
)
"""Elements that place a plane in the heart's cycle."""

POSITIONS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TemporalPositionTimeOffset",
    "Philips.DynamicScanBeginTime",
)
"""Elements that number the frames, or time them from the first."""

CLOCKS = (
    "AcquisitionDateTime",
    "AcquisitionTime",
    "FrameAcquisitionDateTime",
    "FrameReferenceDateTime",
    "FrameReferenceTime",
    "Siemens.TimeAfterStart",
    "ContentTime",
)
"""Elements that give a time of day, or one since a reference."""

COUNTERS = (
    "GE.CardiacPhaseNumber",
    "Philips.PhaseNumber",
    "FrameAcquisitionNumber",
    "AcquisitionNumber",
)
"""Elements that count phases or acquisitions, on some scanners."""

ORDER_OF_TRUST = (*TRIGGERS, *POSITIONS, *CLOCKS, *COUNTERS)

IN_MS = frozenset({*TRIGGERS[:3], *POSITIONS[2:], *CLOCKS})
"""Those that tell how much time passes between frames, not only their order."""

_IN_SECONDS = frozenset({*POSITIONS[2:], "Siemens.TimeAfterStart"})


def read_clock(table: Table, keyword: str) -> NDArray[np.float64]:
    """``(N,)`` what an element says of each plane: ms where it is in `IN_MS`; NaN where it says nothing."""
    if keyword in ("AcquisitionDateTime", "FrameAcquisitionDateTime", "FrameReferenceDateTime"):
        return _converted(table.column(keyword), seconds_of_date_time) * 1000.0
    if keyword in ("AcquisitionTime", "ContentTime"):
        times = _converted(table.column(keyword), seconds_of_time)
        days = np.nan_to_num(_converted(table.column(keyword.replace("Time", "Date")), seconds_of_date))
        days -= days.min(initial=0.0) if not days.all() else days.min()
        late = np.nanmax(times, initial=0.0) - np.nanmin(times, initial=DAY) > DAY / 2
        if late and not days.any():
            days[times < DAY / 2] = DAY  # over midnight, and the dates were taken out
        return (times + days) * 1000.0
    values = table.numbers(keyword)
    if keyword in _IN_SECONDS:
        return values * 1000.0
    if keyword == "FrameReferenceTime":
        # the moment of mean activity; less half a frame it is close to the frame's start
        return values - np.nan_to_num(table.numbers("ActualFrameDuration")) / 2
    return values


def _converted(column: list[Any], convert: Callable[[Any], float | None]) -> NDArray[np.float64]:
    known = {value: convert(value) for value in set(column)}
    return np.array([known[value] for value in column], dtype=np.float64)
