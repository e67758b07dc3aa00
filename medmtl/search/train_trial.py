"""One configuration, from values to a judged training in a RUN folder of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medmtl.engine import Job, Run, train
from medmtl.evaluation.comparison.conditions import clear_unstarted
from medmtl.search.described import MakeJob, Method
from medmtl.search.loop import Assignment, TrialFailedError
from medmtl.search.objective import NoValueError, Objective, epoch_rows, kept_row
from medmtl.types import ConfigError, MedmtlError

LOG = logging.getLogger("medmtl.search")
TRIALS = "trials"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrialTraining:
    """Trains and judges the configurations of a search.

    Attributes:
        make_job: the config with other values.
        method: says which values.
        objective: judges.
        folder: of the search.
        progress: told of each training.
    """

    make_job: MakeJob
    method: Method
    objective: Objective
    folder: Path
    progress: Progress | None = None

    def __call__(self, assignment: Assignment) -> tuple[float, dict[str, Any]]:
        """The objective of a configuration, and what `search.csv` says of it.

        A training that another process began continues at its last checkpoint.

        Raises:
            TrialFailedError: it cannot be trained: a loss became unusable, the GPU is too small, or the
                configuration is none.
            ConfigError: the objective asks for what no training has.
        """
        key = assignment.key
        run_folder = trial_folder(self.folder, key)
        changes = self.method.changes(assignment.params)
        if assignment.origin is not None:
            model = trial_folder(self.folder, assignment.origin) / "model"
            changes["training.start_from"] = str(model.resolve())
            changes["training.epochs"] = self.method.transfer_epochs
        run = self._train(changes, run_folder, assignment)
        row = kept_row(run.folder, str(run.model.metadata["kept"]))
        try:
            values = self.objective.values(row, f"{run.folder / 'metrics.csv'}")
        except NoValueError as error:
            raise TrialFailedError(str(error)) from error
        last = epoch_rows(run.folder)[-1]
        return self.objective(values), {
            "metrics": values,
            "seconds": float(last["seconds"]),
            "epochs": int(last["epoch"]),
            "started_from": assignment.origin,
            "kept": run.model.metadata["kept"],
        }

    def _train(self, changes: Mapping[str, Any], folder: Path, assignment: Assignment) -> Run:
        try:
            job = self.make_job(changes, folder)
            if clear_unstarted(folder):
                LOG.info("%s holds no config yet and is begun anew", folder)
            progress = _Reports(job, self.objective, assignment, self.progress)
            return train(job, resume=True, progress=progress)
        except torch.OutOfMemoryError as error:
            raise TrialFailedError("the GPU ran out of memory; search with a smaller batch_size") from error
        except MedmtlError as error:
            raise TrialFailedError(str(error)) from error


class _Reports:
    """Training progress that tells the storage the objective after each epoch."""

    def __init__(
        self, job: Job, objective: Objective, assignment: Assignment, progress: Progress | None
    ) -> None:
        self.job, self.objective, self.assignment, self.progress = job, objective, assignment, progress
        self._told = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        self.assignment.check()
        if self.progress is not None:
            self.progress(what, done, total)
        # A step of an epoch is told before the epoch's row is written, so the first step of the next looks.
        if what == "train" and (done - 1) // self.job.training.steps_per_epoch > self._told:
            self._tell()

    def _tell(self) -> None:
        for row in epoch_rows(self.job.output)[self._told :]:
            self._told += 1
            try:
                value = self.objective(self.objective.values(row))
            except (NoValueError, ConfigError):
                continue  # judged, and complained of, at the end
            self.assignment.report(value, int(row["epoch"]))


def trial_folder(folder: Path, key: int) -> Path:
    """The RUN folder of a configuration."""
    return folder / TRIALS / (f"{key:04d}" if key >= 0 else f"queued-{-1 - key:04d}")
