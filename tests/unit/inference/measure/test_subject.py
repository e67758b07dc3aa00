"""What is measured on a study, and which flags are raised, on masks that are made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.data.dataset import Dataset
from medmtl.data.load import prepare_case
from medmtl.inference import Model
from medmtl.inference.ensemble import as_ensemble
from medmtl.inference.measure import FLAGS, Measured, Quality, measure_subject
from medmtl.inference.predictor import predict_prepared
from medmtl.inference.read import Subject
from medmtl.tasks import CaseResult
from medmtl.types import Finding
from tests.helpers.study import heart

ED, ES = heart(4.0), heart(2.5)
VOXEL_ML = 2 * 2 * 8 / 1000
GOOD = Quality(
    volumes={"anatomy.LV": (0.5, 20.0), "anatomy.RV": (0.1, 20.0)},
    values={"LV_EF": (20.0, 90.0)},
    parts={"anatomy.LV": 0.9},
    enclosed={"anatomy.LV": 0.8},
    disagreement={"LV_EF": 5.0},
    spread={"function.LV_EF [%]": 4.0},
    calibrated=("disease",),
)


@pytest.fixture
def subject(model: Model, study: Dataset) -> Subject:
    case = study.select("test")[0]
    prepared = prepare_case(case, model.columns, model.preparation, covariates=model.covariates, wanted=())
    return Subject(replace(prepared, frame_ed=None, frame_es=None), heart_rate_bpm=60.0)


def result(first: np.ndarray = ED, second: np.ndarray = ES, **values: Any) -> CaseResult:
    return CaseResult({"anatomy": np.stack([second, first])}, {name: dict(v) for name, v in values.items()})


def measure(model: Model, subject: Subject, found: CaseResult, quality: Quality = GOOD) -> Measured:
    model.quality = quality
    return measure_subject(model, subject, found)


def codes(measured: Measured) -> list[str]:
    assert measured.row["quality.flags"] == ";".join(dict.fromkeys(flag.code for flag in measured.flags))
    assert all(flag.code in FLAGS and flag.message for flag in measured.flags)
    return [flag.code for flag in measured.flags]


def count(mask: np.ndarray, value: int) -> float:
    return np.count_nonzero(mask == value) * VOXEL_ML


def test_ed_and_es_come_from_the_curve_and_all_values_follow(model: Model, subject: Subject) -> None:
    found = result(function={"LV_EDV [mL]": 3.0, "LV_EF [%]": 50.0})
    measured = measure(model, subject, found, Quality())
    edv, esv = count(ED, 3), count(ES, 3)
    assert (measured.frame_ed, measured.frame_es) == (1, 0)
    assert measured.record["volumes_ml"]["anatomy"]["LV"] == pytest.approx([esv, edv])
    values = found.values["anatomy"]
    assert values["LV_EDV [mL]"] == pytest.approx(edv)
    assert values["LV_EF [%]"] == pytest.approx(100 * (edv - esv) / edv)
    assert values["LV_SV [mL]"] == pytest.approx(edv - esv)
    assert values["LV_CO [L/min]"] == pytest.approx((edv - esv) * 60 / 1000)
    assert values["MYO_mass [g]"] == pytest.approx(1.05 * count(ED, 2))
    assert found.values["function"]["LV_SV [mL]"] == pytest.approx(1.5)
    assert found.values["function"]["LV_CO [L/min]"] == pytest.approx(0.09)


def test_without_a_heart_rate_there_is_no_output(model: Model, subject: Subject) -> None:
    found = result()
    measure(model, replace(subject, heart_rate_bpm=None), found)
    assert "LV_CO [L/min]" not in found.values["anatomy"]


def test_a_plausible_heart_raises_no_flag(model: Model, subject: Subject) -> None:
    short = [np.where(np.arange(4) % 3, mask, 0) for mask in (ED, ES)]  # ends inside the stack
    assert codes(measure(model, subject, result(*short))) == []


def test_a_structure_in_pieces_is_told(model: Model, subject: Subject) -> None:
    pieces = ED.copy()
    pieces[0, :8] = 3
    measured = measure(model, subject, result(pieces))
    assert "FRAGMENTED" in codes(measured)
    assert measured.row["quality.parts.anatomy.LV"] == pytest.approx(
        1 - 32 / np.count_nonzero(pieces == 3), abs=1e-3
    )


def test_a_cavity_outside_of_its_wall_is_told(model: Model, subject: Subject) -> None:
    outside = np.where(ED == 2, 0, ED)
    assert "LV_OUTSIDE_MYOCARDIUM" in codes(measure(model, subject, result(outside, outside)))


def test_a_heart_that_the_stack_cuts_on_both_sides_is_told(model: Model, subject: Subject) -> None:
    assert codes(measure(model, subject, result())) == ["CUT_OFF"]


def test_a_volume_and_a_value_out_of_range_are_told(model: Model, subject: Subject) -> None:
    tight = replace(GOOD, volumes={"anatomy.LV": (0.5, 1.0)}, values={"LV_EF": (80.0, 90.0)})
    flags = measure(model, subject, result(), tight).flags
    told = [flag.message for flag in flags if flag.code == "OUT_OF_RANGE"]
    assert [text.split(":")[0] for text in told] == ["anatomy.LV", "anatomy.LV_EF"]


def test_a_structure_that_is_nowhere_is_told(model: Model, subject: Subject) -> None:
    nothing = np.where(ED == 1, 0, ED)
    flags = measure(model, subject, result(nothing, nothing)).flags
    assert [flag.message for flag in flags if flag.code == "EMPTY"] == [
        "anatomy.RV: was not found in any frame"
    ]


def test_masks_and_head_that_contradict_each_other_are_told(model: Model, subject: Subject) -> None:
    edv, esv = count(ED, 3), count(ES, 3)
    masks = 100 * (edv - esv) / edv
    near = measure(model, subject, result(function={"LV_EDV [mL]": edv, "LV_EF [%]": masks - 4}))
    far = measure(model, subject, result(function={"LV_EDV [mL]": edv, "LV_EF [%]": masks - 6}))
    assert near.row["quality.disagreement.LV_EF [%]"] == pytest.approx(4)
    assert "MASK_HEAD_DISAGREE" not in codes(near)
    assert "MASK_HEAD_DISAGREE" in codes(far)


def test_a_class_that_is_likelier_wrong_than_right_is_told_once_calibrated(
    model: Model, subject: Subject
) -> None:
    disease = {"class": "small", "probability.small": 0.45, "probability.large": 0.44}
    assert "UNCERTAIN" in codes(measure(model, subject, result(disease=disease)))
    assert "UNCERTAIN" not in codes(measure(model, subject, result(disease=disease), Quality()))


def test_members_that_do_not_agree_are_told(model: Model, subject: Subject) -> None:
    found = result(function={"LV_EDV [mL]": 3.0, "LV_EF [%]": 50.0})
    found.spread = {"anatomy": {"LV": 0.3, "RV": 0.05}, "function": {"LV_EF [%]": 4.5}}
    measured = measure(model, subject, found)
    assert [f.message.split(":")[0] for f in measured.flags if f.code == "UNCERTAIN"] == [
        "anatomy.LV",
        "function.LV_EF [%]",
    ]
    assert measured.row["quality.spread.anatomy.RV"] == 0.05


def test_what_reading_warned_of_is_told_once_for_each_code(model: Model, subject: Subject) -> None:
    findings = [
        Finding("GAP", "warning", "a gap"),
        Finding("GAP", "warning", "another"),
        Finding("VALUE_SCALE", "warning", "odd"),
        Finding("JOINED_SERIES", "info", "joined"),
    ]
    measured = measure(model, replace(subject, findings=tuple(findings)), result())
    assert codes(measured)[-2:] == ["MISSING_SLICES", "INPUT"]


def test_a_model_without_a_quality_section_is_judged_by_fixed_limits_alone(
    model: Model, subject: Subject
) -> None:
    assert codes(measure(model, subject, result(), Quality())) == ["CUT_OFF"]


def test_an_ensemble_says_how_far_its_members_are_apart(model: Model, subject: Subject) -> None:
    generator = torch.Generator().manual_seed(1)
    other = replace(model)
    from copy import deepcopy

    other.network = deepcopy(model.network)
    for parameter in other.network.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    both = as_ensemble([model, other]).context(torch.device("cpu"))
    same = as_ensemble([model, deepcopy(model)]).context(torch.device("cpu"))
    names = tuple(model.tasks)
    apart = predict_prepared(both, subject.case, names).spread
    assert max(apart["anatomy"].values()) > 0
    assert set(apart["function"]) == {"LV_EDV [mL]", "LV_EF [%]"}
    assert "tissue" not in apart
    none = predict_prepared(same, subject.case, names).spread
    assert all(value == pytest.approx(0, abs=1e-6) for found in none.values() for value in found.values())
    assert predict_prepared(model.context(torch.device("cpu")), subject.case, names).spread == {}


def test_mirror_images_say_how_far_they_are_apart(model: Model, subject: Subject) -> None:
    context = model.context(torch.device("cpu"), mirror=True)
    found = predict_prepared(context, subject.case, tuple(model.tasks))
    measured = measure_subject(model, subject, found, context=context)
    spread = {
        name: value for name, value in measured.row.items() if name.startswith("quality.spread.anatomy")
    }
    assert spread
    assert all(0 <= value <= 1 for value in spread.values())
    assert max(spread.values()) > 0
