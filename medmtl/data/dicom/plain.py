"""A file in plain grammar: file meta information, header, and where the pixels are.

Source: DICOM PS3.10 section 7.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from medmtl.data.dicom.elements import PIXEL_TAGS
from medmtl.data.dicom.header import Header, plain_bytes
from medmtl.data.dicom.model import PixelData
from medmtl.data.dicom.syntaxes import EXPLICIT, IMPLICIT, ODD
from medmtl.data.dicom.walk import DELIMITER, PIXELS, SHORT, UNDEFINED, Found, walk
from medmtl.data.dicom.wanted import LONG_VRS, VRS, Blocks, StrangeError, wanted_at_top

BLOCK = 16 * 1024
"""Bytes that are read of a file at first; most headers are shorter."""

LARGEST_HEADER = 1 << 30
"""Bytes of one element, pixels aside, beyond which a file is not read any further."""

Read = Callable[[int, int], bytes]

_head = Struct("<HH2sH").unpack_from
_length_32 = Struct("<I").unpack_from
_LONGEST_FIRST = 256
"""Bytes of the first value of an implicit file without preamble: a group length, a character set, a type."""


class Meta(NamedTuple):
    """File meta information: where it ends, the transfer syntax (blank where unsaid), where that is."""

    end: int
    syntax: str
    at: int


class Plain(NamedTuple):
    """What was walked of a file: header, transfer syntax, pixels, whether it ends within its header."""

    header: Header
    transfer_syntax: str
    pixels: PixelData | None
    cut: bool


def walk_file(read: Read, size: int, first: bytes, meta: Meta) -> Plain:
    """Walk a file's header.

    Args:
        read: ``(offset, length) -> bytes`` of the file, fewer where it ends.
        size: of the file in bytes.
        first: its first ``BLOCK`` bytes.
        meta: its file meta information.

    Raises:
        StrangeError: it is not plain grammar.
    """
    position, syntax, _ = meta
    vr = first[position + 4 : position + 6]
    named = vr.isalpha() and vr.isupper()
    if not syntax:
        if named and first[position + 1] >= 4:
            raise StrangeError  # a group that is small the other way round: big endian
        syntax = EXPLICIT if vr in VRS else IMPLICIT
    implicit = syntax == IMPLICIT
    if syntax in ODD or (position < size and implicit == named) or first[position : position + 2] == b"\0\0":
        raise StrangeError  # not what it says it is, or it starts with a command
    found: Found = {}
    pixels, cut = _walk_all(read, size, first, position, implicit, found)
    if not found or b"\0" in plain_bytes(found.get("SpecificCharacterSet")).rstrip(b" \0"):
        raise StrangeError
    if len(plain_bytes(found.get("PixelRepresentation"))) % 2:
        raise StrangeError  # pydicom understands no sequence then
    return Plain(Header.of_file(found, implicit), syntax, pixels, cut)


def looks_like_a_data_set(head: bytes) -> bool:
    """Whether a file without preamble may be DICOM: eight bytes of a first element, in either byte order."""
    if len(head) < 8:
        return False
    group, element = head[:2], head[2:4]
    if group in (b"\0\2", b"\0\x08"):  # big endian, explicit then
        return head[4:6] in VRS and element[0] == 0
    if group not in (b"\2\0", b"\x08\0") or element[1] != 0:
        return False
    return head[4:6] in VRS or _length_32(head, 4)[0] <= _LONGEST_FIRST


def file_meta(first: bytes, position: int) -> Meta:
    """File meta information.

    Args:
        first: the first ``BLOCK`` bytes of a file.
        position: where it starts, behind the preamble.

    Raises:
        StrangeError: it is not plain grammar.
    """
    syntax, at = "", 0
    try:
        while True:
            group, element, vr, length = _head(first, position)
            if group != 2:
                return Meta(position, syntax, at)
            value = position + 8
            if vr in LONG_VRS:
                (length,) = _length_32(first, value)
                value += 4
            if vr not in VRS or length == UNDEFINED or value + length > len(first):
                raise StrangeError
            position = value + length
            if element == 0x10:
                syntax, at = first[value:position].rstrip(b" \0").decode("latin-1"), value
            if element == 0x10 and (not syntax or syntax.strip("0123456789.")):
                raise StrangeError
            if element == 0 and (vr != b"UL" or length != 4):
                raise StrangeError
    except StructError:
        if len(first) >= BLOCK:
            raise StrangeError from None
        return Meta(len(first), syntax, at)


def _walk_all(
    read: Read, size: int, buffer: bytes, position: int, implicit: bool, found: Found
) -> tuple[PixelData | None, bool]:
    """Walk a data set to its pixels or its end, reading on as needed: its pixels, and whether it is cut."""
    base, block, wanted, blocks = 0, BLOCK, wanted_at_top(), Blocks()
    while True:
        position, why = walk(buffer, position, len(buffer), implicit, found, wanted, blocks)
        if why == PIXELS:
            return pixels_at(buffer, base, position, implicit), False
        if why == DELIMITER:
            raise StrangeError  # the end of an item outside of any sequence
        at = base + position
        if at >= size:
            return None, at > size
        if why == SHORT and base + len(buffer) >= size:
            return None, size - at >= 8 or buffer[position:].strip(b"\0") != b""
        block = min(block * 4, LARGEST_HEADER) if why == SHORT and position == 0 and base else BLOCK
        if len(buffer) - position >= LARGEST_HEADER:
            raise StrangeError
        buffer, base, position = read(at, block), at, 0
        if not buffer:
            return None, True


def pixels_at(buffer: bytes, base: int, position: int, implicit: bool) -> PixelData:
    """Where the pixels are whose element starts at ``position`` of a buffer that starts at ``base``."""
    group, element, vr, length = _head(buffer, position)
    value = position + 8
    if implicit:
        (length,) = _length_32(buffer, position + 4)
    elif vr in LONG_VRS:
        (length,) = _length_32(buffer, value)
        value += 4
    return PixelData(base + value, None if length == UNDEFINED else length, PIXEL_TAGS[group << 16 | element])
