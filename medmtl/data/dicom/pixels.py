"""Stored pixel values of one frame: bytes of a file -> ``(rows, columns)``, whatever the transfer syntax.

Values are what the scanner stored, before any rescale (`values.py`): bits beyond BitsStored (overlays of old)
are cleared, signs extended. MONOCHROME1 says how to display, not what was measured, so its values are kept as
they are; PixelPaddingValue likewise stays in the image, as nothing else could stand for it without inventing
a value.

Source: DICOM PS3.3 C.7.6.3 (image pixel module), PS3.5 section 8 (encoding of pixel data), annex A (transfer
syntaxes), annex D (how words pack bits).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.codecs import CodecFailed, CodecMissing, decode_frame
from medmtl.data.dicom.files import InflationError
from medmtl.data.dicom.fragments import Fragment, locate_frames, read_fragments
from medmtl.data.dicom.layout import Layout, layout_of
from medmtl.data.dicom.model import Instance, Source
from medmtl.data.dicom.workers import Decode
from medmtl.types import CaseError

_LARGE_FRAME = 64 << 20
_LARGEST_RATIO = 1000
"""A frame of more than 64 MiB that shrank to less than a thousandth is an attempt on the memory, or blank."""


def values_in(data: bytes | memoryview, layout: Layout, label: str) -> NDArray[Any]:
    """Stored values ``(rows, columns)`` of an uncompressed frame of whole bytes; may be read-only.

    Args:
        data: the frame's bytes, as `Frames.read_bytes` gives them.
        layout: how they are stored.
        label: the file's name, for messages.

    Raises:
        CaseError: ``UNDECODABLE`` (pixels that contradict HighBit).
    """
    values: NDArray[Any] = np.frombuffer(data, layout.file_dtype, layout.rows * layout.columns)
    values = values.reshape(layout.rows, layout.columns)
    if layout.file_dtype != layout.dtype:
        values = values.astype(layout.dtype)
    if layout.low_bit:
        return _stored_higher_up(values, layout, label)
    if layout.stored == layout.allocated:
        return values
    if layout.dtype.kind == "u":
        return values & values.dtype.type((1 << layout.stored) - 1)
    unused = layout.allocated - layout.stored
    shifted = values << unused
    shifted >>= unused
    return shifted


def _stored_higher_up(values: NDArray[Any], layout: Layout, label: str) -> NDArray[Any]:
    """Values whose HighBit says that they are not in the lowest bits, where the standard now wants them.

    Writers that say so are as often wrong as old. The bits below the value tell: they are blank where it is
    true.
    """
    unused = layout.allocated - layout.stored
    if not (values & values.dtype.type((1 << layout.low_bit) - 1)).any():
        return (values << (unused - layout.low_bit)) >> unused
    if ((values << unused) >> unused == values).all():
        return values
    raise CaseError(
        "UNDECODABLE",
        f"{label}: HighBit {layout.low_bit + layout.stored - 1} with BitsStored {layout.stored} contradicts "
        "the pixels, so that it is not plain which bits are the value; export it again",
    )


class Frames:
    """The frames of one instance, read one at a time.

    Args:
        instance: the file.
        layout: of its pixels, where it is already known.

    Raises:
        CaseError: see `layout_of`; ``TRUNCATED`` (fewer bytes than its frames need), ``UNDECODABLE`` (more).
    """

    __slots__ = ("_fragments", "_pixels", "_source", "count", "layout")

    def __init__(self, instance: Instance, layout: Layout | None = None) -> None:
        self.layout = layout_of(instance) if layout is None else layout
        self.count: int = max(1, instance.header.get("NumberOfFrames") or 1)
        self._source = instance.source
        assert instance.pixels is not None
        self._pixels = instance.pixels
        self._fragments: list[list[Fragment]] | None = None
        if not self.layout.compressed:
            self._check_length()

    @property
    def label(self) -> str:
        """Name of the file."""
        return self._source.label

    def read(self, frame: int, decode: Decode = decode_frame) -> NDArray[Any]:
        """Stored values ``(rows, columns)`` of frame ``frame`` (from 0); may be read-only.

        Raises:
            CaseError: ``TRUNCATED``, ``UNDECODABLE``; the message names the file.
        """
        if self.layout.compressed:
            return self._decompress(frame, decode)
        if self.layout.allocated == 1:
            return self._unpack_bits(frame)
        return values_in(self.read_bytes(frame), self.layout, self._source.label)

    def read_bytes(self, frame: int, count: int = 1) -> bytes:
        """Bytes of ``count`` uncompressed frames from ``frame`` on.

        Raises:
            CaseError: ``TRUNCATED``.
        """
        size = self.layout.frame_bits // 8
        offset, length = frame * size, count * size
        if not self.layout.swapped:
            return self._read(offset, length)
        # Only whole words can be swapped; an odd frame shares one with its neighbour.
        before = offset % 2
        words = self._read(offset - before, length + before + (length + before) % 2)
        return np.frombuffer(words, np.uint16).byteswap().tobytes()[before : before + length]

    def read_into(self, frame: int, out: NDArray[Any]) -> None:
        """Reads a frame of plain layout straight into ``out`` ``(rows, columns)``, which is contiguous.

        Raises:
            CaseError: ``TRUNCATED``.
        """
        size = self.layout.frame_bits // 8
        read_into = getattr(self._source, "read_into", None)
        if read_into is None or self.layout.swapped:
            out[...] = values_in(self.read_bytes(frame), self.layout, self._source.label)
            return
        with _named(self._source):
            found = read_into(self._pixels.offset + frame * size, out.reshape(-1).view(np.uint8).data)
        if found != size:
            raise self._truncated(size - found)

    def _read(self, offset: int, length: int) -> bytes:
        assert self._pixels.length is None or offset + length <= self._pixels.length, "no such frame"
        with _named(self._source):
            data = self._source.read(self._pixels.offset + offset, length)
        if len(data) != length:
            raise self._truncated(length - len(data))
        return data

    def _truncated(self, missing: int) -> CaseError:
        return CaseError(
            "TRUNCATED",
            f"{self._source.label}: ends within its pixels, {missing} bytes are missing; copy the file again",
        )

    def _unpack_bits(self, frame: int) -> NDArray[Any]:
        """A frame of single bits begins where the one before ends, also within a byte (PS3.5 8.1.1)."""
        first = frame * self.layout.frame_bits
        length = ceil((first + self.layout.frame_bits) / 8) - first // 8
        data = np.frombuffer(self._read(first // 8, length), np.uint8)
        bits = np.unpackbits(data, bitorder="little")[first % 8 :][: self.layout.frame_bits]
        return bits.reshape(self.layout.rows, self.layout.columns)

    def _decompress(self, frame: int, decode: Decode) -> NDArray[Any]:
        with _named(self._source):
            if self._fragments is None:
                self._fragments = locate_frames(self._source, self._pixels.offset, self.count)
            data = read_fragments(self._source, self._fragments[frame])
        size = self.layout.frame_bits // 8
        if size > _LARGE_FRAME and size > _LARGEST_RATIO * len(data):
            raise CaseError(
                "UNDECODABLE",
                f"{self._source.label}: claims {size} bytes of pixels in {len(data)}; export it again",
            )
        try:
            return decode(data, self.layout.coded)
        except (CodecMissing, CodecFailed) as error:
            raise CaseError("UNDECODABLE", f"{self._source.label}: {error}") from error

    def _check_length(self) -> None:
        layout, label, length = self.layout, self._source.label, self._pixels.length
        needed = ceil(self.count * layout.frame_bits / 8)
        if length is None:
            raise CaseError(
                "UNDECODABLE",
                f"{label}: has compressed pixels and says otherwise ({layout.syntax}); export it again",
            )
        if needed <= length < needed + max(layout.frame_bits // 8, 2):
            return
        raise CaseError(
            "TRUNCATED" if length < needed else "UNDECODABLE",
            f"{label}: has {length} bytes of pixels where {self.count} x {layout.rows} x {layout.columns} of "
            f"{layout.allocated} bits need {needed}; {'copy' if length < needed else 'export'} it again",
        )


@contextmanager
def _named(source: Source) -> Iterator[None]:
    """A file that cannot be read any more is the fault of that file."""
    try:
        yield
    except (OSError, InflationError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CaseError("UNDECODABLE", f"{source.label}: cannot be read ({reason})") from error
