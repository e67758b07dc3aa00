"""Ranges and choices: what cannot be searched along is a sentence, and every place is a value in range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.search.space import Choice, Number, parse_range, parse_variable, spread
from medmtl.types import ConfigError


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("training.learning_rate", "write KEY=LOW..HIGH or KEY=A,B,C"),
        ("x=", "write KEY=LOW..HIGH"),
        ("x=1..", "is no range"),
        ("x=a..b", "is no range; write two numbers"),
        ("x=true..3", "is no range"),
        ("x=5..1", "is empty; give the lower end first"),
        ("x=2..2", "is empty"),
        ("x=.inf...nan", "is empty"),
        ("x=only", "at least two different values"),
        ("x=a,a", "at least two different values"),
        ("x=[1],[2]", "is no single value"),
        ("x={,b", "is not a value that YAML knows"),
    ],
)
def test_what_is_no_variable_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("[", r"\[")):
        parse_variable(text)


def test_a_log_scale_does_not_reach_zero() -> None:
    with pytest.raises(ConfigError, match="reaches 0"):
        Number(0.0, 1.0, log=True)


def test_ends_of_a_whole_range_are_whole() -> None:
    with pytest.raises(ConfigError, match="whole numbers has ends that are none"):
        Number(0.5, 3, whole=True)


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        ("a.b=1e-4..1e-2", Number(1e-4, 1e-2, log=True)),
        ("a.b=0.5..2.0", Number(0.5, 2.0)),
        ("a.b=-1.0..1.0", Number(-1.0, 1.0)),
        ("a.b=1..9", Number(1, 9, whole=True)),
        ("a.b=1..10", Number(1, 10, log=True, whole=True)),
        ("a.b=dice_ce,dice_focal", Choice(("dice_ce", "dice_focal"))),
        ("a.b=0,0.1,true", Choice((0, 0.1, True))),
    ],
)
def test_text_becomes_a_range_or_a_choice(text: str, variable: Number | Choice) -> None:
    assert parse_variable(text) == ("a.b", variable)


def test_a_range_alone_is_read_too() -> None:
    assert parse_range("0.1..1000") == Number(0.1, 1000, log=True)


@given(
    low=st.floats(1e-6, 1e3),
    factor=st.floats(1.01, 1e6),
    place=st.floats(-1.0, 2.0),
    log=st.booleans(),
)
def test_every_place_is_a_value_in_range_and_values_keep_their_order(
    low: float, factor: float, place: float, log: bool
) -> None:
    over = Number(low, low * factor, log=log)
    value = over.at(place)
    assert over.low <= value <= over.high
    assert over.at(place + 0.5) >= value
    if 0 <= place <= 1:
        assert over.place(value) == pytest.approx(place, abs=0.08)  # four digits of a narrow range


def test_a_log_scale_has_even_ratios() -> None:
    over = Number(0.1, 1000, log=True)
    assert [over.at(place) for place in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.1, 1.0, 10.0, 100.0, 1000.0]


def test_whole_numbers_are_rounded() -> None:
    over = Number(1, 10, whole=True)
    assert {over.at(place) for place in np.linspace(0, 1, 200)} == set(range(1, 11))


def test_more_spread_points_begin_with_fewer() -> None:
    assert np.array_equal(spread(5, 3, seed=1), spread(37, 3, seed=1)[:5])
    assert not np.array_equal(spread(5, 3, seed=1), spread(5, 3, seed=2))
