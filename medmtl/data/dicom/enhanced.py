"""Enhanced multi-frame files (MR, CT, PET, legacy-converted): a plane per frame, from its functional groups.

Source: DICOM PS3.3 C.7.6.16 (multi-frame functional groups).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.model import Instance, Plane
from medmtl.types import CaseError

if TYPE_CHECKING:
    from medmtl.data.dicom.header import Header

MACROS = (
    "FrameContentSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "TemporalPositionSequence",
    "CardiacSynchronizationSequence",
    "MRImageFrameTypeSequence",
    "MREchoSequence",
    "MRDiffusionSequence",
    "MRModifierSequence",
    "MRVelocityEncodingSequence",
    "MRTimingAndRelatedParametersSequence",
    "MRAveragesSequence",
    "CTImageFrameTypeSequence",
    "CTReconstructionSequence",
    "CTAcquisitionDetailsSequence",
    "CTPositionSequence",
    "CTExposureSequence",
    "PETFrameTypeSequence",
    "PETFrameAcquisitionSequence",
    "PETReconstructionSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "UnassignedSharedConvertedAttributesSequence",
)
"""Functional groups whose elements say where, when or how a frame was taken."""

NESTED = ("DiffusionGradientDirectionSequence",)

AS_CLASSIC = "Philips.FrameSequence"
"""Where Philips repeats a frame as in a classic file: asked last, as its position is half a pixel off."""


def has_functional_groups(header: Header, frames: int) -> bool:
    """Whether a file says per frame where it is; some exporters leave empty groups in classic files."""
    groups = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence")
    if not groups and not shared:
        return False
    if frames > 1 or header.get("ImagePositionPatient") is None:
        return True
    return any(group.get("PlanePositionSequence") for group in groups or ())


def planes_of_enhanced(
    instance: Instance,
    frames: int,
    orientation_of: Callable[[tuple[float, ...] | None], NDArray[np.float64] | None],
) -> list[Plane]:
    """One plane per frame.

    Raises:
        CaseError: ``MISSING_GEOMETRY`` where a frame lacks its position, orientation or spacing.
    """
    header = instance.header
    groups = header.get("PerFrameFunctionalGroupsSequence") or ()
    shared_group = (header.get("SharedFunctionalGroupsSequence") or (None,))[0]
    if len(groups) != frames:
        raise CaseError(
            "MISSING_GEOMETRY", f"{frames} frames and {len(groups)} functional groups that say where they are"
        )
    shared = () if shared_group is None else _items(shared_group)
    shape = (header.get("Rows"), header.get("Columns"))
    lacking: dict[str, list[int]] = {}
    planes = []
    for frame, group in enumerate(groups):
        items = (*_items(group), *shared, *(group.get(AS_CLASSIC) or ())[:1])
        position = _first(items, "ImagePositionPatient")
        orientation = orientation_of(_first(items, "ImageOrientationPatient"))
        spacing = _first(items, "PixelSpacing")
        if position is None:
            lacking.setdefault("ImagePositionPatient", []).append(frame + 1)
        elif orientation is None:
            lacking.setdefault("ImageOrientationPatient", []).append(frame + 1)
        elif spacing is None or min(spacing) <= 0:
            lacking.setdefault("PixelSpacing", []).append(frame + 1)
        else:
            at = np.array(position, dtype=np.float64)
            planes.append(Plane(instance, frame, at, orientation, spacing, shape, items))
    if lacking:
        keyword, numbers = next(iter(lacking.items()))
        raise CaseError(
            "MISSING_GEOMETRY",
            f"{keyword} is missing or not valid in {len(numbers)} of {frames} frames, the first being "
            f"frame {numbers[0]}; export the series again",
        )
    return planes


def _items(group: Header) -> tuple[Header, ...]:
    """The group itself (for sequences that several items may be in) and its macros' items."""
    items = [group]
    present, shared, _ = group.layers
    for macro in MACROS:
        if (macro in present or macro in shared) and (found := group.get(macro)):
            items.append(found[0])
            if macro == "MRDiffusionSequence":
                items += [inner[0] for name in NESTED if (inner := found[0].get(name))]
    return tuple(items)


def _first(items: tuple[Header, ...], keyword: str) -> Any:
    for item in items:
        if (value := item.get(keyword)) is not None:
            return value
    return None
