from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from medmtl.data.focus import choose_focus, draw_centre
from medmtl.data.foreground import foreground_index
from medmtl.data.nifti import Geometry
from medmtl.data.prepare import PreparedCase

SHAPE = (40, 30, 20)
PATCH = (9, 9, 9)


def case(mask: Any = None, *, extent: tuple[int, int, int] = (0, 0, 0)) -> PreparedCase:
    masks = {} if mask is None else {"anatomy": mask}
    return PreparedCase(
        "a",
        torch.zeros((2, 1, *SHAPE)),
        (1.0, 1.0, 1.0),
        Geometry(SHAPE, 2, np.eye(4)),
        True,
        np.eye(4),
        masks=masks,
        extent=extent,
        foreground=foreground_index(masks),
    )


def centres(one: PreparedCase, frames: list[int], draws: int = 600) -> list[tuple[float, float, float]]:
    generator = torch.Generator().manual_seed(0)
    return [draw_centre(one, PATCH, frames, generator) for _ in range(draws)]


def test_a_third_of_the_patches_lies_on_labelled_voxels_rare_structures_as_often_as_large_ones() -> None:
    mask = torch.zeros((2, *SHAPE), dtype=torch.uint8)
    mask[0, 10:30, 10:20, 8:12] = 1
    mask[0, 6, 6, 6] = 2
    found = centres(case(mask), [0])
    on_rare = sum(centre == (6, 6, 6) for centre in found) / len(found)
    whole = [centre for centre in found if all(c == int(c) for c in centre)]
    labelled = Counter(int(mask[(0, *map(int, centre))]) for centre in whole)
    assert 0.11 < on_rare < 0.23
    assert 0.26 < (labelled[1] + labelled[2]) / len(found) < 0.41


def test_a_patch_stays_inside_the_volume_and_sees_all_of_it() -> None:
    mask = torch.zeros((2, *SHAPE), dtype=torch.uint8)
    mask[0, 0, 0, 0] = 1
    found = np.array(centres(case(mask), [0]))
    assert (found >= 4).all()
    assert (found <= np.array(SHAPE) - 5).all()
    assert (found.min(0) < 6).all()
    assert (found.max(0) > np.array(SHAPE) - 7).all()
    assert draw_centre(case(mask), (99, 9, 9), [0], torch.Generator().manual_seed(0))[0] == 19.5


def test_only_labels_of_the_chosen_frames_are_looked_at() -> None:
    mask = torch.zeros((2, *SHAPE), dtype=torch.uint8)
    mask[0, 20, 15, 10] = 1
    assert (20, 15, 10) in centres(case(mask), [0, 1])
    assert (20, 15, 10) not in centres(case(mask), [1])


def test_as_many_numbers_are_drawn_whatever_is_labelled() -> None:
    mask = torch.zeros((2, *SHAPE), dtype=torch.uint8)
    mask[:, 20, 15, 10] = 1
    states = []
    for one in (case(mask), case()):
        generator = torch.Generator().manual_seed(3)
        draw_centre(one, PATCH, [0], generator)
        states.append(torch.rand((), generator=generator))
    assert states[0] == states[1]


def test_the_organ_is_the_centre_where_it_fits_and_labelled_voxels_where_it_does_not() -> None:
    small, large = case(extent=(8, 8, 8)), case(extent=(30, 8, 8))
    assert choose_focus([small] * 20, PATCH) == "organ"
    assert choose_focus([small] * 19 + [large], PATCH) == "organ"
    assert choose_focus([small] * 10 + [large], PATCH) == "foreground"
    assert choose_focus([case()], PATCH) == "foreground", "without masks patches lie anywhere"
    assert choose_focus([case()], SHAPE) == "organ", "where the volume fits there is nothing to choose"
