"""Weightings by name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from medmtl.registry import Registry, nearest
from medmtl.types import ConfigError
from medmtl.weighting._base import Weighting
from medmtl.weighting._common import COMMON, CommonOptions

WEIGHTINGS: Registry[Weighting] = Registry("weighting", Weighting)
"""Every built-in weighting by its short name."""


def options_of(name: str) -> tuple[str, ...]:
    """Names of the options that a weighting takes.

    Raises:
        ConfigError: the weighting is unknown.
    """
    parameters = inspect.signature(WEIGHTINGS.get(name).__init__).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def build_weighting(name: str, tasks: Sequence[str], **options: Any) -> Weighting:
    """A weighting by its short name, or ``module:Class`` for one's own.

    Args:
        name: such as ``"uw-so"``; every built-in name is in ``WEIGHTINGS``.
        tasks: names of the tasks whose losses it will see.
        options: the method's own options, and those of :class:`~medmtl.weighting.CommonOptions`, by name. A
            method that has an option of the same name gets it.

    Raises:
        ConfigError: the name or an option is unknown, a needed option is missing, or a value cannot be used.
    """
    member = WEIGHTINGS.get(name)
    known = options_of(name)
    for option in options:
        if option not in known and option not in COMMON:
            raise ConfigError(f"weighting {name!r} has no option {option!r}{_hint(option, known)}")
    parameters = inspect.signature(member.__init__).parameters
    for option in known:
        if parameters[option].default is inspect.Parameter.empty and option not in options:
            raise ConfigError(f"weighting {name!r} needs the option {option!r}")
    common = {option: options.pop(option) for option in COMMON if option in options and option not in known}
    weighting = member(tasks, **options)
    CommonOptions(**common).apply(weighting)
    return weighting


def _hint(option: str, known: tuple[str, ...]) -> str:
    """The nearest option that there is, or all of the method's own."""
    close = nearest(option, [*known, *COMMON])
    if "did you mean" in close:
        return close
    return nearest(option, list(known)) if known else "; it takes no options of its own"
