"""The bytes of one element's value -> numbers, text or tuples of them, as pydicom would say, or UNDECODABLE.

Where pydicom guesses (a number that is none becomes text), this says UNDECODABLE.
Source: DICOM PS3.5 sections 6.1 (character sets) and 6.2 (value representations).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from struct import unpack
from threading import RLock
from typing import Any, Final, NamedTuple

from medmtl.data.dicom.elements import ELEMENTS

UNDECODABLE: Final = object()
"""Stands for a value that is there and cannot be understood."""

TEXT = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_FREE_TEXT = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
"""Text in the file's character set; all other text is plain ASCII."""

_ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "US|OW"})
FORMATS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
NUMBERS = frozenset({"DS", "IS", "AT", *FORMATS})
_SIZES = {"H": 2, "h": 2, "L": 4, "l": 4, "Q": 8, "q": 8, "f": 4, "d": 8}
_WHOLE = frozenset({"US", "SS", "US|SS", "UL", "SL", "UV", "SV", "IS", "AT"})
_PADDING = " \t\r\n\f\v\0\x1c\x1d\x1e\x1f\x85\xa0"
_LARGEST = 2**63
_QUIET = RLock()  # filters of warnings, and loggers, belong to all threads


class Context(NamedTuple):
    """What the elements of a file have in common.

    Attributes:
        implicit: value representations are not in the file.
        charset: SpecificCharacterSet as stored.
        signed: pixels are signed (PixelRepresentation), and with them the elements that are ``US|SS``.
    """

    implicit: bool
    charset: bytes = b""
    signed: bool = False


@lru_cache(maxsize=16384)
def decode(keyword: str, vr: str, raw: bytes, context: Context) -> Any:
    """Value of an element, from its bytes in little endian.

    Args:
        keyword: a key of ``ELEMENTS``.
        vr: its representation in the file; blank where the file does not say, or says what is expected.
        raw: the stored value.
        context: of the file.

    Returns:
        As ``Header.get``: None where it is empty, UNDECODABLE where it cannot be understood.
    """
    expected = ELEMENTS[keyword].vr
    if not raw:
        return None
    try:
        values = _values(vr or expected, raw, context) if expected not in BINARY else (raw,)
    except (ValueError, LookupError):  # LookupError: a character set that nobody knows
        return UNDECODABLE
    return settle(keyword, values)


def settle(keyword: str, values: Sequence[Any]) -> Any:
    """Values of an element as ``Header.get`` promises them: of the right type, and as many as due."""
    _, vr, count = ELEMENTS[keyword]
    if vr == "SQ":
        return UNDECODABLE  # items are no values
    if vr in BINARY:
        return values[0] if isinstance(values[0], bytes) else UNDECODABLE
    if vr in TEXT:
        return _settle_text(values, count)
    if all(isinstance(value, str) and not value.strip(_PADDING) for value in values):
        return None
    convert = _whole if vr in _WHOLE else _real
    try:
        numbers = tuple(convert(value) for value in values)
    except (ValueError, TypeError, OverflowError):
        return UNDECODABLE
    if count == 0:
        return numbers
    if len(numbers) != count:
        return UNDECODABLE
    return numbers[0] if count == 1 else numbers


def _settle_text(values: Sequence[Any], count: int) -> Any:
    if not all(isinstance(value, str) for value in values):
        return UNDECODABLE
    stripped = tuple(value.strip(_PADDING) for value in values)
    if not any(stripped):
        return None
    # A backslash in a description is a slip of the pen, not a second description.
    return "\\".join(stripped).strip(_PADDING) if count == 1 else stripped


def _values(vr: str, raw: bytes, context: Context) -> Sequence[Any]:
    if vr == "US|SS":
        vr = "SS" if context.signed else "US"
    if vr in ("DS", "IS"):
        return numbers_in(raw.decode("latin-1"), vr)
    if vr in TEXT:
        text = _text(vr, raw, context.charset)
        return (text,) if vr in _ONE_VALUE else text.split("\\")
    if (letter := FORMATS.get(vr)) is not None:
        count, rest = divmod(len(raw), _SIZES[letter])
        if rest:
            raise ValueError("not a whole number of values")
        return unpack(f"<{count}{letter}", raw)
    if vr == "AT":
        words = unpack(f"<{len(raw) // 4 * 2}H", raw[: len(raw) // 4 * 4])
        if not words:
            raise ValueError("not a whole number of values")
        return tuple(group << 16 | element for group, element in zip(words[::2], words[1::2], strict=True))
    return (raw,)


def numbers_in(text: str, vr: str) -> Sequence[Any]:
    """Numbers of a DS or IS value.

    Raises:
        ValueError: something in it is not a number.
    """
    if "_" in text:  # Python's own grouping of digits is not DICOM's
        raise ValueError("not a number")
    if vr == "DS":
        text = text.strip()
    parts = text.rstrip(" \0").split("\\")
    if len(parts) == 1 and not parts[0].strip():
        return ("",)
    convert: Callable[[str], Any] = float if vr == "DS" else _integer
    return tuple(convert(part) for part in parts)


def _integer(text: str) -> int | float:
    """Some write ``1.0``, or fractions of a millisecond, where a whole number is due."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _text(vr: str, raw: bytes, charset: bytes) -> str:
    if (raw.isascii() and b"\x1b" not in raw) or vr not in _FREE_TEXT:
        return raw.decode("latin-1")
    from pydicom.charset import decode_bytes
    from pydicom.valuerep import TEXT_VR_DELIMS

    with quiet():  # bytes that the character set lacks become question marks: no more
        return decode_bytes(raw, list(encodings(charset)), TEXT_VR_DELIMS)


@contextmanager
def quiet() -> Iterator[None]:
    """No word from pydicom: its complaints are our findings, and quote values, names too, in the log."""
    log = logging.getLogger("pydicom")
    with _QUIET:
        was, log.disabled = log.disabled, True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            log.disabled = was


@lru_cache(maxsize=64)
def encodings(charset: bytes) -> tuple[str, ...]:
    """Python's names of the character sets of SpecificCharacterSet; Latin-1 where it is blank, as pydicom."""
    from pydicom.charset import convert_encodings

    with quiet():  # an unknown set is replaced, and the text then looks odd: no more
        names = [name.strip(_PADDING) for name in charset.decode("latin-1").split("\\")]
        return tuple(convert_encodings(names if len(names) > 1 else names[0]))


def _whole(value: Any) -> int | float:
    if isinstance(value, str):
        if "_" in value:
            raise ValueError("not a number")
        value = _integer(value)
    if not -_LARGEST <= value < _LARGEST:
        raise ValueError("too large")
    return int(value) if value == int(value) else float(value)


def _real(value: Any) -> float:
    if isinstance(value, bytes) or (isinstance(value, str) and "_" in value):
        raise ValueError("not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number
