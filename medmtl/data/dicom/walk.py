"""Walks the elements of a DICOM file and notes those that are wanted, and no others, up to its pixels.

Only plain grammar is walked: little endian, explicit or implicit. Whatever departs from it raises
``StrangeError``, and pydicom, which knows the odd files of thirty years, reads the file instead. In plain
grammar the two agree; where this walk accepts less than it could, that is why.

Source: DICOM PS3.5 section 7 (data set structure).
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from medmtl.data.dicom.elements import ELEMENTS, PIXEL_TAGS, TAGS
from medmtl.data.dicom.wanted import (
    DELIMITERS,
    ITEM,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    SHORT_VRS,
    Blocks,
    StrangeError,
    Wanted,
    wanted_in_items,
)

UNDEFINED = 0xFFFFFFFF
DEEPEST = 32
"""Sequences within sequences that are followed; real files have about five."""

_explicit_head = Struct("<I2sH").unpack_from
_implicit_head = Struct("<II").unpack_from
_length_32 = Struct("<I").unpack_from

END, SHORT, PIXELS, DELIMITER = "end", "short", "pixels", "delimiter"
"""Why a walk stopped: at the end it was given, where the buffer ended, at pixel data, at an item's end."""


class _ShortError(StrangeError):
    """The buffer ends within a sequence."""


class Odd(NamedTuple):
    """A value whose representation in the file is not the standard's, or is one of two that are allowed."""

    vr: str
    raw: bytes


class Items(NamedTuple):
    """A sequence that nobody has looked into yet: its items as stored."""

    raw: bytes
    implicit: bool


Found = dict[str, bytes | Odd | Items]
"""Stored values by keyword."""

_PIXEL_KEYWORDS = frozenset(PIXEL_TAGS.values())
_SEQUENCES = frozenset(tag for keyword, tag in TAGS.items() if ELEMENTS[keyword].vr == "SQ")
_NOTHING: Wanted = dict.fromkeys(DELIMITERS, ("", b""))
_DELIMITER_LENGTH = 8
_LONGEST_KNOWN = 0xFFFF  # pydicom takes a longer unknown value for what it is called: unknown


def walk(
    buffer: bytes,
    position: int,
    end: int,
    implicit: bool,
    found: Found,
    wanted: Wanted,
    blocks: Blocks,
    depth: int = 0,
) -> tuple[int, str]:
    """Walk elements from ``position`` until ``end``, pixel data, an item's end, or the end of the buffer.

    Args:
        buffer: bytes of the file, or of a part of it that starts with an element.
        position: of the first element in it.
        end: where to stop.
        implicit: representations are not in the file.
        found: what is wanted is put here.
        wanted: what is.
        blocks: private blocks of this data set, as far as it was walked.
        depth: of the sequence that this is in.

    Returns:
        Position of the first element that was not walked (beyond the buffer, where the last one is), and why.

    Raises:
        StrangeError: not plain grammar.
    """
    rare = _Rare(buffer, implicit, found, blocks, depth)
    one_by_one = _walk_implicit if implicit else _walk_explicit
    try:
        return one_by_one(buffer, position, end, found, wanted, rare)
    except _StopError as stopped:
        return stopped.position, stopped.why


def _walk_explicit(
    buffer: bytes, position: int, end: int, found: Found, wanted: Wanted, rare: _Rare
) -> tuple[int, str]:
    head, get, short_vrs, limit = _explicit_head, wanted.get, SHORT_VRS, len(buffer)
    try:
        while position < end:
            tag, vr, length = head(buffer, position)
            entry = get(tag)
            if entry is None:
                if vr in short_vrs:
                    position += 8 + length
                    continue
            elif entry[1] == vr:  # a short one, then
                stop = position + 8 + length
                if stop > limit:
                    return position, SHORT
                found[entry[0]] = buffer[position + 8 : stop]
                position = stop
                continue
            if vr in LONG_VRS:
                (length,) = _length_32(buffer, position + 8)
                value = position + 12
            elif vr in short_vrs:
                value = position + 8
            elif tag == ITEM_END:
                return position, DELIMITER
            else:
                raise StrangeError
            if entry is None and length != UNDEFINED:
                position = value + length
            else:
                position = rare.element(position, tag, vr, value, length, entry)
    except (StructError, _ShortError):
        return position, SHORT
    return position, END


def _walk_implicit(
    buffer: bytes, position: int, end: int, found: Found, wanted: Wanted, rare: _Rare
) -> tuple[int, str]:
    head, get, limit = _implicit_head, wanted.get, len(buffer)
    try:
        while position < end:
            tag, length = head(buffer, position)
            entry = get(tag)
            stop = position + 8 + length
            if entry is None and length != UNDEFINED:
                position = stop
            elif entry is not None and entry[1] and stop <= limit:
                found[entry[0]] = buffer[position + 8 : stop]
                position = stop
            else:
                position = rare.element(position, tag, b"", position + 8, length, entry)
    except (StructError, _ShortError):
        return position, SHORT
    return position, END


class _StopError(Exception):
    """The walk ends here."""

    def __init__(self, position: int, why: str) -> None:
        super().__init__(why)
        self.position, self.why = position, why


class _Rare:
    """What a walk does with elements that are more than a value to be copied."""

    __slots__ = ("_blocks", "_buffer", "_depth", "_found", "_implicit")

    def __init__(self, buffer: bytes, implicit: bool, found: Found, blocks: Blocks, depth: int) -> None:
        self._buffer, self._implicit, self._found = buffer, implicit, found
        self._blocks, self._depth = blocks, depth

    def element(
        self, position: int, tag: int, vr: bytes, value: int, length: int, entry: tuple[str, bytes] | None
    ) -> int:
        """Note an element if it is wanted; the position of the next."""
        keyword = entry[0] if entry else ""
        if keyword in _PIXEL_KEYWORDS:
            raise _StopError(position, PIXELS)
        if tag in DELIMITERS:
            if tag == ITEM_END:
                raise _StopError(position, DELIMITER)
            raise StrangeError
        if length == UNDEFINED:
            stop = _end_of_undefined(self._buffer, value, tag, vr, self._implicit, self._depth)
            following = stop + _DELIMITER_LENGTH
        else:
            following = stop = value + length
        if stop > len(self._buffer):
            raise _ShortError
        raw = self._buffer[value:stop]
        if keyword or (entry and (keyword := self._blocks.name_of(tag, raw))):
            self._found[keyword] = as_stored(keyword, vr, raw, self._implicit)
        return following


def as_stored(keyword: str, vr: bytes, raw: bytes, implicit: bool) -> bytes | Odd | Items:
    """What to keep of a value that is a sequence, or whose representation is not the one that is expected."""
    expected = ELEMENTS[keyword].vr if keyword in ELEMENTS else "LO"
    stored_as = vr.decode() or expected
    unknown = stored_as == "UN" and len(raw) < _LONGEST_KNOWN
    if expected == "SQ" and (stored_as == "SQ" or unknown):
        return Items(raw, implicit)
    return raw if implicit or unknown or stored_as == expected else Odd(stored_as, raw)


def _end_of_undefined(buffer: bytes, value: int, tag: int, vr: bytes, implicit: bool, depth: int) -> int:
    """Where the sequence delimiter of a value of undefined length is."""
    if implicit and not _is_sequence(buffer, value, tag):
        raise StrangeError
    if implicit or vr in (b"SQ", b"UN"):
        return walk_items(buffer, value, None, implicit, None, depth + 1)
    if vr in (b"OB", b"OW"):
        return _end_of_fragments(buffer, value)
    raise StrangeError


def walk_items(
    buffer: bytes,
    position: int,
    end: int | None,
    implicit: bool,
    items: list[tuple[Found, bool]] | None,
    depth: int = 0,
) -> int:
    """Walk the items of a sequence.

    Args:
        buffer: bytes that the sequence is in.
        position: of its first item.
        end: where it ends; None where a delimiter says so.
        implicit: representations are not in the file; where they are, an item may still lack them.
        items: what each item holds, and whether it was implicit, is added here; None where nothing is wanted.
        depth: of this sequence.

    Returns:
        Position after the last item.

    Raises:
        StrangeError: not plain grammar.
        _ShortError: the buffer ends within.
    """
    if depth > DEEPEST:
        raise StrangeError
    wanted = _NOTHING if items is None else wanted_in_items()
    while position != end:
        if position + 8 > len(buffer):
            raise _ShortError
        tag, length = _implicit_head(buffer, position)
        if tag == SEQUENCE_END and end is None and length == 0:
            return position
        if tag != ITEM:
            raise StrangeError
        position += 8
        found: Found = {}
        bare = implicit or _is_bare(buffer, position)
        stop = len(buffer) if length == UNDEFINED else position + length
        position, why = walk(buffer, position, stop, bare, found, wanted, Blocks(), depth)
        if why == SHORT or position > len(buffer):
            raise _ShortError
        if length == UNDEFINED:
            if why != DELIMITER:
                raise _ShortError
            if buffer[position + 4 : position + 8] != b"\0\0\0\0":
                raise StrangeError
            position += 8
        elif why != END or position != stop:
            raise StrangeError
        if items is not None:
            items.append((found, bare))
    return position


def _is_bare(buffer: bytes, position: int) -> bool:
    """Whether an item of an explicit file is implicit: no capitals where its first VR would be."""
    vr = buffer[position + 4 : position + 6]
    return not (vr.isalpha() and vr.isupper() and len(vr) == 2)


def _is_sequence(buffer: bytes, value: int, tag: int) -> bool:
    """Whether an element of undefined length in an implicit file is a sequence, as pydicom would take it."""
    public = (tag & 0xFFFF) << 16 | tag >> 16
    if public in _SEQUENCES:
        return True
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    if dictionary_has_tag(public):
        return dictionary_VR(public) == "SQ"
    if value + 4 > len(buffer):
        raise _ShortError
    return _length_32(buffer, value)[0] == ITEM


def _end_of_fragments(buffer: bytes, position: int) -> int:
    """Where the sequence delimiter after encapsulated fragments is (an icon's pixels, say)."""
    while True:
        if position + 8 > len(buffer):
            raise _ShortError
        tag, length = _implicit_head(buffer, position)
        if tag == SEQUENCE_END and length == 0:
            return position
        if tag != ITEM or length == UNDEFINED:
            raise StrangeError
        position += 8 + length
