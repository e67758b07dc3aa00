"""What is searched along: numbers in a range, whole numbers, and choices, each as a place between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from medmtl.strict import load_yaml
from medmtl.types import ConfigError

Scalar = bool | int | float | str
DIGITS = 4
"""Significant digits of a value that is tried, so that tables and files say exactly what was trained."""
LOGARITHMIC_FROM = 10.0
"""A range is searched on a log scale where its upper end is at least so many times the lower."""


@dataclass(frozen=True)
class Number:
    """A number in a closed range.

    Args:
        low: least value.
        high: greatest value.
        log: even steps are even ratios.
        whole: only whole numbers; what lies between is rounded.

    Raises:
        ConfigError: the range is empty or not finite, reaches 0 on a log scale, or its ends are not whole.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(
                f"the range {self.low:g}..{self.high:g} is empty; give the lower end first, then a higher one"
            )
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ConfigError(
                f"the range {self.low:g}..{self.high:g} of whole numbers has ends that are none"
            )
        if self.log and self.low <= 0:
            raise ConfigError(
                f"the range {self.low:g}..{self.high:g} reaches 0, which no log scale does; start above 0"
            )

    def at(self, place: float) -> int | float:
        """The value at a place, 0 for ``low`` and 1 for ``high``; places outside are brought in."""
        share = min(max(place, 0.0), 1.0)
        low, high = self._scaled(self.low), self._scaled(self.high)
        value = low + share * (high - low)
        value = math.exp(value) if self.log else value
        if self.whole:
            return round(min(max(value, self.low), self.high))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(value) - low) / (high - low)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


@dataclass(frozen=True)
class Choice:
    """One of several values without an order.

    Raises:
        ConfigError: fewer than two, or one of them twice.
    """

    options: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2 or len(set(self.options)) < len(self.options):
            raise ConfigError(f"the choice {list(self.options)!r} needs at least two different values")


Variable = Number | Choice
Space = Mapping[str, Variable]


def spread(count: int, size: int, seed: int) -> np.ndarray:
    """Points ``(count, size)`` that fill the unit cube evenly: a scrambled Sobol sequence.

    More points begin with fewer ones. Not Halton's: over ranges of 3 and 4 decades its first points differ by
    steps that cancel in the ratio of two weights.
    """
    from scipy.stats import qmc

    power = max(0, math.ceil(math.log2(count)))
    found: np.ndarray = qmc.Sobol(d=size, rng=np.random.default_rng(seed)).random_base2(power)[:count]
    return found


def check_several(tasks: Sequence[str]) -> None:
    """Refuse to search the weights of one task.

    Raises:
        ConfigError: so.
    """
    if len(tasks) < 2:
        raise ConfigError("there is one task only, so there are no weights to search; add a task")


def parse_variable(text: str) -> tuple[str, Variable]:
    """A variable from text.

    ``training.learning_rate=1e-4..1e-2`` is a range: whole numbers where both ends are written as such, on a
    log scale where it spans a factor of ten or more. ``tasks.anatomy.loss=dice_ce,dice_focal`` is a choice.

    Raises:
        ConfigError: the text is neither.
    """
    key, separator, values = text.partition("=")
    if not (separator and key and values):
        raise ConfigError(f"{text!r}: write KEY=LOW..HIGH or KEY=A,B,C")
    try:
        if ".." in values:
            return key, parse_range(values)
        options = tuple(_scalar(part) for part in values.split(","))
        return key, Choice(options)
    except ConfigError as error:
        raise ConfigError(f"{text!r}: {error}") from error


def parse_range(text: str) -> Number:
    """A range such as ``0.1..1000``; see `parse_variable`.

    Raises:
        ConfigError: it is none.
    """
    low, high = (_scalar(part or "none") for part in text.split("..", 1))
    ends = [end for end in (low, high) if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(ends) < 2:
        raise ConfigError(f"{text!r} is no range; write two numbers with .. between them, such as 0.1..1000")
    first, last = ends
    whole = isinstance(first, int) and isinstance(last, int)
    return Number(first, last, log=is_logarithmic(first, last), whole=whole)


def is_logarithmic(low: float, high: float) -> bool:
    """Whether a range whose scale nobody names is searched on a log scale."""
    return low > 0 and high >= LOGARITHMIC_FROM * low


def _scalar(text: str) -> Scalar:
    try:
        value = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r} is not a value that YAML knows") from error
    if not isinstance(value, bool | int | float | str):
        raise ConfigError(
            f"{text!r} is no single value; numbers, words, true and false can be searched along"
        )
    return value
