"""Values that follow from masks: unlabelled frames, goldens counted by hand, and how they scale."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data import Derived, cycle_frames, measure
from medmtl.data.columns import UNIT_OF
from medmtl.data.derive import labelled_frames

LABELS = {"RV": 1, "MYO": 2, "LV": 3}
VOXEL_ML = 0.5


def masks(*lv_voxels: int) -> dict[str, np.ndarray]:
    """One frame per count: (T, 4, 5, 5), that many voxels LV, ten MYO, the rest background."""
    frames = np.zeros((len(lv_voxels), 100), np.uint8)
    frames[:, 90:] = 2
    for frame, count in zip(frames, lv_voxels, strict=True):
        frame[:count] = 3
    return {"anatomy": frames.reshape(-1, 4, 5, 5)}


def value(
    quantity: str,
    data: dict[str, np.ndarray],
    frame: str | None = None,
    ed: int | None = 0,
    es: int | None = 1,
) -> float | None:
    derived = Derived(quantity, "anatomy", "MYO" if quantity == "mass" else "LV", frame)  # type: ignore[arg-type]
    return measure(derived, data, LABELS, VOXEL_ML, ed, es)


def test_a_case_without_the_mask_has_no_value() -> None:
    assert value("volume", {}, "ED") is None


@pytest.mark.parametrize("quantity", ["ejection_fraction", "stroke_volume"])
@pytest.mark.parametrize(("ed", "es"), [(None, 1), (0, None), (None, None), (0, 0), (0, 7)])
def test_what_needs_both_phases_has_no_value_without_them(
    quantity: str, ed: int | None, es: int | None
) -> None:
    assert value(quantity, masks(40, 10), ed=ed, es=es) is None


def test_one_unlabelled_voxel_makes_its_frame_unlabelled_and_no_other() -> None:
    data = masks(40, 10)
    data["anatomy"][1, 3, 4, 4] = 255
    assert labelled_frames(data["anatomy"]).tolist() == [True, False]
    assert value("volume", data, "ES") is None
    assert value("ejection_fraction", data) is None
    assert value("volume", data, "ED") == 20.0


def test_an_ejection_fraction_of_an_empty_ventricle_has_no_value() -> None:
    assert value("ejection_fraction", masks(0, 0)) is None


def test_a_volume_without_a_phase_is_that_of_the_only_frame() -> None:
    assert value("volume", masks(40), ed=None, es=None) == 20.0
    assert value("volume", masks(40, 10)) is None


def test_the_cycle_of_a_cine_without_a_whole_frame_is_refused() -> None:
    mask = masks(40, 10)["anatomy"]
    mask[:, 0, 0, 0] = 255
    with pytest.raises(ValueError, match="no frame of the mask is labelled throughout"):
        cycle_frames(mask, 3)


def test_values_counted_by_hand() -> None:
    data = masks(40, 10)
    assert value("volume", data, "ED") == 20.0  # 40 voxels of 0.5 mL
    assert value("volume", data, "ES") == 5.0
    assert value("stroke_volume", data) == 15.0
    assert value("ejection_fraction", data) == 75.0  # 100 * 15 / 20
    assert value("mass", data, "ED") == pytest.approx(5.25)  # 10 voxels of 0.5 mL, 1.05 g/mL
    assert set(UNIT_OF) == {"volume", "mass", "ejection_fraction", "stroke_volume"}


def test_the_cycle_is_found_among_the_labelled_frames() -> None:
    mask = masks(30, 80, 10, 40, 5)["anatomy"]
    assert cycle_frames(mask, 3) == (1, 4)
    mask[[1, 4], 0, 0, 0] = 255
    assert cycle_frames(mask, 3) == (3, 2)


def test_where_frames_are_equal_the_first_is_taken() -> None:
    assert cycle_frames(masks(10, 40, 40, 10)["anatomy"], 3) == (1, 0)
    assert cycle_frames(masks(10)["anatomy"], 3) == (0, 0)


@settings(deadline=None)
@given(st.lists(st.integers(1, 80), min_size=2, max_size=6), st.floats(0.01, 100))
def test_volumes_scale_with_the_voxel_and_the_ejection_fraction_does_not(
    counts: list[int], factor: float
) -> None:
    data = masks(*counts)
    ed, es = cycle_frames(data["anatomy"], 3)
    for quantity, power in (("volume", 1), ("mass", 1), ("stroke_volume", 1), ("ejection_fraction", 0)):
        derived = Derived(quantity, "anatomy", "LV", "ED" if quantity in ("volume", "mass") else None)  # type: ignore[arg-type]
        small = measure(derived, data, LABELS, VOXEL_ML, ed, es)
        large = measure(derived, data, LABELS, VOXEL_ML * factor, ed, es)
        if ed == es:
            assert (small is None) == (quantity in ("stroke_volume", "ejection_fraction"))
            continue
        assert small is not None
        assert large == pytest.approx(small * factor**power)


@settings(deadline=None)
@given(st.lists(st.integers(0, 90), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_cycle_does_not_depend_on_where_voxels_are(counts: list[int], random: Random) -> None:
    mask = masks(*counts)["anatomy"]
    shuffled = mask.reshape(len(mask), -1)[:, random.sample(range(100), 100)].reshape(mask.shape)
    assert cycle_frames(mask, 3) == cycle_frames(shuffled, 3)
