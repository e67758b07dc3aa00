"""The preprocessed store: prepared cases in a folder, written once, read in small parts.

    STORE/store.json                what the arrays depend on besides files
    STORE/cases/<case_id>.json      one per case, written last: without it a case does not count
    STORE/cases/<case_id>/*.b2nd    its arrays

Written in any order by any number of processes it has the same bytes. Killed at any moment it goes on where
it was. A case whose files changed is made anew, and all of them are when the recipe changed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from medmtl.data.cases import Case
from medmtl.data.columns import Column
from medmtl.data.dataset import Dataset
from medmtl.data.load import table_facts
from medmtl.data.prepare import PreparedCase
from medmtl.data.room import free_memory, readable
from medmtl.data.store.arrays import write_durably
from medmtl.data.store.case import StoredCase
from medmtl.data.store.entry import CASES, read_entry, refresh_inputs, remove_entry
from medmtl.data.store.inputs import changed, inputs_of, same_dates
from medmtl.data.store.locks import FileLock
from medmtl.data.store.recipe import FORMAT, Recipe
from medmtl.data.store.size import WORKING_COPIES, check_disk, prepared_bytes
from medmtl.data.store.workers import prepare_side_by_side
from medmtl.types import ConfigError, Finding, OutputError

LOG = logging.getLogger("medmtl.store")
MARKER = "store.json"
WORTH_PROCESSES = 300_000_000
"""Prepared bytes from which on several processes pay; each takes seconds to start."""


class Store:
    """A store that is open; as long as it is, no other run makes its cases anew.

    Args:
        folder: made where it is missing.
        dataset: where cases and labels come from.
        recipe: how cases become arrays.
    """

    def __init__(self, folder: Path, dataset: Dataset, recipe: Recipe) -> None:
        self.folder, self.dataset, self.recipe = folder, dataset, recipe
        self._readers: FileLock | None = None

    def prepare(
        self,
        cases: Sequence[Case],
        *,
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Make sure that the cases are in the store, and stay there while it is open.

        Args:
            cases: which.
            workers: processes; by default one per core, fewer where memory is short, one for little work.
            progress: called with (done, all).

        Raises:
            ConfigError: the disk has no room, is full, or another run reads what would have to be made anew.
            OutputError: the folder holds something else, or cannot be written.
        """
        self._refuse_others()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            writers = FileLock(self.folder / ".writing.lock")
            if not writers.alone(wait=False):
                LOG.info("%s: another run is preparing it; waiting", self.folder)
                writers.alone(wait=True)
            readers = FileLock(self.folder / ".reading.lock")
            try:
                self._write(cases, (readers, writers), workers, progress)
                readers.together()
            finally:
                writers.close()
        except ChildProcessError as error:
            raise ConfigError(f"training.store: {error}; use fewer processes (training.threads)") from error
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be written ({error.strerror}); free space or name another "
                "training.store_folder, and go on: what is whole is kept"
            ) from error
        self._readers = readers

    def open(
        self,
        cases: Sequence[Case],
        *,
        columns: Mapping[str, Column],
        covariates: Sequence[str] = (),
        device: torch.device | None = None,
    ) -> tuple[list[PreparedCase], list[Finding]]:
        """The cases, with labels and values of the table as it is now, and why others cannot be used.

        Args:
            cases: which; all have to be prepared.
            columns: the label columns that are wanted.
            covariates: value columns that heads read as input.
            device: where samples are made.
        """
        targets = self.dataset.targets
        found: list[PreparedCase] = []
        refused: list[Finding] = []
        for case in cases:
            entry = read_entry(self.folder, case.case_id)
            if entry is None:
                raise OutputError(f"{self.folder}: {case.case_id} vanished from the store; prepare it again")
            if "refused" in entry:
                why = entry["refused"]
                refused.append(Finding(why["code"], "error", why["message"], case_id=case.case_id))
                continue
            given = {str(key): value for key, value in targets.loc[case.case_id].to_dict().items()}
            facts = table_facts(case, columns, given, covariates)
            where = torch.device("cpu") if device is None else device
            found.append(StoredCase(self.folder, entry, tuple(columns), facts, where))
        return found, refused

    def close(self) -> None:
        """Let other runs make its cases anew."""
        if self._readers is not None:
            self._readers.close()
            self._readers = None

    def _refuse_others(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder}: is a file; name another training.store_folder")
        there = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        others = sorted(name for name in there if name not in (MARKER, CASES) and not name.startswith("."))
        if others:
            raise OutputError(
                f"{self.folder}: holds {others[0]}, which is not part of a store; name another "
                "training.store_folder"
            )

    def _write(
        self,
        cases: Sequence[Case],
        locks: tuple[FileLock, FileLock],
        workers: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        readers, writers = locks
        self._begin(readers)
        self._sweep()
        stale, missing = self._look_at(cases)
        if stale:
            self._claim(readers, f"{stale[0][0].case_id}: {stale[0][1]}")
            named = ", ".join(f"{case.case_id} ({why})" for case, why in stale[:5])
            LOG.warning(
                "%s: %d cases are made anew, as their files changed: %s%s",
                self.folder, len(stale), named, ", ..." if len(stale) > 5 else "",
            )  # fmt: skip
            for case, _ in stale:
                remove_entry(self.folder, case.case_id)
        todo = [*(case for case, _ in stale), *missing]
        if not todo:
            return
        sizes = {case.case_id: prepared_bytes(self.dataset, case, self.recipe) for case in todo}
        check_disk(self.folder, sum(sizes.values()), todo)
        todo.sort(key=lambda case: -sizes[case.case_id])  # the largest first: no core waits at the end
        used = _workers(sizes, workers)
        LOG.info(
            "preparing %d cases into %s (up to %s) with %d processes",
            len(todo), self.folder, readable(sum(sizes.values())), used,
        )  # fmt: skip
        counter = count(len(cases) - len(todo) + 1)
        prepare_side_by_side(
            self.folder,
            todo,
            self.recipe,
            used,
            lambda: None if progress is None else progress(next(counter), len(cases)),
            writers.to_inherit,
        )

    def _begin(self, readers: FileLock) -> None:
        """Write `store.json`, and drop all cases where there is another one."""
        path = self.folder / MARKER
        wanted = {"medmtl_store": FORMAT, **self.recipe.as_plain()}
        try:
            stored: Any = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            stored = None
        except ValueError:
            stored = {}
        if isinstance(stored, dict) and stored.get("medmtl_store") == FORMAT:
            why = self.recipe.differs_from(stored)
            if not why:
                self.recipe = self.recipe.widened(stored)
                return
        elif stored is None and not (self.folder / CASES).exists():
            why = ""
        else:
            version = stored.get("medmtl_store") if isinstance(stored, dict) else None
            why = f"it is a store of version {version}, this medmtl makes version {FORMAT}"
        if why:
            self._claim(readers, why)
            LOG.warning("%s: all cases are made anew: %s", self.folder, why)
            path.unlink(missing_ok=True)
            shutil.rmtree(self.folder / CASES, ignore_errors=True)
        (self.folder / CASES).mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{MARKER}.part")
        write_durably(partial, (json.dumps(wanted, indent=1, sort_keys=True) + "\n").encode())
        partial.replace(path)

    def _claim(self, readers: FileLock, why: str) -> None:
        """Make sure that no other run reads what is to be made anew.

        Raises:
            ConfigError: one does.
        """
        if not readers.alone(wait=False):
            raise ConfigError(
                f"training.store_folder: {self.folder} would have to be made anew ({why}), and another run "
                "reads it; wait for that, or name another folder"
            )

    def _sweep(self) -> None:
        """Remove what a killed run left half-written."""
        for path in (self.folder / CASES).glob(".*.part"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _look_at(self, cases: Sequence[Case]) -> tuple[list[tuple[Case, str]], list[Case]]:
        """Cases whose files changed, with what changed, and cases that are not there."""
        stale: list[tuple[Case, str]] = []
        missing: list[Case] = []
        for case in cases:
            entry = read_entry(self.folder, case.case_id)
            if entry is None:
                missing.append(case)
                continue
            files = inputs_of(case, tuple(self.recipe.columns))
            why = changed(files, entry.get("inputs", {}))
            if why:
                stale.append((case, why))
            elif not same_dates(files, entry.get("inputs", {})):
                then = entry.get("inputs", {})
                dates = {
                    name: {**then[name], "mtime_ns": path.stat().st_mtime_ns} for name, path in files.items()
                }
                refresh_inputs(self.folder, entry, dates)
        return stale, missing


def _workers(sizes: Mapping[str, int], asked: int | None) -> int:
    """How many processes: one per core, as many as the memory has room for, one for little work."""
    if asked is not None:
        return asked
    if sum(sizes.values()) < WORTH_PROCESSES:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = free_memory() // max(1, WORKING_COPIES * max(sizes.values()))
    return max(1, min(cores, len(sizes), room))
