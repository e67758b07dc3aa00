"""Volumes over time, and what follows from them, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from medmtl.data.columns import Column, Derived
from medmtl.inference.measure.curves import volume_curves
from medmtl.inference.measure.heart import head_values, heart_values

LABELS = {"RV": 1, "MYO": 2, "LV": 3}
CURVES = {
    "LV": np.array([100.0, 140.0, 60.0]),
    "RV": np.array([90.0, 150.0, 75.0]),
    "MYO": np.array([110.0, 100.0, 120.0]),
}


def value(name: str, unit: str, **derived: str) -> Column:
    return Column(name, "value", unit=unit, derived=Derived(mask="anatomy", **derived))  # type: ignore


EDV = value("LV_EDV", "mL", quantity="volume", structure="LV", frame="ED")
ESV = value("LV_ESV", "mL", quantity="volume", structure="LV", frame="ES")
EF = value("LV_EF", "%", quantity="ejection_fraction", structure="LV")


def test_a_curve_counts_the_voxels_of_every_frame() -> None:
    mask = np.zeros((2, 3, 3, 3), np.uint8)
    mask[0, 0], mask[1, 0, 0], mask[1, 2] = 3, 3, 1
    curves = volume_curves(mask, LABELS, 0.5)
    assert {name: curve.tolist() for name, curve in curves.items()} == {
        "RV": [0.0, 4.5],
        "MYO": [0.0, 0.0],
        "LV": [4.5, 1.5],
    }


def test_a_heart_gives_volumes_fraction_output_and_mass() -> None:
    assert heart_values(CURVES, [], "LV", (1, 2), 70.0) == {
        "LV_EDV [mL]": 140.0,
        "LV_ESV [mL]": 60.0,
        "LV_SV [mL]": 80.0,
        "LV_EF [%]": pytest.approx(100 * 80 / 140),
        "LV_CO [L/min]": pytest.approx(5.6),
        "RV_EDV [mL]": 150.0,
        "RV_ESV [mL]": 75.0,
        "RV_SV [mL]": 75.0,
        "RV_EF [%]": 50.0,
        "MYO_mass [g]": pytest.approx(105.0),
    }


def test_what_the_model_names_itself_is_not_said_twice() -> None:
    values = heart_values(CURVES, [EDV, EF], "LV", (1, 2), None)
    assert {"LV_ESV [mL]", "LV_SV [mL]"} <= set(values)
    assert not {"LV_EDV [mL]", "LV_EF [%]", "LV_CO [L/min]"} & set(values)


def test_one_frame_gives_every_structures_volume() -> None:
    assert heart_values({"liver": np.array([1500.0])}, [], None, (None, None), None) == {
        "liver_volume [mL]": 1500.0
    }


def test_frames_without_a_cycle_give_nothing() -> None:
    assert heart_values({"liver": np.array([1500.0, 1510.0])}, [], None, (None, None), None) == {}


def test_an_empty_ventricle_has_no_ejection_fraction() -> None:
    values = heart_values({"LV": np.zeros(2)}, [], "LV", (0, 1), None)
    assert values == {"LV_EDV [mL]": 0.0, "LV_ESV [mL]": 0.0, "LV_SV [mL]": 0.0}


def test_a_head_gives_stroke_volume_fraction_and_output() -> None:
    columns = {column.name: column for column in (EDV, ESV)}
    said: dict[str, float | str] = {"LV_EDV [mL]": 120.0, "LV_ESV [mL]": 48.0}
    assert head_values(said, columns, "LV", 60.0) == {
        "LV_SV [mL]": 72.0,
        "LV_EF [%]": pytest.approx(60.0),
        "LV_CO [L/min]": pytest.approx(4.32),
    }


def test_a_heads_stroke_volume_follows_from_its_fraction() -> None:
    columns = {column.name: column for column in (EDV, EF)}
    said: dict[str, float | str] = {"LV_EDV [mL]": 120.0, "LV_EF [%]": 50.0}
    assert head_values(said, columns, "LV", None) == {"LV_SV [mL]": 60.0}
    assert head_values({"LV_EF [%]": 50.0}, columns, "LV", 60.0) == {}
