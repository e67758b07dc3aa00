"""How far apart the results are that are averaged: an ensemble's members, or mirror images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.prepare import PreparedCase
from medmtl.inference.context import Context
from medmtl.tasks import CaseResult
from medmtl.tasks.base import CaseValues


def mask_spread(
    members: Sequence[NDArray[Any]], together: NDArray[Any], labels: Mapping[str, int]
) -> dict[str, float]:
    """Mean of 1 - Dice between each member's mask and that of all together, by structure.

    Args:
        members: ``(T, X, Y, Z)`` labels of each.
        together: of their mean.
        labels: voxel value of each structure; one that none of them has is left out.
    """
    spread: dict[str, float] = {}
    for name, value in labels.items():
        mine = together == value
        others = [member == value for member in members]
        sizes = [int(mine.sum()) + int(other.sum()) for other in others]
        if max(sizes, default=0) == 0:
            continue
        dice = [
            2 * int((mine & other).sum()) / size if size else 1.0
            for other, size in zip(others, sizes, strict=True)
        ]
        spread[name] = 1.0 - float(np.mean(dice))
    return spread


def value_spread(members: Sequence[CaseValues]) -> dict[str, float]:
    """Standard deviation over members of every number that they say."""
    return {
        name: float(np.std([float(member[name]) for member in members]))
        for name, value in members[0].items()
        if not isinstance(value, str)
    }


def mirror_spread(
    context: Context, case: PreparedCase, result: CaseResult, frames: Sequence[int]
) -> dict[str, float]:
    """1 - Dice between masks of the image as it is and the mean over mirror images, by ``task.structure``.

    Args:
        context: that the result was made with, averaging over mirror images.
        case: the case.
        result: dense tasks on the grid of the files.
        frames: which frames to compare.
    """
    from medmtl.inference.predictor import predict_prepared

    names = [n for n in result.dense if context.tasks[n].structures and not context.tasks[n].reads]
    if not names:
        return {}
    plain = replace(context, mirror=False, others=())
    some = replace(case, image=case.image[list(frames)])
    once = predict_prepared(plain, some, names)
    spread: dict[str, float] = {}
    for name in names:
        task = context.tasks[name]
        labels = task.columns[task.targets[0]].labels
        found = mask_spread([once.dense[name]], result.dense[name][list(frames)], labels)
        spread |= {f"{name}.{structure}": apart for structure, apart in found.items()}
    return spread
