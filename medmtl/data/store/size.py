"""How large prepared cases are, known before any is prepared: do they fit the memory, or the disk?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel

from medmtl.data.dataset import Case, Dataset
from medmtl.data.prepare import stack_axcodes
from medmtl.data.room import free_disk, readable
from medmtl.data.store.recipe import Recipe
from medmtl.types import ConfigError

MEMORY_SHARE = 0.5
"""Cases live in memory while they take less than this share of what is free; training needs the rest."""
WORKING_COPIES = 6
"""Copies of a case's image that exist at a time while it is prepared, at most."""


def prepared_bytes(dataset: Dataset, case: Case, recipe: Recipe) -> int:
    """Bytes of one prepared case: float32 image and maps, masks of one byte, from its header alone."""
    geometry = dataset.geometry[case.case_id]
    own = nibabel.io_orientation(geometry.affine)
    wanted = nibabel.orientations.axcodes2ornt(tuple(stack_axcodes(geometry.affine)))
    voxels = float(geometry.frames)
    for target, axis in zip(recipe.preparation.spacing_mm, wanted[:, 0], strict=True):
        stored = int((own[:, 0] == axis).argmax())
        scale = 1.0 if target is None else geometry.spacing_mm[stored] / target
        voxels *= max(1.0, round(geometry.shape[stored] * scale))
    kinds = [column.kind for name, column in recipe.columns.items() if name in case.files]
    return int(voxels * (4 * len(case.images) + kinds.count("mask") + 4 * kinds.count("map")))


def check_disk(store: Path, needed: int, cases: Sequence[Case]) -> None:
    """Refuse a store for which there is no room.

    Compressed arrays are smaller than this counts; by how much is known only once they are written.

    Raises:
        ConfigError: so, with the numbers and what to do.
    """
    free = free_disk(store)
    if needed > free:
        raise ConfigError(
            f"training.store_folder: the {len(cases)} cases still to be prepared take up to "
            f"{readable(needed)}, and {readable(free)} are free at {store}; free space, or name a folder "
            "on another disk"
        )
