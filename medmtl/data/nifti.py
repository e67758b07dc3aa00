"""NIfTI volumes: geometry from the header alone, voxels on demand, reproducible bytes when written."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from medmtl.types import CaseError

SPACING_TOLERANCE = 0.01
"""Relative difference that affine and pixdim may show; more is a contradiction."""

_COMPRESSION = (
    1  # masks and 16-bit images shrink little more at the higher levels, which take several times longer
)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of a volume are.

    Attributes:
        shape: ``(X, Y, Z)``.
        frames: number of frames T; 1 for a 3D file.
        affine: ``(4, 4)`` voxel index to RAS+ mm.
        oriented: the file states its orientation (``sform`` or ``qform``).
    """

    shape: tuple[int, int, int]
    frames: int
    affine: NDArray[np.float64]
    oriented: bool = True

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along x, y, z in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return (x, y, z)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in mL."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def differs_from(self, other: Geometry) -> str:
        """What sets two grids apart, or nothing: shape, or corners further apart than a tenth of a voxel."""
        if self.shape != other.shape:
            return f"grid {_times(self.shape)} instead of {_times(other.shape)}"
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], [1])).reshape(4, -1)
        apart = float(np.abs((self.affine - other.affine)[:3] @ corners).max())
        if apart > 0.1 * min(other.spacing_mm):
            return f"another affine: corners lie up to {apart:.1f} mm apart"
        return ""


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and where they are.

    Attributes:
        array: ``(X, Y, Z)`` or ``(X, Y, Z, T)``.
        geometry: grid of the array.
        time_step_ms: time between frames, where there is one.
    """

    array: NDArray[Any]
    geometry: Geometry
    time_step_ms: float | None = None


def read_geometry(path: Path, *, spacing_from_pixdim: bool = False) -> Geometry:
    """Reads the header of a NIfTI file.

    Args:
        path: the file.
        spacing_from_pixdim: take voxel sizes from ``pixdim`` and only directions from the affine, for
            files such as ACDC's, whose affine is a unit matrix. Otherwise the two have to agree.

    Raises:
        CaseError: ``NO_USABLE_SERIES`` (no such file), ``UNDECODABLE``, ``TRUNCATED``, ``SINGLE_SLICE``
            (2D) or ``MISSING_GEOMETRY`` (an affine that places nothing, or contradicts ``pixdim``).
    """
    return _geometry(_open(path), path, spacing_from_pixdim)


def read_volume(path: Path, *, spacing_from_pixdim: bool = False) -> Volume:
    """Reads header and voxels, with the arguments and errors of `read_geometry`."""
    image = _open(path)
    geometry = _geometry(image, path, spacing_from_pixdim)
    try:
        array = np.asanyarray(image.dataobj)
    except (EOFError, zlib.error, OSError, ValueError) as error:
        raise CaseError(
            "TRUNCATED", f"{path}: its voxels cannot be read ({error}); copy the file again"
        ) from error
    if array.dtype.kind not in "biuf":
        raise CaseError(
            "NOT_AN_IMAGE", f"{path}: holds voxels of type {array.dtype}; one number per voxel is needed"
        )
    step = float(image.header.get_zooms()[3]) if array.ndim == 4 else 0.0
    seconds = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}.get(image.header.get_xyzt_units()[1])
    return Volume(array, geometry, step * seconds if step > 0 and seconds is not None else None)


def frames_first(array: NDArray[Any]) -> NDArray[Any]:
    """``(X, Y, Z[, T])`` to ``(T, X, Y, Z)``, as a view."""
    return array[None] if array.ndim == 3 else np.moveaxis(array, 3, 0)


def as_stored(volume: Volume) -> Volume:
    """What reading a volume back gives, where `write_volume` writes it: NIfTI keeps 32 bits of a number."""
    affine = volume.geometry.affine.astype(np.float32).astype(np.float64)
    step = volume.time_step_ms
    if step is not None:
        step = 1000.0 * float(np.float32(step / 1000.0))
    return replace(volume, geometry=replace(volume.geometry, affine=affine), time_step_ms=step)


def write_volume(path: Path, volume: Volume) -> None:
    """Writes ``.nii.gz`` whose bytes depend on voxels and geometry only."""
    image = nib.Nifti1Image(volume.array, volume.geometry.affine)
    image.set_qform(volume.geometry.affine, code=1)
    image.set_sform(volume.geometry.affine, code=1)
    timed = volume.array.ndim == 4 and volume.time_step_ms is not None
    image.header.set_xyzt_units("mm", "sec" if timed else "unknown")
    if timed:
        image.header["pixdim"][4] = float(volume.time_step_ms or 0.0) / 1000.0
    path.write_bytes(gzip.compress(image.to_bytes(), _COMPRESSION, mtime=0))


def smallest_lossless(array: NDArray[Any]) -> NDArray[Any]:
    """The same voxels as 8-bit or 16-bit integers where that loses nothing, else as float32."""
    if array.dtype.kind in "bui" and array.dtype.itemsize == 1 and array.dtype != np.int8:
        return array.astype(np.uint8, copy=False)
    if array.dtype.kind == "f" and not bool((array == np.rint(array)).all()):
        return array.astype(np.float32, copy=False)
    low, high = float(array.min()), float(array.max())
    for dtype in (np.int16, np.uint16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype, copy=False)
    return array.astype(np.float32, copy=False)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise CaseError("NO_USABLE_SERIES", f"{path}: there is no such file")
    try:
        image = nib.load(path)
    except (EOFError, zlib.error) as error:
        raise CaseError("TRUNCATED", f"{path}: ends too early ({error}); copy the file again") from error
    except (ImageFileError, HeaderDataError, OSError, ValueError) as error:
        raise CaseError("UNDECODABLE", f"{path}: is not a readable NIfTI file ({error})") from error
    if not isinstance(image, nib.Nifti1Image):
        raise CaseError("UNDECODABLE", f"{path}: is a {type(image).__name__}, and a NIfTI file is needed")
    return image


def _geometry(image: Any, path: Path, spacing_from_pixdim: bool) -> Geometry:
    shape = tuple(int(n) for n in image.shape)
    if len(shape) not in (3, 4) or min(shape) < 1:
        found = "a 2D image" if len(shape) == 2 else f"an array of {len(shape)} dimensions"
        code = "SINGLE_SLICE" if len(shape) == 2 else "NOT_AN_IMAGE"
        raise CaseError(
            code, f"{path}: found {found}, {_times(shape)}; a volume is (x, y, z) or (x, y, z, t)"
        )
    if 1 in shape[:3]:
        raise CaseError(
            "SINGLE_SLICE", f"{path}: found a 2D image, {_times(shape)}; a volume has several slices"
        )
    affine = np.asarray(image.affine, dtype=np.float64)
    pixdim = np.asarray(image.header.get_zooms()[:3], dtype=np.float64)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if (
        not np.isfinite(affine).all()
        or not np.isfinite(pixdim).all()
        or sizes.min() <= 0
        or pixdim.min() <= 0
    ):
        raise CaseError(
            "MISSING_GEOMETRY",
            f"{path}: its affine is not finite or has a voxel of size 0; repair the header",
        )
    if spacing_from_pixdim:
        affine = affine.copy()
        affine[:3, :3] *= pixdim / sizes
    elif not np.allclose(sizes, pixdim, rtol=SPACING_TOLERANCE, atol=0):
        raise CaseError(
            "MISSING_GEOMETRY",
            f"{path}: its affine says voxels of {_mm(sizes)} mm and its pixdim {_mm(pixdim)} mm; "
            "rewrite the header so that both say the true size",
        )
    if abs(np.linalg.det(affine[:3, :3])) < 1e-6 * float(np.prod(pixdim)):
        raise CaseError("MISSING_GEOMETRY", f"{path}: its affine is singular; repair the header")
    oriented = bool(image.header["sform_code"] > 0 or image.header["qform_code"] > 0)
    return Geometry((shape[0], shape[1], shape[2]), shape[3] if len(shape) == 4 else 1, affine, oriented)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def _mm(sizes: NDArray[np.float64]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
