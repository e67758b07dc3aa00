"""The selection rule that a training's cases suggest."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from medmtl.data.dataset import Case, Dataset
from medmtl.data.nifti import Geometry
from medmtl.inference.find.rule import ChannelRule, Orientation, Range, Rule
from medmtl.inference.find.select import ORIENTATIONS, points
from medmtl.plan.axes import network_axes

_WORDS = {
    "CT": {"ct", "cect", "ncct", "cta", "ldct"},
    "PT": {"pet", "pt", "suv", "fdg", "psma"},
    "MR": {"mr", "mri", "cine", "lge", "t1", "t1w", "t1c", "t1ce", "t2", "t2w", "flair", "adc", "dwi", "pd"},
}
_KNOWN = ("MR", "CT", "PT", "NM", "XA", "US", "MG")
SHARE_OF_SLICES = 0.5
"""Share of the fewest slices among the training cases that a volume needs."""


def derive_rule(dataset: Dataset, cases: Sequence[Case]) -> Rule:
    """What the training cases have in common.

    Modality by the channels' names, else the dataset's. Frames: several where all cases have several, one
    where all have one. At least half of the slices that the case with the fewest has, and two. Orientation
    where all cases share it and their files can be trusted in that: oblique short-axis stacks, and axial CT
    and PET. Nothing is derived for the description.

    Args:
        dataset: where they come from.
        cases: the training cases.
    """
    grids = [dataset.geometry[case.case_id] for case in cases]
    slices = min(grid.shape[network_axes(grid.affine)[2]] for grid in grids)
    rules = {}
    for channel in dataset.channels:
        modality = _modality(channel, dataset.modality)
        rules[channel] = ChannelRule(
            modality=modality,
            orientation=_orientation(grids, modality),
            frames=_frames(grids),
            min_slices=max(2, int(np.ceil(SHARE_OF_SLICES * slices))),
        )
    return Rule(rules)


def _modality(channel: str, of_dataset: str) -> tuple[str, ...]:
    words = set(re.split(r"[^a-z0-9]+", channel.lower()))
    for modality, known in _WORDS.items():
        if words & known:
            return (modality,)
    return (of_dataset.upper(),) if of_dataset.upper() in _KNOWN else ()


def _frames(grids: Sequence[Geometry]) -> Range:
    several = [grid.frames > 1 for grid in grids]
    if all(several):
        return (2, None)
    return (None, None) if any(several) else (1, 1)


def _orientation(grids: Sequence[Geometry], modality: tuple[str, ...]) -> Orientation:
    """The one orientation of all; MR files of public data sets often claim to be axial and are not."""
    normals = [grid.affine[:3, network_axes(grid.affine)[2]] for grid in grids]
    if not all(grid.oriented for grid in grids):
        return "any"
    for orientation in ORIENTATIONS:
        trusted = orientation == "short-axis" or modality in (("CT",), ("PT",))
        if trusted and all(points(normal, orientation) for normal in normals):
            return orientation
    return "any"
