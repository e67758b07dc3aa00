"""Whether a file holds the pixels that its header promises.

Source: DICOM PS3.5 section 8 (encoding of pixel data), annex A.4 (fragments).
"""

from __future__ import annotations

from struct import unpack

from medmtl.data.dicom.kinds import is_image_class
from medmtl.data.dicom.model import Instance, PixelData, Source
from medmtl.data.dicom.syntaxes import UNCOMPRESSED
from medmtl.types import Finding

_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
_ITEM = b"\xfe\xff\0\xe0"


def fault_of_pixels(instance: Instance, size: int, *, cut: bool) -> Finding | None:
    """What is wrong with a file's pixels, if anything: then they are not to be read.

    Args:
        instance: a file.
        size: of the file in bytes.
        cut: it ends within its header.
    """
    pixels, header, label = instance.pixels, instance.header, instance.source.label
    if pixels is None:
        if cut:
            message = f"{label} breaks off within its header, after {size:,} bytes; copy it anew"
        elif header.get("Rows") is not None and header.get("Columns") is not None:
            message = f"{label} describes an image but holds no pixels; ask its sender for the whole file"
        elif is_image_class(header.get("SOPClassUID") or ""):
            message = f"{label} is of an image class but ends before its pixels; copy it anew"
        else:
            return None  # a report or a structure set, say
        return Finding("TRUNCATED", "error", message, label)
    there = max(0, size - pixels.offset)
    if pixels.length is None:
        if _has_all_fragments(instance.source, pixels, size):
            return None
        message = f"{label} breaks off within its compressed pixels, after {size:,} bytes; copy it anew"
        return Finding("TRUNCATED", "error", message, label)
    wanted = max(pixels.length, bytes_of_pixels(instance) or 0)
    if min(there, pixels.length) >= wanted:
        return None
    if there < pixels.length:
        message = f"{label} holds {there:,} of {wanted:,} bytes of pixels; copy it anew"
    else:
        message = f"{label} holds {there:,} of the {wanted:,} bytes of pixels that its header describes"
    return Finding("TRUNCATED", "error", message, label)


def bytes_of_pixels(instance: Instance) -> int | None:
    """Bytes that uncompressed pixels must have, from the header; None where it does not say."""
    header = instance.header
    rows, columns, bits = header.get("Rows"), header.get("Columns"), header.get("BitsAllocated")
    if instance.transfer_syntax not in UNCOMPRESSED or rows is None or columns is None or bits is None:
        return None
    samples = header.get("SamplesPerPixel") or 1
    if header.get("PhotometricInterpretation") in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        samples = 2  # each pair of pixels shares its colour
    frames = header.get("NumberOfFrames") or 1
    return int(-(-rows * columns * samples * frames * bits // 8))


def _has_all_fragments(source: Source, pixels: PixelData, size: int) -> bool:
    """Whether encapsulated pixels end as they should."""
    if source.read(size - len(_DELIMITER), len(_DELIMITER)) == _DELIMITER:
        return True
    position = pixels.offset
    while position + 8 <= size:
        head = source.read(position, 8)
        if head == _DELIMITER:
            return True
        (length,) = unpack("<I", head[4:])
        if head[:4] != _ITEM:
            return False
        position += 8 + length
    return position == size  # all there but the delimiter, which some leave out
