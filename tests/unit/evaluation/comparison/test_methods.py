"""Weightings as they are named on a command line."""

from __future__ import annotations

from typing import Any

import pytest

from medmtl.evaluation.comparison.methods import Method, parse_methods, without_extras
from medmtl.types import ConfigError
from medmtl.weighting import build_weighting

TASKS = ("anatomy", "disease", "function")


def parse(asked: Any, own: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    return {method.name: dict(method.section) for method in parse_methods(asked, TASKS, own)}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("", "names no weighting; give some of .*uw-so"),
        (" , ", "names no weighting"),
        ("ew,uwso", "unknown weighting 'uwso'; did you mean 'uw-so'"),
        ("ew,uw,ew", "ew is named twice"),
        ("all,ew", "ew is named twice"),
        ("dwa(temperature=2", "a bracket is not closed"),
        ("dwa)temperature=2(", "one too many"),
        ("dwa(2)", "'2' is no option; write option=value"),
        ("dwa(=2)", "is no option"),
        ("dwa(temperature=2,temperature=3)", "'temperature' stands there twice"),
        ("dwa(temprature=2)", "no option 'temprature'; did you mean 'temperature'"),
        ("uw-so(temperature=0)", "temperature"),
        ("scalarization", "needs the option 'weights'"),
        ("{temperature: 2}", "a mapping needs `type`"),
        ("{dwa}", "a mapping needs `type`|is no mapping"),
        ("{type: dwa, type: ew}", "stands there twice"),
        ("dwa (temperature=2) x", "write a name, or name"),
        ([{"type": 3}], "a mapping needs `type`"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(asked: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(asked)


def test_one_task_leaves_nothing_to_compare() -> None:
    with pytest.raises(ConfigError, match="one task only, so there is nothing to weigh"):
        parse_methods("ew,uw", ("anatomy",))


def test_options_stand_in_brackets_and_are_yaml() -> None:
    text = "ew, uw-so(temperature=5), scalarization(weights={anatomy: 0.5, disease: 1e-1, function: 2}) ,uw"
    assert parse(text) == {
        "ew": {"type": "ew"},
        "uw-so(temperature=5)": {"type": "uw-so", "temperature": 5},
        "scalarization(weights={anatomy: 0.5, disease: 0.1, function: 2})": {
            "type": "scalarization",
            "weights": {"anatomy": 0.5, "disease": 0.1, "function": 2},
        },
        "uw": {"type": "uw"},
    }


def test_a_mapping_says_the_same_as_brackets() -> None:
    in_brackets = parse("uw-so(temperature=5,floor=0.1)")
    assert parse("{type: uw-so, temperature: 5, floor: 0.1}") == in_brackets
    assert parse([{"type": "uw-so", "temperature": 5, "floor": 0.1}]) == in_brackets
    assert parse(["uw-so(temperature=5,floor=0.1)"]) == in_brackets


def test_a_bare_name_takes_the_configs_own_options_where_they_are_of_its_type() -> None:
    own = {"type": "uw-so", "temperature": 7.0}
    assert parse("ew,uw-so,dwa", own)["uw-so"] == own
    assert parse("uw-so(temperature=3)", own)["uw-so(temperature=3)"]["temperature"] == 3


def test_uw_so_needs_no_temperature_to_be_compared() -> None:
    assert parse("ew,uw-so")["uw-so"] == {"type": "uw-so", "temperature": 20.0}


def test_all_are_those_that_build_from_their_name_and_need_no_extra() -> None:
    found = parse("all")
    assert list(found) == sorted(found) == without_extras(TASKS)
    assert {"ew", "uw", "uw-so", "uw-o", "dwa", "rlw", "gls", "balanced", "gradnorm"} <= set(found)
    assert not {"scalarization", "handcrafted", "normalized", "pcgrad", "upgrad"} & set(found)
    for section in found.values():
        build_weighting(section.pop("type"), TASKS, **section)


def test_a_method_of_ones_own_is_named_by_its_module() -> None:
    name = "medmtl.weighting.ew:EqualWeights"
    assert parse(name) == {name: {"type": name}}


@pytest.mark.parametrize("name", ["ew", "uw-so(temperature=5)", "a:B", "../up", "x" * 200, "é(ü=1)", "."])
def test_every_method_has_a_folder_that_stays_where_it_is_put(name: str) -> None:
    folder = Method(name, {}).folder
    assert folder
    assert folder not in (".", "..")
    assert "/" not in folder
    assert len(folder) <= 60
    assert folder.isascii()


def test_methods_that_look_alike_have_folders_of_their_own() -> None:
    names = [
        "dwa(temperature=2)",
        "dwa[temperature=2]",
        "dwa-temperature=2",
        "x" * 100 + "1",
        "x" * 100 + "2",
    ]
    assert len({Method(name, {}).folder for name in names}) == len(names)
