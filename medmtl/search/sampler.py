"""Strategies as Optuna samplers, so that storages, dashboards, pruners and other processes come with them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from medmtl.search.evolution import Evolution
from medmtl.search.ledger import Ledger
from medmtl.search.rounds import Strategy, Tried, best_of
from medmtl.search.space import Choice, Space, Variable
from medmtl.types import ConfigError


class NothingLeftError(ConfigError):
    """The strategy has no configuration for this trial: every point, or every region, was tried."""


class RoundSampler(BaseSampler):
    """Gives every trial the configuration that a strategy has for it.

    A trial whose round builds on results that are still missing waits for the processes that work on them.
    Where one process asks for several trials before it tells any result, it would wait for itself: it is told
    so after ``patience_seconds``.

    Args:
        strategy: what to try.
        poll_seconds: between two looks at the storage while waiting.
        patience_seconds: how long to wait; without end by default.
    """

    def __init__(
        self, strategy: Strategy, *, poll_seconds: float = 1.0, patience_seconds: float | None = None
    ) -> None:
        self.strategy = strategy
        self.poll_seconds, self.patience_seconds = poll_seconds, patience_seconds

    def ready(self, ledger: Ledger, key: int) -> bool:
        """Whether all that a configuration builds on is known."""
        place = self.strategy.locate(key) if key >= 0 else None
        return place is None or ledger.before(place[1]) is not None

    def origin(self, ledger: Ledger, key: int) -> int | None:
        """The best configuration of the rounds before, for a strategy whose trials continue from it."""
        place = self.strategy.locate(key) if key >= 0 else None
        if place is None or place[0] == 0 or not self.strategy.continues:
            return None
        best = best_of(_history(ledger, place[1]))
        return None if best is None else best.index

    def configuration(self, ledger: Ledger, key: int) -> dict[str, Any]:
        """What a configuration is, by its index.

        Raises:
            NothingLeftError: the strategy has none for it.
        """
        place = self.strategy.locate(key)
        if place is None:
            raise NothingLeftError(f"the search has {key} configurations, and all were begun")
        number, start = place
        proposed = self.strategy.propose(number, _history(ledger, start))
        if key - start >= len(proposed):
            raise NothingLeftError("every region was tried; a wider range or another variable gives more")
        return proposed[key - start]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space: variables are drawn together."""
        return {name: distribution(over) for name, over in self.strategy.space.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The configuration of a trial, once the rounds before it are over.

        Raises:
            NothingLeftError: there is none.
            ConfigError: patience came to an end.
        """
        ledger = Ledger.of(study)
        key = ledger.key_of(trial.number)
        if key < 0:
            return {}
        began = time.monotonic()
        while not self.ready(ledger, key):
            if self.patience_seconds is not None and time.monotonic() - began > self.patience_seconds:
                raise ConfigError(
                    f"trial {trial.number} builds on trials that have no result after "
                    f"{self.patience_seconds:g} s; tell their results before you ask for more"
                )
            time.sleep(self.poll_seconds)
            ledger = Ledger.of(study)
        return self.configuration(ledger, key)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A draw of one variable that a queued trial does not name.

        Raises:
            ConfigError: the strategy has no such variable.
        """
        over = self.strategy.space.get(param_name)
        if over is None:
            known = ", ".join(self.strategy.space)
            raise ConfigError(f"{param_name!r} is not searched along; the variables are {known}")
        share = np.random.default_rng([trial.number, *param_name.encode()]).random()
        if isinstance(over, Choice):
            return over.options[int(share * len(over.options))]
        return over.at(share)


class EvolutionSampler(RoundSampler):
    """The evolution strategy of `medmtl.search.evolution` for any Optuna study whose objective is maximized.

    Args:
        space: what is searched along.
        options: of `Evolution`, by name.
    """

    def __init__(self, space: Space, **options: Any) -> None:
        super().__init__(Evolution(space, **options))


def distribution(over: Variable) -> BaseDistribution:
    """A variable as Optuna knows it."""
    if isinstance(over, Choice):
        return CategoricalDistribution(over.options)
    if over.whole:
        return IntDistribution(int(over.low), int(over.high), log=over.log)
    return FloatDistribution(over.low, over.high, log=over.log)


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """The values of all variables for a trial.

    Raises:
        NothingLeftError: the strategy has none for it.
    """
    found: dict[str, Any] = {}
    for name, over in space.items():
        if isinstance(over, Choice):
            found[name] = trial.suggest_categorical(name, over.options)
        elif over.whole:
            found[name] = trial.suggest_int(name, int(over.low), int(over.high), log=over.log)
        else:
            found[name] = trial.suggest_float(name, over.low, over.high, log=over.log)
    return found


def _history(ledger: Ledger, start: int) -> Sequence[Tried]:
    return [attempt.tried for attempt in ledger.before(start) or ()]
