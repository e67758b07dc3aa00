from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.scan import arrange
from tests.helpers.dicom_headers import AXIAL, cine, codes, findings, instance, positions, volumes

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def per_slice(slices: int = 4, phases: int = 5, **values: Any) -> list[Instance]:
    """One series per slice; a callable value is asked with slice and phase."""
    series = {
        "SeriesInstanceUID": lambda z, t: f"1.5.{z}",
        "SeriesNumber": lambda z, t: 10 + z,
        "InstanceNumber": lambda z, t: t + 1,
        "SeriesDescription": "cine_sax",
    }
    return cine(slices, phases, **(series | values))


def per_phase(slices: int = 3, phases: int = 4, **values: Any) -> list[Instance]:
    """One series per phase."""
    series = {
        "SeriesInstanceUID": lambda z, t: f"1.6.{t}",
        "SeriesNumber": lambda z, t: 20 + t,
        "InstanceNumber": lambda z, t: z + 1,
        "SeriesDescription": lambda z, t: f"CTA {10 * t} %",
    }
    return cine(slices, phases, **(series | values))


# ------------------------------------------------------------------------------------- never joined


@pytest.mark.parametrize(
    "values",
    [
        {"SeriesDescription": lambda z, t: f"view {'abcd'[z]}"},
        {"ProtocolName": lambda z, t: "abcd"[z]},
        {"SequenceName": lambda z, t: f"tfi{z}"},
        {"Manufacturer": lambda z, t: f"vendor {z}"},
        {"EchoTime": lambda z, t: 1.0 + z},
        {"StudyInstanceUID": lambda z, t: f"1.9.{z}"},
        {"ImageType": lambda z, t: ("ORIGINAL", "PRIMARY", "MPRA"[z])},
        {"ImagePositionPatient": lambda z, t: (30.0 * z, 0.0, 8.0 * z)},
        {"ImagePositionPatient": lambda z, t: (0.0, 0.0, 0.0)},
    ],
)
def test_series_that_are_not_pieces_of_one_volume_stay_apart(values: dict[str, Any]) -> None:
    found = arrange(per_slice(**values))
    assert "JOINED_SERIES" not in codes(found)
    assert volumes(found) == []
    assert codes(found, "error") == {"SINGLE_SLICE"}


def test_a_stack_that_was_scanned_twice_is_two_volumes_not_two_phases() -> None:
    again = per_phase(
        phases=2, TriggerTime=None, AcquisitionTime=lambda z, t: f"09{t}500", SeriesDescription="t1"
    )
    found = arrange(again)
    assert [plan.shape for plan in volumes(found)] == [(6, 8, 3), (6, 8, 3)]
    assert codes(found) == set()


def test_stacks_at_other_positions_are_no_phases() -> None:
    images = per_phase(ImagePositionPatient=lambda z, t: (0.0, 0.0, 8.0 * z + 2.0 * t))
    assert [plan.frames for plan in volumes(arrange(images))] == [1, 1, 1, 1]


# ------------------------------------------------------------------------------------- told


def test_a_missing_series_is_a_gap() -> None:
    images = [one for one in per_slice(5) if one.header.get("SeriesNumber") != 12]
    found = arrange(images)
    assert volumes(found) == []
    assert codes(found, "error") == {"GAP"}


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"ImageOrientationPatient": lambda z, t: SAGITTAL if z == 3 else AXIAL}, "MIXED_ORIENTATION"),
        ({"PixelSpacing": lambda z, t: (1.0, 1.0) if z == 3 else (1.5, 2.0)}, "MIXED_GRID"),
    ],
)
def test_a_slice_that_does_not_fit_the_others_is_told(values: dict[str, Any], code: str) -> None:
    found = arrange(per_slice(**values))
    assert [plan.shape for plan in volumes(found)] == [(6, 8, 3, 5)]
    assert codes(found, "error") == {code}


def test_of_a_slice_that_was_taken_again_the_later_series_is_used() -> None:
    again = [
        instance(
            16.0,
            SeriesInstanceUID="1.5.99",
            SeriesNumber=99,
            SeriesDescription="cine_sax",
            TriggerTime=40.0 * t,
        )
        for t in range(5)
    ]
    found = arrange([*per_slice(), *again])
    (plan,) = volumes(found)
    assert {plane.get("SeriesNumber") for plane in plan.planes[2]} == {99}
    assert "DUPLICATE_POSITION" in codes(found, "warning")
    strict = arrange([*per_slice(), *again], strict=True)
    assert volumes(strict) == []
    assert "DUPLICATE_POSITION" in codes(strict, "error")


def test_a_stack_taken_twice_slice_by_slice_is_two_volumes() -> None:
    second = per_slice(SeriesInstanceUID=lambda z, t: f"1.7.{z}", SeriesNumber=lambda z, t: 40 + z)
    plans = volumes(arrange([*per_slice(), *second]))
    assert [(plan.name, plan.shape) for plan in plans] == [("s010", (6, 8, 4, 5)), ("s040", (6, 8, 4, 5))]


# ------------------------------------------------------------------------------------- joined


@pytest.mark.parametrize(
    "describe", [lambda z, t: "cine_sax", lambda z, t: f"cine_sax_{z + 1}", lambda z, t: f"CINE SAX b{z}"]
)
def test_a_series_per_slice_is_one_volume_of_the_first_series(describe: Any) -> None:
    found = arrange(per_slice(SeriesDescription=describe)[::-1])
    (plan,) = volumes(found)
    assert plan.shape == (6, 8, 4, 5)
    assert plan.series_uid == "1.5.0"
    assert plan.attributes["JoinedSeries"] == (10, 11, 12, 13)
    np.testing.assert_array_equal(positions(plan)[:, 0, 2], (0, 8, 16, 24))
    assert [series.usable for series in found.series] == [5, 5, 5, 5]
    assert [len(series.volumes) for series in found.series] == [1, 0, 0, 0]
    assert codes(found) == {"JOINED_SERIES"}
    assert "series 10, 11, 12 and 13" in findings(found)[0].message


def test_single_images_of_a_series_each_are_one_volume() -> None:
    images = per_slice(phases=1, TriggerTime=lambda z, t: 700.0 + 13 * z, SeriesDescription="psir_lge")
    (plan,) = volumes(arrange(images))
    assert plan.shape == (6, 8, 4)


def test_magnitude_and_phase_of_a_series_per_slice_are_two_volumes() -> None:
    kinds = [("ORIGINAL", "PRIMARY", kind) for kind in "MP"]
    images = [one for kind in kinds for one in per_slice(ImageType=kind)]
    plans = volumes(arrange(images))
    assert sorted(plan.name for plan in plans) == ["s010-magnitude", "s010-phase"]
    assert {plan.shape for plan in plans} == {(6, 8, 4, 5)}


@pytest.mark.parametrize(
    "times",
    [
        {"TriggerTime": lambda z, t: 45.0 * t},
        {"TriggerTime": None, "NominalPercentageOfCardiacPhase": lambda z, t: 25.0 * t},
        {
            "TriggerTime": None,
            "TemporalPositionIdentifier": lambda z, t: t + 1,
            "NumberOfTemporalPositions": 4,
        },
    ],
)
def test_a_series_per_phase_is_one_volume(times: dict[str, Any]) -> None:
    found = arrange(per_phase(**times))
    (plan,) = volumes(found)
    assert plan.shape == (6, 8, 3, 4)
    assert [plane.get("SeriesNumber") for plane in plan.planes[0]] == [20, 21, 22, 23]
    assert codes(found, "info") == {"JOINED_SERIES"}
