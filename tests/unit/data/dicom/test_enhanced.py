from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.planes import Problems, unpack
from medmtl.data.dicom.scan import arrange
from tests.helpers.dicom_headers import AXIAL, codes, instance, only, volumes

FLAT = {
    "ImagePositionPatient": None,
    "ImageOrientationPatient": None,
    "PixelSpacing": None,
    "ImageType": None,
}


def group(z: float, **content: Any) -> dict[str, Any]:
    return {
        "PlanePositionSequence": [{"ImagePositionPatient": (0.0, 0.0, z)}],
        "FrameContentSequence": [{"StackID": "1", **content}],
    }


def enhanced(groups: list[dict[str, Any]], shared: dict[str, Any] | None = None, **values: Any) -> Instance:
    common = {
        "PlaneOrientationSequence": [{"ImageOrientationPatient": AXIAL}],
        "PixelMeasuresSequence": [{"PixelSpacing": (1.5, 2.0), "SliceThickness": 4.0}],
    }
    elements = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1",
        "NumberOfFrames": len(groups),
        "PerFrameFunctionalGroupsSequence": groups,
        "SharedFunctionalGroupsSequence": [common | (shared or {})],
    }
    return instance(**(FLAT | elements | values))


# ------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize("macro", ["PlanePositionSequence"])
def test_a_frame_without_position_is_named_by_its_number(macro: str) -> None:
    groups = [group(4.0 * z) for z in range(4)]
    del groups[2][macro]
    problems = Problems()
    assert unpack([enhanced(groups)], problems) == []
    (finding,) = problems.findings()
    assert finding.code == "MISSING_GEOMETRY"
    assert "1 of 4 frames" in finding.message
    assert "frame 3" in finding.message


@pytest.mark.parametrize("macro", ["PlaneOrientationSequence", "PixelMeasuresSequence"])
def test_frames_without_orientation_or_spacing_are_refused(macro: str) -> None:
    found = arrange([enhanced([group(0.0), group(4.0)], {macro: []})])
    assert volumes(found) == []
    assert codes(found) == {"MISSING_GEOMETRY"}


def test_fewer_functional_groups_than_frames_are_refused() -> None:
    found = arrange([enhanced([group(0.0), group(4.0)], NumberOfFrames=3)])
    assert codes(found) == {"MISSING_GEOMETRY"}


def test_frames_of_a_secondary_capture_that_lie_nowhere_are_refused() -> None:
    capture = instance(SOPClassUID="1.2.840.10008.5.1.4.1.1.7.2", NumberOfFrames=4, **FLAT)
    assert codes(arrange([capture]), "error") == {"MISSING_GEOMETRY"}


# ------------------------------------------------------------------------------------- right


def test_frames_are_placed_by_their_groups_whatever_their_order() -> None:
    plan = only([enhanced([group(z) for z in (8.0, 0.0, 4.0)])])
    assert plan.shape == (6, 8, 3)
    assert [row[0].frame for row in plan.planes] == [1, 2, 0]
    np.testing.assert_allclose(np.diag(plan.affine), (-2.0, -1.5, 4.0, 1.0))


def test_an_elements_own_value_wins_over_the_shared_and_that_over_the_files() -> None:
    groups = [
        {"PixelValueTransformationSequence": [{"RescaleSlope": 2.0}], **group(0.0)},
        group(4.0),
    ]
    shared = {"PixelValueTransformationSequence": [{"RescaleSlope": 3.0}]}
    first, second = unpack([enhanced(groups, shared, RescaleSlope=5.0, RescaleIntercept=1.0)], Problems())
    assert (first.get("RescaleSlope"), second.get("RescaleSlope")) == (2.0, 3.0)
    assert first.get("RescaleIntercept") == 1.0
    assert first.get("PixelValueTransformationSequence")[0].get("RescaleSlope") == 2.0


def test_trigger_delays_make_a_cine() -> None:
    groups = [
        group(8.0 * z) | {"CardiacSynchronizationSequence": [{"NominalCardiacTriggerDelayTime": 30.0 * t}]}
        for t in range(5)
        for z in range(3)
    ]
    plan = only([enhanced(groups)])
    assert plan.shape == (6, 8, 3, 5)
    assert plan.time is not None
    assert (plan.time.how, plan.time.step_ms) == ("NominalCardiacTriggerDelayTime", 30.0)
    assert plan.frame_ed == 0


def test_temporal_positions_and_frame_times_make_a_series_in_time() -> None:
    groups = [
        group(8.0 * z, TemporalPositionIndex=t + 1, FrameAcquisitionDateTime=f"2024010109050{2 * t}.000000")
        for z in range(3)
        for t in range(3)
    ]
    plan = only([enhanced(groups)])
    assert plan.time is not None
    assert plan.time.how == "FrameAcquisitionDateTime (order: TemporalPositionIndex)"
    np.testing.assert_allclose(plan.time.times_ms, (0, 2000, 4000), atol=0.02)


def test_several_files_of_one_volume_each_make_one_series_in_time() -> None:
    files = [
        enhanced([group(4.0 * z, TemporalPositionIndex=t + 1) for z in range(3)], InstanceNumber=t)
        for t in range(4)
    ]
    assert only(files).shape == (6, 8, 3, 4)


def test_echoes_and_components_become_volumes_of_their_own() -> None:
    groups = [
        group(4.0 * z)
        | {
            "MREchoSequence": [{"EffectiveEchoTime": echo}],
            "MRImageFrameTypeSequence": [
                {"FrameType": ("ORIGINAL", "PRIMARY", "T1", "NONE"), "ComplexImageComponent": component}
            ],
        }
        for z in range(3)
        for echo in (2.3, 4.6)
        for component in ("MAGNITUDE", "PHASE")
    ]
    plans = volumes(arrange([enhanced(groups)]))
    assert sorted(plan.name for plan in plans) == [
        "s007-magnitude-echo1",
        "s007-magnitude-echo2",
        "s007-phase-echo1",
        "s007-phase-echo2",
    ]
    assert {plan.shape for plan in plans} == {(6, 8, 3)}


def test_stacks_of_one_file_are_kept_apart() -> None:
    groups = [group(4.0 * z) for z in range(3)] + [group(60.0 + 4.0 * z, StackID="2") for z in range(3)]
    plans = volumes(arrange([enhanced(groups)]))
    assert [plan.name for plan in plans] == ["s007-stack1", "s007-stack2"]


def test_philips_own_repetition_of_a_frame_is_asked_last() -> None:
    groups = [
        group(4.0 * z)
        | {"Philips.FrameSequence": [{"ImagePositionPatient": (9.0, 9.0, 9.0), "ContentTime": "090500"}]}
        for z in range(3)
    ]
    plan = only([enhanced(groups)])
    assert plan.planes[1][0].get("ContentTime") == "090500"
    assert plan.affine[0, 3] == 0.0


def test_legacy_converted_frames_keep_the_elements_of_their_classic_files() -> None:
    groups = [
        group(4.0 * z) | {"UnassignedPerFrameConvertedAttributesSequence": [{"TriggerTime": 20.0 * t}]}
        for z in range(3)
        for t in range(4)
    ]
    plan = only([enhanced(groups)])
    assert plan.time is not None
    assert plan.time.how == "TriggerTime"
