"""Checks of what a user hands to a weighting; each says what was found and what would fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from medmtl.registry import nearest
from medmtl.types import ConfigError


def check_tasks(tasks: Sequence[str]) -> tuple[str, ...]:
    """The task names as a tuple.

    Raises:
        ConfigError: there is none, one is not a non-empty string, or one comes twice.
    """
    if isinstance(tasks, str):
        raise ConfigError(
            f"tasks must be a list of names, not the single string {tasks!r}; write [{tasks!r}]"
        )
    names: tuple[object, ...] = tuple(tasks)
    if not names:
        raise ConfigError("a weighting needs at least one task; tasks is empty")
    for name in names:
        if not isinstance(name, str) or not name or "\n" in name:
            raise ConfigError(f"task names must be non-empty strings on one line; found {name!r}")
        if names.count(name) > 1:
            raise ConfigError(f"task {name!r} is listed twice; every task needs a name of its own")
    return tuple(str(name) for name in names)


def check_losses(tasks: tuple[str, ...], losses: Mapping[str, Tensor], what: str = "losses") -> None:
    """Refuses losses that no weighting can use.

    Raises:
        ConfigError: an unknown task, or a loss that is not a scalar floating-point tensor.
    """
    for name, loss in losses.items():
        if name not in tasks:
            raise ConfigError(f"{what} has an unknown task {name!r}{nearest(str(name), list(tasks))}")
        if not isinstance(loss, Tensor):
            raise ConfigError(
                f"{what}[{name!r}] must be a scalar tensor; found {type(loss).__name__} {loss!r}"
            )
        if loss.ndim != 0:
            raise ConfigError(
                f"{what}[{name!r}] must be a scalar tensor; found shape {tuple(loss.shape)}, reduce it first"
            )
        if not loss.is_floating_point():
            raise ConfigError(f"{what}[{name!r}] must be a floating-point tensor; found {loss.dtype}")
    if len({loss.device for loss in losses.values()}) > 1:
        found = ", ".join(f"{name} on {loss.device}" for name, loss in losses.items())
        raise ConfigError(f"{what} must all be on one device; found {found}")


def number(option: str, value: object) -> float:
    """A finite number.

    Raises:
        ConfigError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{option} must be a finite number; found {value!r}")
    return float(value)


def positive(option: str, value: object) -> float:
    """A finite number above zero.

    Raises:
        ConfigError: it is not one.
    """
    result = number(option, value)
    if result <= 0:
        raise ConfigError(f"{option} must be greater than 0; found {value!r}")
    return result


def whole(option: str, value: object, *, at_least: int) -> int:
    """A whole number that is large enough.

    Raises:
        ConfigError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ConfigError(f"{option} must be a whole number of at least {at_least}; found {value!r}")
    return value


def per_task(
    option: str, values: object, tasks: tuple[str, ...], *, default: float | None = None
) -> list[float]:
    """One number >= 0 for every task, in the order of the tasks.

    Args:
        option: name for messages.
        values: ``{task: number}``, or None when there is a default.
        tasks: the declared tasks.
        default: number of a task that is not named; None when every task must be.

    Raises:
        ConfigError: an unknown or missing task, a negative number, or numbers that are all zero.
    """
    if values is None and default is not None:
        return [default] * len(tasks)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{option} must give a number for each task, as {{task: number}}; found {values!r}")
    for name in values:
        if name not in tasks:
            raise ConfigError(f"{option} has an unknown task {name!r}{nearest(str(name), list(tasks))}")
    missing = [name for name in tasks if name not in values]
    if missing and default is None:
        raise ConfigError(
            f"{option} has no number for {', '.join(map(repr, missing))}; give one for every task"
        )
    result = [number(f"{option}[{name!r}]", values.get(name, default)) for name in tasks]
    if min(result) < 0:
        raise ConfigError(f"{option} must not be negative; found {dict(zip(tasks, result, strict=True))}")
    if sum(result) == 0:
        raise ConfigError(
            f"{option} are all 0, so nothing would be learned; give at least one task more than 0"
        )
    return result


def position_of(option: str, task: object, tasks: tuple[str, ...]) -> int:
    """Position of a task that an option names.

    Raises:
        ConfigError: it is none of the declared tasks.
    """
    for position, name in enumerate(tasks):
        if name == task:
            return position
    raise ConfigError(f"{option} is an unknown task {task!r}{nearest(str(task), list(tasks))}")


def criterion_of(criteria: object, tasks: tuple[str, ...], known: Sequence[str]) -> dict[str, str]:
    """The criterion of each task that names one.

    Raises:
        ConfigError: an unknown task or criterion.
    """
    if criteria is None:
        return {}
    if not isinstance(criteria, Mapping):
        raise ConfigError(f"criteria must be {{task: criterion}}; found {criteria!r}")
    for task, criterion in criteria.items():
        if task not in tasks:
            raise ConfigError(f"criteria has an unknown task {task!r}{nearest(str(task), list(tasks))}")
        if criterion not in known:
            hint = nearest(str(criterion), list(known))
            raise ConfigError(f"criteria[{task!r}] is an unknown criterion {criterion!r}{hint}")
    return dict(criteria)
