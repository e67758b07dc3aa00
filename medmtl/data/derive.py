"""Values that follow from a mask: volumes, mass, stroke volume and ejection fraction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.columns import Derived
from medmtl.types import MYOCARDIAL_DENSITY_G_PER_ML, UNLABELLED


def measure(
    derived: Derived,
    masks: Mapping[str, NDArray[Any]],
    labels: Mapping[str, int],
    voxel_ml: float,
    frame_ed: int | None,
    frame_es: int | None,
) -> float | None:
    """Computes a derived value from the masks of one case.

    Volume is voxels x voxel size, mass is volume x 1.05 g/mL, stroke volume is EDV - ESV and ejection
    fraction is 100 (EDV - ESV) / EDV, each of one structure.

    Args:
        derived: what to compute.
        masks: by mask column, each ``(T, X, Y, Z)`` integer.
        labels: voxel value of each structure of the mask that ``derived`` names.
        voxel_ml: volume of a voxel in mL.
        frame_ed: 0-based frame of end diastole, or None.
        frame_es: 0-based frame of end systole, or None.

    Returns:
        the value in mL, g or %; None when the mask is absent, a needed frame is not known or not labelled
        throughout (255 anywhere in it), ED and ES are the same frame, or an ejection fraction has no EDV.
        A volume without a phase (``derived.frame`` None) is that of the only frame.
    """
    mask = masks.get(derived.mask)
    if mask is None:
        return None
    value = labels[derived.structure]
    if derived.quantity in ("volume", "mass"):
        frame = {"ED": frame_ed, "ES": frame_es, None: 0 if len(mask) == 1 else None}[derived.frame]
        volume = _volume_ml(mask, frame, value, voxel_ml)
        if volume is None or derived.quantity == "volume":
            return volume
        return volume * MYOCARDIAL_DENSITY_G_PER_ML
    if frame_ed == frame_es:
        return None
    edv = _volume_ml(mask, frame_ed, value, voxel_ml)
    esv = _volume_ml(mask, frame_es, value, voxel_ml)
    if edv is None or esv is None:
        return None
    if derived.quantity == "stroke_volume":
        return edv - esv
    return 100.0 * (edv - esv) / edv if edv > 0 else None


def cycle_frames(mask: NDArray[Any], label: int) -> tuple[int, int]:
    """End diastole and end systole of a cine: the frames of a structure's largest and smallest volume.

    Args:
        mask: ``(T, X, Y, Z)`` integer; frames that are not labelled throughout are left out.
        label: voxel value of the structure, the left ventricle's cavity as a rule.

    Returns:
        0-based ``(ed, es)``, the first frame where several are equal.

    Raises:
        ValueError: no frame is labelled throughout.
    """
    labelled = np.flatnonzero(labelled_frames(mask))
    if labelled.size == 0:
        raise ValueError("no frame of the mask is labelled throughout, so ED and ES cannot be found")
    counts = np.count_nonzero(mask == label, axis=(1, 2, 3))[labelled]
    return int(labelled[counts.argmax()]), int(labelled[counts.argmin()])


def phases(
    given: tuple[int | None, int | None], mask: NDArray[Any] | None, label: int | None
) -> tuple[int | None, int | None]:
    """ED and ES of a case: as given, else the frames of a structure's largest and smallest volume.

    Args:
        given: 0-based ED and ES, None where not known; what is known stays.
        mask: ``(T, X, Y, Z)`` integer, or None where there is none to look at.
        label: voxel value of the structure in it, or None where it has no such structure.

    Returns:
        0-based ``(ed, es)``; as given where fewer than two frames are labelled throughout.
    """
    if None not in given or mask is None or label is None or int(labelled_frames(mask).sum()) < 2:
        return given
    ed, es = cycle_frames(mask, label)
    return (ed if given[0] is None else given[0], es if given[1] is None else given[1])


def labelled_frames(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Which frames of a mask ``(T, X, Y, Z)`` are labelled throughout: ``(T,)``."""
    labelled: NDArray[np.bool_] = (mask != UNLABELLED).all(axis=(1, 2, 3))
    return labelled


def _volume_ml(mask: NDArray[Any], frame: int | None, value: int, voxel_ml: float) -> float | None:
    if frame is None or not 0 <= frame < len(mask) or bool((mask[frame] == UNLABELLED).any()):
        return None
    return float(np.count_nonzero(mask[frame] == value)) * voxel_ml
