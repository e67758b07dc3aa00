from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medmtl.data.dicom.model import TimeAxis
from medmtl.data.dicom.scan import arrange
from tests.helpers.dicom_headers import cine, codes, findings, instance, only, refused, values_of, volumes


def axis_of(instances: list[Any]) -> TimeAxis:
    time = only(instances).time
    assert time is not None
    return time


def clock(seconds: float) -> str:
    return f"0905{seconds:09.6f}"


# ------------------------------------------------------------------------------------- refused


def test_phases_that_nothing_orders_are_refused() -> None:
    images = cine(TriggerTime=None, InstanceNumber=None, SOPInstanceUID=lambda z, t: f"1.{z}.{t}")
    assert refused(images) == {"TIME_AMBIGUOUS"}


def test_instance_numbers_without_a_pattern_are_no_order() -> None:
    numbers = iter(np.random.default_rng(3).permutation(12).tolist())
    assert refused(cine(TriggerTime=None, InstanceNumber=lambda z, t: next(numbers))) == {"TIME_AMBIGUOUS"}


def test_two_images_of_one_slice_and_time_are_refused() -> None:
    assert refused([*cine(), instance(8.0, TriggerTime=42.0, InstanceNumber=99)]) == {"DUPLICATE_POSITION"}


def test_a_second_image_at_one_position_of_a_plain_stack_is_refused() -> None:
    stack = [instance(3.0 * z, InstanceNumber=z) for z in range(5)]
    assert refused([*stack, instance(6.0, InstanceNumber=9)]) == {"DUPLICATE_POSITION"}


def test_half_of_a_slices_phases_missing_is_refused() -> None:
    assert refused([one for n, one in enumerate(cine()) if n not in (1, 3)]) == {"INCOMPLETE_GRID"}


def test_slices_of_two_moments_are_no_volume_of_one() -> None:
    times = {"CardiacNumberOfImages": 20, "NominalInterval": 1000}
    stack = [instance(8.0 * z, TriggerTime=929.0 if z < 3 else 348.0, **times) for z in range(6)]
    assert refused(stack) == {"INCOMPLETE_GRID"}


def test_strict_refuses_a_cine_without_one_image() -> None:
    assert refused(cine(slices=5)[:-1], strict=True) == {"INCOMPLETE_GRID"}


def test_slices_that_lack_different_phases_are_not_paired_by_rank() -> None:
    images = cine(slices=6, phases=8)
    for n in (45, 20, 11, 0):  # another phase of slices 5, 2, 1 and 0 each
        del images[n]
    equal = [
        one
        for one in images
        if not (
            one.header.get("TriggerTime") > 270 and one.header.get("ImagePositionPatient")[2] in (24.0, 32.0)
        )
    ]
    assert refused(equal) == {"INCOMPLETE_GRID"}


def test_a_lower_element_does_not_hide_two_images_of_one_trigger_time() -> None:
    images = cine(
        phases=8,
        TriggerTime=lambda z, t: 80.0 if (z, t) == (1, 3) else 40.0 * t,
        AcquisitionTime=lambda z, t: clock(30 - t),
    )
    assert refused(images) == {"DUPLICATE_POSITION"}


# ------------------------------------------------------------------------------------- kept with a warning


@pytest.mark.parametrize("lost", [0, 2, 5])
def test_one_slice_that_lacks_a_phase_others_have_is_found_where_all_have_equally_many(lost: int) -> None:
    images = cine(slices=8, phases=6)
    slice_3 = images[18:24]
    others = [one for one in images if one not in slice_3 and one.header.get("TriggerTime") < 190]
    kept = [one for number, one in enumerate(slice_3) if number != lost]
    found = arrange([*others, *kept])
    if lost == 5:
        assert only([*others, *kept]).frames == 5
    else:
        assert volumes(found)[0].frames == 4
        assert codes(found, "warning") == {"INCOMPLETE_GRID"}


def test_hearts_that_beat_at_different_rates_are_still_in_phase() -> None:
    images = cine(slices=6, phases=20, TriggerTime=lambda z, t: 3.0 * z + t * (40.0 + 3 * z))
    plan = only(images)
    assert plan.shape == (6, 8, 6, 20)
    assert plan.findings == ()


def test_a_clock_that_runs_against_the_counted_order_is_told() -> None:
    images = cine(TriggerTime=None, AcquisitionTime=lambda z, t: clock(30 - t))
    assert codes(arrange(images), "warning") == {"TIME_AMBIGUOUS"}


def test_a_phase_that_lacks_a_slice_is_left_out() -> None:
    images = cine(slices=5, phases=6)
    del images[8]  # slice 1, phase 2
    found = arrange(images)
    plan = only(images)
    assert plan.shape == (6, 8, 5, 5)
    assert codes(found, "warning") == {"INCOMPLETE_GRID"}
    assert values_of(plan, "TriggerTime")[0] == [0.0, 40.0, 120.0, 160.0, 200.0]


@pytest.mark.parametrize("by_volume", [False, True])
def test_instance_numbers_order_phases_as_a_guess_that_is_told(by_volume: bool) -> None:
    number = (lambda z, t: 3 * t + z) if by_volume else (lambda z, t: 4 * z + t)
    images = cine(TriggerTime=None, InstanceNumber=number)
    plan = only(images[::-1])
    assert plan.time is not None
    assert (plan.time.how, plan.time.sure) == ("InstanceNumber (order only)", "guess")
    assert plan.time.step_ms is None
    assert values_of(plan, "InstanceNumber")[1] == [number(1, t) for t in range(4)]
    assert codes(arrange(images), "warning") == {"TIME_AMBIGUOUS"}


def test_trigger_times_win_over_temporal_positions_that_contradict_them() -> None:
    images = cine(TemporalPositionIdentifier=lambda z, t: 9 - t)
    plan = only(images)
    assert values_of(plan, "TriggerTime")[0] == [0.0, 40.0, 80.0, 120.0]
    assert codes(arrange(images), "warning") == {"TIME_AMBIGUOUS"}


def test_trigger_times_that_jump_about_yield_to_a_clock_that_does_not() -> None:
    jitter = (7.5, 2.5, 600.0, 12.5, 5.0, 10.0)
    images = cine(
        phases=6,
        TriggerTime=lambda z, t: jitter[t] + 100 * z,
        AcquisitionTime=lambda z, t: clock(0.9 * t + 0.1 * z),
    )
    plan = only(images)
    assert plan.time is not None
    assert plan.time.how == "AcquisitionTime"
    assert plan.time.step_ms == pytest.approx(900.0)
    assert codes(arrange(images), "warning") == {"TIME_AMBIGUOUS"}


def test_headers_that_announce_more_phases_than_there_are_are_noted() -> None:
    (finding,) = findings(arrange(cine(CardiacNumberOfImages=25)))
    assert (finding.code, finding.severity) == ("INCOMPLETE_GRID", "info")
    assert "25" in finding.message


# ------------------------------------------------------------------------------------- sure


def test_trigger_times_that_differ_between_slices_are_kept_per_slice() -> None:
    time = axis_of(cine(slices=3, phases=4)[::-1])
    assert (time.how, time.sure) == ("TriggerTime", "certain")
    assert time.by_slice_ms is not None
    np.testing.assert_array_equal(time.by_slice_ms, 40.0 * np.arange(4) + 2.0 * np.arange(3)[:, None])
    np.testing.assert_array_equal(time.times_ms, 40.0 * np.arange(4) + 2.0)
    assert time.step_ms == 40.0


def test_equal_trigger_times_need_no_table_per_slice() -> None:
    time = axis_of(cine(TriggerTime=lambda z, t: 10.0 + 46 * t))
    assert time.by_slice_ms is None
    np.testing.assert_array_equal(time.times_ms, (10, 56, 102, 148))


def test_a_cine_of_many_phases_starts_near_the_r_wave_wherever_that_is() -> None:
    early = cine(phases=20, TriggerTime=lambda z, t: 10.0 + 46 * t, NominalInterval=923)
    late = cine(phases=20, TriggerTime=lambda z, t: 60.0 + 45 * t, NominalInterval=923)
    assert only(early).frame_ed == 0
    assert only(late).frame_ed == 19
    assert only(late).frame_es is None


def test_no_end_diastole_is_made_up_for_minutes_of_contrast() -> None:
    images = cine(phases=10, TriggerTime=lambda z, t: 4000.0 * t)
    assert only(images).frame_ed is None


def test_volumes_in_time_are_timed_by_the_clock_slices_included() -> None:
    images = cine(TriggerTime=None, AcquisitionTime=lambda z, t: clock(2.5 * t + 0.5 * z))
    time = axis_of(images)
    assert (time.how, time.sure) == ("AcquisitionTime", "certain")
    assert time.by_slice_ms is not None
    np.testing.assert_allclose(
        time.by_slice_ms, 2500.0 * np.arange(4) + 500.0 * np.arange(3)[:, None], atol=0.02
    )


def test_slices_taken_one_after_the_other_are_timed_from_their_own_start() -> None:
    images = cine(TriggerTime=None, AcquisitionTime=lambda z, t: clock(0.05 * t + 10 * z))
    time = axis_of(images)
    np.testing.assert_allclose(time.times_ms, 50.0 * np.arange(4), atol=0.02)
    assert time.by_slice_ms is None


def test_a_clock_of_whole_seconds_is_no_duplicate() -> None:
    images = cine(phases=6, TriggerTime=None, AcquisitionTime=lambda z, t: f"09050{int(0.9 * t)}")
    plan = only(images)
    assert plan.time is not None
    assert plan.time.how.startswith("InstanceNumber")


def test_temporal_positions_order_what_the_clock_times() -> None:
    images = cine(
        TriggerTime=None,
        TemporalPositionIdentifier=lambda z, t: t + 1,
        ContentTime=lambda z, t: clock(3.0 * t),
    )
    time = axis_of(images)
    assert time.how == "ContentTime (order: TemporalPositionIdentifier)"
    assert time.step_ms == pytest.approx(3000.0)


@pytest.mark.parametrize(
    ("tags", "how", "step"),
    [
        ({"RepetitionTime": 2000.0, "ScanningSequence": ("EP", "GR")}, "RepetitionTime", 2000.0),
        ({"RepetitionTime": 3.8, "ScanningSequence": ("GR",)}, "order only", None),
        (
            {"RepetitionTime": 70.0, "ScanningSequence": ("EP",), "MRAcquisitionType": "3D"},
            "order only",
            None,
        ),
        ({"TemporalResolution": 1500.0, "RepetitionTime": 4.0}, "TemporalResolution", 1500.0),
        ({"CardiacNumberOfImages": 4, "NominalInterval": 800}, "CardiacNumberOfImages", 200.0),
    ],
)
def test_a_time_step_is_stated_or_not_known(tags: dict[str, Any], how: str, step: float | None) -> None:
    time = axis_of(cine(TriggerTime=None, TemporalPositionIdentifier=lambda z, t: t + 1, **tags))
    assert how in time.how
    assert time.step_ms == (None if step is None else pytest.approx(step))
    assert time.sure == ("guess" if step is None else "likely")


def test_dynamic_pet_is_timed_by_the_starts_of_its_frames() -> None:
    starts, lengths = (0, 10_000, 20_000, 50_000), (10_000, 10_000, 30_000, 60_000)
    images = cine(
        Modality="PT",
        TriggerTime=None,
        FrameReferenceTime=lambda z, t: starts[t] + lengths[t] / 2,
        ActualFrameDuration=lambda z, t: lengths[t],
    )
    time = axis_of(images)
    assert time.how == "FrameReferenceTime"
    np.testing.assert_allclose(time.times_ms, starts)


@pytest.mark.parametrize("dated", [True, False])
def test_a_scan_over_midnight_goes_on(dated: bool) -> None:
    images = cine(
        TriggerTime=None,
        AcquisitionDate=lambda z, t: ("20240101" if t < 2 else "20240102") if dated else None,
        AcquisitionTime=lambda z, t: ("235958", "235959", "000000", "000001")[t],
    )
    np.testing.assert_allclose(axis_of(images).times_ms, 1000.0 * np.arange(4))


def test_times_per_slice_go_with_the_slices_that_resampling_makes() -> None:
    images = cine(5, 3, ImagePositionPatient=lambda z, t: (0.0, 0.0, (0.0, 8.0, 16.0, 26.0, 32.0)[z]))
    plan = only(images)
    assert plan.time is not None
    assert plan.time.by_slice_ms is not None
    assert plan.time.by_slice_ms.shape == (5, 3)
    np.testing.assert_allclose(plan.time.by_slice_ms[:, 0], (0, 2, 4, 4 + 2 * 0.8, 8), atol=1e-6)
