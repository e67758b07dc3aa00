"""Walks the elements of a DICOM file and notes those that are wanted, and no others, up to its pixels.

Only plain grammar is walked: little endian, explicit or implicit. Whatever departs from it raises
``StrangeError``, and pydicom, which knows the odd files of thirty years, reads the file instead. In plain
grammar the two agree; where this walk accepts less than it could, that is why.

Source: DICOM PS3.5 section 7 (data set structure).
"""

from __future__ import annotations

from functools import cache
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from medmtl.data.dicom.elements import ELEMENTS, PATIENT_TAGS, PIXEL_TAGS, PRIVATE_BLOCKS, TAGS

UNDEFINED = 0xFFFFFFFF
DEEPEST = 32
"""Sequences within sequences that are followed; real files have about five."""

_SHORT_VRS = frozenset(
    vr.encode()
    for vr in [
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FD",
        "FL",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "SL",
        "SS",
        "ST",
        "TM",
        "UI",
        "UL",
        "US",
    ]
)
LONG_VRS = frozenset(
    vr.encode() for vr in ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]
)
VRS = _SHORT_VRS | LONG_VRS

_explicit_head = Struct("<I2sH").unpack_from
_implicit_head = Struct("<II").unpack_from
_length_32 = Struct("<I").unpack_from

END, SHORT, PIXELS, DELIMITER = "end", "short", "pixels", "delimiter"
"""Why a walk stopped: at the end it was given, where the buffer ended, at pixel data, at an item's end."""


class StrangeError(Exception):
    """Not plain grammar: pydicom has to read this."""


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

Wanted = dict[int, tuple[str, bytes]]
"""Turned tag -> keyword and representation; the latter blank where the value is not simply copied."""


def turned(tag: int) -> int:
    """A tag as its four bytes in a file read as one little-endian number."""
    return (tag & 0xFFFF) << 16 | tag >> 16


_ITEM, _ITEM_END, _SEQUENCE_END = turned(0xFFFEE000), turned(0xFFFEE00D), turned(0xFFFEE0DD)
_DELIMITERS = frozenset({_ITEM, _ITEM_END, _SEQUENCE_END})
_PIXEL_KEYWORDS = frozenset(PIXEL_TAGS.values())
_SEQUENCES = frozenset(tag for keyword, tag in TAGS.items() if ELEMENTS[keyword].vr == "SQ")
_DELIMITER_LENGTH = 8
_LONGEST_KNOWN = 0xFFFF  # pydicom takes a longer unknown value for what it is called: unknown
_PIXELS = {turned(tag): keyword for tag, keyword in PIXEL_TAGS.items()}
PATIENT = {turned(tag): f"Patient.{tag:08X}" for tag in PATIENT_TAGS}


_NOTHING: Wanted = dict.fromkeys(_DELIMITERS, ("", b""))


@cache
def wanted_in_items() -> Wanted:
    """What is noted in the items of sequences."""
    wanted = {}
    for group, _, low in PRIVATE_BLOCKS.values():
        for block in range(0x10, 0x100):
            wanted[turned(group << 16 | block)] = ("", b"")
            wanted[turned(group << 16 | block << 8 | low)] = ("", b"")
    for keyword, tag in TAGS.items():
        vr = ELEMENTS[keyword].vr
        wanted[turned(tag)] = (keyword, b"" if vr == "SQ" or "|" in vr else vr.encode())
    wanted |= _NOTHING
    return wanted


@cache
def wanted_at_top() -> Wanted:
    """What is noted of a file: all that, its patient, and where its pixels are."""
    ends = {tag: (keyword, b"") for tag, keyword in _PIXELS.items()}
    return {**wanted_in_items(), **ends, **{tag: (keyword, b"LO") for tag, keyword in PATIENT.items()}}


@cache
def _creators() -> dict[tuple[int, bytes], tuple[tuple[int, str], ...]]:
    """Group and private creator -> elements of its block and their names."""
    creators: dict[tuple[int, bytes], tuple[tuple[int, str], ...]] = {}
    for name, (group, creator, low) in PRIVATE_BLOCKS.items():
        key = (group, creator.encode())
        creators[key] = (*creators.get(key, ()), (low, name))
    return creators


def walk(
    buffer: bytes, position: int, end: int, implicit: bool, found: Found, wanted: Wanted, depth: int = 0
) -> tuple[int, str]:
    """Walk elements from ``position`` until ``end``, pixel data, an item's end, or the end of the buffer.

    Args:
        buffer: bytes of the file, or of a part of it that starts with an element.
        position: of the first element in it.
        end: where to stop.
        implicit: representations are not in the file.
        found: what is wanted is put here.
        wanted: what is.
        depth: of the sequence that this is in.

    Returns:
        Position of the first element that was not walked (beyond the buffer, where the last one is), and why.

    Raises:
        StrangeError: not plain grammar.
    """
    rare = _Rare(buffer, implicit, found, depth)
    vr, get, limit = b"", wanted.get, len(buffer)
    try:
        while position < end:
            if implicit:
                tag, length = _implicit_head(buffer, position)
                value = position + 8
            else:
                tag, vr, length = _explicit_head(buffer, position)
                if vr in _SHORT_VRS:
                    value = position + 8
                elif vr in LONG_VRS:
                    (length,) = _length_32(buffer, position + 8)
                    value = position + 12
                elif tag == _ITEM_END:
                    return position, DELIMITER
                else:
                    raise StrangeError
            entry = get(tag)
            stop = value + length
            if entry is None and length != UNDEFINED:
                position = stop
            elif entry is not None and entry[1] and (implicit or entry[1] == vr) and stop <= limit:
                found[entry[0]] = buffer[value:stop]
                position = stop
            else:
                position = rare.element(position, tag, vr, value, length, entry)
    except (StructError, _ShortError):
        return position, SHORT
    except _StopError as stopped:
        return position, stopped.why
    return position, END


class _StopError(Exception):
    """The walk ends here."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _Rare:
    """What a walk does with elements that are more than a value to be copied."""

    __slots__ = ("_buffer", "_depth", "_found", "_implicit", "_names", "_taken", "_unclaimed")

    def __init__(self, buffer: bytes, implicit: bool, found: Found, depth: int) -> None:
        self._buffer, self._implicit, self._found, self._depth = buffer, implicit, found, depth
        self._names: dict[int, str] = {}
        self._taken: set[tuple[int, bytes]] = set()
        self._unclaimed: set[int] = set()

    def element(
        self, position: int, tag: int, vr: bytes, value: int, length: int, entry: tuple[str, bytes] | None
    ) -> int:
        """Note an element if it is wanted; the position of the next."""
        keyword = entry[0] if entry else ""
        if keyword in _PIXEL_KEYWORDS:
            raise _StopError(PIXELS)
        if tag in _DELIMITERS:
            if tag == _ITEM_END:
                raise _StopError(DELIMITER)
            raise StrangeError
        if length == UNDEFINED:
            stop = _end_of_undefined(self._buffer, value, tag, vr, self._implicit, self._depth)
            following = stop + _DELIMITER_LENGTH
        else:
            following = stop = value + length
        if stop > len(self._buffer):
            raise _ShortError
        raw = self._buffer[value:stop]
        if keyword:
            self._found[keyword] = as_stored(keyword, vr, raw, self._implicit)
        elif entry:
            self._private(tag, vr, raw)
        return following

    def _private(self, tag: int, vr: bytes, raw: bytes) -> None:
        group, element = tag & 0xFFFF, tag >> 16
        if element > 0xFF:
            if (keyword := self._names.get(tag)) is not None:
                self._found[keyword] = as_stored(keyword, vr, raw, self._implicit)
            else:
                self._unclaimed.add(group << 16 | element >> 8)
            return
        if group << 16 | element in self._unclaimed:
            raise StrangeError  # its elements came before it: they would have been missed
        creator = (group, raw.strip(b" \0"))
        if creator not in self._taken:  # of two blocks of one creator the first counts, as in pydicom
            self._taken.add(creator)
            for low, name in _creators().get(creator, ()):
                self._names[turned(group << 16 | element << 8 | low)] = name


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
        if tag == _SEQUENCE_END and end is None and length == 0:
            return position
        if tag != _ITEM:
            raise StrangeError
        position += 8
        found: Found = {}
        bare = implicit or _is_bare(buffer, position)
        stop = len(buffer) if length == UNDEFINED else position + length
        position, why = walk(buffer, position, stop, bare, found, wanted, depth)
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
    return _length_32(buffer, value)[0] == _ITEM


def _end_of_fragments(buffer: bytes, position: int) -> int:
    """Where the sequence delimiter after encapsulated fragments is (an icon's pixels, say)."""
    while True:
        if position + 8 > len(buffer):
            raise _ShortError
        tag, length = _implicit_head(buffer, position)
        if tag == _SEQUENCE_END and length == 0:
            return position
        if tag != _ITEM or length == UNDEFINED:
            raise StrangeError
        position += 8 + length
