"""What people write is read strictly: nothing is guessed, and every problem is one sentence."""

from __future__ import annotations

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from medmtl.strict import load_yaml, options_model, parse_options, yaml_problem
from medmtl.types import ConfigError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = Field(default=1, ge=1)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    share: float = 0.5
    on: bool = False
    sizes: tuple[int, ...] = ()
    inner: Inner = Field(default_factory=Inner)


class Built:
    def __init__(self, given: int, widths: list[int], *, power: float = 1.0) -> None:
        self.given, self.widths, self.power = given, widths, power


class TakesAnything:
    def __init__(self, *, power: float = 1.0, **options: object) -> None:
        self.power, self.options = power, options


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("2E5", 2e5), ("1.e+2", 100.0), ("-1e3", -1e3)])
def test_scientific_notation_is_a_number(text: str, value: float) -> None:
    assert load_yaml(f"rate: {text}") == {"rate": value}


@pytest.mark.parametrize("text", ["e3", "1e", "1e3x", "patient1e3"])
def test_what_only_begins_like_a_number_is_text(text: str) -> None:
    assert load_yaml(f"rate: {text}") == {"rate": text}


def test_a_key_that_stands_twice_is_an_error_with_its_line() -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        load_yaml("a: 1\nb: 2\na: 3\n")
    assert yaml_problem(caught.value) == "line 3: the key 'a' stands there twice; keep one"


def test_reading_never_builds_an_object() -> None:
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        load_yaml("!!python/object/apply:os.getcwd []")


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"name": "a", "shear": 1}, r"at\.shear: unknown key; did you mean 'share'\?"),
        ({"name": "a", "inner": {"sise": 2}}, r"at\.inner\.sise: unknown key; did you mean 'size'\?"),
        ({}, r"at\.name: is missing; add it"),
        ({"name": 1}, r"at\.name: must be a valid string, found 1"),
        ({"name": "a", "share": "0.5"}, r"at\.share: must be a valid number, found '0\.5'"),
        ({"name": "a", "share": True}, r"at\.share: must be a valid number, found True"),
        ({"name": "a", "on": 1}, r"at\.on: must be a valid boolean, found 1"),
        ({"name": "a", "sizes": [1, 2.5]}, r"at\.sizes\.1: must be a valid integer, found 2\.5"),
        ({"name": "a", "inner": {"size": 0}}, r"inner\.size: must be greater than or equal to 1, found 0"),
        ({"name": "a", "inner": 3}, r"at\.inner: must be a mapping of `key: value` lines, found 3"),
        ({"name": "a", 1: 2}, r"at\.1: unknown key"),
    ],
)
def test_a_problem_is_one_sentence_with_its_place(found: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_options(Outer, found, "at.")


def test_every_problem_has_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Outer, {"nme": "a", "share": "x"}, "")
    assert len(str(caught.value).splitlines()) == 3


def test_a_whole_number_is_a_number_and_a_list_is_a_tuple() -> None:
    parsed = parse_options(Outer, {"name": "a", "share": 1, "sizes": [1, 2]}, "")
    assert (parsed.share, parsed.sizes) == (1.0, (1, 2))


def test_the_arguments_of_a_constructor_are_its_options() -> None:
    options = options_model(Built, leave_out=("given",))
    assert list(options.model_fields) == ["widths", "power"]
    with pytest.raises(ConfigError, match=r"^widths: is missing"):
        parse_options(options, {}, "")
    with pytest.raises(ConfigError, match=r"^powr: unknown key; did you mean 'power'"):
        parse_options(options, {"widths": [1], "powr": 2.0}, "")


def test_a_part_of_the_arguments_can_be_checked() -> None:
    options = options_model(Built, leave_out=("given",), complete=False)
    assert parse_options(options, {"power": 2}, "").model_dump(exclude_unset=True) == {"power": 2.0}


def test_a_constructor_that_takes_anything_takes_anything() -> None:
    assert parse_options(options_model(TakesAnything), {"other": 1}, "").model_extra == {"other": 1}
    with pytest.raises(ConfigError, match=r"^power: must be a valid number"):
        parse_options(options_model(TakesAnything), {"power": "high"}, "")
