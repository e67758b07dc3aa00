"""The slow and sure way: what pydicom makes of a file that is not plain grammar.

pydicom converts what it can and guesses the rest; what it guessed (a number that is none becomes text) is
undecodable here, and a value that the end of the file cut is absent.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from medmtl.data.dicom.decode import NUMBERS, UNDECODABLE, Context, decode, encodings, quiet, settle
from medmtl.data.dicom.elements import ELEMENTS, MOSAIC_ONLY, PATIENT_TAGS, PIXEL_TAGS, PRIVATE_BLOCKS, TAGS
from medmtl.data.dicom.files import SeekableSource
from medmtl.data.dicom.header import Header, patient_key
from medmtl.data.dicom.model import PixelData
from medmtl.data.dicom.syntaxes import BIG_ENDIAN, EXPLICIT, IMPLICIT
from medmtl.data.dicom.walk import UNDEFINED

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@cache
def pydicom_errors() -> tuple[type[Exception], ...]:
    """All that pydicom was seen to raise on broken files."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    known = (ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, NotImplementedError)
    more = (OSError, RecursionError, TypeError, ValueError, struct.error, BytesLengthException)
    return (*known, *more, InvalidDicomError)


_KEYWORDS = {tag: keyword for keyword, tag in TAGS.items()}


def values_of(dataset: Dataset) -> dict[str, Any]:
    """Every element of a file that medmtl knows, as ``Header`` keeps it: None where empty, or UNDECODABLE."""
    values = _elements_of(dataset)
    if (key := patient_key(*(_bytes(dataset, tag) for tag in PATIENT_TAGS))) is not None:
        values["Patient.Key"] = key
    return values


def _elements_of(dataset: Dataset) -> dict[str, Any]:
    values: dict[str, Any] = {}
    with quiet():
        for tag in list(dataset.keys()):
            if (keyword := _KEYWORDS.get(int(tag))) is not None:
                _take(dataset, int(tag), keyword, values)
        for name, (group, creator, low) in PRIVATE_BLOCKS.items():
            if (block := _block(dataset, group, creator)) is not None:
                _take(dataset, group << 16 | block << 8 | low, name, values)
    image_type = _bytes(dataset, TAGS["ImageType"])
    if b"MOSAIC" not in image_type and "Siemens.NumberOfImagesInMosaic" not in values:
        for name in MOSAIC_ONLY:
            values.pop(name, None)
    return values


def _take(dataset: Dataset, tag: int, keyword: str, values: dict[str, Any]) -> None:
    if tag not in dataset or _is_cut(dataset, tag):
        return
    try:
        element = dataset[tag]
        vr, value = str(element.VR), element.value
    except pydicom_errors():
        values[keyword] = UNDECODABLE
        return
    values[keyword] = _settled(keyword, vr, value)


def _is_cut(dataset: Dataset, tag: int) -> bool:
    """Whether the end of the file cut a value: what is left of it is another value."""
    stored = dataset.get_item(tag, keep_deferred=True)
    raw, length = getattr(stored, "value", None), getattr(stored, "length", None)
    return isinstance(raw, bytes) and length not in (None, UNDEFINED) and len(raw) < length


def _settled(keyword: str, vr: str, value: Any) -> Any:
    from pydicom.multival import MultiValue
    from pydicom.sequence import Sequence as Items

    if ELEMENTS[keyword].vr == "SQ" and value is not None:
        if not isinstance(value, Items):
            return UNDECODABLE
        return tuple(Header.of_values(_elements_of(item)) for item in value)
    several: Sequence[Any] = list(value) if isinstance(value, MultiValue | list) else [value]
    if all(one is None or (isinstance(one, str | bytes) and not one) for one in several):
        return None
    if vr in NUMBERS and not all(_is_number(one) for one in several):
        blank = all(isinstance(one, str) and not one.strip(" \0") for one in several)
        return None if blank else UNDECODABLE
    if isinstance(value, bytes):
        private = "." in keyword  # pydicom knows few private elements, and leaves the others as they are
        return decode(keyword, "UN" if vr == "UN" and not private else "", value, Context(implicit=False))
    if ELEMENTS[keyword].vr == "US|OW" and all(isinstance(one, int) for one in several):
        return struct.pack(f"<{len(several)}H", *(one % 65536 for one in several))
    return settle(keyword, several)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and "_" not in getattr(value, "original_string", "")


def _block(dataset: Dataset, group: int, creator: str) -> int | None:
    """Number of the first private block of a creator."""
    first, last = group << 16 | 0x10, group << 16 | 0xFF
    for tag in sorted(int(tag) for tag in dataset.keys() if first <= tag <= last):  # noqa: SIM118, not a dict
        if _bytes(dataset, tag).strip(b" \0") == creator.encode():
            return tag & 0xFF
    return None


def _bytes(dataset: Dataset, tag: int) -> bytes:
    """A text element as stored; blank where it is absent or cut."""
    if tag not in dataset or _is_cut(dataset, tag):
        return b""
    value = dataset.get_item(tag, keep_deferred=True).value
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode()


def items_of(raw: bytes, implicit: bool, context: Context) -> tuple[Header, ...] | None:
    """Items of a sequence that is not plain grammar; None where pydicom does not understand it either."""
    from pydicom.filereader import read_sequence

    with quiet():
        try:
            items = read_sequence(BytesIO(raw), implicit, True, len(raw), list(encodings(context.charset)))
            return tuple(Header.of_values(_elements_of(item)) for item in items)
        except pydicom_errors():
            return None


class Slow(NamedTuple):
    """What pydicom made of a file."""

    header: Header
    transfer_syntax: str
    pixels: PixelData | None


def read_slowly(file: SeekableSource) -> Slow | None:
    """A file's header by pydicom, up to its pixels.

    Args:
        file: at its start; with or without preamble.

    Returns:
        None where pydicom does not understand it.
    """
    from pydicom.filereader import read_partial

    pixels: list[PixelData] = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if (keyword := PIXEL_TAGS.get(int(tag))) is None:
            return False
        pixels.append(PixelData(file.tell(), None if length == UNDEFINED else length, keyword))
        return True

    with quiet():
        try:
            dataset = read_partial(cast(BinaryIO, file), stop_when=at_pixels, force=True)
        except pydicom_errors():
            return None
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if not syntax:
            implicit, little = dataset.original_encoding
            syntax = IMPLICIT if implicit else EXPLICIT if little else BIG_ENDIAN
        return Slow(Header.from_pydicom(dataset), str(syntax), pixels[-1] if pixels else None)
