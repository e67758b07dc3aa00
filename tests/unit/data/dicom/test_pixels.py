"""Stored pixels: pydicom is the reference; what is damaged is named and refused."""

from __future__ import annotations

import base64
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from medmtl.data.dicom import workers
from medmtl.data.dicom.codecs import CodecFailed, Coded, ask, decode_frame
from medmtl.data.dicom.header import Header
from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.pixels import Frames
from medmtl.types import CaseError


def read_frame(instance: Instance, frame: int = 0) -> NDArray[Any]:
    return Frames(instance).read(frame)


SHIPPED = Path(pydicom.data.__file__).parent / "test_files"
JPEG = UID("1.2.840.10008.1.2.4.50")
JPEG_LOSSLESS = (UID("1.2.840.10008.1.2.4.57"), UID("1.2.840.10008.1.2.4.70"))
JPEG_LS = (UID("1.2.840.10008.1.2.4.80"), UID("1.2.840.10008.1.2.4.81"))
JPEG_2000 = (UID("1.2.840.10008.1.2.4.90"), UID("1.2.840.10008.1.2.4.91"))
HTJ2K_SYNTAX = UID("1.2.840.10008.1.2.4.201")
GREY_FILES = [
    "693_J2KI.dcm",
    "CT_small.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_expb.dcm",
    "MR_small_implicit.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
    "examples_overlay.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
    "liver_expb_1frame.dcm",
    "rtdose.dcm",
    "rtdose_1frame.dcm",
    "rtdose_expb.dcm",
    "rtdose_expb_1frame.dcm",
    "rtdose_rle.dcm",
    "rtdose_rle_1frame.dcm",
]
COLOUR_FILES = [
    "SC_rgb_rle.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "examples_palette.dcm",
    "SC_rgb_jpeg.dcm",
]
HTJ2K = base64.b64decode(
    "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB"
    "/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAQ0AAf+TwAAmX/sFB3QA"
    "AMAAE0AAE0AAEYCo/gIHdACE/gKHdAAAYwDAABUQAAVMAAEoCAJSSgDCtAAGgAqA8wEGtACS8CMzAMAAFoQAAWnAABXA"
    "UwpYOKARCEywAZ18A8yXAAE5QIAxwFFAU0D0ABCABj/WmAAFpRolSiHSQEyTpbc3AMAALqIAAXWwAAug4w0NkgEugUeW"
    "BZLIWoV2loUXFChJYihCSia75C8XPnPIwMIqX8zBAREzOYVyBJU1UrEzQGvAXfAWvgVq4TrIDrYAQAHYIBAAi7N3Xq9k"
    "nVvZqozEAa0ZcVUQUYoXJRxVTeFgRMSDf6G8F1p76/WHw+/SZ9MB/9k="
)
"""Sixteen by sixteen pixels of ``RAMP``, as OpenJPH writes them: none of our packages encodes HTJ2K."""

_Y, _X = np.mgrid[:16, :16]
RAMP = (37 * _X + 91 * _Y + _X * _Y % 13).astype(np.uint16)


class Memory:
    """A file in memory."""

    def __init__(self, data: bytes, label: str = "image.dcm") -> None:
        self.data, self.label = data, label

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        return self.data[offset:] if length is None else self.data[offset : offset + length]

    def size(self) -> int:
        return len(self.data)


def dataset_of(pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> Dataset:
    """A data set with these values ``([frames,] rows, columns)``, uncompressed."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    dataset.Modality = "MR"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    if pixels.dtype.kind != "f":
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    keyword = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(pixels.dtype.str[1:], "PixelData")
    setattr(dataset, keyword, data + b"\0" * (len(data) % 2))
    if keyword == "PixelData":
        dataset["PixelData"].VR = "OW"
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def bytes_of(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def instance_of(data: Dataset | bytes) -> Instance:
    """What the reader makes of a file."""
    source = Memory(data if isinstance(data, bytes) else bytes_of(data))
    (instance,), _ = read_instances([source])
    return instance


def with_elements(instance: Instance, **elements: Any) -> Instance:
    """The same file as if its header said something else."""
    values = instance.header.as_dict() | elements
    header = Header.from_values({keyword: value for keyword, value in values.items() if value is not None})
    return Instance(instance.source, header, instance.transfer_syntax, instance.pixels)


def with_frames(
    frames: list[bytes],
    syntax: UID,
    like: np.ndarray,
    *,
    fragments: int = 1,
    table: bool = True,
    **elements: Any,
) -> Dataset:
    """A data set of compressed frames."""
    dataset = dataset_of(like, **elements)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table)
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    return dataset


def compressed(pixels: np.ndarray, syntax: UID, **options: Any) -> list[bytes]:
    """Every frame as pydicom's encoders compress it."""
    from pydicom.pixels import get_encoder

    stack = pixels if pixels.ndim == 3 else pixels[None]
    elements: dict[str, Any] = {
        "rows": pixels.shape[-2],
        "columns": pixels.shape[-1],
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": 8 * pixels.dtype.itemsize,
        "bits_stored": 8 * pixels.dtype.itemsize,
        "pixel_representation": int(pixels.dtype.kind == "i"),
    }
    return [get_encoder(syntax).encode(frame, **(elements | options)) for frame in stack]


GDCM = """
import os, sys, gdcm
head = sys.stdin.readline().split()
rows, columns, bits, signed = map(int, head[:4])
data = bytes.fromhex(sys.stdin.readline())
image = gdcm.Image()
image.SetNumberOfDimensions(2)
image.SetDimensions((columns, rows, 1))
image.SetPixelFormat(gdcm.PixelFormat(1, bits, bits, bits - 1, signed))
grey = gdcm.PhotometricInterpretation.MONOCHROME2
image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
element.SetByteStringValue(data)
image.SetDataElement(element)
change = gdcm.ImageChangeTransferSyntax()
change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(head[4])))
change.SetInput(image)
assert change.Change()
output = change.GetOutput()
encoded = output.GetDataElement()
fragments = encoded.GetSequenceOfFragments()
fragment = fragments.GetFragment(0)
print(fragment.GetByteValue().GetBuffer().encode("utf-8", "surrogateescape").hex(), flush=True)
os._exit(0)    # its objects do not survive being taken apart
"""


def by_gdcm(pixels: np.ndarray, syntax: UID) -> bytes:
    """One frame as GDCM compresses it, in a process of its own."""
    bits, signed = 8 * pixels.dtype.itemsize, int(pixels.dtype.kind == "i")
    asked = f"{pixels.shape[0]} {pixels.shape[1]} {bits} {signed} {syntax}\n{pixels.tobytes().hex()}\n"
    done = subprocess.run(
        [sys.executable, "-c", GDCM], input=asked, capture_output=True, text=True, check=True
    )
    return bytes.fromhex(done.stdout)


def noise(dtype: str, shape: tuple[int, ...] = (12, 10), bits: int | None = None) -> np.ndarray:
    info = np.iinfo(dtype)
    bits = bits or info.bits
    low = -(1 << (bits - 1)) if info.min < 0 else 0
    return np.random.default_rng(7).integers(low, low + (1 << bits), shape).astype(dtype)


# ------------------------------------------------------------------------------------- damaged and impossible
# files


@pytest.mark.parametrize("name", COLOUR_FILES)
def test_a_colour_image_is_refused_because_a_colour_is_not_a_measured_value(name: str) -> None:
    (instance,), _ = read_instances([Memory((SHIPPED / name).read_bytes(), name)])
    with pytest.raises(CaseError, match=f"{name}: is a colour image") as caught:
        read_frame(instance)
    assert caught.value.code == "NOT_AN_IMAGE"


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation is missing"),
        ({"Rows": 0}, "Rows or Columns is missing"),
        ({"BitsAllocated": 12}, "BitsAllocated 12 with BitsStored 16"),
        ({"BitsAllocated": 24}, "BitsAllocated 24 with BitsStored 16"),
        ({"BitsStored": 17}, "BitsAllocated 16 with BitsStored 17"),
        ({"BitsStored": 0}, "BitsAllocated 16 with BitsStored 0"),
        ({"BitsStored": None}, "BitsAllocated 16 with BitsStored None"),
        ({"PixelRepresentation": None}, "PixelRepresentation is None"),
        ({"PixelRepresentation": 2}, "PixelRepresentation is 2"),
        ({"HighBit": 16}, "HighBit 16 is not possible"),
        ({"BitsStored": 12, "HighBit": 5}, "HighBit 5 is not possible"),
    ],
)
def test_a_layout_that_cannot_be_is_named(elements: dict[str, Any], message: str) -> None:
    with pytest.raises(CaseError, match=f"image.dcm: {message}") as caught:
        read_frame(with_elements(instance_of(dataset_of(noise("uint16"))), **elements))
    assert caught.value.code == "UNDECODABLE"


def test_a_syntax_that_nobody_decodes_is_named() -> None:
    dataset = with_frames([b"film"], UID("1.2.840.10008.1.2.4.102"), noise("uint8"))
    with pytest.raises(CaseError, match=r"is encoded as 1\.2\.840\.10008\.1\.2\.4\.102"):
        read_frame(instance_of(dataset))


def test_a_file_that_ends_within_its_pixels_is_truncated() -> None:
    data = bytes_of(dataset_of(noise("uint16")))
    instance = instance_of(data)
    cut = Instance(Memory(data[:-7]), instance.header, instance.transfer_syntax, instance.pixels)
    with pytest.raises(CaseError, match="7 bytes are missing") as caught:
        read_frame(cut)
    assert caught.value.code == "TRUNCATED"


def test_fewer_bytes_than_rows_and_columns_need_are_truncated() -> None:
    instance = with_elements(instance_of(dataset_of(noise("uint16"))), Rows=13)
    with pytest.raises(
        CaseError, match="has 240 bytes of pixels where 1 x 13 x 10 of 16 bits need 260"
    ) as caught:
        read_frame(instance)
    assert caught.value.code == "TRUNCATED"


def test_twice_the_bytes_that_are_needed_are_refused_and_not_read_as_half_an_image() -> None:
    instance = instance_of(dataset_of(noise("uint16")))
    with pytest.raises(
        CaseError, match="has 240 bytes of pixels where 1 x 12 x 10 of 8 bits need 120"
    ) as caught:
        read_frame(with_elements(instance, BitsAllocated=8, BitsStored=8, HighBit=7))
    assert caught.value.code == "UNDECODABLE"


def test_compressed_pixels_in_a_file_that_says_otherwise_are_refused() -> None:
    dataset = with_frames(compressed(noise("uint16"), RLELossless), RLELossless, noise("uint16"))
    instance = instance_of(dataset)
    wrong = Instance(instance.source, instance.header, str(ExplicitVRLittleEndian), instance.pixels)
    with pytest.raises(CaseError, match="has compressed pixels and says otherwise"):
        read_frame(wrong)


def test_plain_pixels_in_a_file_that_says_compressed_are_refused() -> None:
    data = bytes_of(dataset_of(noise("uint16")))
    instance = instance_of(data)
    wrong = Instance(instance.source, instance.header, str(RLELossless), instance.pixels)
    with pytest.raises(CaseError, match="not a sequence of fragments") as caught:
        read_frame(wrong)
    assert caught.value.code == "UNDECODABLE"


@pytest.mark.parametrize(
    "syntax", [JPEG_LOSSLESS[1], JPEG_LS[0], JPEG_2000[0], HTJ2K_SYNTAX, RLELossless, JPEG]
)
def test_garbage_in_place_of_a_compressed_frame_is_undecodable(syntax: UID) -> None:
    instance = instance_of(with_frames([b"garbage!" * 20], syntax, noise("uint16")))
    with pytest.raises(CaseError, match=r"image\.dcm: its .* data cannot be decoded") as caught:
        read_frame(instance)
    assert caught.value.code == "UNDECODABLE"


@pytest.mark.parametrize("syntax", [JPEG_LS[0], JPEG_2000[0], RLELossless])
def test_a_frame_cut_short_is_undecodable(syntax: UID) -> None:
    (frame,) = compressed(noise("uint16", (64, 64)), syntax)
    instance = instance_of(with_frames([frame[: len(frame) // 2]], syntax, noise("uint16", (64, 64))))
    with pytest.raises(CaseError) as caught:
        read_frame(instance)
    assert caught.value.code == "UNDECODABLE"


def test_a_frame_of_another_size_than_its_header_says_is_refused_before_it_is_decoded() -> None:
    (frame,) = compressed(noise("uint16", (40, 36)), JPEG_2000[0])
    instance = instance_of(with_frames([frame], JPEG_2000[0], noise("uint16", (36, 40))))
    with pytest.raises(CaseError, match="hold 40 x 36 pixels of 1 x 16 bits, its header says 36 x 40 of 16"):
        read_frame(instance)


def test_a_deeper_frame_than_its_header_says_is_refused_and_not_wrapped_around() -> None:
    (frame,) = compressed(noise("uint16", (40, 36)), JPEG_2000[0])
    instance = instance_of(with_frames([frame], JPEG_2000[0], noise("uint8", (40, 36))))
    with pytest.raises(CaseError, match="1 x 16 bits, its header says 40 x 36 of 8"):
        read_frame(instance)


def test_a_small_file_that_claims_gigabytes_is_refused_before_memory_is_asked_for() -> None:
    instance = instance_of(with_frames([b"\0" * 64], RLELossless, noise("uint16")))
    with pytest.raises(CaseError, match="claims 8589672450 bytes of pixels in 64"):
        read_frame(with_elements(instance, Rows=65535, Columns=65535))


def test_a_file_that_ends_within_a_fragment_is_truncated() -> None:
    data = bytes_of(with_frames(compressed(noise("uint16"), RLELossless), RLELossless, noise("uint16")))
    instance = instance_of(data)
    cut = Instance(Memory(data[:-30]), instance.header, instance.transfer_syntax, instance.pixels)
    with pytest.raises(CaseError, match="ends within its compressed pixel data") as caught:
        read_frame(cut)
    assert caught.value.code == "TRUNCATED"


def test_missing_frames_are_truncated() -> None:
    pixels = noise("uint16", (3, 12, 10))
    frames = compressed(pixels, RLELossless)
    instance = instance_of(with_frames(frames[:2], RLELossless, pixels))
    with pytest.raises(CaseError, match="holds 2 of 3 compressed frames") as caught:
        read_frame(instance, 0)
    assert caught.value.code == "TRUNCATED"


def test_fragments_that_belong_to_no_frame_for_certain_are_refused() -> None:
    pixels = noise("uint16", (2, 12, 10))
    frames = compressed(pixels, RLELossless)  # RLE frames have no marker at their end
    instance = instance_of(with_frames(frames, RLELossless, pixels, fragments=2, table=False))
    with pytest.raises(CaseError, match="has 4 fragments for 2 frames"):
        read_frame(instance)


def test_a_missing_codec_is_named_with_how_to_install_it() -> None:
    script = (
        "import sys; sys.modules['gdcm'] = None; sys.modules['PIL'] = None\n"
        "from medmtl.data.dicom.codecs import Coded, CodecMissing, decode_frame\n"
        "frame = b'\\xff\\xd8\\xff\\xc3\\x00\\x0b\\x10\\x00\\x02\\x00\\x02\\x01' + bytes(9)\n"
        "try: decode_frame(frame, Coded('1.2.840.10008.1.2.4.70', 2, 2, 16, 16, False))\n"
        "except CodecMissing as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    expected = "is compressed with JPEG Lossless, which needs python-gdcm: pip install 'medmtl[dicom]'\n"
    assert done.stdout == expected


# -------------------------------------------------------------------------------------------------- as
# pydicom has it


@pytest.mark.parametrize("name", GREY_FILES)
def test_every_grey_file_that_pydicom_ships_decodes_as_pydicom_does(name: str) -> None:
    (instance,), _ = read_instances([Memory((SHIPPED / name).read_bytes(), name)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of padding after the pixels
        reference = pydicom.dcmread(SHIPPED / name).pixel_array
    reference = reference if reference.ndim == 3 else reference[None]
    frames = Frames(instance)
    assert frames.count == len(reference)
    for index, expected in enumerate(reference):
        found = frames.read(index)
        assert found.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)


def test_lossy_jpeg_of_12_bits_which_pydicom_refuses_decodes_as_simpleitk_does(tmp_path: Path) -> None:
    import SimpleITK

    path = SHIPPED / "JPGExtended.dcm"
    (instance,), _ = read_instances([Memory(path.read_bytes())])
    image = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
    np.testing.assert_array_equal(read_frame(instance), image[0])


@given(
    dtype=st.sampled_from(["uint8", "int8", "uint16", "int16", "uint32", "int32"]),
    unused=st.integers(0, 6),
    big_endian=st.booleans(),
    frames=st.integers(1, 3),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_plain_pixels_of_any_layout_are_what_pydicom_reads(
    dtype: str, unused: int, big_endian: bool, frames: int, shape: tuple[int, int], seed: int
) -> None:
    info = np.iinfo(dtype)
    pixels = np.random.default_rng(seed).integers(info.min, info.max, (frames, *shape), dtype, endpoint=True)
    stored = info.bits - unused
    syntax = ExplicitVRBigEndian if big_endian else ExplicitVRLittleEndian
    dataset = dataset_of(pixels, syntax, BitsStored=stored, HighBit=stored - 1)
    if big_endian and info.bits == 8:  # words, so that every two bytes lie in reverse
        data = pixels.tobytes() + b"\0" * (pixels.size % 2)
        dataset.PixelData = np.frombuffer(data, ">u2").astype("<u2").tobytes()
    data = bytes_of(dataset)
    reference = pydicom.dcmread(BytesIO(data)).pixel_array.reshape(pixels.shape)
    opened = Frames(instance_of(data))
    for index, expected in enumerate(reference):
        np.testing.assert_array_equal(opened.read(index), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_floating_point_pixels_are_read_as_such(dtype: str, syntax: UID) -> None:
    pixels = np.linspace(-1e6, 3.25, 120).reshape(12, 10).astype(dtype)
    found = read_frame(instance_of(dataset_of(pixels, syntax)))
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 8, 8), (4, 1, 3)])
def test_frames_of_single_bits_begin_where_the_one_before_ends(shape: tuple[int, int, int]) -> None:
    bits = np.random.default_rng(1).integers(0, 2, shape).astype(np.uint8)
    dataset = dataset_of(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    packed = np.packbits(bits, bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    opened = Frames(instance_of(dataset))
    for index in range(len(bits)):
        np.testing.assert_array_equal(opened.read(index), bits[index])


def test_overlay_bits_above_the_value_are_cleared() -> None:
    values = noise("uint16", bits=12)
    overlaid = values | np.uint16(1 << 12)
    found = read_frame(instance_of(dataset_of(overlaid, BitsStored=12, HighBit=11)))
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_values_in_the_upper_bits_are_taken_from_there(dtype: str) -> None:
    values = noise(dtype, bits=12)
    found = read_frame(instance_of(dataset_of(values << 4, BitsStored=12, HighBit=15)))
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_a_high_bit_that_the_pixels_disprove_is_not_followed(dtype: str) -> None:
    values = noise(dtype, bits=12)
    found = read_frame(instance_of(dataset_of(values, BitsStored=12, HighBit=15)))
    np.testing.assert_array_equal(found, values)


def test_a_high_bit_that_cannot_be_told_right_from_wrong_is_refused() -> None:
    with pytest.raises(CaseError, match="HighBit 15 with BitsStored 12 contradicts the pixels"):
        read_frame(instance_of(dataset_of(noise("uint16"), BitsStored=12, HighBit=15)))


def test_the_palette_of_a_label_map_is_no_colour() -> None:
    labels = noise("uint8")
    dataset = dataset_of(labels, PhotometricInterpretation="PALETTE COLOR", SegmentationType="LABELMAP")
    np.testing.assert_array_equal(read_frame(instance_of(dataset)), labels)


# ----------------------------------------------------------------------------------------------------------
# compressed


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG_LS[0], JPEG_2000[0]])
def test_what_pydicom_compresses_without_loss_comes_back(dtype: str, syntax: UID) -> None:
    pixels = noise(dtype, (2, 40, 36))
    opened = Frames(instance_of(with_frames(compressed(pixels, syntax), syntax, pixels)))
    for index in range(2):
        found = opened.read(index)
        assert found.dtype == pixels.dtype
        np.testing.assert_array_equal(found, pixels[index])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("syntax", JPEG_LOSSLESS)
def test_lossless_jpeg_by_gdcm_comes_back(dtype: str, syntax: UID) -> None:
    pixels = noise(dtype, (40, 36))
    found = read_frame(instance_of(with_frames([by_gdcm(pixels, syntax)], syntax, pixels)))
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
@pytest.mark.parametrize("syntax", [JPEG_LS[0], JPEG_2000[0]])
def test_twelve_bits_of_sixteen_come_back_from_a_codec(dtype: str, syntax: UID) -> None:
    pixels = noise(dtype, (40, 36), bits=12)
    frames = compressed(pixels, syntax, bits_stored=12)
    dataset = with_frames(frames, syntax, pixels, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_frame(instance_of(dataset)), pixels)


@pytest.mark.parametrize(
    ("syntax", "options"),
    [(JPEG_LS[1], {"jls_error": 3}), (JPEG_2000[1], {"j2k_cr": [4.0]})],
    ids=["JPEG-LS", "JPEG 2000"],
)
def test_lossy_frames_decode_as_pydicom_decodes_them(syntax: UID, options: dict[str, Any]) -> None:
    pixels = np.tile(RAMP, (2, 2))
    data = bytes_of(with_frames(compressed(pixels, syntax, **options), syntax, pixels))
    np.testing.assert_array_equal(read_frame(instance_of(data)), pydicom.dcmread(BytesIO(data)).pixel_array)


def test_baseline_jpeg_decodes_as_pydicom_decodes_it() -> None:
    pixels = (np.tile(RAMP, (2, 2)) // 8).astype(np.uint8)
    data = bytes_of(with_frames([by_gdcm(pixels, JPEG)], JPEG, pixels))
    found = read_frame(instance_of(data))
    np.testing.assert_array_equal(found, pydicom.dcmread(BytesIO(data)).pixel_array)
    assert abs(found.astype(int) - pixels).max() < 16


def test_htj2k_comes_back() -> None:
    found = read_frame(instance_of(with_frames([HTJ2K], HTJ2K_SYNTAX, RAMP)))
    np.testing.assert_array_equal(found, RAMP)


def test_a_codestream_inside_a_jp2_file_is_found() -> None:
    pixels = np.tile(RAMP, (2, 2))
    (frame,) = compressed(pixels, JPEG_2000[0])
    boxes = struct.pack(">L4sL", 12, b"jP  ", 0x0D0A870A) + struct.pack(">L4s", 0, b"jp2c")
    np.testing.assert_array_equal(
        read_frame(instance_of(with_frames([boxes + frame], JPEG_2000[0], pixels))), pixels
    )


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("table", [True, False])
def test_frames_are_found_with_and_without_a_table_in_one_fragment_and_in_several(
    fragments: int, table: bool
) -> None:
    pixels = noise("uint16", (3, 40, 36))
    frames = compressed(pixels, JPEG_2000[0])
    opened = Frames(instance_of(with_frames(frames, JPEG_2000[0], pixels, fragments=fragments, table=table)))
    for index in (2, 0, 1):
        np.testing.assert_array_equal(opened.read(index), pixels[index])


@pytest.mark.parametrize("entry", [0, 2**32 - 2])
def test_an_offset_table_that_contradicts_the_fragments_is_not_believed(entry: int) -> None:
    pixels = noise("uint16", (2, 40, 36))
    dataset = with_frames(compressed(pixels, JPEG_2000[0]), JPEG_2000[0], pixels, fragments=2)
    wrong = bytearray(dataset.PixelData)
    wrong[12:16] = struct.pack("<L", entry)  # of the second frame
    dataset.PixelData = bytes(wrong)
    opened = Frames(instance_of(dataset))
    for index in range(2):
        np.testing.assert_array_equal(opened.read(index), pixels[index])


def test_pixels_without_a_delimiter_at_their_end_are_read() -> None:
    pixels = noise("uint16", (2, 40, 36))
    data = bytes_of(with_frames(compressed(pixels, RLELossless), RLELossless, pixels))
    instance = instance_of(data)
    bare = Instance(Memory(data[:-8]), instance.header, instance.transfer_syntax, instance.pixels)
    np.testing.assert_array_equal(Frames(bare).read(1), pixels[1])


# ------------------------------------------------------------------------------------------------------- side
# by side


@pytest.fixture
def always_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are started after the first frame, however fast that was."""
    monkeypatch.setattr(workers, "WORTH_SECONDS", 1e-9)


def run(jobs: int, work: Callable[[int, workers.Decode], None]) -> None:
    workers.for_each(range(jobs), work, workers=2)


@pytest.mark.usefixtures("always_shared")
def test_processes_decode_what_this_one_decodes() -> None:
    pixels = noise("int16", (7, 40, 36))
    frames = compressed(pixels, JPEG_2000[0])
    coded = Coded(str(JPEG_2000[0]), 40, 36, 16, 16, True)
    found: dict[int, np.ndarray] = {}
    by: set[Any] = set()

    def work(job: int, decode: workers.Decode) -> None:
        by.add(decode)
        found[job] = decode(frames[job], coded)

    run(7, work)
    assert len(by) > 1
    for index, expected in enumerate(pixels):
        np.testing.assert_array_equal(found[index], expected)


@pytest.mark.usefixtures("always_shared")
def test_a_damaged_frame_stops_the_others_with_its_error() -> None:
    frames = [*compressed(noise("int16", (4, 40, 36)), JPEG_2000[0]), b"garbage", b"garbage"]

    def work(job: int, decode: workers.Decode) -> None:
        decode(frames[job], Coded(str(JPEG_2000[0]), 40, 36, 16, 16, True))

    with pytest.raises(CodecFailed, match="they do not begin as such"):
        run(6, work)


def test_few_frames_are_decoded_here_and_start_no_process() -> None:
    frames = compressed(noise("int16", (4, 40, 36)), RLELossless)
    by: set[Any] = set()

    def work(job: int, decode: workers.Decode) -> None:
        by.add(decode)
        decode(frames[job], Coded(str(RLELossless), 40, 36, 16, 16, True))

    run(4, work)
    assert by == {decode_frame}


def test_a_decoding_process_that_died_is_replaced() -> None:
    process = workers._Process()
    coded = Coded(str(RLELossless), 40, 36, 16, 16, True)
    pixels = noise("int16", (40, 36))
    (frame,) = compressed(pixels, RLELossless)
    try:
        process.decode(frame, coded)
        assert process._popen is not None
        process._popen.kill()
        process._popen.wait()
        np.testing.assert_array_equal(process.decode(frame, coded), pixels)
    finally:
        process.close()


def test_a_decoding_process_that_dies_over_a_frame_fails_that_frame() -> None:
    coded = Coded(str(RLELossless), 40, 36, 16, 16, True)
    script = "import sys; sys.stdin.buffer.read(9)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as dying:
        assert dying.stdin is not None
        assert dying.stdout is not None
        with pytest.raises(CodecFailed, match="its decoder broke off"):
            ask(dying.stdin, dying.stdout, bytes(1 << 20), coded)
        with suppress(BrokenPipeError):
            dying.stdin.close()


def test_where_no_process_can_be_started_this_one_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise("int16", (40, 36))
    (frame,) = compressed(pixels, RLELossless)
    coded = Coded(str(RLELossless), 40, 36, 16, 16, True)
    for executable in ("/nowhere/python", "/bin/true"):
        monkeypatch.setattr(sys, "executable", executable)
        process = workers._Process()
        for _ in range(2):
            np.testing.assert_array_equal(process.decode(frame, coded), pixels)
        process.close()
