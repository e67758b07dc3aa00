"""Dates and times of DICOM as seconds, so that they can be subtracted.

Source: DICOM PS3.5 section 6.2 (value representations DA, TM, DT); ACR-NEMA's ``1998.04.28`` and ``14:30:12``
are still met and read.
"""

from __future__ import annotations

import re
from datetime import date

DAY = 86400.0

_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(\.\d+)?)?)?")
_DATE = re.compile(r"(\d{4})([.-]?)(\d{2})\2(\d{2})")
_DATE_TIME = re.compile(r"(\d{8})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d+)?)?)?)([+-]\d{4})?")


def seconds_of_time(text: str | None) -> float | None:
    """Seconds since midnight of a TM value; None where it is blank or no time of day.

    >>> seconds_of_time("101530.25")
    36930.25
    """
    match = _TIME.fullmatch(text.strip()) if text else None
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:  # 60: a leap second
        return None
    return hours * 3600.0 + minutes * 60.0 + seconds + float(match[4] or 0)


def seconds_of_date(text: str | None) -> float | None:
    """Seconds from the year 1 to the midnight that begins a DA value; None where it is blank or no date.

    >>> seconds_of_date("20240301") - seconds_of_date("20240229") == DAY
    True
    """
    match = _DATE.fullmatch(text.strip()) if text else None
    if match is None:
        return None
    try:
        return date(int(match[1]), int(match[3]), int(match[4])).toordinal() * DAY
    except ValueError:
        return None


def seconds_of(date_text: str | None, time_text: str | None) -> float | None:
    """Seconds from the year 1 of a date and a time; None where either is missing or wrong."""
    day, time = seconds_of_date(date_text), seconds_of_time(time_text)
    return None if day is None or time is None else day + time


def seconds_of_date_time(text: str | None, local_offset: str | None = None) -> float | None:
    """Seconds from the year 1 of a DT value that has at least date and hour; None otherwise.

    Args:
        text: such as ``20240229101530.25+0100``.
        local_offset: TimezoneOffsetFromUTC of the data set, whose dates and times have no offset of their
            own. A value with another offset is converted to it; where the data set states none, offsets are
            left alone.

    >>> seconds_of_date_time("20240229101530+0100", "+0000") == seconds_of("20240229", "091530")
    True
    """
    match = _DATE_TIME.fullmatch(text.strip()) if text else None
    if match is None or (seconds := seconds_of(match[1], match[2])) is None:
        return None
    if match[3] and local_offset and re.fullmatch(r"[+-]\d{4}", local_offset):
        seconds += _offset(local_offset) - _offset(match[3])
    return seconds


def _offset(text: str) -> float:
    sign = -1.0 if text[0] == "-" else 1.0
    return sign * (int(text[1:3]) * 3600.0 + int(text[3:5]) * 60.0)
