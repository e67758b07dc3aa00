"""Makes small DICOM files for tests of the reader: whole ones by pydicom, and elements byte by byte."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
"""Files that pydicom ships for its own tests: old, odd and broken ones among them."""

ROWS, COLUMNS = 4, 3
LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")


def dataset(number: int = 1, **values: Any) -> Dataset:
    """An image of one slice; None takes an element away."""
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    ds.SOPInstanceUID = f"1.2.3.4.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
    ds.Modality, ds.PatientID, ds.PatientName = "MR", "P-17", "Doe^Jane"
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 8 * number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [1.5, 1.25], 8
    ds.Rows, ds.Columns, ds.InstanceNumber = ROWS, COLUMNS, number
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = bytes(range(2 * ROWS * COLUMNS))
    for keyword, value in values.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def encoded(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A dataset as a file."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", "1.2.3")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3")
    file = BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def small(number: int = 1, syntax: str = ExplicitVRLittleEndian, **values: Any) -> bytes:
    """A file of an image of one slice."""
    return encoded(dataset(number, **values), syntax)


def element(tag: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """An explicit element; an implicit one where ``vr`` is blank."""
    length = len(value) if length is None else length
    head = pack("<HH", tag >> 16, tag & 0xFFFF)
    if not vr:
        return head + pack("<I", length) + value
    if vr in LONG:
        return head + vr + b"\0\0" + pack("<I", length) + value
    return head + vr + pack("<H", length) + value


def file_of(*elements: bytes, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A file of elements that were made byte by byte."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = element(0x00020010, b"UI", uid)
    group = element(0x00020000, b"UL", pack("<I", len(meta)))
    return b"\0" * 128 + b"DICM" + group + meta + b"".join(elements)


def implicit_file_of(*elements: bytes) -> bytes:
    """The same in implicit VR."""
    return file_of(*elements, syntax=ImplicitVRLittleEndian)


class Memory:
    """Bytes as a source that counts what is read of it."""

    def __init__(self, data: bytes, label: str = "memory") -> None:
        self.data, self.label = data, label
        self.bytes_read = self.reads = 0

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        part = self.data[offset : None if length is None else offset + length]
        self.bytes_read += len(part)
        self.reads += 1
        return part

    def size(self) -> int:
        return len(self.data)
