"""Short names for built-in members, ``module:Class`` for everybody else's.

A registry knows the base class that its members must have, so a name from a config can only ever build
something of the right kind. Third-party members are imported only when a config names them.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from medmtl.types import ConfigError

Base = TypeVar("Base")


def nearest(name: str, known: list[str]) -> str:
    """A hint such as ``; did you mean 'uw-so'?``, or what is known when nothing is near."""
    if not known:
        return ""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


class Registry(Generic[Base]):
    """Members of one kind by name.

    Args:
        kind: what a member is called in messages, such as ``"weighting"``.
        base: class that every member must subclass.
    """

    def __init__(self, kind: str, base: type[Base]) -> None:
        self.kind = kind
        self.base = base
        self._members: dict[str, type[Base]] = {}

    def register(self, name: str) -> Callable[[type[Any]], type[Any]]:
        """Class decorator that adds a member under a short name; a name is taken once."""

        def add(member: type[Any]) -> type[Any]:
            assert name not in self._members, f"{self.kind} {name!r} is registered twice"
            assert issubclass(member, self.base)
            self._members[name] = member
            return member

        return add

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._members))

    def get(self, name: str) -> type[Base]:
        """The class behind a short name or ``module:Class``.

        Raises:
            ConfigError: the name is unknown, cannot be imported, or is not of this kind.
        """
        if name in self._members:
            return self._members[name]
        if ":" not in name:
            raise ConfigError(f"unknown {self.kind} {name!r}{nearest(name, list(self._members))}")
        module_name, _, class_name = name.partition(":")
        try:
            member = getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"cannot import {self.kind} {name!r} ({error}); write it as 'package.module:Class' and "
                "make sure that Python finds the package"
            ) from error
        if not (isinstance(member, type) and issubclass(member, self.base)):
            raise ConfigError(
                f"{name!r} is not a {self.kind}: it must subclass {self.base.__module__}.{self.base.__name__}"
            )
        return member
