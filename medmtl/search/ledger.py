"""Which configuration a trial of a storage is, and whether it still has to be done.

A storage numbers trials in the order in which they were begun, over all processes. Trials that a process died
of are begun again as new trials. So a trial is either *original* (its place among the originals is the
configuration that it tries), a *repeat* of an original (it tries the same one), or *queued* by a person, with
values of their own. What a trial is, is written when it is made and never changes, so that all processes
count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.search.rounds import Tried

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

MANAGED = "medmtl:managed"
"""Attribute of a study whose failed trials are told apart as below; elsewhere a failed trial has failed."""
REPEATS = "medmtl:repeats"
"""Attribute of a repeat: ``[key of the configuration, how many times it was begun before]``."""
REASON = "medmtl:reason"
"""Attribute of a failed trial: ``[why it is over, message]``. Without one, its process died."""
FAILED, VOID, STOPPED, SURPLUS, LOST = "failed", "void", "stopped", "surplus", "lost"
"""Reasons. The training failed, or there was nothing to do for the trial: that is all there is to know. It
was stopped by a person, had no place in the budget, or lost its process: its configuration is still to be
tried."""
MOST_LOSSES = 5
"""A configuration that took so many processes with it counts as failed."""


@dataclass(frozen=True)
class Attempt:
    """The newest trial of a configuration.

    Attributes:
        key: of the configuration: its index from 0, or below 0 for one that a person queued.
        trial: as the storage has it.
        managed: whether failed trials say why.
        repeats: how many times it was begun before.
        losses: how many times its process died.
    """

    key: int
    trial: FrozenTrial
    managed: bool = True
    repeats: int = 0
    losses: int = 0

    @property
    def state(self) -> str:
        """``complete``, ``pruned``, ``running``, ``waiting``, or of a failed one its reason."""
        name = str(self.trial.state.name).lower()
        return reason_of(self.trial)[0] if name == "fail" and self.managed else name.replace("fail", FAILED)

    @property
    def message(self) -> str:
        """Why it failed, for a person."""
        if self.state == LOST:
            return f"its process died {self.losses} times" if self.losses > 1 else "its process died"
        return reason_of(self.trial)[1] if self.state == FAILED else ""

    @property
    def has_to_be_repeated(self) -> bool:
        """Whether it ended before its configuration was judged."""
        return self.state in (STOPPED, SURPLUS) or (self.state == LOST and self.losses < MOST_LOSSES)

    @property
    def closed(self) -> bool:
        """Whether its result is the last word on the configuration."""
        return self.trial.state.is_finished() and not self.has_to_be_repeated

    @property
    def tried(self) -> Tried:
        """What a strategy learns from it."""
        values = self.trial.values if self.state == "complete" else None
        return Tried(self.key, dict(self.trial.params), values[0] if values else None)


class Ledger:
    """Trials of a study by configuration.

    Args:
        trials: all of them, in order of their numbers.
        managed: whether failed trials say why.
    """

    def __init__(self, trials: Sequence[FrozenTrial], *, managed: bool = True) -> None:
        self.managed = managed
        self.trials = {trial.number: trial for trial in trials}
        self.originals = [trial for trial in trials if _is_original(trial)]
        self._starts = dict(enumerate(self.originals))
        self._repeats: dict[tuple[int, int], FrozenTrial] = {}
        for trial in trials:
            repeat = repeat_of(trial)
            if repeat is not None:
                self._repeats.setdefault(repeat, trial)
            elif not _is_original(trial):
                self._starts[-1 - trial.number] = trial
        self._keys = {trial.number: key for key, trial in self._starts.items()}

    @classmethod
    def of(cls, study: Study) -> Ledger:
        """The trials of a study as they are now."""
        return cls(study.get_trials(deepcopy=False), managed=MANAGED in study.user_attrs)

    def key_of(self, number: int) -> int:
        """The configuration that a trial tries: its index, or below 0 where a person queued it."""
        repeat = repeat_of(self.trials[number])
        return self._keys[number] if repeat is None else repeat[0]

    def is_void(self, number: int) -> bool:
        """Whether another trial is the repeat that this one would be."""
        repeat = repeat_of(self.trials[number])
        return repeat is not None and self._repeats[repeat].number != number

    def newest(self, key: int) -> Attempt:
        """The newest trial of a configuration that was begun."""
        trial, repeats, losses = self._starts[key], 0, 0
        while True:
            losses += trial.state.name == "FAIL" and reason_of(trial)[0] == LOST
            repeat = self._repeats.get((key, repeats + 1))
            if repeat is None:
                return Attempt(key, trial, self.managed, repeats, losses)
            trial, repeats = repeat, repeats + 1

    def attempts(self) -> list[Attempt]:
        """The newest trial of every configuration that was begun, then those that a person queued."""
        return [self.newest(key) for key in sorted(self._starts, key=lambda key: (key < 0, abs(key)))]

    def before(self, start: int) -> list[Attempt] | None:
        """All that was tried before the round that begins with a configuration; None while any is open.

        Queued trials count where they were queued before that configuration was begun, so that every process
        counts the same ones.
        """
        if start > len(self.originals):
            return None
        first = self.originals[start].number if start < len(self.originals) else -1
        known = [
            attempt
            for attempt in self.attempts()
            if 0 <= attempt.key < start or (attempt.key < 0 and -1 - attempt.key < first)
        ]
        return known if all(attempt.closed for attempt in known) else None

    def has_waiting(self) -> bool:
        """Whether a repeat or a queued trial waits for a process."""
        return any(trial.state.name == "WAITING" for trial in self.trials.values())


def repeat_of(trial: FrozenTrial) -> tuple[int, int] | None:
    """The configuration that a trial repeats, and how many times it was begun before."""
    found: Any = trial.user_attrs.get(REPEATS)
    return None if found is None else (int(found[0]), int(found[1]))


def reason_of(trial: FrozenTrial) -> tuple[str, str]:
    """Why a failed trial is over, and what to tell a person."""
    found: Any = trial.user_attrs.get(REASON)
    return (LOST, "") if found is None else (str(found[0]), str(found[1]))


def _is_original(trial: FrozenTrial) -> bool:
    """Not a repeat of ours or of Optuna's, and not queued with values of somebody's own."""
    foreign = ("fixed_params", "failed_trial")
    return REPEATS not in trial.user_attrs and not any(key in trial.system_attrs for key in foreign)
