"""A phantom's cine as the DICOM files that a scanner would send: for demonstrations and notebooks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"


def write_dicom(
    folder: Path | str,
    cine: NDArray[np.int16],
    *,
    spacing_mm: tuple[float, float, float],
    time_step_ms: float,
    series_per_slice: bool = False,
    description: str = "short-axis cine",
    study: str = "",
    first_series: int = 1,
    height_cm: float | None = None,
    weight_kg: float | None = None,
) -> list[Path]:
    """Writes one file per slice and phase, numbered as they would be acquired.

    Args:
        folder: made where it is not there.
        cine: ``(T, X, Y, Z)``, as in ``PhantomCase.images["cine"]``; x to the left, y back, z up.
        spacing_mm: voxel size along x, y, z.
        time_step_ms: between phases; each slice starts a little later than the one below.
        series_per_slice: a series for every slice, as some vendors do, instead of one for all.
        description: SeriesDescription.
        study: what the study's UID is made from, for several series of one study; the cine by default.
        first_series: SeriesNumber.
        height_cm: of the patient; left out where None.
        weight_kg: of the patient; left out where None.

    Returns:
        The files, slice by slice and within a slice phase by phase.

    Source:
        DICOM PS3.3, A.4 (MR Image IOD), C.7.6.2 (Image Plane), C.7.6.18 (Cardiac Synchronization).
    """
    from pydicom.uid import generate_uid

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    phases, *_, slices = cine.shape
    voxels = hashlib.sha256(np.ascontiguousarray(cine).tobytes()).hexdigest()
    seed = [description, str(cine.shape), voxels]
    study_uid = generate_uid(entropy_srcs=["study", study] if study else seed)
    corner = -np.multiply(spacing_mm, np.subtract(cine.shape[1:], 1)) / 2
    body = {
        "PatientSize": None if height_cm is None else round(height_cm / 100, 4),
        "PatientWeight": None if weight_kg is None else round(weight_kg, 2),
    }
    written = []
    for z in range(slices):
        for t in range(phases):
            series, number = (z, t) if series_per_slice else (0, z * phases + t)
            tags = {
                "StudyInstanceUID": study_uid,
                "SeriesInstanceUID": generate_uid(entropy_srcs=[*seed, f"series {series}"]),
                "SOPInstanceUID": generate_uid(entropy_srcs=[*seed, f"instance {z} {t}"]),
                "SeriesNumber": first_series + series,
                "InstanceNumber": number + 1,
                "SeriesDescription": description,
                "ImagePositionPatient": [*corner[:2], corner[2] + z * spacing_mm[2]],
                "PixelSpacing": [spacing_mm[1], spacing_mm[0]],
                "SliceThickness": spacing_mm[2],
                "TriggerTime": round(t * time_step_ms + 2.5 * z, 3),
                "CardiacNumberOfImages": phases,
                **{keyword: value for keyword, value in body.items() if value is not None},
            }
            written.append(folder / f"slice{z:02d}_phase{t:02d}.dcm")
            _write(written[-1], cine[t, :, :, z].T, tags)
    return written


def _write(path: Path, pixels: NDArray[np.int16], tags: dict[str, object]) -> None:
    """One MR image of ``(rows, columns)`` pixels."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID = UID(MR_IMAGE_STORAGE)
    image.Modality, image.Manufacturer = "MR", "medmtl phantom"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    image.PatientName, image.PatientID = "Phantom", "phantom"
    image.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    for keyword, value in tags.items():
        setattr(image, keyword, value)
    image.PixelData = np.ascontiguousarray(pixels, dtype="<i2").tobytes()
    image.save_as(path, enforce_file_format=True)
