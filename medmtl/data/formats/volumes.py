"""Volumes of any file format that holds one: NIfTI through nibabel; NRRD and MetaImage through SimpleITK."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.nifti import Geometry, Volume, read_volume
from medmtl.types import CaseError

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
ENDINGS = (*NIFTI, *ITK)
"""Endings of the files that `read_any` reads."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_COMPRESSION = 1100  # deflate cannot shrink more; what claims to is not what it says
_MAX_FILES = 200_000  # folders with more are not looked through to the end


def is_volume_name(name: str) -> bool:
    """Whether a file of that name may hold a volume; hidden files, such as macOS's ``._`` twins, do not."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def stem(name: str) -> str:
    """A file name without the ending of a volume."""
    for ending in ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def files_below(root: Path, depth: int) -> Iterator[Path]:
    """Files in a folder and ``depth`` levels of folders below it, by name.

    Links back to the folder itself or above it, and folders that may not be read, are passed over. A folder
    with very many files ends early, so that guessing a format takes bounded time.
    """
    seen = 0
    level = [root] if root.is_dir() else []
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in level:
            for path in _listed(folder):
                seen += 1
                if seen > _MAX_FILES:
                    return
                if not path.is_dir():
                    yield path
                elif not path.name.startswith(".") and not _leads_back(path, root):
                    below.append(path)
        level = below


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except PermissionError:
        return []


def _leads_back(path: Path, root: Path) -> bool:
    return path.is_symlink() and root.resolve().is_relative_to(path.resolve())


def read_any(path: Path) -> Volume:
    """Reads a volume of any format in `ENDINGS`, its affine in RAS+ mm.

    A NRRD of kind ``list`` (or a 4D file) becomes frames.

    Raises:
        CaseError: ``NO_USABLE_SERIES`` (no such file), ``UNDECODABLE``, ``TRUNCATED``, ``SINGLE_SLICE``,
            ``MISSING_GEOMETRY`` or ``NOT_AN_IMAGE`` (colours, vectors); names the file without its folder.
    """
    name = path.name.lower()
    try:
        if name.endswith(NIFTI):
            return read_volume(path)
        if name.endswith(ITK):
            return _read_itk(path)
    except CaseError as error:
        raise CaseError(error.code, without_folder(str(error), path.parent)) from error
    raise CaseError(
        "UNDECODABLE", f"{path.name}: is of no known format; known endings are {', '.join(ENDINGS)}"
    )


def same_grid(what: str, volume: Volume, reference: Volume, code: str) -> None:
    """Makes sure that a volume has the grid and the frames of the image that it belongs to.

    Args:
        what: the volume, as the message names it.
        volume: a mask, a map or a further image.
        reference: the image.
        code: of the error.

    Raises:
        CaseError: with that code, saying what sets them apart.
    """
    difference = volume.geometry.differs_from(reference.geometry)
    if not difference and volume.geometry.frames != reference.geometry.frames:
        difference = f"{volume.geometry.frames} frames instead of {reference.geometry.frames}"
    if difference:
        raise CaseError(code, f"{what}: has {difference} of the image; bring both onto one grid")


def without_folder(text: str, folder: Path) -> str:
    """A message without the folder that it names, which may say more than a table should keep."""
    return text.replace(f"{folder}/", "").replace(f"{folder}\\", "")


def _read_itk(path: Path) -> Volume:
    import SimpleITK as sitk

    if not path.is_file():
        raise CaseError("NO_USABLE_SERIES", f"{path}: there is no such file")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise CaseError("UNDECODABLE", f"{path}: its header cannot be read ({_reason(error)})") from error
    claimed = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    if path.suffix.lower() in (".nrrd", ".mha") and claimed > path.stat().st_size * _MAX_COMPRESSION:
        raise CaseError(
            "TRUNCATED",
            f"{path}: claims {claimed} values in {path.stat().st_size} bytes; copy the file again",
        )
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise CaseError(
            "TRUNCATED", f"{path}: its voxels cannot be read ({_reason(error)}); copy the file again"
        ) from error
    return _volume(image, path)


def _volume(image: Any, path: Path) -> Volume:
    import SimpleITK as sitk

    array: NDArray[Any] = sitk.GetArrayFromImage(image)  # (t, z, y, x) or (z, y, x[, components])
    if array.dtype.kind not in "biuf":
        raise CaseError("NOT_AN_IMAGE", f"{path}: holds voxels of type {array.dtype}, not plain numbers")
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = _frames_of_list(array, image, path)
    array = array.transpose()
    if array.ndim not in (3, 4):
        shown = " x ".join(str(n) for n in array.shape)
        raise CaseError("SINGLE_SLICE", f"{path}: found a 2D image, {shown}; a volume has several slices")
    if 1 in array.shape[:3]:
        shown = " x ".join(str(n) for n in array.shape)
        raise CaseError("SINGLE_SLICE", f"{path}: found a single slice, {shown}; a volume has several")
    x, y, z = array.shape[:3]
    frames = array.shape[3] if array.ndim == 4 else 1
    stated = not path.suffix.lower().startswith((".nrrd", ".nhdr")) or image.HasMetaDataKey("NRRD_space")
    return Volume(array, Geometry((x, y, z), frames, _affine(image, path), stated))


def _frames_of_list(array: NDArray[Any], image: Any, path: Path) -> NDArray[Any]:
    """``(z, y, x, components)`` to ``(t, z, y, x)`` where the components are a list, no colour or vector."""
    key = "NRRD_kinds[pixel]"
    kind = image.GetMetaData(key) if image.HasMetaDataKey(key) else ""
    if kind != "list" or array.ndim != 4:
        what = f"{image.GetNumberOfComponentsPerPixel()} numbers per voxel" + (f" ({kind})" if kind else "")
        raise CaseError(
            "NOT_AN_IMAGE", f"{path}: holds {what}; give each channel its own file, or frames as a 4D file"
        )
    return np.moveaxis(array, -1, 0)


def _affine(image: Any, path: Path) -> NDArray[np.float64]:
    """Voxel index to RAS+ mm; ITK's own frame is LPS, whatever the file was written in."""
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection(), dtype=np.float64).reshape(dimension, dimension)
    if dimension == 4 and (np.any(direction[:3, 3]) or np.any(direction[3, :3])):
        raise CaseError("MISSING_GEOMETRY", f"{path}: its time axis is mixed with its axes in space")
    affine = np.eye(4)
    affine[:3, :3] = direction[:3, :3] * np.array(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise CaseError("MISSING_GEOMETRY", f"{path}: its axes span no volume; repair the header")
    return _LPS_TO_RAS @ affine


def _reason(error: RuntimeError) -> str:
    """The last line of an ITK error, which is the one that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("ITK ERROR: ")[:200] if lines else "no reason given"
