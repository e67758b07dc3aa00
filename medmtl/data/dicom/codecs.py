"""One compressed frame -> its pixels, through pydicom's decoders; also as a process that does nothing else.

The codecs hold Python's lock while they work, so several threads decode no faster than one. Several processes
do: ``python -P codecs.py`` reads frames on its standard input and answers with pixels (see ``workers.py``).
This file therefore imports nothing of medmtl, whose other parts such a process has no need of.

Source: DICOM PS3.5 section 8.2, annex A.4 (transfer syntaxes of encapsulated pixels), annex G (RLE).
"""

from __future__ import annotations

import json
import os
import struct
import sys
import warnings
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_RLE = "1.2.840.10008.1.2.5"

CODECS = {
    _JPEG_BASELINE: ("JPEG", "python-gdcm"),
    _JPEG_EXTENDED: ("JPEG Extended", "python-gdcm"),
    "1.2.840.10008.1.2.4.57": ("JPEG Lossless", "python-gdcm"),
    "1.2.840.10008.1.2.4.70": ("JPEG Lossless", "python-gdcm"),
    _JPEG_LS[0]: ("JPEG-LS", "pyjpegls"),
    _JPEG_LS[1]: ("JPEG-LS", "pyjpegls"),
    "1.2.840.10008.1.2.4.90": ("JPEG 2000", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.91": ("JPEG 2000", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.201": ("HTJ2K", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.202": ("HTJ2K", "pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.203": ("HTJ2K", "pylibjpeg-openjpeg"),
    _RLE: ("RLE", "pydicom"),
}
"""Transfer syntax: its common name, and a package of the ``dicom`` extra that decodes it."""

_END_OF_IMAGE = b"\xff\xd9"
_ITEM = struct.Struct("<HHL")
_LENGTH = struct.Struct("<L")
_ANSWER = struct.Struct("<BL")
_DECODED, _MISSING, _FAILED = range(3)

GREETING = b"ready"
"""What a decoding process says first."""

_WHAT_DECODERS_RAISE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class CodecMissing(Exception):
    """No installed package decodes this; the message says which one would."""


class CodecFailed(Exception):
    """The frame is damaged, or is not what its header says."""


@dataclass(frozen=True, slots=True)
class Coded:
    """How a frame is coded, and what it decodes to.

    Attributes:
        syntax: transfer syntax UID, a key of ``CODECS``.
        rows: of the frame.
        columns: of the frame.
        allocated: BitsAllocated, 8, 16 or 32.
        stored: BitsStored.
        signed: PixelRepresentation is 1.
    """

    syntax: str
    rows: int
    columns: int
    allocated: int
    stored: int
    signed: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.allocated // 8}")


def decode_frame(frame: bytes, coded: Coded) -> NDArray[Any]:
    """Pixels ``(rows, columns)`` of one grey frame.

    Raises:
        CodecMissing: no decoder for its syntax is installed.
        CodecFailed: the frame cannot be decoded, or has another size, depth or number of colours than stated.
    """
    if coded.syntax not in CODECS:
        raise CodecMissing(f"is encoded as {coded.syntax}, a transfer syntax that medmtl does not know")
    if coded.syntax != _RLE:
        frame = _checked(frame, coded)
    if coded.syntax == _JPEG_EXTENDED and coded.stored > 8:
        return _decode_12_bit_jpeg(frame, coded)
    from pydicom.pixels.decoders.base import get_decoder

    decoder = get_decoder(coded.syntax)
    if not decoder.is_available:
        raise CodecMissing(_how_to_install(coded.syntax))
    # Of two decoders of JPEG-LS the faster; of all others pydicom's first choice.
    faster = "pyjpegls" if coded.syntax in _JPEG_LS and "pyjpegls" in decoder.available_plugins else ""
    options: dict[str, Any] = {
        "rows": coded.rows,
        "columns": coded.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": coded.allocated,
        "bits_stored": coded.stored,
        "pixel_representation": int(coded.signed),
        "pixel_keyword": "PixelData",
    }
    # An empty offset table, then the frame as one fragment: what pydicom expects around it.
    source = _ITEM.pack(0xFFFE, 0xE000, 0) + _ITEM.pack(0xFFFE, 0xE000, len(frame)) + frame
    try:
        pixels, _ = decoder.as_array(
            source, index=0, validate=False, raw=True, decoding_plugin=faster, **options
        )
    except _WHAT_DECODERS_RAISE as error:
        raise CodecFailed(
            f"its {CODECS[coded.syntax][0]} data cannot be decoded; copy the file again"
        ) from error
    return pixels


def _how_to_install(syntax: str) -> str:
    name, package = CODECS[syntax]
    return f"is compressed with {name}, which needs {package}: pip install 'medmtl[dicom]'"


def _checked(frame: bytes, coded: Coded) -> bytes:
    """The codestream, once it is certain that it decodes to what the header says and to no more.

    Raises:
        CodecFailed: it is no such codestream, or of something else.
    """
    start = _past_jp2_boxes(frame)
    found = _j2k_size(frame, start) if frame[start : start + 2] == b"\xff\x4f" else _jpeg_size(frame)
    name = CODECS[coded.syntax][0]
    if found is None:
        raise CodecFailed(
            f"its {name} data cannot be decoded: they do not begin as such; copy the file again"
        )
    if coded.syntax in _JPEG_LS and _END_OF_IMAGE not in frame[-16:]:
        # CharLS looks for the rest of a cut frame for several seconds.
        raise CodecFailed(f"its {name} data are cut short; copy the file again")
    rows, columns, colours, bits = found
    if (rows, columns, colours) != (coded.rows, coded.columns, 1) or bits > coded.allocated:
        raise CodecFailed(
            f"its {name} data hold {rows} x {columns} pixels of {colours} x {bits} bits, its header says "
            f"{coded.rows} x {coded.columns} of {coded.allocated}; export it again"
        )
    return frame[start:] if start else frame


def _past_jp2_boxes(frame: bytes) -> int:
    """Offset of the codestream in a JP2 file, which some writers embed whole; 0 where it is not one."""
    if frame[:8] != b"\x00\x00\x00\x0cjP  ":
        return 0
    offset = 12
    while offset + 8 <= len(frame):
        length, kind = struct.unpack_from(">L4s", frame, offset)
        if kind == b"jp2c":
            return offset + 8
        offset += max(length, 8)
    return 0


def _j2k_size(frame: bytes, start: int) -> tuple[int, int, int, int] | None:
    """Rows, columns, components, bits of a JPEG 2000 codestream (ISO/IEC 15444-1 A.5.1, SIZ marker)."""
    if len(frame) < start + 45 or frame[start + 2 : start + 4] != b"\xff\x51":
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4L", frame, start + 8)
    (components,) = struct.unpack_from(">H", frame, start + 40)
    return y1 - y0, x1 - x0, components, (frame[start + 42] & 0x7F) + 1


def _jpeg_size(frame: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, components, bits of a JPEG or JPEG-LS codestream (ISO/IEC 10918-1 B.2.2, SOF marker)."""
    if frame[:2] != b"\xff\xd8":
        return None
    offset = 2
    while offset + 10 <= len(frame) and frame[offset] == 0xFF:
        marker = frame[offset + 1]
        if marker == 0xFF:  # fill bytes may precede any marker
            offset += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            bits, rows, columns, components = struct.unpack_from(">BHHB", frame, offset + 4)
            return rows, columns, components, bits
        else:
            offset += 2 + int.from_bytes(frame[offset + 2 : offset + 4], "big")
    return None


def _decode_12_bit_jpeg(frame: bytes, coded: Coded) -> NDArray[Any]:
    """Lossy JPEG of more than 8 bits, which GDCM decodes and pydicom's way to GDCM does not offer."""
    try:
        import gdcm
    except ImportError as error:
        raise CodecMissing(_how_to_install(coded.syntax)) from error

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((coded.columns, coded.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(coded.syntax)))
    image.SetPixelFormat(
        gdcm.PixelFormat(1, coded.allocated, coded.stored, coded.stored - 1, int(coded.signed))
    )
    text = image.GetBuffer()  # bytes in a string's clothes
    pixels = text.encode("utf-8", "surrogateescape") if text else b""
    if len(pixels) != coded.rows * coded.columns * coded.dtype.itemsize:
        raise CodecFailed("its JPEG Extended data cannot be decoded; copy the file again")
    return np.frombuffer(pixels, coded.dtype).reshape(coded.rows, coded.columns)


def ask(to: IO[bytes], answers: IO[bytes], frame: bytes, coded: Coded) -> NDArray[Any]:
    """`decode_frame` by a process that runs `serve`.

    Raises:
        CodecMissing, CodecFailed: as there; also when the process ended, which a damaged frame may bring
            about.
    """
    question = json.dumps(asdict(coded)).encode()
    try:
        to.write(_LENGTH.pack(len(question)) + question + _LENGTH.pack(len(frame)))
        to.write(frame)
        to.flush()
        kind, length = _ANSWER.unpack(answers.read(_ANSWER.size))
        answer = bytearray(length)
        if answers.readinto(answer) != length:  # type: ignore[attr-defined]
            raise EOFError
    except (OSError, EOFError, struct.error) as error:
        raise CodecFailed("its decoder broke off, so it is probably damaged; copy the file again") from error
    if kind != _DECODED:
        raise (CodecMissing if kind == _MISSING else CodecFailed)(answer.decode())
    return np.frombuffer(answer, coded.dtype).reshape(coded.rows, coded.columns)


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Decodes frames until there are no more."""
    warnings.simplefilter("ignore")
    answers.write(GREETING)
    answers.flush()
    while len(head := questions.read(_LENGTH.size)) == _LENGTH.size:
        coded = Coded(**json.loads(questions.read(_LENGTH.unpack(head)[0])))
        frame = questions.read(_LENGTH.unpack(questions.read(_LENGTH.size))[0])
        try:
            kind, answer = _DECODED, decode_frame(frame, coded).tobytes()
        except (CodecMissing, CodecFailed) as error:
            kind, answer = (_MISSING if isinstance(error, CodecMissing) else _FAILED), str(error).encode()
        answers.write(_ANSWER.pack(kind, len(answer)))
        answers.write(answer)
        answers.flush()


if __name__ == "__main__":
    pixels_out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a codec prints must not come between the pixels
    serve(sys.stdin.buffer, pixels_out)
