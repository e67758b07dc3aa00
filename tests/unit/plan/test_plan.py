from __future__ import annotations

from math import prod
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.models import BACKBONES
from medmtl.plan import Fingerprint, make_plan
from medmtl.plan.plan import PATCH_VOXELS
from medmtl.types import ConfigError

ACDC = Fingerprint((1.5625, 1.5625, 10.0), (216, 256, 9), (428, 512, 18), True)
PHANTOM = Fingerprint((1.8, 1.8, 8.0), (96, 96, 10), (96, 96, 11), True)
CT = Fingerprint((0.8, 0.8, 1.0), (200, 200, 180), (220, 220, 240), False)


def test_a_stack_keeps_its_slices_and_takes_the_median_in_plane() -> None:
    plan = make_plan(ACDC, backbone={})
    assert plan.preparation.spacing_mm == (1.5625, 1.5625, None)
    assert any("slices are kept" in reason for reason in plan.reasons)


def test_an_isotropic_volume_is_resampled_along_every_axis() -> None:
    plan = make_plan(CT, backbone={})
    assert plan.preparation.spacing_mm == (0.8, 0.8, 1.0)
    assert plan.preparation.patch[2] % 8 == 0


def test_a_stack_that_is_not_too_deep_fits_the_patch_whole() -> None:
    plan = make_plan(PHANTOM, backbone={})
    assert plan.preparation.patch == (96, 96, 11)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.floats(0.5, 3), st.floats(0.5, 3), st.floats(0.5, 12)),
    st.tuples(st.integers(8, 600), st.integers(8, 600), st.integers(2, 300)),
    st.integers(0, 50),
    st.integers(2, 6),
)
def test_every_planned_patch_can_be_divided_and_is_not_too_large(
    spacing: tuple[float, float, float], shape: tuple[int, int, int], deeper: int, levels: int
) -> None:
    x, y, z = shape
    found = Fingerprint(spacing, shape, (x, y, z + deeper), max(spacing) >= 1.5 * min(spacing))
    plan = make_plan(found, backbone={"widths": [4 * 2**level for level in range(levels)]})
    patch, strides = plan.preparation.patch, plan.backbone["strides"]
    assert prod(patch) <= PATCH_VOXELS
    assert all(size >= 1 for size in patch)
    assert all(size % prod(s[axis] for s in strides) == 0 for axis, size in enumerate(patch))
    assert len(plan.backbone["widths"]) == len(plan.backbone["kernels"]) == len(strides) <= levels


def test_a_plan_builds_the_backbone_that_it_describes() -> None:
    options = dict(make_plan(ACDC, backbone={"widths": [4, 8, 12, 16, 20]}).backbone)
    backbone: Any = BACKBONES.get(options.pop("type"))(in_channels=1, **options)
    assert backbone.pyramid_channels == (4, 8, 12, 16, 20)
    assert all(
        size % d == 0
        for size, d in zip(make_plan(ACDC, backbone={}).preparation.patch, backbone.divisor, strict=True)
    )


def test_what_the_config_says_is_kept() -> None:
    given_backbone = {"widths": [4, 8], "kernels": [[3, 3, 1], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 1]]}
    plan = make_plan(
        ACDC, backbone=given_backbone, spacing_mm=[2.0, 2.0, None], patch=[64, 48, 10], normalization="none"
    )
    assert plan.preparation.spacing_mm == (2.0, 2.0, None)
    assert plan.preparation.patch == (64, 48, 10)
    assert plan.preparation.normalization == "none"
    assert plan.backbone == {"type": "unet", **given_backbone}
    assert "type" not in given_backbone
    assert plan.reasons == ()


def test_a_patch_that_the_strides_do_not_divide_says_which_would_fit() -> None:
    backbone = {
        "widths": [4, 8, 16],
        "kernels": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
    }
    with pytest.raises(ConfigError, match=r"patch: 62 voxels along y .* multiple .* stride 4; use 64"):
        make_plan(ACDC, backbone=backbone, patch=[64, 62, 10])
    with pytest.raises(ConfigError, match=r"patch: 9 voxels along z .* multiple .* stride 2; use 10"):
        make_plan(ACDC, backbone=backbone, patch=[64, 64, 9])


def test_another_backbone_is_left_as_it_is() -> None:
    assert make_plan(ACDC, backbone={"type": "package:Class", "depth": 3}).backbone == {
        "type": "package:Class",
        "depth": 3,
    }


def test_a_plan_is_plain_data() -> None:
    written = make_plan(ACDC, backbone={}).as_dict()
    assert yaml.safe_load(yaml.safe_dump(written)) == written
    assert list(written) == ["spacing_mm", "patch", "normalization", "backbone", "reasons"]
