"""How the pixels of a file are stored, checked once: what is not possible is refused here.

Source: DICOM PS3.3 C.7.6.3 (image pixel module), PS3.5 section 8.1 and annex D (how words pack bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medmtl.data.dicom.codecs import CODECS, Coded
from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.syntaxes import BIG_ENDIAN, UNCOMPRESSED
from medmtl.types import CaseError

_GE_PRIVATE = "1.2.840.113619.5.2"
"""Implicit little endian, but for the pixels, which are big endian."""

_DESCRIBE = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SegmentationType",
)
_FLOATS = {"FloatPixelData": 4, "DoubleFloatPixelData": 8}
_VR_BEFORE_VALUE = 8
"""Explicit VR, 32-bit length: the VR begins this many bytes before the value (PS3.5 table 7.1-1)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels of a file are stored; equal for files that can be read alike.

    Attributes:
        rows: of a frame.
        columns: of a frame.
        dtype: of decoded values, in the byte order of this machine.
        file_dtype: of values in the file.
        allocated: bits that a value takes in the file: 1, 8, 16, 32 or 64.
        stored: bits that carry the value.
        low_bit: position of the lowest of them; 0 as the standard has it today.
        syntax: transfer syntax UID.
        swapped: 8-bit values in big-endian words, two by two in reverse.
        inverted: MONOCHROME1.
    """

    rows: int
    columns: int
    dtype: np.dtype[Any]
    file_dtype: np.dtype[Any]
    allocated: int
    stored: int
    low_bit: int
    syntax: str
    swapped: bool
    inverted: bool

    @property
    def compressed(self) -> bool:
        """Whether frames have to be decoded by a codec."""
        return self.syntax in CODECS

    @property
    def frame_bits(self) -> int:
        """Size of an uncompressed frame; frames follow each other without a gap."""
        return self.rows * self.columns * self.allocated

    @property
    def limits(self) -> tuple[int, int] | None:
        """Smallest and largest value that can be stored; None for floating point."""
        if self.dtype.kind == "f":
            return None
        if self.dtype.kind == "i":
            return -(1 << (self.stored - 1)), (1 << (self.stored - 1)) - 1
        return 0, (1 << self.stored) - 1

    @property
    def plain(self) -> bool:
        """Whether the bytes in the file are the values."""
        return not self.compressed and self.stored == self.allocated and self.file_dtype == self.dtype

    @property
    def coded(self) -> Coded:
        """What a codec has to know."""
        return Coded(
            self.syntax, self.rows, self.columns, self.allocated, self.stored, self.dtype.kind == "i"
        )


def layout_key(instance: Instance) -> tuple[Any, ...]:
    """What `layout_of` depends on: equal for instances of equal layout."""
    get = instance.header.get
    keyword = instance.pixels.keyword if instance.pixels is not None else ""
    words = instance.transfer_syntax == BIG_ENDIAN and _stored_as_words(instance)
    return (instance.transfer_syntax, keyword, words, *[get(element) for element in _DESCRIBE])


def layout_of(instance: Instance) -> Layout:
    """How an instance's pixels are stored.

    Raises:
        CaseError: ``NOT_AN_IMAGE`` (colour, or no pixels), ``UNDECODABLE`` (an element that describes the
            pixels is absent or not possible).
    """
    where = instance.source.label
    get = instance.header.get
    if instance.pixels is None:
        raise CaseError("NOT_AN_IMAGE", f"{where}: has no pixels")
    if get("SegmentationType") != "LABELMAP":  # the palette of a label map only says how to display it
        _refuse_colour(where, get("PhotometricInterpretation"), get("SamplesPerPixel"))
    rows, columns = get("Rows"), get("Columns")
    if not rows or not columns:
        raise CaseError("UNDECODABLE", f"{where}: Rows or Columns is missing; export it again")
    syntax = instance.transfer_syntax
    if syntax not in CODECS and syntax not in UNCOMPRESSED and syntax != _GE_PRIVATE:
        raise CaseError(
            "UNDECODABLE",
            f"{where}: is encoded as {syntax}, which medmtl does not read; export it in another way",
        )
    order = ">" if syntax in (BIG_ENDIAN, _GE_PRIVATE) else "<"
    inverted = get("PhotometricInterpretation") == "MONOCHROME1"
    if (size := _FLOATS.get(instance.pixels.keyword)) is not None:
        file_dtype = np.dtype(f"{order}f{size}")
        native = file_dtype.newbyteorder("=")
        return Layout(
            rows, columns, native, file_dtype, 8 * size, 8 * size, 0, syntax, swapped=False, inverted=inverted
        )
    allocated, stored, high = get("BitsAllocated"), get("BitsStored"), get("HighBit")
    representation = get("PixelRepresentation")
    if stored is None and allocated == 1:
        stored = 1
    if allocated not in (1, 8, 16, 32) or stored is None or not 1 <= stored <= allocated:
        raise CaseError(
            "UNDECODABLE",
            f"{where}: BitsAllocated {allocated} with BitsStored {stored} is not possible; export it again",
        )
    if representation not in (0, 1):
        raise CaseError(
            "UNDECODABLE", f"{where}: PixelRepresentation is {representation}, not 0 or 1; export it again"
        )
    high = stored - 1 if high is None else high
    if not stored - 1 <= high < allocated:
        raise CaseError(
            "UNDECODABLE",
            f"{where}: HighBit {high} is not possible with BitsStored {stored}; export it again",
        )
    kind = "i" if representation else "u"
    file_dtype = np.dtype(f"{order}{kind}{max(allocated // 8, 1)}")
    swapped = allocated == 8 and syntax == BIG_ENDIAN and _stored_as_words(instance)
    return Layout(
        rows,
        columns,
        file_dtype.newbyteorder("="),
        file_dtype,
        allocated,
        stored,
        0 if syntax in CODECS else high - stored + 1,
        syntax,
        swapped,
        inverted,
    )


def _refuse_colour(where: str, photometric: str | None, samples: int | None) -> None:
    if photometric in ("MONOCHROME1", "MONOCHROME2") and samples in (None, 1):
        return
    if photometric is None and samples in (None, 1):
        raise CaseError("UNDECODABLE", f"{where}: PhotometricInterpretation is missing; export it again")
    raise CaseError(
        "NOT_AN_IMAGE",
        f"{where}: is a colour image ({photometric}, {samples} samples per pixel), and a colour is not a "
        "measured value; leave it out",
    )


def _stored_as_words(instance: Instance) -> bool:
    """Whether 8-bit pixels are OW, so that big endian swaps every two of them (PS3.5 annex D.1)."""
    if instance.pixels is None:
        return False
    return instance.source.read(max(instance.pixels.offset - _VR_BEFORE_VALUE, 0), 2) == b"OW"
