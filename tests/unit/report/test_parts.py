"""Numbers, ranking, weights and columns, apart from the page."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.evaluation import PredictedTask
from medmtl.report.canvas import dress, new_figure, to_svg
from medmtl.report.numbers import as_float, shown, with_unit
from medmtl.report.outputs import value_columns
from medmtl.report.ranking import per_case
from medmtl.report.weights import effective_tasks, smoothed, weight_shares


@pytest.mark.parametrize("value", [None, "", "blank", math.nan, math.inf])
def test_what_is_no_number_is_shown_as_a_dash(value: object) -> None:
    assert with_unit(value, "mL") == "–"


def test_numbers_have_the_digits_that_mean_something() -> None:
    assert shown(0.91234) == "0.912"
    assert with_unit(-12.345, "mL") == "−12.3 mL"
    assert with_unit(0.041, "mm") == "0.04 mm"
    assert math.isnan(as_float("x"))


@given(st.lists(st.floats(0.001, 1e3), min_size=2, max_size=6))
def test_weight_shares_add_up_to_one_over_the_tasks_present(weights: list[float]) -> None:
    table = pd.DataFrame([{f"t{i}.weight": w for i, w in enumerate(weights)}])
    table.loc[1] = [np.nan, *weights[1:]]
    shares = weight_shares(table)
    assert shares is not None
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert np.isnan(shares.iloc[1, 0])


def test_the_effective_number_of_tasks_is_k_for_equal_weights_and_one_after_a_collapse() -> None:
    shares = pd.DataFrame({"a": [1 / 3, 1.0], "b": [1 / 3, 0.0], "c": [1 / 3, 0.0]})
    assert effective_tasks(shares) == pytest.approx([3.0, 1.0])


def test_smoothing_keeps_a_constant_and_shortens_a_long_series() -> None:
    x = np.arange(5000.0)
    steps, values = smoothed(x, np.full(5000, 0.3))
    assert len(steps) == 400
    assert values == pytest.approx(0.3)
    assert (steps[0], steps[-1]) == (0, 4999)


def test_a_weights_table_without_weights_has_no_shares() -> None:
    assert weight_shares(pd.DataFrame({"step": [0], "a.loss": [1.0]})) is None
    assert weight_shares(pd.DataFrame({"step": [0], "a.weight": [np.nan]})) is None


def test_a_case_level_cell_wins_over_the_mean_of_its_frames() -> None:
    cases = pd.DataFrame(
        {
            "case_id": ["b", "b", "b", "a"],
            "frame": [None, "ED", "ES", "ED"],
            "t.dice.LV": [np.nan, 0.8, 0.6, 0.5],
            "t.hd95.LV": [9.0, 1.0, 2.0, 4.0],
        }
    )
    table = per_case(cases)
    assert list(table.index) == ["b", "a"]
    assert table["t.dice.LV"].tolist() == pytest.approx([0.7, 0.5])
    assert table["t.hd95.LV"].tolist() == [9.0, 4.0]


def test_columns_tell_task_name_unit_and_where_the_value_comes_from() -> None:
    headers = ["case_id", "anatomy.LV_EF [%]", "function.LV_EF [%]", "disease.class", "other.x"]
    kinds = {"anatomy": "segmentation", "function": "regression", "disease": "classification"}
    columns = value_columns(headers, {name: PredictedTask(name, kind) for name, kind in kinds.items()})
    assert [(column.source, column.unit) for column in columns] == [
        ("function (head)", "%"),
        ("anatomy (from masks)", "%"),
    ]


def test_two_figures_in_a_page_share_no_id_and_escape_their_alternative() -> None:
    drawings = []
    for slug in ("first", "second"):
        figure = new_figure(2, 2)
        dress(figure.subplots(), "cost in $ and $")
        drawings.append(to_svg(figure, slug, '"<b>"'))
    first, second = ({part.split('"')[0] for part in drawing.split(' id="')[1:]} for drawing in drawings)
    assert first
    assert not first & second
    assert "<b>" not in drawings[0]
    assert "currentColor" in drawings[0]
