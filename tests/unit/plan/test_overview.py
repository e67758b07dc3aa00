"""When whole volumes are planned for, what they take, and how a person may overrule it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medmtl.plan import Load, Wishes, make_plan, plan_text, read_plan
from medmtl.plan.overview import with_overview
from medmtl.plan.voxels import Intensity, Voxels
from medmtl.types import ConfigError
from tests.helpers.cohorts import budget, cohort

CT = cohort((3.2, 3.2, 4.0), (128, 128, 96), cases=20)
SMALL = cohort((2.0, 2.0, 2.0), (64, 64, 32), cases=20)
TINY: dict[str, Any] = {"type": "unet", "widths": [16, 32, 64]}
GIB = 1.25
"""Too little for two whole volumes."""
AUTO = frozenset({"auto"})


def wishes(**changes: Any) -> Wishes:
    return Wishes(**{"backbone": TINY, "views": AUTO, **changes})


def test_volumes_that_no_patch_can_hold_are_seen_whole_as_coarse_as_the_patch_has_voxels() -> None:
    plan = make_plan(CT, wishes(), budget(GIB))
    assert plan.preparation.overview == plan.preparation.patch
    assert any(p < n for p, n in zip(plan.preparation.patch, (128, 128, 96), strict=True))
    assert plan.reasons["overview"][0].startswith("Case tasks see whole volumes, made coarser into as many")


def test_the_second_view_is_counted_in_the_memory_of_a_step() -> None:
    with_it = make_plan(CT, wishes(), budget(GIB))
    without = make_plan(CT, wishes(overview="none"), budget(GIB))
    voxels = [p[0] * p[1] * p[2] for p in (with_it.preparation.patch, without.preparation.patch)]
    assert voxels[0] < voxels[1]
    load = with_overview(Load(), with_it.preparation)
    assert load.volumes(2) == 4
    assert with_it.need is not None
    assert with_it.need.of(load.volumes(with_it.batch_size)) <= budget(GIB).planned
    assert "in two views" in with_it.reasons["batch_size"][0]


@pytest.mark.parametrize(
    ("found", "changes", "why"),
    [
        (SMALL, {}, "fits the patch whole"),
        (CT, {"patch": [64, 64, 64]}, "The patch was asked for"),
        (CT, {"views": frozenset({"local"})}, "Every case task asks for the local view"),
    ],
)
def test_there_is_no_second_view_where_nobody_needs_one_and_the_plan_says_why(
    found: Any, changes: dict[str, Any], why: str
) -> None:
    plan = make_plan(found, wishes(**changes), budget(GIB))
    assert plan.preparation.overview is None
    assert why in plan.reasons["overview"][0]


def test_a_patch_that_holds_all_that_is_labelled_is_what_case_tasks_see() -> None:
    seen = Voxels(20, "labelled voxels", (Intensity(0, 1, 0.5, 0.5, 0.1),), {}, extent_mm=(40.0, 40.0, 60.0))
    organ = replace(CT, voxels=seen)
    plan = make_plan(organ, wishes(), budget(GIB))
    assert plan.preparation.overview is None
    assert "All that is labelled fits the patch" in plan.reasons["overview"][0]
    wide = replace(CT, voxels=replace(seen, extent_mm=(300.0, 300.0, 390.0)))
    assert make_plan(wide, wishes(), budget(GIB)).preparation.overview is not None


def test_a_task_that_asks_for_it_gets_it_whatever_the_patch() -> None:
    plan = make_plan(CT, wishes(patch=[64, 64, 64], views=frozenset({"global", "local"})), budget(GIB))
    assert plan.preparation.overview == (64, 64, 64)


def test_without_case_tasks_there_is_nothing_to_plan() -> None:
    plan = make_plan(CT, Wishes(backbone=TINY), budget(GIB))
    assert plan.preparation.overview is None
    assert "# Nothing looks at whole volumes apart from patches." in plan_text(plan, CT, "ct")


def test_a_person_may_name_its_voxels_if_the_network_can_pool_them() -> None:
    backbone = {**TINY, "kernels": [[3, 3, 3]] * 3, "strides": [[1, 1, 1], *[[2, 2, 2]] * 2]}
    plan = make_plan(CT, wishes(backbone=backbone, patch=[64] * 3, overview=[96, 96, 64]), budget(GIB))
    assert plan.preparation.overview == (96, 96, 64)
    assert "overview" not in plan.reasons
    with pytest.raises(ConfigError, match=r"overview: 90 voxels along x .* network's stride 4; use 92"):
        make_plan(CT, wishes(backbone=backbone, patch=[64] * 3, overview=[90, 96, 64]), budget(GIB))
    named = {"type": "segresnet", "width": 8}
    with pytest.raises(ConfigError, match=r"overview: 90 voxels along y .* stride 8; use 96"):
        make_plan(CT, wishes(backbone=named, patch=[64] * 3, overview=[96, 90, 64]), budget(8))


@pytest.mark.parametrize("overview", ["none", [64, 64, 32]])
def test_a_plan_file_gives_back_what_was_planned(tmp_path: Path, overview: Any) -> None:
    plan = make_plan(CT, wishes(patch=[64, 64, 64], overview=overview), budget(GIB))
    path = tmp_path / "plan.yaml"
    path.write_text(plan_text(plan, CT, "ct"))
    assert read_plan(path).overview == (overview if overview == "none" else tuple(overview))
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "overview" not in line))
    assert read_plan(path).overview == "none"


def test_a_word_or_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    plan = make_plan(CT, wishes(patch=[64, 64, 64], overview="none"), budget(GIB))
    path = tmp_path / "plan.yaml"
    for wrong in ("coarse", "[64, 64]", "[64, 64, 0]"):
        path.write_text(plan_text(plan, CT, "ct").replace("overview: none", f"overview: {wrong}"))
        with pytest.raises(ConfigError, match="overview"):
            read_plan(path)
