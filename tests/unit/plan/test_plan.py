from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.models import BACKBONES
from medmtl.plan import Load, Wishes, make_plan
from medmtl.plan.voxels import Intensity, Voxels
from medmtl.types import ConfigError
from tests.helpers.cohorts import budget, cohort, mixed

# ACDC's 100 patients: most stacks are 10 mm apart, one in seven 5 mm; two labelled frames each.
ACDC = mixed(
    *[((1.5625, 1.5625, 10.0), (216, 256, 9))] * 85,
    *[((1.5625, 1.5625, 5.0), (216, 256, 18))] * 15,
    frames=(2,) * 100,
)
CT = cohort((0.8, 0.8, 1.0), (512, 512, 400), cases=60)
PHANTOM = cohort((1.8, 1.8, 8.0), (96, 96, 11), frames=(12,) * 20)
CINE = Load(frames_per_case=2.0, dense_channels=4)
TINY: dict[str, Any] = {"type": "unet", "widths": [4, 8]}


# ---------------------------------------------------------------------------------------------- unhappy


def test_a_patch_that_the_strides_do_not_divide_says_which_would_fit() -> None:
    backbone = {
        "widths": [4, 8, 16],
        "kernels": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
    }
    with pytest.raises(ConfigError, match=r"patch: 62 voxels along y .* multiple .* stride 4; use 64"):
        make_plan(ACDC, Wishes(backbone=backbone, patch=[64, 62, 10]), budget())
    with pytest.raises(ConfigError, match=r"patch: 9 voxels along z .* multiple .* stride 2; use 10"):
        make_plan(ACDC, Wishes(backbone=backbone, patch=[64, 64, 9]), budget())


def test_where_not_even_the_smallest_patch_fits_the_widths_or_the_batch_are_to_change() -> None:
    with pytest.raises(
        ConfigError, match=r"no patch fits into 1\.07 GB .* smaller backbone\.widths, or a smaller"
    ):
        make_plan(CT, Wishes(), budget(1.0))


def test_as_many_normalizations_as_channels_or_one() -> None:
    two = cohort((1.0, 1.0, 1.0), (64, 64, 64), channels=("ct", "pet"))
    with pytest.raises(ConfigError, match=r"has 3 entries, the dataset has 2 channels \(ct, pet\)"):
        make_plan(two, Wishes(normalization=("zscore", "zscore", "none")), budget())  # type: ignore[arg-type]


def test_a_window_cannot_be_measured_where_nothing_was_read() -> None:
    ct = cohort((1.0, 1.0, 1.0), (64, 64, 64), modality="CT")
    with pytest.raises(
        ConfigError, match=r"channel 'image'.*give \{type: window, low, high, mean, sd\}, or use zscore"
    ):
        make_plan(ct, Wishes(backbone=TINY), budget())


# ------------------------------------------------------------------------------------------ nnU-Net's plan


def test_asked_for_nnunets_slices_and_blocks_acdc_gets_nnunets_published_plan() -> None:
    # 3d_fullres of Dataset027_ACDC in nnU-Net v2: spacing 5 x 1.5625 x 1.5625, patch 20 x 256 x 224, batch 4.
    plan = make_plan(
        ACDC, Wishes(slices="resample", backbone={"type": "unet", "residual": False}), budget(8), CINE
    )
    assert plan.preparation.spacing_mm == (1.5625, 1.5625, 5.0)
    assert plan.preparation.patch == (224, 256, 20)
    assert plan.backbone["strides"] == [[1, 1, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1], [2, 2, 1]]
    assert plan.backbone["kernels"] == [[3, 3, 1]] + [[3, 3, 3]] * 5
    assert plan.backbone["widths"] == [32, 64, 128, 256, 320, 320]
    assert plan.batch_size * CINE.frames_per_case == 4


def test_by_itself_medmtl_keeps_the_slices_of_acdc_and_says_why_and_what_nnunet_would_do() -> None:
    plan = make_plan(ACDC, Wishes(), budget(8), CINE)
    assert plan.preparation.spacing_mm == (1.5625, 1.5625, None)
    assert plan.preparation.patch[2] == 18, "every stack fits whole"
    assert {stride[2] for stride in plan.backbone["strides"]} == {1}
    # as in configs/acdc.yaml, which was measured: slices meet where a voxel is 12.5 mm wide
    assert plan.backbone["kernels"] == [[3, 3, 1]] * 3 + [[3, 3, 3]] * 3
    assert "nobody imaged" in plan.reasons["spacing_mm"][0]
    assert "nnU-Net would interpolate them to 5 mm" in plan.reasons["spacing_mm"][0]


# ---------------------------------------------------------------------------------------------- choices


def test_an_isotropic_ct_gets_nnunets_usual_patch_for_8_gb() -> None:
    # nnU-Net's plans for CT at 8 GB: 128^3 voxels or about as many, batch 2 (Isensee et al. 2021)
    known = Voxels(60, (Intensity(-990, 40, 300, 35, 120),), "labelled voxels")
    ct = cohort((0.8, 0.8, 1.0), (512, 512, 400), cases=60, modality="CT", voxels=known)
    plan = make_plan(
        ct, Wishes(backbone={"type": "unet", "residual": False}), budget(8), Load(dense_channels=3)
    )
    assert plan.preparation.spacing_mm == (0.8, 0.8, 1.0)
    assert 0.8 * 128**3 <= prod(plan.preparation.patch) <= 1.6 * 128**3
    assert plan.batch_size == 2
    assert all(s in ([1, 1, 1], [2, 2, 2], [2, 2, 1]) for s in plan.backbone["strides"])
    (window,) = plan.preparation.normalizations
    assert (window.type, window.low, window.high, window.mean, window.sd) == ("window", -990, 300, 35, 120)


def test_channels_are_normalized_by_what_their_numbers_mean() -> None:
    known = Voxels(20, (Intensity(-990, 40, 300, 35, 120), Intensity(0, 1, 9, 1, 1)), "labelled voxels")
    both = cohort((2.0, 2.0, 2.0), (64, 64, 64), channels=("CT", "pet_suv"), modality="PT", voxels=known)
    plan = make_plan(both, Wishes(backbone=TINY), budget())
    assert [entry.type for entry in plan.preparation.normalizations] == ["window", "suv"]
    assert "SUV means the same in every case" in plan.reasons["normalization"][1]
    mr = cohort((2.0, 2.0, 2.0), (64, 64, 64), channels=("t1", "flair"), modality="MR")
    assert make_plan(mr, Wishes(backbone=TINY), budget()).as_dict()["normalization"] == "zscore"


def test_pet_that_is_in_no_suv_is_told() -> None:
    known = Voxels(20, (Intensity(0, 900, 25_000, 3_000, 4_000),), "labelled voxels")
    pet = cohort((2.0, 2.0, 2.0), (64, 64, 64), modality="PT", voxels=known)
    assert "is it in Bq/mL" in make_plan(pet, Wishes(backbone=TINY), budget()).reasons["normalization"][0]


def test_a_deep_stack_of_thick_slices_is_pooled_along_itself() -> None:
    thick = cohort((0.7, 0.7, 5.0), (512, 512, 90))
    plan = make_plan(thick, Wishes(), budget())
    assert plan.preparation.spacing_mm[2] is None
    assert any(stride[2] == 2 for stride in plan.backbone["strides"])


def test_what_was_asked_for_is_kept_and_has_no_reason() -> None:
    backbone = {"widths": [4, 8], "kernels": [[3, 3, 1], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 1]]}
    wishes = Wishes([2.0, 2.0, None], [64, 48, 10], "none", backbone, 3)
    plan = make_plan(ACDC, wishes, budget())
    assert plan.preparation.spacing_mm == (2.0, 2.0, None)
    assert plan.preparation.patch == (64, 48, 10)
    assert plan.as_dict()["normalization"] == "none"
    assert plan.backbone == {"type": "unet", **backbone}
    assert plan.batch_size == 3
    assert plan.reasons == {}
    assert "type" not in backbone


def test_another_backbone_is_left_as_it_is_and_its_patch_can_be_divided() -> None:
    backbone = {"type": "segresnet", "width": 8}
    try:
        divisor = BACKBONES.get("segresnet")(in_channels=1, width=8).divisor  # type: ignore[call-arg]
    except TypeError:
        backbone = {"type": "segresnet"}
        divisor = BACKBONES.get("segresnet")(in_channels=1).divisor  # type: ignore[call-arg]
    plan = make_plan(PHANTOM, Wishes(backbone=backbone), budget())
    assert plan.backbone == backbone
    assert all(size % step == 0 for size, step in zip(plan.preparation.patch, divisor, strict=True))


def test_a_patch_that_another_backbone_cannot_divide_is_refused_with_one_that_it_can() -> None:
    with pytest.raises(ConfigError, match=r"patch: 30 voxels along x are not a multiple .* use 32"):
        make_plan(PHANTOM, Wishes(backbone={"type": "segresnet"}, patch=(30, 32, 8)), budget())


def test_no_step_sees_more_than_five_percent_of_a_small_dataset() -> None:
    small = cohort((1.0, 1.0, 1.0), (64, 64, 64), cases=100)
    plan = make_plan(small, Wishes(backbone=TINY), budget(8))
    assert plan.batch_size == 5
    assert "5 % of the data" in plan.reasons["batch_size"][0]
    assert make_plan(small, Wishes(backbone=TINY), budget(8), Load(ranks=8)).batch_size == 8


def test_more_memory_gives_a_larger_patch_or_batch_and_never_exceeds_it() -> None:
    before = 0
    for gib in (4, 8, 24, 80):
        plan = make_plan(CT, Wishes(normalization="none"), budget(gib))
        assert plan.need is not None
        assert plan.need.of(plan.batch_size) <= gib * 2**30
        assert plan.batch_size * prod(plan.preparation.patch) > before
        before = plan.batch_size * prod(plan.preparation.patch)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.floats(0.5, 3), st.floats(0.5, 3), st.floats(0.5, 12)),
    st.tuples(st.integers(8, 600), st.integers(8, 600), st.integers(2, 300)),
    st.sampled_from(["keep", "resample"]),
    st.one_of(st.none(), st.integers(2, 6)),
    st.floats(1.5, 10),
)
def test_every_planned_patch_can_be_divided_and_fits_the_memory(
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
    slices: Any,
    levels: int | None,
    gib: float,
) -> None:
    found = cohort(spacing, shape, modality="MR")
    backbone = {} if levels is None else {"widths": [4 * 2**level for level in range(levels)]}
    try:
        plan = make_plan(found, Wishes(backbone=backbone, slices=slices), budget(gib))
    except ConfigError:  # nothing fits, as a test above shows
        return
    patch, strides = plan.preparation.patch, plan.backbone["strides"]
    assert all(size >= 1 for size in patch)
    assert all(size % prod(s[axis] for s in strides) == 0 for axis, size in enumerate(patch))
    assert len(plan.backbone["widths"]) == len(plan.backbone["kernels"]) == len(strides)
    assert len(strides) >= 2
    assert plan.need is not None
    assert plan.need.of(plan.batch_size) <= gib * 2**30
    assert np.prod(patch) <= 1.5 * 256**3
