"""One process's part of a search: take what is to be tried, try it, tell the result, until all is begun."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState

from medmtl.search.ledger import FAILED, REASON, REPEATS, STOPPED, SURPLUS, VOID, Ledger
from medmtl.search.liveness import Beat, Watch, Worker
from medmtl.search.sampler import NothingLeftError, RoundSampler, suggest

LOG = logging.getLogger("medmtl.search")
RESULT = "medmtl:result"
"""Attribute of a finished trial: what is worth knowing besides the objective."""


class TrialFailedError(Exception):
    """A configuration cannot be trained; the search goes on."""


class TakenError(Exception):
    """This process was taken for dead, and another one does its trial now."""


@dataclass
class Assignment:
    """A configuration to try.

    Attributes:
        key: of the configuration: its index, or below 0 where a person queued it.
        params: value of every variable.
        origin: configuration whose model it continues from, or None.
    """

    key: int
    params: Mapping[str, Any]
    origin: int | None
    _trial: Trial = field(repr=False)
    _beat: Beat = field(repr=False)

    def report(self, value: float, step: int) -> None:
        """Tell an intermediate value.

        Raises:
            optuna.TrialPruned: the study's pruner sees no point in going on.
        """
        self._trial.report(value, step)
        if self._trial.should_prune():
            raise optuna.TrialPruned(f"pruned at {step}")

    def check(self) -> None:
        """Ask now and then whether the trial is still ours.

        Raises:
            TakenError: it is not.
        """
        if self._beat.taken:
            raise TakenError


Work = Callable[[Assignment], tuple[float, Mapping[str, Any]]]
"""Tries a configuration: the objective, and what else is worth knowing, as JSON."""


class Loop:
    """Runs trials of a study until as many configurations as wanted are begun.

    Args:
        study: whose sampler is a `RoundSampler`.
        budget: configurations wanted in all, by all processes.
        work: tries one.
        after: called after each.
        worker: this process.
        poll_seconds: between two looks at the storage while other processes work on what is needed.
        watch: sees which trials have lost their process.
    """

    def __init__(
        self,
        study: Study,
        *,
        budget: int,
        work: Work,
        after: Callable[[], None] = lambda: None,
        worker: Worker | None = None,
        poll_seconds: float = 2.0,
        watch: Watch | None = None,
    ) -> None:
        assert isinstance(study.sampler, RoundSampler)
        self.study, self.sampler = study, study.sampler
        self.budget, self.work, self.after, self.poll_seconds = budget, work, after, poll_seconds
        self.worker = worker or Worker.here()
        self.watch = watch or Watch(self.worker)
        self._held: list[tuple[Trial, Beat]] = []
        self._nothing_left = False

    def run(self) -> None:
        """Work until every wanted configuration is begun and this process has none in hand."""
        try:
            while self._once():
                pass
        finally:
            for trial, beat in self._held:
                beat.__exit__(None, None, None)
                self._close(trial, STOPPED)

    def _once(self) -> bool:
        """One step; False when there is nothing left to do."""
        self._fail_lost()
        ledger = Ledger.of(self.study)
        if self._queue_repeats(ledger):
            ledger = Ledger.of(self.study)
        ready = next((held for held in self._held if self._is_ready(ledger, held[0])), None)
        if ready is not None:
            self._held.remove(ready)
            self._do(*ready, ledger)
        elif ledger.has_waiting() or self._may_begin(ledger):
            self._ask()
        elif self._held or self._more_to_come(ledger):
            time.sleep(self.poll_seconds)
        else:
            return False
        return True

    def _is_ready(self, ledger: Ledger, trial: Trial) -> bool:
        return self.sampler.ready(ledger, ledger.key_of(trial.number))

    def _more_to_come(self, ledger: Ledger) -> bool:
        begun = len(ledger.originals)
        return (
            begun < self.budget and not self._nothing_left and self.sampler.strategy.locate(begun) is not None
        )

    def _may_begin(self, ledger: Ledger) -> bool:
        return self._more_to_come(ledger) and self.sampler.ready(ledger, len(ledger.originals))

    def _fail_lost(self) -> None:
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self.watch.is_lost(trial):
                with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process was first
                    self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                    LOG.warning("trial %d has lost its process and is done again", trial.number)

    def _queue_repeats(self, ledger: Ledger) -> bool:
        """Begin again what was begun and not judged; of repeats queued at once, the first counts."""
        again = [a for a in ledger.attempts() if a.has_to_be_repeated and a.key < self.budget]
        for attempt in again:
            given = attempt.trial.system_attrs.get("fixed_params", attempt.trial.params)
            self.study.add_trial(
                optuna.create_trial(
                    state=TrialState.WAITING,
                    user_attrs={REPEATS: [attempt.key, attempt.repeats + 1]},
                    system_attrs={"fixed_params": given} if attempt.key < 0 else None,
                )
            )
        return bool(again)

    def _ask(self) -> None:
        trial = self.study.ask()
        beat = Beat(trial, self.worker)
        try:
            beat.__enter__()
        except optuna.exceptions.UpdateFinishedTrialError:  # it took so long that another gave it up
            return
        ledger = Ledger.of(self.study)
        key = ledger.key_of(trial.number)
        reason = VOID if ledger.is_void(trial.number) else SURPLUS if key >= self.budget else None
        if reason is None:
            self._held.append((trial, beat))
            return
        beat.__exit__(None, None, None)
        self._close(trial, reason)

    def _do(self, trial: Trial, beat: Beat, ledger: Ledger) -> None:
        key = ledger.key_of(trial.number)
        try:
            with suppress(TakenError, optuna.exceptions.UpdateFinishedTrialError):
                self._try(trial, beat, key, self.sampler.origin(ledger, key))
        except NothingLeftError as error:
            self._nothing_left = True
            LOG.info("%s", error)
            self._close(trial, VOID, str(error))
        except TrialFailedError as error:
            LOG.warning("trial %04d failed: %s", key, error)
            self._close(trial, FAILED, str(error))
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        except BaseException:
            self._close(trial, STOPPED)
            raise
        finally:
            beat.__exit__(None, None, None)
        self.after()

    def _try(self, trial: Trial, beat: Beat, key: int, origin: int | None) -> None:
        params = suggest(trial, self.sampler.strategy.space)
        value, result = self.work(Assignment(key, params, origin, trial, beat))
        trial.set_user_attr(RESULT, dict(result))
        self.study.tell(trial, value, skip_if_finished=True)

    def _close(self, trial: Trial, reason: str, message: str = "") -> None:
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr(REASON, [reason, message])
            self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
