"""PET: the injected dose at the moment that pixel values refer to.

DecayCorrection says which moment that is: the injection (ADMIN), one moment near the start of the scan
(START), or the time at which each slice was measured (NONE). START's moment is not in the standard's tags.
QIBA's rule: it is the time of the series, unless that is later than the acquisition; the series is
post-processed then, and the scanner's private tag says it, or the frame times do.

Source: QIBA Profile FDG-PET/CT 1.13, appendix G; IBSI-SUV manual (frame times); DICOM PS3.3 C.8.9.1 (PET
series), C.8.9.2 (PET isotope), C.8.9.4 (PET image), C.8.22 (enhanced PET).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.clock import DAY, seconds_of, seconds_of_date_time, seconds_of_time
from medmtl.data.dicom.nuclides import half_life_problem
from medmtl.data.dicom.tags import Tags

DOSE_BQ = (1e6, 2e10)
"""Beyond these a dose is in another unit (MBq, mCi), or is none."""

LONGEST_HALF_LIVES = 10.0
"""Half-lives between injection and scan after which a thousandth is left: longer than any scan waits."""

SCAN_BEFORE_INJECTION_S = 600.0
"""A dynamic scan may be started this long before the injection."""

DATE_NEEDED_HALF_LIFE_S = 12 * 3600.0
"""A time of day without a date does for nuclides that are gone a day later, and for no others."""

SAME_MOMENT_S = 1.0
"""Times are often rounded to seconds."""


class DecayError(Exception):
    """The dose at the time of the scan cannot be known; the message names the tag."""


@dataclass(frozen=True, slots=True)
class Injection:
    """What was injected.

    Attributes:
        dose_bq: at the time of injection.
        half_life_s: of the nuclide.
        date_time: seconds from the year 1; None where only the time of day is known.
        time: seconds since midnight; None where ``date_time`` is known.
    """

    dose_bq: float
    half_life_s: float
    date_time: float | None
    time: float | None


def decayed_dose(planes: Sequence[Tags]) -> NDArray[np.float64]:
    """Injected dose in Bq at the moment that the values of each plane refer to ``(P,)``.

    Args:
        planes: of one series; what they say of dose and correction must be the same in all.

    Raises:
        DecayError: a tag is missing, contradicts another or cannot be true.
    """
    injection = _injection(planes)
    correction = _correction(planes)
    if correction == "ADMIN":
        return np.full(len(planes), injection.dose_bq)
    if correction == "START":
        moments = np.full(len(planes), _start_of_scan(planes, injection.half_life_s))
    elif correction == "NONE":
        moments = np.array([_measured(plane, injection.half_life_s) for plane in planes])
    else:
        moments = np.full(len(planes), _decay_correction_date_time(planes))
    elapsed = moments - _injected_at(injection, float(moments.min()))
    return np.asarray(
        injection.dose_bq * np.exp2(-_plausible(elapsed, planes, injection) / injection.half_life_s)
    )


def average_count_rate_time(duration_s: float, half_life_s: float) -> float:
    """When in a frame the count rate is its average: seconds after it began, half of it where it is short.

    Args:
        duration_s: of the frame.
        half_life_s: of the nuclide.
    """
    decayed = math.log(2.0) * duration_s / half_life_s
    if decayed < 1e-6:
        return duration_s / 2.0
    return duration_s / decayed * math.log(decayed / -math.expm1(-decayed))


def _same(planes: Sequence[Tags], keyword: str) -> Any:
    """What all planes say."""
    values = {plane.get(keyword) for plane in planes}
    if len(values) > 1:
        raise DecayError(f"{keyword} differs between the slices of the series")
    return values.pop()


def _injection(planes: Sequence[Tags]) -> Injection:
    items = planes[0].get("RadiopharmaceuticalInformationSequence") or ()
    if len(items) != 1:
        found = (
            f"has {len(items)} items, and which of them was measured is not said" if items else "is missing"
        )
        raise DecayError(f"RadiopharmaceuticalInformationSequence {found}")
    injections = {_injection_of(plane) for plane in planes}
    if len(injections) > 1:
        raise DecayError("RadiopharmaceuticalInformationSequence differs between the slices of the series")
    return injections.pop()


def _injection_of(plane: Tags) -> Injection:
    (item,) = plane.get("RadiopharmaceuticalInformationSequence") or (None,)
    if item is None:
        raise DecayError("RadiopharmaceuticalInformationSequence is missing in part of the slices")
    dose, half_life = item.get("RadionuclideTotalDose"), item.get("RadionuclideHalfLife")
    if not dose:
        raise DecayError("RadionuclideTotalDose is missing")
    if not DOSE_BQ[0] <= dose <= DOSE_BQ[1]:
        raise DecayError(f"RadionuclideTotalDose is {dose:g}, which cannot be an injected dose in Bq")
    if not half_life:
        raise DecayError("RadionuclideHalfLife is missing")
    codes = item.get("RadionuclideCodeSequence") or ()
    if problem := half_life_problem(half_life, (codes[0].get("CodeMeaning") or "") if codes else ""):
        raise DecayError(problem)
    stated = item.get("RadiopharmaceuticalStartDateTime")
    date_time = seconds_of_date_time(stated, plane.get("TimezoneOffsetFromUTC"))
    time = seconds_of_time(item.get("RadiopharmaceuticalStartTime"))
    return Injection(float(dose), float(half_life), date_time, time if date_time is None else None)


def _correction(planes: Sequence[Tags]) -> str:
    """``START``, ``ADMIN``, ``NONE``, or ``DATE`` where enhanced PET says to which moment."""
    stated = _same(planes, "DecayCorrection")
    if stated is None:
        by_flag = {"YES": "DATE", "NO": "NONE"}.get(_same(planes, "DecayCorrected"))
        if by_flag is None:
            raise DecayError("DecayCorrection is missing")
        return by_flag
    corrected = set(planes[0].get("CorrectedImage") or ())
    decay_listed = bool(corrected & {"DECY", "DECAY"})
    if stated not in ("START", "ADMIN", "NONE") or (stated != "NONE") != decay_listed:
        raise DecayError(
            f"DecayCorrection is {stated}, CorrectedImage {'has' if decay_listed else 'does not have'} DECY"
        )
    return str(stated)


def _injected_at(injection: Injection, moment: float) -> float:
    """When the injection was; where no date is stated, on the day of the scan or the evening before."""
    if injection.date_time is not None:
        return injection.date_time
    if injection.time is None:
        raise DecayError("RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime are missing")
    if injection.half_life_s > DATE_NEEDED_HALF_LIFE_S:
        raise DecayError(
            "RadiopharmaceuticalStartDateTime is missing, and with this half-life a time of day does not do"
        )
    same_day = moment // DAY * DAY + injection.time
    if same_day - moment > SCAN_BEFORE_INJECTION_S:
        return same_day - DAY
    return same_day


def _plausible(
    elapsed: NDArray[np.float64], planes: Sequence[Tags], injection: Injection
) -> NDArray[np.float64]:
    """Seconds from injection to the moments of the planes, if a scan can have been so."""
    earliest, latest = float(elapsed.min()), float(elapsed.max())
    allowed = -SCAN_BEFORE_INJECTION_S if "DYNAMIC" in (planes[0].get("SeriesType") or ()) else -SAME_MOMENT_S
    tag = (
        "RadiopharmaceuticalStartTime" if injection.date_time is None else "RadiopharmaceuticalStartDateTime"
    )
    if earliest < allowed:
        raise DecayError(f"{tag} is {-earliest / 60.0:.0f} minutes after the scan began")
    if latest > LONGEST_HALF_LIVES * injection.half_life_s:
        raise DecayError(f"{tag} is {latest / 3600.0:.3g} hours before the scan, too long for this nuclide")
    return elapsed


def _decay_correction_date_time(planes: Sequence[Tags]) -> float:
    stated = _same(planes, "DecayCorrectionDateTime")
    moment = seconds_of_date_time(stated, planes[0].get("TimezoneOffsetFromUTC"))
    if moment is None:
        raise DecayError("DecayCorrectionDateTime is missing")
    return moment


def _acquired(plane: Tags) -> float:
    """When the frame of a plane began."""
    moment = seconds_of(plane.get("AcquisitionDate"), plane.get("AcquisitionTime"))
    for keyword in ("FrameAcquisitionDateTime", "AcquisitionDateTime"):
        if moment is None:
            moment = seconds_of_date_time(plane.get(keyword), plane.get("TimezoneOffsetFromUTC"))
    if moment is None:
        raise DecayError("AcquisitionDate or AcquisitionTime is missing")
    return moment


def _measured(plane: Tags, half_life_s: float) -> float:
    """When the uncorrected values of a plane were true."""
    stated = seconds_of_date_time(plane.get("FrameReferenceDateTime"), plane.get("TimezoneOffsetFromUTC"))
    if stated is not None:
        return stated
    milliseconds = plane.get("ActualFrameDuration") or plane.get("FrameAcquisitionDuration")
    if not milliseconds or milliseconds < 0:
        raise DecayError("ActualFrameDuration is missing")
    return _acquired(plane) + average_count_rate_time(milliseconds / 1000.0, half_life_s)


def _start_of_scan(planes: Sequence[Tags], half_life_s: float) -> float:
    """The moment of DecayCorrection START."""
    series = seconds_of(_same(planes, "SeriesDate"), _same(planes, "SeriesTime"))
    if series is None:
        raise DecayError("SeriesDate or SeriesTime is missing")
    acquired = np.array([_acquired(plane) for plane in planes])
    if series <= acquired.min() + SAME_MOMENT_S:
        return series
    for keyword in ("GE.ScanDateTime", "Siemens.DecayCorrectionDateTime"):
        private = seconds_of_date_time(_same(planes, keyword), planes[0].get("TimezoneOffsetFromUTC"))
        if private is not None:
            return private
    return _start_by_frame_times(planes, acquired, half_life_s)


def _start_by_frame_times(planes: Sequence[Tags], acquired: NDArray[np.float64], half_life_s: float) -> float:
    """The start, from how long after it each frame was (FrameReferenceTime); else that of the first frame."""
    references = [plane.get("FrameReferenceTime") for plane in planes]
    durations = [plane.get("ActualFrameDuration") for plane in planes]
    if not all(references) or not all(durations):
        return float(acquired.min())
    # GE counts to the beginning of a frame, all others to when its count rate is average.
    ge = "GE" in (planes[0].get("Manufacturer") or "").upper().split()
    average = [0.0 if ge else average_count_rate_time(d / 1000.0, half_life_s) for d in durations]
    starts = acquired + np.array(average) - np.array(references, dtype=np.float64) / 1000.0
    if np.ptp(starts) > 10.0:
        raise DecayError(
            "SeriesTime is later than AcquisitionTime, and FrameReferenceTime differs on the start"
        )
    return float(np.median(starts))
