"""Labels for the images of ``dicom_writer``: segmentations as highdicom writes them, and structure sets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import RTStructureSetStorage

from medmtl.data.dicom.instances import read_instances
from medmtl.data.dicom.model import Instance, VolumePlan
from medmtl.data.dicom.scan import arrange
from tests.helpers.dicom_writer import Export, datasets, encode, item, mr_volume, numbers, uid

_WHAT_HIGHDICOM_COPIES = {
    "PatientSex": "O",
    "AccessionNumber": "",
    "StudyID": "1",
    "ReferringPhysicianName": "",
    "PositionReferenceIndicator": "",
    "SliceThickness": 8.0,
}


@dataclass(frozen=True)
class Bytes:
    """A file in memory."""

    data: bytes
    label: str

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        return self.data[offset : None if length is None else offset + length]

    def size(self) -> int:
        return len(self.data)


def opened(ds: Dataset, label: str = "labels.dcm") -> Instance:
    """A dataset as the reader sees its file."""
    [instance], _ = read_instances([Bytes(encoded(ds), label)])
    return instance


def encoded(ds: Dataset) -> bytes:
    """A file's bytes: in its own transfer syntax where it has one."""
    if not hasattr(ds, "file_meta"):
        return encode(ds)
    stream = BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def images(export: Export | None = None) -> list[Dataset]:
    """Image files, complete enough for highdicom."""
    made = datasets(export if export is not None else mr_volume())
    for ds in made:
        for keyword, value in _WHAT_HIGHDICOM_COPIES.items():
            if keyword not in ds:
                setattr(ds, keyword, value)
    return made


def plan_of(files: Sequence[Dataset]) -> VolumePlan:
    """The one volume of some image files."""
    instances = [opened(ds, f"IM{number:04d}") for number, ds in enumerate(files)]
    [plan] = [plan for series in arrange(instances).series for plan in series.volumes]
    return plan


def segmentation(
    files: Sequence[Dataset], masks: Mapping[str, np.ndarray], kind: str = "BINARY", **options: Any
) -> Dataset:
    """A segmentation as highdicom writes it.

    Args:
        files: the images.
        masks: by label ``(files, rows, columns)``: booleans, or shares for a fractional one.
    """
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="MANUAL",
        )
        for number, label in enumerate(masks, start=1)
    ]
    if kind == "LABELMAP":
        pixels = np.zeros(next(iter(masks.values())).shape, np.uint8)
        for number, mask in enumerate(masks.values(), start=1):
            pixels[mask > 0] = number
    else:
        pixels = np.stack(list(masks.values()), axis=-1)
        pixels = pixels.astype(np.float32) if kind == "FRACTIONAL" else pixels.astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.seg.Segmentation(
            source_images=list(files), pixel_array=pixels, segmentation_type=kind,
            segment_descriptions=described, series_instance_uid=uid("seg", "series", kind),
            series_number=90, sop_instance_uid=uid("seg", kind, *masks), instance_number=1,
            manufacturer="somebody", manufacturer_model_name="else", software_versions="1",
            device_serial_number="1", **options,
        )  # fmt: skip


def structure_set(
    files: Sequence[Dataset], regions: Mapping[str, Sequence[tuple[str, np.ndarray]]], **tags: Any
) -> Dataset:
    """A structure set.

    Args:
        files: the images; a contour names the nearest of them.
        regions: by name, contours as (ContourGeometricType, points ``(N, 3)`` LPS mm).
        tags: further elements; None removes one.
    """
    first = files[0]
    ds = Dataset()
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID"):
        setattr(ds, keyword, getattr(first, keyword))
    ds.SOPClassUID, ds.SOPInstanceUID = RTStructureSetStorage, uid("rtstruct", *regions)
    ds.SeriesInstanceUID, ds.Modality = uid("rtstruct", "series"), "RTSTRUCT"
    series = item(SeriesInstanceUID=first.SeriesInstanceUID)
    ds.ReferencedFrameOfReferenceSequence = item(
        RTReferencedStudySequence=item(RTReferencedSeriesSequence=series)
    )
    described, drawn = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        described += item(ROINumber=number, ROIName=name)
        outlines = []
        for kind, points in contours:
            outlines += item(
                ContourGeometricType=kind,
                NumberOfContourPoints=len(points),
                ContourData=numbers(points),
                ContourImageSequence=item(ReferencedSOPInstanceUID=_nearest(files, points)),
            )
        drawn += item(ReferencedROINumber=number, ContourSequence=Items(outlines))
    ds.StructureSetROISequence, ds.ROIContourSequence = Items(described), Items(drawn)
    for keyword, value in tags.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def _nearest(files: Sequence[Dataset], points: np.ndarray) -> str:
    orientation = np.array(files[0].ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(*orientation)
    heights = [
        abs((np.mean(points, axis=0) - np.array(ds.ImagePositionPatient, float)) @ normal) for ds in files
    ]
    return str(files[int(np.argmin(heights))].SOPInstanceUID)
