"""Numbers as a reader wants them: as many digits as mean something, blanks for what is not there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medmtl.report.blocks import BLANK

_RATIOS = frozenset({"", "1", "-", "ratio", "none"})


def as_float(value: Any) -> float:
    """`value` as a float; NaN for None, blanks and words."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def shown(value: object, unit: str = "") -> str:
    """A number with three decimals for ratios, one for quantities (more when small), or a dash."""
    number = as_float(value)
    if not math.isfinite(number):
        return BLANK
    if unit.lower() in _RATIOS:
        digits = 3 if abs(number) < 10 else 1
    else:
        digits = 1 if abs(number) >= 0.1 or number == 0 else 2
    return f"{number:.{digits}f}".replace("-", "−")


def with_unit(value: object, unit: str) -> str:
    """`12.3 mL`, `0.912`, `4.1 %` or a dash."""
    text = shown(value, unit)
    return text if text == BLANK or unit.lower() in _RATIOS else f"{text} {unit}"


def interval(entry: Mapping[str, Any]) -> str:
    """`0.901 to 0.934`, or nothing where the metric has no confidence interval."""
    unit = str(entry.get("unit") or "")
    low, high = (shown(entry.get(end), unit) for end in ("ci_low", "ci_high"))
    return "" if BLANK in (low, high) else f"{low} to {high}"


def count(entry: Mapping[str, Any]) -> int:
    """Number of cases behind a metric; 0 where it is not given."""
    number = as_float(entry.get("n"))
    return int(number) if math.isfinite(number) else 0


def plural(number: int, noun: str, many: str = "") -> str:
    """`1 case`, `3 cases`; `many` where that is no plural."""
    return f"{number} {noun if number == 1 else many or noun + 's'}"
