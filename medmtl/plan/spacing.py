"""The target voxel size: the median, and what to do with slices that lie far apart."""

from __future__ import annotations

from typing import Literal

import numpy as np

from medmtl.data.augment import THICK
from medmtl.plan.fingerprint import Fingerprint, Triple

Slices = Literal["keep", "resample"]
Target = tuple[float | None, float | None, float | None]
"""Voxel size to resample to, in mm; None where each case keeps its own."""


def target_spacing(found: Fingerprint, slices: Slices = "keep") -> tuple[Target, str]:
    """Voxel size to resample to, and why.

    nnU-Net takes the median, and for stacks of thick slices the 10 percentile along the stack. medmtl's own
    default leaves thick slices as they are: between two of them lies tissue that nobody imaged, neighbours
    were often imaged in another breath-hold, and a volume in mL is to be that of slices times their distance.

    Args:
        found: the data.
        slices: ``keep``, or ``resample`` for nnU-Net's rule (Isensee et al. 2021, supplementary note 2).

    Returns:
        ``(x, y, z)`` in mm, None where each case keeps its own; and a sentence.
    """
    x, y, z = (round(s, 6) for s in nnunet_spacing(found))
    if not found.is_stack:
        return (x, y, z), "The median of the cases along each axis."
    own = found.spacing_mm[2]
    if slices == "resample":
        return (x, y, z), (
            f"The median in-plane. Along the stack the 10 percentile ({z:.3g} mm, the median is {own:.3g} "
            "mm), which is nnU-Net's rule for thick slices."
        )
    apart = _range([spacing[2] for spacing in found.spacings])
    return (x, y, None), (
        f"The median in-plane. Slices lie {own / max(x, y):.1f} times further apart than voxels are wide, "
        f"and each case keeps its own ({apart} mm apart): between two of them lies tissue that nobody "
        f"imaged. nnU-Net would interpolate them to {z:.3g} mm; --slices resample does so."
    )


def nnunet_spacing(found: Fingerprint) -> Triple:
    """nnU-Net's target: medians, but where one axis has thick and few slices, their 10 percentile."""
    spacings = np.array(found.spacings)
    target = np.median(spacings, axis=0)
    sizes = np.median(found.shapes, axis=0)
    worst = int(target.argmax())
    others = [axis for axis in range(3) if axis != worst]
    finest_others = float(target[others].max())
    if target[worst] > THICK * finest_others and sizes[worst] * THICK < sizes[others].min():
        target[worst] = max(float(np.percentile(spacings[:, worst], 10)), finest_others)
    x, y, z = (float(s) for s in target)
    return (x, y, z)


def _range(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g}" if np.isclose(low, high, rtol=1e-3) else f"{low:.3g} to {high:.3g}"
