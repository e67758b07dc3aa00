"""What does not go with the rest: other voxels, a class that nobody has, a plan for other data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medmtl.plan.fingerprint import Fingerprint, Triple

FAR = 3.0
"""A voxel that is this many times larger or smaller than the median is more likely a wrong header than a
protocol."""


def spacing_outliers(found: Fingerprint) -> list[str]:
    """A sentence for each case whose voxels are far from the others', worst first, of five at most."""
    ratio = np.array(found.spacings) / np.array(found.spacing_mm)
    off = np.maximum(ratio, 1 / ratio).max(axis=1)
    far = [int(i) for i in np.argsort(-off) if off[i] > FAR]
    sentences = [
        f"{found.case_ids[i]}: has voxels of {_mm(found.spacings[i])}, the median case of "
        f"{_mm(found.spacing_mm)}; correct its header or leave it out, if that is not what was scanned"
        for i in far[:5]
    ]
    if len(far) > 5:
        sentences.append(f"and {len(far) - 5} more cases have voxels that far from the median")
    return sentences


def missing_classes(found: Fingerprint, what: str) -> list[str]:
    """A sentence for each column with a class that no case has, and for each that nobody is labelled in.

    Args:
        found: the cases.
        what: which cases these are, such as ``training cases of fold 2``.
    """
    sentences = []
    for name, labels in found.labels.items():
        absent = [label for label, count in labels.classes.items() if count == 0]
        if labels.cases and absent:
            sentences.append(f"{name}: none of the {labels.cases} labelled {what} is {_or(absent)}")
    return sentences


def misfits(patch: Sequence[int], spacing: Sequence[float | None], found: Fingerprint) -> list[str]:
    """A sentence for each side of a patch that is mostly empty, and each voxel size far from the data's."""
    sentences = []
    shapes = found.resampled(spacing)
    for axis, name in enumerate("xyz"):
        largest = int(shapes[:, axis].max())
        if patch[axis] >= 2 * max(largest, 8):
            sentences.append(
                f"patch: {patch[axis]} voxels along {name}, and no case has more than {largest} there; a "
                "smaller number trains faster"
            )
        wanted, own = spacing[axis], found.spacing_mm[axis]
        if wanted is not None and not 1 / FAR <= wanted / own <= FAR:
            sentences.append(
                f"spacing_mm: {wanted:g} mm along {name}, and the median case has {own:.3g} mm; was the "
                "plan made for other data?"
            )
    return sentences


def _mm(spacing: Triple) -> str:
    return f"{' x '.join(f'{s:.3g}' for s in spacing)} mm"


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
