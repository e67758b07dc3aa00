"""Which frames of a case are end-diastole and end-systole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medmtl.report.contours import Outline

if TYPE_CHECKING:
    from medmtl.data.dataset import Case, Dataset


def key_frames(dataset: Dataset, case: Case, outlines: Sequence[Outline]) -> dict[str, int]:
    """Names and indices of the frames to look at: ED and ES, or the only frame.

    What the case says wins; else the largest and smallest volume of the dataset's cycle structure in the
    first of `outlines` (truth, then prediction) that shows it.
    """
    if max(outline.mask.frames for outline in outlines) == 1:
        return {"": 0}
    if case.frame_ed is not None and case.frame_es is not None:
        return {"ED": case.frame_ed, "ES": case.frame_es}
    structure = dataset.cycle.structure if dataset.cycle is not None else ""
    for outline in outlines:
        if structure in outline.labels:
            volume = outline.mask.structure_ml(outline.labels[structure])
            if np.isfinite(volume).sum() > 1 and np.nanmax(volume) > 0:
                return {"ED": int(np.nanargmax(volume)), "ES": int(np.nanargmin(volume))}
    return {"first": 0}
