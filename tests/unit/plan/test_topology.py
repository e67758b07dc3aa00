from __future__ import annotations

from itertools import pairwise
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.plan import network_topology

SPACING = st.tuples(st.floats(0.5, 2.5), st.floats(0.5, 2.5), st.floats(0.5, 12.0))
PATCH = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 24)).map(
    lambda p: (16 * p[0], 16 * p[1], p[2])
)


def test_on_the_acdc_plan_of_nnunet_the_strides_and_kernels_are_nnunets() -> None:
    # nnU-Net's 3D plan of ACDC (Isensee et al. 2021, supplement): 5 x 1.5625 x 1.5625 mm, patch of
    # 20 x 256 x 224, strides 1,2,2 / 2,2,2 / 2,2,2 / 1,2,2 / 1,2,2, kernels 1,3,3 and then 3,3,3. It is what
    # `get_pool_and_conv_props` of nnunetv2 gives on this spacing and patch; here the stack axis is the last.
    kernels, strides = network_topology((1.5625, 1.5625, 5.0), (256, 224, 20), 6)
    assert strides == [[1, 1, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1], [2, 2, 1]]
    assert kernels == [[3, 3, 1], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]


def test_acdc_with_its_own_slices_pools_them_later() -> None:
    kernels, strides = network_topology((1.5625, 1.5625, 10.0), (224, 224, 16), 5)
    assert strides == [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]
    assert kernels == [[3, 3, 1], [3, 3, 1], [3, 3, 3], [3, 3, 3], [3, 3, 3]]


def test_an_isotropic_volume_is_pooled_alike_along_every_axis() -> None:
    kernels, strides = network_topology((1.0, 1.0, 1.0), (128, 128, 128), 5)
    assert strides == [[1, 1, 1]] + [[2, 2, 2]] * 4
    assert kernels == [[3, 3, 3]] * 5


def test_an_odd_number_of_slices_is_never_pooled_and_pooling_goes_on_in_plane() -> None:
    # nnU-Net pads an odd axis instead; we keep the stack as it is.
    kernels, strides = network_topology((1.25, 1.25, 4.0), (160, 160, 9), 6)
    assert strides == [[1, 1, 1]] + [[2, 2, 1]] * 5
    assert kernels == [[3, 3, 1]] + [[3, 3, 3]] * 5


def test_a_patch_too_small_to_pool_has_one_level() -> None:
    assert network_topology((1.0, 1.0, 8.0), (6, 6, 3), 5) == ([[3, 3, 1]], [[1, 1, 1]])


@settings(max_examples=300, deadline=None)
@given(SPACING, PATCH, st.integers(1, 7))
def test_every_topology_keeps_the_rules(
    spacing: tuple[float, float, float], patch: tuple[int, int, int], levels: int
) -> None:
    kernels, strides = network_topology(spacing, patch, levels)
    assert len(kernels) == len(strides) <= levels
    assert strides[0] == [1, 1, 1]
    for stride in strides[1:]:
        assert set(stride) <= {1, 2}
        assert 2 in stride
    for axis in range(3):
        total = prod(stride[axis] for stride in strides)
        assert patch[axis] % total == 0
        assert total == 1 or patch[axis] // total >= 4
        # a wide kernel stays wide on every coarser level
        assert all(a[axis] <= b[axis] for a, b in pairwise(kernels))
    assert all(3 in kernel for kernel in kernels)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_order_of_the_axes_does_not_matter(order: tuple[int, int, int]) -> None:
    spacing, patch = (1.5, 1.2, 6.0), (160, 128, 12)
    kernels, strides = network_topology(spacing, patch, 5)
    moved = network_topology([spacing[a] for a in order], [patch[a] for a in order], 5)
    assert moved == ([[k[a] for a in order] for k in kernels], [[s[a] for a in order] for s in strides])
