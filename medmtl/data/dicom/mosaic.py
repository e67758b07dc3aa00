"""Siemens mosaics: one file holds all slices of a volume as tiles of one large image.

ImagePositionPatient is that of a plane as large as the whole mosaic, centred where the first slice is; the
slices follow along SliceNormalVector (Siemens' private CSA header), SpacingBetweenSlices apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.data.dicom.csa import csa_numbers, read_csa
from medmtl.data.dicom.geometry import directions, normal_of
from medmtl.data.dicom.model import Instance, Plane
from medmtl.types import CaseError

if TYPE_CHECKING:
    from medmtl.data.dicom.header import Header

MOSAIC = "MOSAIC"
"""Value of ImageType that says that a file tiles slices."""

TILE_DELAY = "MosaicRefAcqTime"
"""Key of ``Plane.extra``: when a tile was acquired after its mosaic's AcquisitionTime began, ms."""


def planes_of_mosaic(instance: Instance) -> list[Plane]:
    """One plane per tile that holds a slice.

    Raises:
        CaseError: ``MISSING_GEOMETRY`` where the number of tiles or the direction of the slices is not said.
    """
    header = instance.header
    get = header.get
    fields = read_csa(get("Siemens.CSAImageHeaderInfo") or b"")
    count = int(next(iter(csa_numbers(fields, "NumberOfImagesInMosaic")), 0))
    count = count or get("Siemens.NumberOfImagesInMosaic") or 0
    rows, columns = get("Rows"), get("Columns")
    side = int(np.ceil(np.sqrt(count)))
    if count < 1 or rows % side or columns % side:
        raise CaseError(
            "MISSING_GEOMETRY",
            f"a mosaic of {columns} x {rows} pixels that does not say its number of tiles, or one that does "
            f"not fit ({count}); export it with Siemens' private elements",
        )
    position, spacing = get("ImagePositionPatient"), get("PixelSpacing")
    orientation = directions(get("ImageOrientationPatient"))
    step = get("SpacingBetweenSlices")
    along = np.array(csa_numbers(fields, "SliceNormalVector"))
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        raise CaseError("MISSING_GEOMETRY", "a mosaic without position, orientation or PixelSpacing")
    normal = normal_of(orientation)
    if not step or step <= 0 or along.shape != (3,) or abs(abs(along @ normal) - 1) > 0.01:
        raise CaseError(
            "MISSING_GEOMETRY",
            "a mosaic without SpacingBetweenSlices, or whose private header does not say along which normal "
            "its slices follow; export it with Siemens' private elements",
        )
    step = float(step) * float(np.sign(along @ normal))
    tile = (rows // side, columns // side)
    away = np.array([(columns - tile[1]) / 2 * spacing[1], (rows - tile[0]) / 2 * spacing[0]])
    first = np.array(position) + away @ orientation
    delays = csa_numbers(fields, "MosaicRefAcqTimes") or get("Siemens.MosaicRefAcqTimes") or ()
    shared = _diffusion(header, fields)
    planes = []
    for number in range(count):
        corner = (number // side * tile[0], number % side * tile[1])
        extra = shared | ({TILE_DELAY: float(delays[number])} if len(delays) == count else {})
        at = first + number * step * normal
        planes.append(Plane(instance, 0, at, orientation, spacing, tile, tile=(*corner, *tile), extra=extra))
    return planes


def _diffusion(header: Header, fields: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """b-value and direction from the private header, where only that has them."""
    extra: dict[str, Any] = {}
    if header.get("DiffusionBValue") is None and (b := csa_numbers(fields, "B_value")):
        extra["DiffusionBValue"] = b[0]
    way = csa_numbers(fields, "DiffusionGradientDirection")
    if header.get("DiffusionGradientOrientation") is None and len(way) == 3:
        extra["DiffusionGradientOrientation"] = way
    return extra
