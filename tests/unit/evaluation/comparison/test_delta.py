"""Delta-m and the directions of metrics."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.data.columns import Column, Derived, Schema
from medmtl.data.dataset import Dataset
from medmtl.evaluation.comparison import change_percent, choose_metrics, delta_m_percent, higher_is_better
from medmtl.evaluation.comparison.directions import HIGHER_IS_BETTER, metric_names
from medmtl.tasks import Task, build_task
from medmtl.types import ConfigError
from tests.helpers.study import sections

VALUES = st.floats(min_value=1e-3, max_value=1e3)


COLUMNS = {
    "anatomy": Column("anatomy", "mask", labels={"LV": 1, "MYO": 2}),
    "tissue": Column("tissue", "mask", labels={"healthy": 1, "scar": 2}),
    "t1": Column("t1", "map", unit="ms"),
    "disease": Column("disease", "category", classes=("a", "b")),
    "LV_EDV": Column("LV_EDV", "value", unit="mL", derived=Derived("volume", "anatomy", "LV", "ED")),
    "LV_EF": Column("LV_EF", "value", unit="%", derived=Derived("ejection_fraction", "anatomy", "LV")),
}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path, Schema("tiny", "MR", ("cine",), COLUMNS), (), {})


@pytest.fixture
def tasks(dataset: Dataset) -> dict[str, Task]:
    return {name: build_task(name, section, dataset.columns) for name, section in sections().items()}


@pytest.mark.parametrize("metric", ["bias.LV_EF", "loa_low.LV_EF", "loa_high.LV_EF", "loss", ""])
def test_a_metric_that_is_best_at_zero_has_no_direction(metric: str) -> None:
    with pytest.raises(ConfigError, match="has no direction in which it gets better"):
        higher_is_better(metric)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["heart=dice"], "no task 'heart'"),
        (["anatomy"], "write task=metric"),
        (["anatomy="], "write task=metric"),
        (["anatomy=dice", "anatomy=hd95"], "given twice"),
        (["anatomy=dcie"], "no direction|did you mean 'dice'"),
        (["anatomy=dice.LVV"], "no metric 'dice.LVV'; did you mean 'dice.LV'"),
        (["function=mae.LV_E"], "did you mean 'mae.LV_E[FD]"),
        (["anatomy=bias.LV_EF"], "no direction"),
        ([f"{t}=none" for t in ("anatomy", "tissue", "t1", "disease", "function")], "no task is left"),
    ],
)
def test_a_metric_that_is_not_there_is_refused_in_words(
    tasks: dict[str, Task], dataset: Dataset, asked: list[str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        choose_metrics(tasks, dataset, asked)


def test_every_kind_of_task_has_a_metric_of_its_own(tasks: dict[str, Task], dataset: Dataset) -> None:
    assert choose_metrics(tasks, dataset) == {
        "anatomy": "dice",
        "tissue": "dice",
        "t1": "mae",
        "disease": "balanced_accuracy",
        "function": "nmae",
    }


def test_metrics_can_be_chosen_and_tasks_left_out(tasks: dict[str, Task], dataset: Dataset) -> None:
    asked = ["anatomy=mae.LV_EF", "tissue=none", "function=r.LV_EDV"]
    chosen = choose_metrics(tasks, dataset, asked)
    assert chosen == {
        "anatomy": "mae.LV_EF", "t1": "mae", "disease": "balanced_accuracy", "function": "r.LV_EDV",
    }  # fmt: skip
    assert choose_metrics(tasks, dataset, dict(pair.split("=") for pair in asked)) == chosen


def test_one_value_is_compared_by_its_own_error(dataset: Dataset) -> None:
    section = {"type": "regression", "targets": ["LV_EF"]}
    tasks = {"function": build_task("function", section, dataset.columns)}
    assert choose_metrics(tasks, dataset) == {"function": "mae.LV_EF"}


def test_every_metric_that_can_be_chosen_has_a_direction(tasks: dict[str, Task], dataset: Dataset) -> None:
    for task in tasks.values():
        for name in metric_names(task, dataset):
            assert higher_is_better(name) is HIGHER_IS_BETTER[name.split(".")[0]]


@pytest.mark.parametrize(
    ("value", "single"), [(math.nan, 1.0), (1.0, math.nan), (0.5, 0.0), (math.inf, 1.0), (1.0, -math.inf)]
)
def test_a_change_of_nothing_is_not_a_number(value: float, single: float) -> None:
    assert math.isnan(change_percent(value, single, higher_is_better=True))


def test_a_task_without_a_change_leaves_no_delta_m() -> None:
    metrics = {"anatomy": "dice", "function": "mae.LV_EF"}
    assert math.isnan(delta_m_percent({"anatomy": 0.9}, {"anatomy": 0.8, "function": 3.0}, metrics))
    assert math.isnan(delta_m_percent({}, {}, {}))


@given(st.lists(st.tuples(VALUES, st.floats(-0.9, 9.0)), min_size=1, max_size=6))
def test_delta_m_is_the_mean_of_the_gains_and_losses_that_were_put_in(
    pairs: list[tuple[float, float]],
) -> None:
    names = [f"t{i}" for i in range(len(pairs))]
    metrics = {name: ("dice", "mae.x")[i % 2] for i, name in enumerate(names)}
    single = {name: alone for name, (alone, _) in zip(names, pairs, strict=True)}
    found = {name: alone * (1 + change) for name, (alone, change) in zip(names, pairs, strict=True)}
    worse = [
        change if i % 2 else -change for i, (_, change) in enumerate(pairs)
    ]  # more of an error, or less Dice
    expected = 100 * sum(worse) / len(worse)
    assert delta_m_percent(found, single, metrics) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(VALUES, VALUES)
def test_better_is_negative_in_either_direction(value: float, single: float) -> None:
    change = change_percent(value, single, higher_is_better=True)
    assert (change < 0) == (value > single)
    assert change_percent(value, single, higher_is_better=False) == pytest.approx(-change)


def test_a_negative_single_task_value_keeps_the_sign() -> None:
    assert change_percent(0.1, -0.2, higher_is_better=True) == pytest.approx(-150.0)
    assert change_percent(-0.4, -0.2, higher_is_better=True) == pytest.approx(100.0)
