"""A whole search, from a config with values left open to a table and the best config."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from optuna.study import Study

from medmtl.engine.launch import launched
from medmtl.engine.run_folder import log_file
from medmtl.search._optuna import quiet
from medmtl.search.described import MakeJob, Method
from medmtl.search.folder import check_folder, describe, join_folder, write_once
from medmtl.search.ledger import Ledger
from medmtl.search.line import LineSearch
from medmtl.search.loop import Loop
from medmtl.search.objective import Objective, choose_objective
from medmtl.search.rounds import Params
from medmtl.search.sampler import RoundSampler
from medmtl.search.shared_plan import PLAN, by_plan, plan_once
from medmtl.search.space import Choice
from medmtl.search.storage import JOURNAL, open_storage, open_study
from medmtl.search.table import Trial, best_trial, trials_of, write_best, write_search_table
from medmtl.search.train_trial import TrialTraining
from medmtl.types import ConfigError

LOG = logging.getLogger("medmtl.search")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Search:
    """A search as it stands.

    Attributes:
        folder: with `search.csv` and, where a trial has succeeded, `best.yaml`.
        method: ``line``, ``grid`` or ``evolution``.
        trials: every configuration that was begun.
        best: the one with the greatest objective, or None.
        notes: what a reader should know.
    """

    folder: Path
    method: str
    trials: list[Trial]
    best: Trial | None
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> list[Trial]:
        """Trials that could not be trained."""
        return [trial for trial in self.trials if trial.state == "failed"]

    @property
    def best_config(self) -> Path | None:
        """The config of the best trial, to be trained from the start."""
        return None if self.best is None else self.folder / "best.yaml"

    def summary(self) -> str:
        """For people: what was found, where it is, and what they should know."""
        done = sum(trial.state == "complete" for trial in self.trials)
        lines = [f"{done} of {len(self.trials)} trials complete; table: {self.folder / 'search.csv'}"]
        if self.best is not None:
            params = ", ".join(f"{name} {value}" for name, value in self.best.params.items())
            lines.append(f"best: trial {self.best.name}, objective {self.best.objective:.4g}: {params}")
            lines.append(f"config of the best: {self.best_config}")
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> str:
        """For programs."""
        return json.dumps(
            {
                "output": str(self.folder),
                "method": self.method,
                "best": None if self.best is None else asdict(self.best),
                "best_config": None if self.best is None else str(self.best_config),
                "trials": [asdict(trial) for trial in self.trials],
                "notes": list(self.notes),
            },
            indent=2,
        )


def run_search(
    make_job: MakeJob,
    method: Method,
    *,
    output: Path,
    storage: str | None = None,
    trials: int | None = None,
    metrics: Sequence[str] = (),
    prune: bool = False,
    announce: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    poll_seconds: float = 2.0,
) -> Search:
    """Go through a search, or take part in the one that ``output`` holds.

    Any number of processes may call this with the same arguments, at the same time or after another; see
    `medmtl.search.rounds` for why none repeats what another tries.

    Args:
        make_job: the training of the config with some keys set to other values.
        method: what to go through.
        output: folder of the search, the same for all processes.
        storage: address of a database, or path of a journal file; a journal in ``output`` by default.
        trials: configurations in all; what the method has by default.
        metrics: ``task=metric`` of the objective; every task's validation score by default.
        prune: stop trials that stay below the median of the others.
        announce: told what will be done before anything is.
        progress: called as trials and their trainings go on.
        poll_seconds: between two looks at the storage while other processes work on what is needed.

    Raises:
        ConfigError: a value that cannot be used, or another search in ``output``; nothing was written.
        OutputError: ``output`` holds something else.
    """
    if launched():
        raise ConfigError(
            "a search is not started by torchrun; start the same call once per GPU, with --device cuda:N"
        )
    base = make_job({}, output / "base")
    objective, notes = choose_objective(base, metrics)
    budget = method.trials if trials is None else trials
    if budget < 1:
        raise ConfigError(f"--trials: {budget} trials are none; give 1 or more")
    description = describe(base, method, objective, storage, prune=prune)
    check_folder(output, description)
    _check_configurations(make_job, method)
    plan = plan_once(base, output, method.strategy.space)
    kept = None if storage is None else open_storage(storage)
    announced = _announced(method, budget, objective)
    for text in (announced, *notes):
        (announce or LOG.info)(text)
    name = join_folder(output, description)
    if plan is not None:
        write_once(output / PLAN, plan)
    work = TrialTraining(by_plan(make_job, output), method, objective, output, progress)
    with quiet(), log_file(output / "log.txt"):
        sampler = RoundSampler(method.strategy, poll_seconds=poll_seconds)
        study = open_study(name, sampler, kept or open_storage(str(output / JOURNAL)), prune=prune)
        LOG.info("%s", announced)
        found = _go_through(study, work, budget, poll_seconds)
    best = best_trial(found)
    return Search(output, method.name, found, best, (*notes, *_remarks(method, found, best)))


def _go_through(study: Study, work: TrialTraining, budget: int, poll_seconds: float) -> list[Trial]:
    """Try until the budget is begun; tables are written before, after every trial, and at the end."""

    def after() -> None:
        found = _write(study, work)
        if work.progress is not None:
            over = sum(trial.state in ("complete", "pruned", "failed") for trial in found)
            work.progress("search", over, budget)

    after()
    try:
        Loop(study, budget=budget, work=work, after=after, poll_seconds=poll_seconds).run()
    finally:
        found = _write(study, work)
    return found


def _announced(method: Method, budget: int, objective: Objective) -> str:
    all_told = method.strategy.total()
    stops = f"; {budget} of them now" if all_told is not None and budget < all_told else ""
    stops = f"; {budget} trainings in all" if all_told is None else stops
    judged = ", ".join(f"{task}.{metric}" for task, metric in objective.metrics.items())
    return f"{method.name}: {method.says}{stops}; judged by the geometric mean of {judged}"


def _check_configurations(make_job: MakeJob, method: Method) -> None:
    """Build the config at the ends of every range, so that what cannot be trained is known at once.

    Raises:
        ConfigError: one of them is no config.
    """
    first: Params = method.strategy.propose(0, ())[0]
    for name, over in method.strategy.space.items():
        values = over.options if isinstance(over, Choice) else (over.at(0.0), over.at(1.0))
        # Weights of a grid sum to 1, so no single one is moved.
        for value in values if method.name != "grid" else (first[name],):
            make_job(method.changes({**first, name: value}), Path("trial"))


def _write(study: Study, work: TrialTraining) -> list[Trial]:
    found = trials_of(Ledger.of(study), work.method)
    write_search_table(work.folder, found)
    best = best_trial(found)
    if best is not None:
        write_best(work.folder, best, work.make_job(best.changes, work.folder / "best").resolved)
    return found


def _remarks(method: Method, found: Sequence[Trial], best: Trial | None) -> list[str]:
    remarks = []
    strategy = method.strategy
    if best is not None and isinstance(strategy, LineSearch):
        value = best.params[strategy.name]
        if strategy.at_an_end(value):
            remarks.append(
                f"the best {strategy.name} is {value:g}, an end of the range; a wider one may have better"
            )
    open_ones = [trial.name for trial in found if trial.state in ("running", "waiting", "stopped")]
    if open_ones:
        remarks.append(
            f"not finished: {', '.join(open_ones)}; another process works on them, or the same call will"
        )
    return remarks
