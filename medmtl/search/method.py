"""The three searches by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medmtl.registry import nearest
from medmtl.search.described import MakeJob, Method
from medmtl.search.evolution_method import evolution_method
from medmtl.search.fixed_methods import TEMPERATURE, grid_method, line_method
from medmtl.types import ConfigError

METHODS = ("line", "grid", "evolution")


def build_method(name: str, make_job: MakeJob, **options: Any) -> Method:
    """A search by its name.

    Args:
        name: ``line``, ``grid`` or ``evolution``.
        make_job: the training of the config with some keys set to other values.
        options: of the method, by name; None means its default.

    Raises:
        ConfigError: an unknown method, an option of another one, or a value that cannot be used.
    """
    makers: dict[str, Callable[..., Method]] = {
        "line": line_method, "grid": grid_method, "evolution": evolution_method,
    }  # fmt: skip
    if name not in makers:
        raise ConfigError(f"--method: {name!r} is no method of searching{nearest(name, list(METHODS))}")
    takes = {method: set(inspect.signature(maker).parameters) for method, maker in makers.items()}
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in takes[name]:
            owners = [method for method in METHODS if option in takes[method]]
            said = f"is for {' and '.join(owners)}" if owners else "is no option"
            raise ConfigError(f"--{option.replace('_', '-')}: {said}; --method is {name}")
    base = make_job({}, Path("base"))
    if name == "line" and given.get("key") not in (None, TEMPERATURE):
        given["whole"] = _is_whole(make_job, given["key"], given.get("low"))
    return makers[name](base, **given)


def _is_whole(make_job: MakeJob, key: str, low: float | None) -> bool:
    """Whether a key of the config takes whole numbers only."""
    if low is None or not float(low).is_integer():
        return False
    try:
        make_job({key: float(low) + 0.5}, Path("trial"))
    except ConfigError:
        make_job({key: int(low)}, Path("trial"))
        return True
    return False
