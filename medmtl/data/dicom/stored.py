"""Stored elements of a header <-> bytes, for the cache: strict, and nothing in it is ever executed.

An element is its number in ``elements.py``, a kind, a length, and that many bytes.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import blake2b
from struct import Struct
from struct import error as StructError
from typing import Any

from medmtl.data.dicom.decode import UNDECODABLE, Context
from medmtl.data.dicom.elements import ELEMENTS
from medmtl.data.dicom.header import Header, Known, Stored
from medmtl.data.dicom.walk import Items, Odd

_KEYWORDS = tuple(ELEMENTS)
_NUMBERS = {keyword: number for number, keyword in enumerate(_KEYWORDS)}
_HEAD = Struct("<HBI")
_PLAIN, _EXPLICIT_ITEMS, _IMPLICIT_ITEMS, _ODD, _KNOWN = range(5)

TABLE = blake2b(repr(ELEMENTS).encode(), digest_size=8).digest()
"""Digest of the table of elements: bytes that were written with another one mean something else."""


def to_bytes(stored: Mapping[str, Stored]) -> bytes:
    """Elements as bytes."""
    parts: list[bytes] = []
    for keyword, value in stored.items():
        if isinstance(value, bytes):
            kind, raw = _PLAIN, value
        elif isinstance(value, Items):
            kind, raw = _IMPLICIT_ITEMS if value.implicit else _EXPLICIT_ITEMS, value.raw
        elif isinstance(value, Odd):
            kind, raw = _ODD, value.vr.encode() + value.raw
        else:
            kind, raw = _KNOWN, json.dumps(_to_json(value.value)).encode()
        parts += (_HEAD.pack(_NUMBERS[keyword], kind, len(raw)), raw)
    return b"".join(parts)


def from_bytes(data: bytes | memoryview) -> dict[str, Stored]:
    """Elements from bytes.

    Raises:
        ValueError: the bytes are not what ``to_bytes`` makes.
    """
    stored: dict[str, Stored] = {}
    position = 0
    try:
        while position < len(data):
            number, kind, length = _HEAD.unpack_from(data, position)
            start = position + _HEAD.size
            position = start + length
            raw = bytes(data[start:position])
            if len(raw) != length:
                raise ValueError("cut")
            stored[_KEYWORDS[number]] = raw if kind == _PLAIN else _special(kind, raw)
    except (StructError, LookupError, TypeError, UnicodeError) as error:
        raise ValueError("not a header") from error
    return stored


def _special(kind: int, raw: bytes) -> Stored:
    if kind == _ODD:
        return Odd(raw[:2].decode("ascii"), raw[2:])
    if kind == _KNOWN:
        return Known(_from_json(json.loads(raw)))
    if kind in (_EXPLICIT_ITEMS, _IMPLICIT_ITEMS):
        return Items(raw, kind == _IMPLICIT_ITEMS)
    raise ValueError("an unknown kind")


def _to_json(value: Any) -> Any:
    if value is UNDECODABLE:
        return {"undecodable": True}
    if isinstance(value, bytes):
        return {"bytes": b64encode(value).decode()}
    if isinstance(value, Header):
        return {"item": {keyword: _to_json(known) for keyword, known in value.known().items()}}
    return [_to_json(one) for one in value] if isinstance(value, tuple) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(one) for one in value)
    if not isinstance(value, dict):
        return value
    if "bytes" in value:
        return b64decode(value["bytes"])
    if "item" in value:
        return Header.of_values({keyword: _from_json(known) for keyword, known in value["item"].items()})
    return UNDECODABLE


class LazyHeader(Header):
    """A header that takes its own elements from bytes when it is first asked for one."""

    __slots__ = ("_data", "_start", "_stop")

    def __init__(
        self, data: memoryview, start: int, stop: int, context: Context, common: Mapping[str, Stored]
    ) -> None:
        self._data, self._start, self._stop = data, start, stop
        self._common = common
        self._context = context

    def __getattr__(self, name: str) -> Any:
        """``_own`` on first use; the bytes were checked when they were read."""
        if name != "_own":
            raise AttributeError(name)
        self._own = from_bytes(self._data[self._start : self._stop])
        return self._own
