"""A stack that holds several volumes, told apart by settings that matter where images collide.

An operator may change an inversion time or a flip angle from slice to slice of one volume, so such elements
split nothing by themselves: only where images share positions, or lie so unevenly that they are no one stack.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.clocks import POSITIONS, TRIGGERS
from medmtl.data.dicom.geometry import Slices, is_even
from medmtl.data.dicom.grouping import Stack, split
from medmtl.data.dicom.phases import in_phases
from medmtl.types import CaseError

SETTINGS = ("InversionTime", "FlipAngle", "KVP", "SliceThickness", "FilterType", "RepetitionTime")
MOST_SCANS = 5
"""CT series with so many scans of one region hold contrast phases; with more, a perfusion in time."""


def parts_of(stack: Stack, slices: Slices) -> list[Stack]:
    """The stacks of which a stack is made; none where it is one, be it of one moment or of several.

    Raises:
        CaseError: ``DUPLICATE_POSITION`` or those of `in_phases`, where nothing tells images of a CT apart.
    """
    if len(slices) < 2:
        return []
    repeated = len(stack.table) > len(slices)
    if repeated:
        for keyword in SETTINGS:
            groups = split(stack.table.column(keyword))
            whole = all(_complete(slices.of_plane[which], len(slices)) for _, which in groups)
            if len(groups) > 1 and whole:
                return [stack.part(which, **{keyword: value}) for value, which in groups]
    is_ct = stack.table.only("Modality") == "CT"
    if (repeated and is_ct) or not is_even(slices.height):
        for keyword in (*SETTINGS, "AcquisitionNumber"):
            groups = split(stack.table.column(keyword))
            if 1 < len(groups) <= MOST_SCANS and _interleaved([which for _, which in groups], slices):
                return [stack.part(which, **{keyword: value}) for value, which in groups]
    return _scans(stack, slices) if repeated and is_ct else []


def _scans(stack: Stack, slices: Slices) -> list[Stack]:
    """A few scans of one region by CT, unless they are moments of a heartbeat or numbered in time."""
    count = len(stack.table) / len(slices)
    if count > MOST_SCANS:
        return []
    phases = in_phases(stack.table, slices.of_plane, strict=True)
    if phases.how in (*TRIGGERS, *POSITIONS):
        return []
    if phases.how == "InstanceNumber":
        raise CaseError(
            "DUPLICATE_POSITION",
            f"{count:.0f} images lie at each position, and nothing but InstanceNumber tells them apart; "
            "export each reconstruction as a series of its own",
        )
    return [stack.part(planes, Scan=number + 1) for number, planes in enumerate(phases.planes.T)]


def _complete(of_plane: NDArray[np.int64], slices: int) -> bool:
    """Whether planes of these slices are equally many of each."""
    counts = np.bincount(of_plane, minlength=slices)
    return bool((counts == counts[0]).all())


def _interleaved(groups: list[NDArray[np.int64]], slices: Slices) -> bool:
    """Whether groups of planes lie among each other, and each is an even stack of single images."""
    ranges = []
    for which in groups:
        of_slices = np.unique(slices.of_plane[which])
        if not 1 < len(of_slices) == len(which) or not is_even(slices.height[of_slices]):
            return False
        ranges.append((slices.height[of_slices[0]], slices.height[of_slices[-1]]))
    ranges.sort()
    return all(later[0] < earlier[1] for earlier, later in pairwise(ranges))
