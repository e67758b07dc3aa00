"""What a search leaves: a table of its trials, and the config of the best one."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from medmtl.engine.run_folder import flat_config
from medmtl.files import write_text
from medmtl.search.described import Method
from medmtl.search.ledger import LOST, STOPPED, SURPLUS, VOID, Attempt, Ledger
from medmtl.search.loop import RESULT
from medmtl.search.train_trial import trial_folder

TABLE, BEST = "search.csv", "best.yaml"
FIXED = ("trial", "state", "objective", "seconds", "epochs", "epochs_in_all", "started_from", "message")
_STATES = {LOST: "stopped", STOPPED: "stopped"}


@dataclass(frozen=True)
class Trial:
    """One configuration and what became of it.

    Attributes:
        name: of its RUN folder.
        state: ``complete``, ``failed``, ``pruned``, ``running``, ``waiting``, ``stopped`` (to be done again).
        params: value of every variable, as far as they were drawn.
        changes: keys and values that it sets in the config.
        objective: what it reached, or None.
        metrics: ``<task>.<metric>``.
        seconds: of training, or None.
        epochs: that were trained, or None.
        epochs_in_all: with those of the trials that it descends from.
        started_from: name of the trial whose model it continued from, or "".
        message: why it failed.
    """

    name: str
    state: str
    params: Mapping[str, Any]
    changes: Mapping[str, Any]
    objective: float | None = None
    metrics: Mapping[str, float] | None = None
    seconds: float | None = None
    epochs: int | None = None
    epochs_in_all: int | None = None
    started_from: str = ""
    message: str = ""


def trials_of(ledger: Ledger, method: Method) -> list[Trial]:
    """Every configuration that was begun, in order."""
    attempts = [attempt for attempt in ledger.attempts() if attempt.state not in (VOID, SURPLUS)]
    epochs: dict[str, int] = {}
    found = []
    for attempt in attempts:
        trial = _trial(attempt, method)
        if trial.epochs is not None:
            epochs[trial.name] = trial.epochs + epochs.get(trial.started_from, 0)
            trial = replace(trial, epochs_in_all=epochs[trial.name])
        found.append(trial)
    return found


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The one with the greatest objective."""
    known = [trial for trial in trials if trial.state == "complete" and trial.objective is not None]
    return max(known, key=lambda trial: trial.objective or 0.0, default=None)


def write_search_table(folder: Path, trials: Sequence[Trial]) -> None:
    """Write `search.csv`: a row per trial, columns `FIXED`, then metrics, then the keys that were set."""
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics or ()))
    changes = [flat_config(trial.changes) for trial in trials]
    keys = list(dict.fromkeys(key for changed in changes for key in changed))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*FIXED, *metrics, *keys])
    for trial, changed in zip(trials, changes, strict=True):
        row = [
            trial.name, trial.state, trial.objective, trial.seconds, trial.epochs, trial.epochs_in_all,
            trial.started_from, trial.message,
        ]  # fmt: skip
        row += [(trial.metrics or {}).get(name) for name in metrics]
        row += [changed.get(key) for key in keys]
        writer.writerow([_cell(value) for value in row])
    write_text(folder / TABLE, stream.getvalue())


def write_best(folder: Path, trial: Trial, config: Mapping[str, Any]) -> None:
    """Write `best.yaml`: the whole config of the best trial, to be trained from the start.

    Args:
        folder: of the search.
        trial: the best one.
        config: resolved.
    """
    said = f"# The best of this search: trial {trial.name}, objective {trial.objective:.6g}.\n"
    write_text(folder / BEST, said + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def _trial(attempt: Attempt, method: Method) -> Trial:
    result: Mapping[str, Any] = attempt.trial.user_attrs.get(RESULT, {})
    params = attempt.trial.params
    complete = all(name in params for name in method.strategy.space)
    origin = result.get("started_from")
    state = attempt.state
    if attempt.has_to_be_repeated:
        state = _STATES[state]
    elif state == LOST:
        state = "failed"
    return Trial(
        name=trial_folder(Path(), attempt.key).name,
        state=state,
        params=dict(params),
        changes=method.changes(params) if complete else {},
        objective=attempt.tried.value,
        metrics=result.get("metrics"),
        seconds=result.get("seconds"),
        epochs=result.get("epochs"),
        started_from="" if origin is None else trial_folder(Path(), origin).name,
        message=attempt.message,
    )


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
