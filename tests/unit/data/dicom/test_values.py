"""Stored value -> real value: which element is believed, and what is said where none is plain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medmtl.data.dicom.header import Header
from medmtl.data.dicom.model import Instance, Plane
from medmtl.data.dicom.values import Scaling, apply_table, scaling_of


class Nowhere:
    """A file that nobody reads."""

    label = "a.dcm"

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        raise AssertionError("scales are in headers")

    def size(self) -> int:
        return 0


def plane(*items: dict[str, Any], **elements: Any) -> Plane:
    """A plane of a file with these elements; ``items`` are its functional groups'."""
    instance = Instance(Nowhere(), Header.from_values(elements), "1.2.840.10008.1.2.1", None)
    groups = tuple(Header.from_values(item) for item in items)
    return Plane(instance, 0, None, None, None, (4, 4), items=groups)


def mapping(slope: float, unit: str, *, intercept: float = 0.0, scheme: str = "UCUM") -> dict[str, Any]:
    return {
        "RealWorldValueSlope": slope,
        "RealWorldValueIntercept": intercept,
        "MeasurementUnitsCodeSequence": [{"CodeValue": unit, "CodingSchemeDesignator": scheme}],
    }


def codes(scaling: Scaling) -> list[tuple[str, str]]:
    return [(finding.code, finding.severity) for finding in scaling.findings]


# ------------------------------------------------------------------------------------------------------- not
# plain


def test_ct_without_a_rescale_is_not_called_hounsfield() -> None:
    scaling = scaling_of([plane()], "CT")
    assert (scaling.unit, codes(scaling)) == ("", [("VALUE_SCALE", "warning")])
    assert "Hounsfield" in scaling.findings[0].message


@pytest.mark.parametrize("elements", [{"RescaleSlope": 0.0, "RescaleIntercept": 5.0}, {"RescaleSlope": 2.0}])
def test_a_slope_of_zero_and_half_a_rescale_are_not_applied(elements: dict[str, float]) -> None:
    scaling = scaling_of([plane(**elements)], "MR")
    assert (scaling.slope[0], scaling.intercept[0]) == (1.0, 0.0)
    assert codes(scaling) == [("VALUE_SCALE", "warning")]
    assert "missing or 0 in 1 of 1 slices" in scaling.findings[0].message


def test_a_rescale_that_only_some_slices_have_is_applied_to_none() -> None:
    scaled = plane(RescaleSlope=2.0, RescaleIntercept=0.0)
    scaling = scaling_of([scaled, plane(), scaled], "MR")
    assert scaling.slope.tolist() == [1.0, 1.0, 1.0]
    assert "missing or 0 in 1 of 3 slices" in scaling.findings[0].message


def test_pet_without_a_slope_has_no_unit() -> None:
    scaling = scaling_of([plane(Units="BQML")], "PT")
    assert (scaling.unit, codes(scaling)) == ("", [("VALUE_SCALE", "warning")])


@pytest.mark.parametrize(
    "sequence",
    [
        [mapping(0.5, "1")],
        [mapping(0.5, "ms", scheme="99LOCAL")],
        [mapping(0.0, "ms")],
        [{"RealWorldValueLUTData": (1.0, 2.0)}],
    ],
    ids=["no unit", "a private unit", "slope 0", "a table"],
)
def test_a_real_world_mapping_to_no_known_unit_is_left_alone_and_said(sequence: list[dict[str, Any]]) -> None:
    scaling = scaling_of([plane(RealWorldValueMappingSequence=sequence)], "MR")
    assert (scaling.slope[0], scaling.unit, codes(scaling)) == (1.0, "", [("VALUE_SCALE", "info")])


def test_philips_private_scale_is_mentioned_and_not_applied() -> None:
    elements = {"RescaleSlope": 2.0, "RescaleIntercept": 0.0, "Philips.ScaleSlope": 0.01}
    scaling = scaling_of([plane(**elements)], "MR")
    assert (scaling.slope[0], codes(scaling)) == (2.0, [("VALUE_SCALE", "info")])
    assert "private scale slope (0.01), which is not applied" in scaling.findings[0].message


# ------------------------------------------------------------------------------------------------------------
# plain


def test_nothing_said_in_mr_is_nothing_done() -> None:
    scaling = scaling_of([plane(), plane()], "MR")
    assert scaling.changes_nothing
    assert (scaling.unit, scaling.findings) == ("", ())


@pytest.mark.parametrize(
    ("rescale_type", "unit"), [(None, "HU"), ("HU", "HU"), ("Z_EFF", "Z_EFF"), ("HU_MOD", "HU_MOD")]
)
def test_ct_values_are_hounsfield_units_unless_it_is_said_otherwise(
    rescale_type: str | None, unit: str
) -> None:
    elements = {"RescaleSlope": 1.0, "RescaleIntercept": -1024.0, "RescaleType": rescale_type}
    scaling = scaling_of([plane(**elements)], "CT")
    assert scaling.changes_nothing
    assert (scaling.intercept[0], scaling.unit, scaling.findings) == (-1024.0, unit, ())


@pytest.mark.parametrize(
    ("slope", "intercept", "whole"), [(1.0, 0.5, False), (2.0, 0.0, False), (1.0, -1000.0, True)]
)
def test_only_a_whole_offset_keeps_whole_numbers(slope: float, intercept: float, whole: bool) -> None:
    scaling = scaling_of([plane(RescaleSlope=slope, RescaleIntercept=intercept)], "CT")
    assert scaling.changes_nothing is whole


def test_every_slice_is_scaled_with_its_own_slope_and_it_is_said() -> None:
    planes = [plane(RescaleSlope=slope, RescaleIntercept=0.0, Units="BQML") for slope in (0.5, 2.0, 1.0)]
    scaling = scaling_of(planes, "PT")
    assert scaling.slope.tolist() == [0.5, 2.0, 1.0]
    assert (scaling.unit, codes(scaling)) == ("Bq/mL", [("RESCALE_PER_SLICE", "info")])
    assert "0.5 to 2" in scaling.findings[0].message


def test_a_frame_s_own_rescale_wins_over_the_file_s() -> None:
    own = plane({"RescaleSlope": 3.0, "RescaleIntercept": 1.0}, RescaleSlope=9.0, RescaleIntercept=9.0)
    scaling = scaling_of([own], "MR")
    assert (scaling.slope[0], scaling.intercept[0]) == (3.0, 1.0)


def test_pet_needs_no_intercept_as_it_is_always_zero() -> None:
    scaling = scaling_of([plane(RescaleSlope=2.0, Units="BQML")], "PT")
    assert (scaling.slope[0], scaling.intercept[0], scaling.findings) == (2.0, 0.0, ())


@pytest.mark.parametrize(
    ("units", "suv_type", "unit"),
    [
        ("BQML", None, "Bq/mL"),
        ("CNTS", None, "counts"),
        ("PROPCPS", None, "proportional to counts/s"),
        ("GML", None, "SUVbw"),
        ("GML", "BW", "SUVbw"),
        ("GML", "LBMJANMA", "SUVlbm (Janmahasatian)"),
        ("GML", "LBMJAMES128", "SUVlbm (James)"),
        ("GML", "NEW", "SUV of an unknown type"),
        ("CM2ML", "BSA", "SUVbsa"),
        ("FURLONG", None, "FURLONG"),
    ],
)
def test_pet_units_are_named(units: str, suv_type: str | None, unit: str) -> None:
    scaling = scaling_of([plane(RescaleSlope=2.0, RescaleIntercept=0.0, Units=units, SUVType=suv_type)], "PT")
    assert scaling.unit == unit


@pytest.mark.parametrize("in_group", [True, False])
def test_a_slope_that_is_only_in_a_real_world_mapping_is_applied_where_its_unit_is_known(
    in_group: bool,
) -> None:
    sequence = {"RealWorldValueMappingSequence": [mapping(0.25, "1"), mapping(0.5, "ms", intercept=3.0)]}
    scaling = scaling_of([plane(sequence) if in_group else plane(**sequence)], "MR")
    assert (scaling.slope[0], scaling.intercept[0], scaling.unit) == (0.5, 3.0, "ms")
    assert scaling.findings == ()


def test_a_rescale_wins_over_a_mapping_whose_unit_is_taken_only_if_both_agree() -> None:
    rescale = {"RescaleSlope": 0.5, "RescaleIntercept": 0.0}
    same = scaling_of([plane(**rescale, RealWorldValueMappingSequence=[mapping(0.5, "ms")])], "MR")
    other = scaling_of([plane(**rescale, RealWorldValueMappingSequence=[mapping(0.1, "s")])], "MR")
    assert (same.slope[0], same.unit) == (0.5, "ms")
    assert (other.slope[0], other.unit) == (0.5, "")


def test_enhanced_pet_is_scaled_by_the_mapping_that_names_its_unit() -> None:
    elements = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0, "RescaleType": "US"}
    planes = [
        plane(**elements, RealWorldValueMappingSequence=[mapping(slope, "Bq/ml")]) for slope in (2.0, 3.0)
    ]
    scaling = scaling_of(planes, "PT")
    assert (scaling.slope.tolist(), scaling.unit) == ([2.0, 3.0], "Bq/mL")


def test_a_modality_lut_maps_stored_values_and_holds_its_ends_beyond_them() -> None:
    table = np.array([10, 20, 40], "<u2")
    lut = {"LUTDescriptor": (3, 5, 16), "LUTData": table.tobytes(), "ModalityLUTType": "HU"}
    scaling = scaling_of([plane(ModalityLUTSequence=[lut])], "CT")
    assert not scaling.changes_nothing
    assert (scaling.unit, scaling.findings) == ("HU", ())
    stored = np.array([[0, 5, 6], [7, 8, 900]], np.uint16)
    assert apply_table(stored, scaling.tables[0]).tolist() == [[10, 10, 20], [40, 40, 40]]


def test_a_modality_lut_that_is_shorter_than_it_says_is_not_applied() -> None:
    lut = {"LUTDescriptor": (300, 0, 16), "LUTData": b"\1\0\2\0", "ModalityLUTType": "US"}
    scaling = scaling_of([plane(ModalityLUTSequence=[lut])], "MR")
    assert scaling.tables == ()


def test_factors_multiply_slope_and_intercept() -> None:
    scaling = scaling_of([plane(RescaleSlope=2.0, RescaleIntercept=1.0)] * 2, "MR")
    times = scaling.times(np.array([1.0, 10.0]), "x", ())
    assert (times.slope.tolist(), times.intercept.tolist(), times.unit) == ([2.0, 20.0], [1.0, 10.0], "x")
