"""What goes on between finding studies and noting what became of them."""

from __future__ import annotations

import logging
import shutil
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from medmtl.inference.adopt import adopted
from medmtl.inference.dicom import require_highdicom
from medmtl.inference.feed import Feed
from medmtl.inference.items import Item, pack, unpack
from medmtl.inference.journal import Journal
from medmtl.inference.outcome import Outcome
from medmtl.inference.results import PredictionRun, as_table, write_table
from medmtl.inference.workers import Workers
from medmtl.inference.write import OBJECTS
from medmtl.types import Finding, OutputError, StoppedError

LOG = logging.getLogger("medmtl.predict")
Progress = Callable[[int, int], None]
TABLE_SECONDS = 30.0
"""How often `predictions.csv` is made anew while a run goes on."""


def run_studies(
    journal: Journal,
    feed: Feed,
    workers: Workers,
    output: Path,
    outputs: dict[str, dict[str, Any]],
    *,
    retry_failed: bool = False,
    table: bool = True,
    progress: Progress | None = None,
) -> PredictionRun:
    """Give studies to workers as they are found, and note what becomes of them.

    Args:
        journal: of the folder.
        feed: finds studies.
        workers: compute them.
        output: the PREDICTIONS folder.
        outputs: what `outputs.yaml` says.
        retry_failed: do studies once more that failed in an earlier call.
        table: write ``predictions.csv``, every so often and at the end.
        progress: called with how many of how many studies are done.

    Raises:
        StoppedError: the disk is full, or no worker can be kept alive; what is done is noted.
    """
    loop = _Loop(journal, feed, workers, output, retry_failed, table, progress)
    try:
        loop.run()
    except BaseException:
        if table:
            with suppress(OutputError, StoppedError):
                write_table(journal, output)
        raise
    rows = list(journal.rows())
    if table:
        write_table(journal, output)
    findings = [
        Finding(row["code"], "error", row["message"], case_id=row["case_id"])
        for row in rows
        if row["status"] != "ok"
    ]
    return PredictionRun(output, as_table(rows), outputs, findings, loop.images, loop.done)


class _Loop:
    """What goes on between finding and noting."""

    def __init__(
        self,
        journal: Journal,
        feed: Feed,
        workers: Workers,
        output: Path,
        retry_failed: bool,
        table: bool,
        progress: Progress | None,
    ) -> None:
        self.journal, self.feed, self.workers, self.output = journal, feed, workers, output
        self.objects = bool(OBJECTS & set(journal.run_options.get("write", ())))
        self.sent = journal.run_options.get("send", "") != ""
        self.retry_failed, self.table, self.progress = retry_failed, table, progress
        self.waiting: deque[bytes] = deque()
        self.seen: set[str] = set()
        self.images: dict[str, Path] = {}
        self.names: dict[str, str] = {}
        self.all_found = False
        self.total = self.done = 0
        self.written = time.monotonic()

    def run(self) -> None:
        """Until every study that was found has ended; only then is told that a source could not be read."""
        while not (self.all_found and self.done == self.total):
            self._find()
            while self.waiting and self.workers.free > 0:
                item = unpack(self.waiting.popleft())
                self.journal.begin(item.key)
                self.workers.submit(item)
            for outcome in self.workers.poll(0.2 if self.all_found else 0.02):
                self._end(outcome)
            if self.table and time.monotonic() - self.written > TABLE_SECONDS:
                began = time.monotonic()
                write_table(self.journal, self.output)
                self.written = time.monotonic() + 20 * (time.monotonic() - began)
        self.feed.check()

    def _find(self) -> None:
        if self.all_found:
            return
        found, self.all_found = self.feed.drain()
        if self.all_found and self.feed.complete:
            self.journal.found_all()
        if not found:
            return
        with self.journal.transaction():
            new = [
                self.journal.add(item, retry_failed=self.retry_failed) for item in found if self._is_new(item)
            ]
        for item in new:
            if item is not None:
                self._take(item)

    def _is_new(self, item: Item) -> bool:
        if item.kind != "nifti" and self.objects:
            require_highdicom()
        if item.kind == "nifti":
            self.images.setdefault(item.case_id, Path(item.paths[0]))
        new = item.key not in self.seen
        self.seen.add(item.key)
        return new

    def _take(self, item: Item) -> None:
        self.total += 1
        self.names[item.key] = item.case_id
        if (outcome := adopted(self.output, item, self.journal.run, sent=self.sent)) is not None:
            self._end(outcome)
        else:
            self.waiting.append(pack(item))

    def _end(self, outcome: Outcome) -> None:
        case_id = self.names.pop(outcome.key)
        if outcome.state not in ("ok", "waiting"):
            LOG.warning("%s %s: %s: %s", case_id, outcome.state, outcome.row["code"], outcome.row["message"])
        if outcome.state not in ("ok", "waiting") and not outcome.kept:
            shutil.rmtree(self.output / case_id, ignore_errors=True)
        self.journal.end(outcome)
        if outcome.stop:
            raise StoppedError(
                f"{self.output}: {outcome.stop}; make room and run the same command again, which goes on "
                "where it stopped"
            )
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)
