"""Volumes for pictures, read from NIfTI files."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.types import UNLABELLED, OutputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Volume:
    """A NIfTI volume.

    Attributes:
        data: ``(X, Y, Z, T)``; a 3D volume has one frame.
        spacing_mm: voxel size along X, Y, Z.
        affine: ``(4, 4)`` voxel to RAS+ mm.
        frame_ms: time between frames in ms; 0 where the file does not say.
    """

    data: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    frame_ms: float = 0.0

    @property
    def frames(self) -> int:
        """Number of frames T."""
        return int(self.data.shape[3])

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def structure_ml(self, code: int) -> NDArray[np.float64]:
        """Volume in mL of a structure in every frame, ``(T,)``; NaN in a frame with unlabelled voxels."""
        voxels = (self.data == code).sum(axis=(0, 1, 2)).astype(np.float64)
        voxels[(self.data == UNLABELLED).any(axis=(0, 1, 2))] = np.nan
        return np.asarray(voxels * self.voxel_ml)


def load_volume(path: Path, mask: bool = False) -> Volume:
    """Read a 3D or 4D NIfTI file; a mask as uint8.

    Raises:
        OutputError: the file is missing, damaged, or has another number of dimensions.
    """
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nib.load(path)
        data = np.asanyarray(image.dataobj)
    except (ImageFileError, OSError, EOFError, zlib.error, ValueError) as error:
        raise OutputError(
            f"{path.parent.name}/{path.name} cannot be read ({error}); write it again"
        ) from error
    if data.ndim == 3:
        data = data[..., np.newaxis]
    if data.ndim != 4:
        raise OutputError(
            f"{path.parent.name}/{path.name} has {data.ndim} dimensions where 3 or 4 are expected; write it "
            "again"
        )
    spacing = tuple(float(size) for size in image.header.get_zooms()[:3])
    assert len(spacing) == 3
    affine = np.asarray(image.affine, dtype=np.float64)
    return Volume(data.astype(np.uint8) if mask else data, spacing, affine, _frame_ms(image.header))


def _frame_ms(header: Any) -> float:
    """Time between frames in ms; 0 where the header has no time axis or no unit of time."""
    zooms = header.get_zooms()
    unit = header.get_xyzt_units()[1]
    return (
        float(zooms[3]) * {"sec": 1000.0, "msec": 1.0, "usec": 0.001}.get(unit, 0.0)
        if len(zooms) > 3
        else 0.0
    )
