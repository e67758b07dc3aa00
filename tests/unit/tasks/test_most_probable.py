"""The most probable class of every voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medmtl.tasks.most_probable import most_probable


@pytest.mark.parametrize("classes", [1, 2, 4, 33])
def test_it_is_numpys_argmax_also_of_equal_ones(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    volume = torch.randint(0, 5, (2, classes, 5, 4, 3), generator=generator).float() / 4
    found = most_probable(volume)
    assert found.dtype == np.uint8
    assert np.array_equal(found, volume.numpy().argmax(1))


def test_a_view_of_a_larger_volume_gives_the_same() -> None:
    volume = torch.rand((2, 3, 8, 7, 6), generator=torch.Generator().manual_seed(1))
    part = volume[..., 1:6, ::2, 2:5]
    assert np.array_equal(most_probable(part), part.numpy().argmax(1))
