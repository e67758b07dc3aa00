"""Metrics as one flat table, and each case's own score."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medmtl.data.columns import Column
from medmtl.evaluation.comparison.values import case_scores, flat_values
from medmtl.tasks import Task, build_task

COLUMNS = {
    "anatomy": Column("anatomy", "mask", labels={"LV": 1, "MYO": 2}),
    "t1": Column("t1", "map", unit="ms"),
    "disease": Column("disease", "category", classes=("a", "b")),
    "LV_EDV": Column("LV_EDV", "value", unit="mL"),
    "LV_EF": Column("LV_EF", "value", unit="%"),
    "n": Column("n", "value"),
}


def task(name: str, **section: Any) -> Task:
    return build_task(name, section, COLUMNS)


ANATOMY = task("anatomy", type="segmentation", target="anatomy")
DISEASE = task("disease", type="classification", target="disease")
T1 = task("t1", type="dense_regression", target="t1")
FUNCTION = task("function", type="regression", targets=["LV_EDV", "LV_EF"])
PLAIN = task("plain", type="regression", targets=["n"])


def table() -> pd.DataFrame:
    rows = [
        {"case_id": "a", "disease.class": "a", "disease.truth": "a", "disease.probability.a": 0.7,
         "disease.probability.b": 0.3, "t1.mae": 20.0, "t1.r": 0.5,
         "function.LV_EDV [mL]": 110.0, "function.truth.LV_EDV [mL]": 100.0,
         "function.LV_EF [%]": 50.0, "function.truth.LV_EF [%]": 52.0, "plain.n": 1.0, "plain.truth.n": 3.0},
        {"case_id": "a", "frame": "ED", "anatomy.dice.LV": 0.9, "anatomy.dice.MYO": 0.7,
         "anatomy.hd95.LV": 2.0},
        {"case_id": "a", "frame": "ES", "anatomy.dice.LV": 0.7, "anatomy.dice.MYO": 0.5,
         "anatomy.hd95.LV": 4.0},
        {"case_id": "a", "frame": "5", "anatomy.dice.LV": 0.0},
        {"case_id": "b", "disease.class": "a", "disease.truth": "b", "disease.probability.a": 0.6,
         "disease.probability.b": 0.4, "t1.mae": 30.0, "t1.r": 0.1,
         "function.LV_EDV [mL]": 180.0, "function.truth.LV_EDV [mL]": 200.0,
         "function.LV_EF [%]": 40.0, "function.truth.LV_EF [%]": math.nan,
         "plain.n": 7.0, "plain.truth.n": 5.0},
        {"case_id": "b", "frame": "ED", "anatomy.dice.LV": 0.8, "anatomy.dice.MYO": math.nan},
        {"case_id": "c", "disease.class": None, "disease.truth": "b"},
    ]  # fmt: skip
    return pd.DataFrame(rows)


def scores(of: Task, metric: str) -> dict[str, float]:
    found = case_scores(table(), of, metric)
    assert found is not None
    return dict(found)


def test_a_case_without_a_score_is_left_out() -> None:
    assert "c" not in scores(ANATOMY, "dice")
    assert "c" not in scores(FUNCTION, "nmae")
    assert "c" not in scores(DISEASE, "accuracy")


def test_a_metric_that_no_case_has_gives_no_scores() -> None:
    assert case_scores(table(), task("other", type="segmentation", target="anatomy"), "dice") is None
    assert case_scores(table(), task("other", type="regression", targets=["n"]), "mae.n") is None
    assert case_scores(table(), task("other", type="classification", target="disease"), "accuracy") is None
    assert case_scores(table(), task("other", type="dense_regression", target="t1"), "mae") is None


def test_dice_of_a_case_is_the_mean_over_ed_es_and_structures() -> None:
    assert scores(ANATOMY, "dice") == pytest.approx({"a": (0.8 + 0.6) / 2, "b": 0.8})
    assert scores(ANATOMY, "dice.LV") == pytest.approx({"a": 0.8, "b": 0.8})
    assert scores(ANATOMY, "dice.LV.ES") == pytest.approx({"a": 0.7})


def test_distances_and_errors_are_negative_so_that_higher_is_better() -> None:
    assert scores(ANATOMY, "hd95.LV") == pytest.approx({"a": -3.0})
    assert scores(T1, "mae") == {"a": -20.0, "b": -30.0}
    assert scores(T1, "r") == {"a": 0.5, "b": 0.1}


def test_errors_of_values_are_in_standard_deviations_of_the_truth() -> None:
    assert scores(FUNCTION, "mae.LV_EDV") == pytest.approx({"a": -10 / 50, "b": -20 / 50})
    assert scores(PLAIN, "mae.n") == pytest.approx({"a": -2.0, "b": -2.0})


def test_a_right_class_scores_one_and_auc_the_probability_of_the_true_class() -> None:
    assert scores(DISEASE, "balanced_accuracy") == {"a": 1.0, "b": 0.0}
    assert scores(DISEASE, "auc") == {"a": 0.7, "b": 0.4}


def test_nmae_is_the_mean_over_values_of_the_mean_over_cases() -> None:
    metrics = {
        "function": {"mae.LV_EDV": {"value": 15.0, "n": 2}, "r.LV_EF": {"value": None, "n": 1}},
        "plain": {},
    }
    found = flat_values(metrics, table(), {"function": FUNCTION, "plain": PLAIN})
    assert found["function.mae.LV_EDV"] == (15.0, 2)
    assert "function.r.LV_EF" not in found
    assert found["plain.nmae"] == (2.0, 2)
    # LV_EF has one true value, so no spread to measure errors in
    assert found["function.nmae"] == (pytest.approx((0.2 + 0.4) / 2), 2)


def test_without_truth_there_is_no_nmae() -> None:
    blank = table().assign(**{"plain.truth.n": np.nan})
    assert flat_values({}, blank, {"plain": PLAIN}) == {}
