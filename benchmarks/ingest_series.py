"""Series that benchmarks/ingest.py reads and nobody has to download: the same bytes every time."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import JPEG2000Lossless

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.helpers import dicom_writer as writer

VOLUMES, SLICES, SIDE = 150, 36, 64
FMRI = (
    f"made fMRI, {SLICES} slices x {VOLUMES} volumes of {SIDE} x {SIDE}, {SLICES * VOLUMES} files; "
    "300 private elements in each header, as scanners write"
)
COMPRESSED = "made CT, {0} slices of {1} x {1}, JPEG 2000 lossless, {0} files"
PRIVATE_ELEMENTS = 300


def fmri(folder: Path) -> Path:
    """The 5,400 files of an fMRI series, in the folder."""
    affine = writer.grid(SLICES, orientation=writer.AXIAL, spacing=(3.5, 3.5, 3.9))
    rng, private = np.random.default_rng(0), _private_elements()
    brain = rng.integers(0, 900, (SIDE, SIDE, SLICES))
    folder.mkdir(parents=True)
    frame_of = writer.frames_of(affine, brain[..., None], slice_delay_ms=0.0)
    for t in range(VOLUMES):
        for frame in frame_of:
            frame.t, frame.time_ms = t, 2000.0 * t
            frame.values = brain[:, :, frame.z].T + t
        export = writer.Export(frame_of, affine, timing="temporal-position", name="bench")
        for number, ds in enumerate(writer.classic(export), start=1 + t * SLICES):
            ds.SOPInstanceUID, ds.InstanceNumber = writer.uid("bench", number), number
            ds.NumberOfTemporalPositions, ds.RepetitionTime = VOLUMES, 2000.0
            ds.update(private)
            (folder / f"i{number:05d}.dcm").write_bytes(writer.encode(ds))
    return folder


def _private_elements() -> pydicom.Dataset:
    """What a scanner adds for itself: some hundred short elements that a reader has to step over."""
    ds = pydicom.Dataset()
    for group in (0x0019, 0x0027, 0x0043):
        block = ds.private_block(group, f"MADE UP {group:X}", create=True)
        for element in range(PRIVATE_ELEMENTS // 3):
            block.add_new(element, "DS", f"{group * element / 7:.6f}")
    return ds


def compressed(folder: Path, slices: int = 100, side: int = 256) -> Path:
    """A smooth CT with noise in its low bits, JPEG 2000 lossless."""
    affine = writer.grid(slices, orientation=writer.AXIAL, spacing=(0.8, 0.8, 2.0))
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    for z in range(slices):
        body = np.where(x**2 + y**2 < 0.7, 40.0 + 100 * np.sin(9 * x + 0.1 * z) * np.cos(7 * y), -1000.0)
        values = np.rint(body + rng.normal(0, 12, body.shape))
        frame = writer.Frame(
            z, 0, values, affine[:3, 3] + z * affine[:3, 2], writer.AXIAL, (0.8, 0.8), 0.0, intercept=-1024.0
        )
        export = writer.Export([frame], affine, modality="CT", timing="none", name="bench-ct")
        ds = writer.classic(export)[0]
        ds.SOPInstanceUID, ds.InstanceNumber = writer.uid("bench-ct", z), z + 1
        ds = pydicom.dcmread(BytesIO(writer.encode(ds)))
        ds.PixelRepresentation = 0
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
        ds.save_as(folder / f"i{z:03d}.dcm", enforce_file_format=True)
    return folder
