"""What the headers of a series have in common, learned from its first files, to read the others faster.

Files of a series repeat most elements byte by byte, and walking is a function of the bytes: to compare a run
of whole elements with that of an earlier file is as good as to walk it. So a template is runs of elements
that were equal so far, and between them single elements that vary, known by tag and representation. A file
that departs from it in any way is walked, and the template learns from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct
from threading import Lock
from typing import NamedTuple

from medmtl.data.dicom.elements import ELEMENTS
from medmtl.data.dicom.header import Header, Stored, plain_bytes
from medmtl.data.dicom.plain import BLOCK, Plain, Read, pixels_at
from medmtl.data.dicom.syntaxes import IMPLICIT
from medmtl.data.dicom.walk import END, Found, as_stored, walk, walk_items
from medmtl.data.dicom.wanted import LONG_VRS, PATIENT, Blocks, StrangeError, wanted_at_top

_length_16, _length_32 = Struct("<H").unpack_from, Struct("<I").unpack_from
_PREAMBLE = 132
_GROUP_LENGTH = b"\2\0\0\0UL\4\0"
_SYNTAX = b"\2\0\x10\0UI"
_LARGEST_COMPARED = 512
"""Bytes of an element that nobody wants, beyond which it is passed over rather than compared."""

_LONGEST_LEARNED, _SLACK = 128 * 1024, 1024
"""Bytes of a header that is learned from, and how much longer others like it may be."""

_NEVER_VARY = frozenset({"SpecificCharacterSet", "PixelRepresentation", *PATIENT.values()})
"""What decides about other elements, or is not kept: a file in which it differs is walked."""

_SHORT, _LONG, _BARE, _ITEMS = "two bytes", "four bytes", "four bytes, no representation", "a delimiter"

_KINDS, _TRIED = 256, 3
"""Kinds of files that are remembered, and how many of them are tried."""

_CREDIT, _EARNED_BY_USE, _EARNED_BY_WALK = 8, 0.25, 0.0625
"""How many files are learned from before that was of use, and what earns another."""


class _Step(NamedTuple):
    """A run of equal elements, then one that varies.

    Attributes:
        run: bytes of the former.
        head: first bytes of the latter: tag and representation.
        vr: its representation; blank where that is not in the file.
        length: how it says how long it is.
        keyword: blank where it is not wanted.
        copied: its value is kept as it is.
    """

    run: bytes
    head: bytes
    vr: bytes
    length: str
    keyword: str
    copied: bool


class _Element(NamedTuple):
    """An element of a header that is learned from: its bytes, where it starts in them, its keyword."""

    data: bytes
    vr: bytes
    keyword: str

    @property
    def head(self) -> bytes:
        """Tag and representation."""
        return self.data[: 6 if self.vr else 4]


@dataclass
class _Kind:
    """Files of one series with the same elements in the same order.

    Attributes:
        first: the first of them.
        elements: its elements, file meta information included.
        pixels: tag and representation of its pixels.
        varying: numbers of the elements that were not equal in all so far.
        steps: the template; blank before there was a second file.
        tail: the run of equal elements after the last that varies, and the pixels' tag and representation.
        length: bytes of the longest header, and some.
    """

    first: Plain
    elements: list[_Element]
    pixels: bytes
    varying: set[int] = field(default_factory=set)
    steps: tuple[_Step, ...] = ()
    tail: bytes = b""
    length: int = 0

    def learn(self, elements: list[_Element]) -> None:
        """Another file of this kind: what differs in it varies."""
        self.length = max(self.length, _PREAMBLE + sum(len(element.data) for element in elements) + _SLACK)
        pairs = enumerate(zip(self.elements, elements, strict=True))
        self.varying |= {number for number, (one, other) in pairs if one.data != other.data}
        self.steps = ()
        if any(self.elements[number].keyword in _NEVER_VARY for number in self.varying):
            return
        steps, run = [], b""
        for number, element in enumerate(self.elements):
            if number not in self.varying and (element.keyword or len(element.data) <= _LARGEST_COMPARED):
                run += element.data
                continue
            if _decides(element):
                return
            steps.append(_step(run, element))
            run = b""
        self.steps, self.tail = tuple(steps), run + self.pixels

    def read(self, read: Read, buffer: bytes) -> Plain | None:
        """Header of a file of this kind, from its first bytes on; None where it is of another."""
        if self.length > len(buffer) >= BLOCK:
            buffer = read(0, self.length)
        position, own = _PREAMBLE, Found()
        for run, head, vr, kind_of_length, keyword, copied in self.steps:
            if not buffer.startswith(run, position):
                return None
            position += len(run)
            if not buffer.startswith(head, position) or position + 12 > len(buffer):
                return None
            if kind_of_length == _SHORT:
                value = position + 8
                stop = position = value + _length_16(buffer, position + 6)[0]
            elif kind_of_length == _ITEMS:
                value = position + 12
                stop = _end_of_items(buffer, value)
                position = stop + 8
            else:
                value = position + (12 if kind_of_length == _LONG else 8)
                stop = position = value + _length_32(buffer, value - 4)[0]
            if keyword:
                raw = buffer[value:stop]
                own[keyword] = raw if copied else as_stored(keyword, vr, raw, not vr)
        if not buffer.startswith(self.tail, position):
            return None
        return self._plain(buffer, position + len(self.tail) - len(self.pixels), own)

    def _plain(self, buffer: bytes, at: int, own: Found) -> Plain | None:
        """A header of values of its own and of what all share; its pixels' element starts at ``at``."""
        common, _, context = self.first.header.layers
        if at + 12 > len(buffer) or ("ImageType" in own and _is_tiled(own) != _is_tiled(common)):
            return None  # of a mosaic, more elements are kept
        pixels = pixels_at(buffer, 0, at, len(self.pixels) == 4)
        return Plain(Header({**own}, context, common), self.first.transfer_syntax, pixels, False)


def _is_tiled(stored: Mapping[str, Stored]) -> bool:
    return b"MOSAIC" in plain_bytes(stored.get("ImageType"))


def _decides(element: _Element) -> bool:
    """Whether the elements after it would be something else: the transfer syntax, or a private creator."""
    group, number = element.data[:2], int.from_bytes(element.data[2:4], "little")
    return element.head == _SYNTAX or (group[0] % 2 == 1 and 0x10 <= number <= 0xFF)


def _step(run: bytes, element: _Element) -> _Step:
    data, vr, keyword = element
    head, length = element.head, _LONG if vr in LONG_VRS else _SHORT if vr else _BARE
    if data.startswith(_GROUP_LENGTH):
        head = _GROUP_LENGTH
    elif data.startswith(b"SQ\0\0\xff\xff\xff\xff", 4):
        head, length = data[:12], _ITEMS
    expected = ELEMENTS[keyword].vr if keyword else ""
    return _Step(run, head, vr, length, keyword, expected != "SQ" and vr in (b"", expected.encode()))


def _end_of_items(buffer: bytes, position: int) -> int:
    """Where the delimiter of a sequence is; beyond the buffer where it is not found."""
    try:
        return walk_items(buffer, position, None, False, None, 1)
    except StrangeError:
        return len(buffer)


class Templates:
    """What was learned of the files of a scan; several threads may read with it at once."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[object, ...], _Kind] = {}
        self._recent: tuple[_Kind, ...] = ()
        self._credit = float(_CREDIT)
        self._lock = Lock()

    def read(self, read: Read, first: bytes) -> Plain | None:
        """Header of a file like one of those read lately; None where it has to be walked.

        Args:
            read: ``(offset, length) -> bytes`` of the file, fewer where it ends.
            first: its first ``BLOCK`` bytes, preamble included.
        """
        for place, kind in enumerate(self._recent):
            if (plain := kind.read(read, first)) is not None:
                self._credit += _EARNED_BY_USE
                if place:
                    self._recent = (kind, *(other for other in self._recent if other is not kind))
                return plain
        return None

    def learn(self, read: Read, plain: Plain, data_set: int) -> None:
        """Learn from a file that was walked, if learning has been of use.

        Args:
            read: as in ``read``.
            plain: what was found.
            data_set: where the data set starts, after the file meta information.
        """
        with self._lock:
            self._credit += _EARNED_BY_WALK
            if self._credit < 1 or plain.cut or plain.pixels is None:
                return
            if plain.pixels.offset > _LONGEST_LEARNED:
                return
            self._credit -= 1
            elements, pixels = _elements(read(0, plain.pixels.offset), data_set, plain)
            tags = tuple(element.head for element in elements)
            if len({tag[:4] for tag in tags}) < len(tags):
                return  # of two elements of one tag the last counts: too subtle here
            key = (plain.header.raw("SeriesInstanceUID"), plain.header.layers[2], pixels, tags)
            if (kind := self._kinds.get(key)) is None:
                if len(self._kinds) >= _KINDS:
                    self._kinds.clear()
                self._kinds[key] = _Kind(plain, elements, pixels)
                return
            kind.learn(elements)
            others = [other for other in self._recent if other is not kind]
            self._recent = (kind, *others)[:_TRIED] if kind.steps else tuple(others)


def _elements(data: bytes, data_set: int, plain: Plain) -> tuple[list[_Element], bytes]:
    """The elements of a header, and the tag and representation of its pixels."""
    elements: list[_Element] = []
    blocks, wanted, position = Blocks(), wanted_at_top(), _PREAMBLE
    implicit = plain.transfer_syntax == IMPLICIT
    while True:
        found: Found = {}
        bare = implicit and position >= data_set
        stop, why = walk(data, position, position + 1, bare, found, wanted, blocks)
        head = data[position : position + (4 if bare else 6)]
        if why != END:
            return elements, head
        elements.append(_Element(data[position:stop], head[4:], next(iter(found), "")))
        position = stop
