"""Which elements a walk notes, by tag as it stands in a file, and which private tags are whose.

Source: DICOM PS3.5 sections 6.2 (value representations) and 7.8 (private blocks).
"""

from __future__ import annotations

from functools import cache

from medmtl.data.dicom.elements import ELEMENTS, PATIENT_TAGS, PIXEL_TAGS, PRIVATE_BLOCKS, TAGS

SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""Representations whose length takes two bytes."""

LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""Those whose length takes four, after two that mean nothing."""

VRS = SHORT_VRS | LONG_VRS

Wanted = dict[int, tuple[str, bytes]]
"""Turned tag -> keyword and representation; the latter blank where a short value is not simply copied."""


class StrangeError(Exception):
    """Not plain grammar: pydicom has to read this."""


def turned(tag: int) -> int:
    """A tag as its four bytes in a file read as one little-endian number."""
    return (tag & 0xFFFF) << 16 | tag >> 16


ITEM, ITEM_END, SEQUENCE_END = turned(0xFFFEE000), turned(0xFFFEE00D), turned(0xFFFEE0DD)
DELIMITERS = frozenset({ITEM, ITEM_END, SEQUENCE_END})
PATIENT = {turned(tag): f"Patient.{tag:08X}" for tag in PATIENT_TAGS}
"""What is read of a patient, under names that no header keeps."""


@cache
def wanted_in_items() -> Wanted:
    """What is noted in the items of sequences."""
    wanted = {}
    for group, _, low in PRIVATE_BLOCKS.values():
        for block in range(0x10, 0x100):
            wanted[turned(group << 16 | block)] = ("", b"")
            wanted[turned(group << 16 | block << 8 | low)] = ("", b"")
    for keyword, tag in TAGS.items():
        vr = ELEMENTS[keyword].vr.encode()
        wanted[turned(tag)] = (keyword, vr if vr in SHORT_VRS else b"")
    return {**wanted, **dict.fromkeys(DELIMITERS, ("", b""))}


@cache
def wanted_at_top() -> Wanted:
    """What is noted of a file: all that, its patient, and where its pixels are."""
    ends = {turned(tag): (keyword, b"") for tag, keyword in PIXEL_TAGS.items()}
    return {**wanted_in_items(), **ends, **{tag: (keyword, b"LO") for tag, keyword in PATIENT.items()}}


@cache
def _creators() -> dict[tuple[int, bytes], tuple[tuple[int, str], ...]]:
    """Group and private creator -> elements of its block and their names."""
    creators: dict[tuple[int, bytes], tuple[tuple[int, str], ...]] = {}
    for name, (group, creator, low) in PRIVATE_BLOCKS.items():
        key = (group, creator.encode())
        creators[key] = (*creators.get(key, ()), (low, name))
    return creators


class Blocks:
    """The private blocks of one data set: which element of which creator a private tag is."""

    __slots__ = ("_names", "_taken", "_unclaimed")

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._taken: set[tuple[int, bytes]] = set()
        self._unclaimed: set[int] = set()

    def name_of(self, tag: int, raw: bytes) -> str:
        """Name of a private element, blank where it is not wanted; a private creator is noted.

        Raises:
            StrangeError: a creator comes after elements of its block, which were passed over.
        """
        group, element = tag & 0xFFFF, tag >> 16
        if element > 0xFF:
            if (name := self._names.get(tag, "")) == "":
                self._unclaimed.add(group << 16 | element >> 8)
            return name
        if group << 16 | element in self._unclaimed:
            raise StrangeError
        creator = (group, raw.strip(b" \0"))
        if creator not in self._taken:  # of two blocks of one creator the first counts, as in pydicom
            self._taken.add(creator)
            for low, name in _creators().get(creator, ()):
                self._names[turned(group << 16 | element << 8 | low)] = name
        return ""
