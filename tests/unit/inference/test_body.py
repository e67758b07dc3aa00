"""Height and weight from headers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medmtl.data.dataset import Column
from medmtl.data.dicom import VolumePlan, scan
from medmtl.data.phantom.dicom import write_dicom
from medmtl.inference.body import body_of


def plan_of(folder: Path, height_cm: float | None, weight_kg: float | None) -> VolumePlan:
    cine = np.zeros((2, 4, 4, 3), np.int16)
    write_dicom(folder, cine, spacing_mm=(2, 2, 8), time_step_ms=50, height_cm=height_cm, weight_kg=weight_kg)
    (series,) = scan([folder]).series
    return series.volumes[0]


def model(*covariates: str, height: str = "cm") -> Any:
    units = {"height": height, "weight": "kg", "age": "a"}
    columns = {name: Column(name, "value", unit=units[name]) for name in covariates}
    return SimpleNamespace(covariates=covariates, columns=columns)


def test_height_and_weight_come_in_the_units_of_the_model(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 181.5, 80.25)
    assert body_of(plan, model("height", "weight")) == pytest.approx({"height": 181.5, "weight": 80.25})
    assert body_of(plan, model("height", height="m")) == pytest.approx({"height": 1.815})


def test_what_is_not_asked_not_there_or_of_an_unknown_unit_is_left_blank(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 181.5, None)
    assert body_of(plan, model("weight", "age")) == {}
    assert body_of(plan, model("height", height="feet")) == {}


@pytest.mark.parametrize("height", [1.8, 0.0, 18_000.0])
def test_a_height_that_nobody_has_is_left_blank(tmp_path: Path, height: float) -> None:
    assert body_of(plan_of(tmp_path, height, 70.0), model("height", "weight")) == {"weight": 70.0}


def test_phantoms_that_differ_in_one_voxel_pair_are_two_studies(tmp_path: Path) -> None:
    """Also where their sums agree: a study of two phantoms would be refused, or worse, mixed."""
    one = np.zeros((1, 4, 4, 3), np.int16)
    other = one.copy()
    one[0, 0, 0, 0] = other[0, 1, 0, 0] = 7
    for name, cine in (("a", one), ("b", other)):
        write_dicom(tmp_path / name, cine, spacing_mm=(2, 2, 8), time_step_ms=50)
    assert len({series.study_uid for series in scan([tmp_path]).series}) == 2
