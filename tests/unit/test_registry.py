"""Names of configs become classes of the right kind, or an error that says which names there are."""

from __future__ import annotations

import pytest

from medmtl.registry import Registry, nearest
from medmtl.types import ConfigError


class Animal:
    """What every member must be."""


class Plant:
    """What no member may be."""


@pytest.fixture
def animals() -> Registry[Animal]:
    registry: Registry[Animal] = Registry("animal", Animal)

    @registry.register("cat")
    class Cat(Animal):
        pass

    @registry.register("ant")
    class Ant(Animal):
        pass

    return registry


def test_a_short_name_gives_its_class(animals: Registry[Animal]) -> None:
    assert issubclass(animals.get("cat"), Animal)
    assert animals.get("cat").__name__ == "Cat"


def test_names_come_in_alphabetical_order(animals: Registry[Animal]) -> None:
    assert list(animals) == ["ant", "cat"]


def test_a_misspelt_name_suggests_the_nearest(animals: Registry[Animal]) -> None:
    with pytest.raises(ConfigError, match="unknown animal 'cta'; did you mean 'cat'"):
        animals.get("cta")


def test_a_name_near_to_none_lists_all(animals: Registry[Animal]) -> None:
    with pytest.raises(ConfigError, match="unknown animal 'elephant'; known are ant, cat"):
        animals.get("elephant")


def test_module_and_class_name_a_member_of_ones_own(animals: Registry[Animal]) -> None:
    assert animals.get(f"{__name__}:Animal") is Animal


@pytest.mark.parametrize("name", ["no_such_package:Cat", f"{__name__}:Nobody"])
def test_a_member_that_cannot_be_imported_is_named(animals: Registry[Animal], name: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot import animal .* 'package\.module:Class'"):
        animals.get(name)


@pytest.mark.parametrize("member", ["Plant", "pytest"])
def test_a_member_of_another_kind_is_refused(animals: Registry[Animal], member: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a animal: it must subclass .*Animal"):
        animals.get(f"{__name__}:{member}")


def test_a_name_is_taken_once(animals: Registry[Animal]) -> None:
    with pytest.raises(AssertionError, match="registered twice"):
        animals.register("cat")(Animal)


def test_a_member_of_another_kind_cannot_be_registered(animals: Registry[Animal]) -> None:
    with pytest.raises(AssertionError):
        animals.register("fern")(Plant)


def test_nearest_is_silent_where_nothing_is_known() -> None:
    assert nearest("x", []) == ""
