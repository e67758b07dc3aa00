"""The cells of a table: text -> number, frame or class, with a reason where it is none."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from medmtl.registry import nearest

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_safe_name(case_id: str) -> bool:
    """Whether a case_id can name a file on every system."""
    return _SAFE_NAME.fullmatch(case_id) is not None


def parse_number(text: str) -> float:
    """A finite number with a decimal point.

    Raises:
        ValueError: the text is none; the message says why.
    """
    try:
        number = float(text)
    except ValueError:
        hint = (
            "; write a decimal point" if re.fullmatch(r"[-+]?\d+,\d+", text) else ", or leave the cell blank"
        )
        raise ValueError(f"found {text!r}, which is not a number{hint}") from None
    if not math.isfinite(number):
        raise ValueError(f"found {text!r}; leave the cell blank where the value is not known")
    return number


def parse_frame(text: str) -> int:
    """A 0-based frame index; ``3.0``, as spreadsheets write it, is 3.

    Raises:
        ValueError: the text is none; the message says why.
    """
    number = parse_number(text)
    if number != int(number) or number < 0:
        raise ValueError(f"found {text!r}; a frame is a whole number, and the first one is 0")
    return int(number)


def parse_class(text: str, classes: Sequence[str], what: str = "classes") -> str:
    """One of the classes.

    Raises:
        ValueError: the text is none; the message suggests the nearest.
    """
    if text not in classes:
        raise ValueError(f"found {text!r}, which is not one of the {what}{nearest(text, list(classes))}")
    return text
