"""One study from its files to its results: read, compute, measure and write, in one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from medmtl.inference.clock import Clock, Stopped, ignore
from medmtl.inference.find import find_again
from medmtl.inference.items import Item
from medmtl.inference.ladder import climb
from medmtl.inference.measure import measure_subject
from medmtl.inference.outcome import Outcome, base_row, without_values
from medmtl.inference.predictor import predict_prepared
from medmtl.inference.read import Subject, read_subject
from medmtl.inference.worker import Worker
from medmtl.inference.write import SENT, Written, write_study
from medmtl.types import CaseError, ConfigError

SETTLE_SECONDS = 2.0
"""How long a study that changed is left alone before it is read once more."""


def process(worker: Worker, item: Item, tell: Callable[[bool], None] = ignore) -> Outcome:
    """Take a study through all stages.

    Args:
        worker: model, options and output folder.
        item: what to read.
        tell: called with False when it waits for the device, with True when it works again.

    Returns:
        its row and what else there is to know; what it is refused for is part of it. A study that is ok has
        its folder, which carries the row as well, so that it cannot be lost on the way to the journal.
    """
    if item.refused is not None:
        return without_values(item, *item.refused)
    clock = Clock(worker.options.timeout, worker.stop, tell)
    try:
        return _process(worker, item, clock)
    except Stopped:
        return Outcome(item.key, "waiting")
    except CaseError as error:
        return without_values(
            item,
            error.code,
            str(error),
            seconds=clock.seconds,
            stages=clock.stages,
            hidden=worker.options.key is not None,
        )


def _process(worker: Worker, item: Item, clock: Clock) -> Outcome:
    with clock.stage("read"):
        item, subject = _read_unchanged(worker, item, clock)
    with closing(subject):
        return _predict(worker, item, subject, clock)


def _predict(worker: Worker, item: Item, subject: Subject, clock: Clock) -> Outcome:
    with clock.turn(worker.device), clock.stage("device"):
        result, note = climb(
            worker.ladder.rungs(clock.check),
            lambda context: predict_prepared(context, subject.case, worker.tasks),
        )
    with clock.stage("measure"):
        measured, _ = climb(
            worker.ladder.rungs(clock.check),
            lambda context: measure_subject(worker.model, subject, result, context=context),
        )
    if subject.series_uid and not item.series_uid:  # a PACS's study, whose series was chosen while reading
        item = replace(item, series_uid=worker.names.of(subject.series_uid), left=subject.left)
    row: dict[str, Any] = base_row(item)
    if note:
        row["message"] = f"the device's memory was too small, so it was computed {note}"
    for task, values in result.values.items():
        row.update({f"{task}.{name}": value for name, value in values.items()})
    row.update(measured.row)
    with clock.stage("write"):
        row["seconds"] = round(clock.seconds, 3)
        written = Written(item, subject, result, row, measured, notes=(note,) if note else ())
        folder = write_study(worker, written, clock.stages)
    done = Outcome(item.key, "ok", row, item.fingerprint, clock.stages, tuple(subject.findings))
    return done if not worker.options.send else _send(worker, item, folder, done, clock)


def _send(worker: Worker, item: Item, folder: Path, done: Outcome, clock: Clock) -> Outcome:
    """Send the DICOM results of a study back; where that fails, the study failed, but its folder stays."""
    from medmtl.inference.stow import send_case

    address = worker.options.send if worker.options.send != "source" else item.paths[0]
    try:
        with clock.stage("send"):
            send_case(folder, address, check=clock.check)
            (folder / SENT).touch()
    except CaseError as error:
        row = {**done.row, "status": "failed", "code": error.code, "message": str(error)}
        return replace(done, state="failed", row=row, kept=True)
    return done


def _read_unchanged(worker: Worker, item: Item, clock: Clock) -> tuple[Item, Subject]:
    """The study as it stood still while it was read; one that changed is read once more."""
    for last in (False, True):
        found: Subject | CaseError
        try:
            found = read_subject(item, worker.model, rule=worker.rule, check=clock.check)
        except CaseError as error:
            found = error
        watched = item.kind != "web" and item.fingerprint  # reading a PACS looks for changes by itself
        if not watched or item.fingerprint_now() == item.fingerprint:
            if isinstance(found, CaseError):
                raise found
            return item, found
        if isinstance(found, Subject):
            found.close()
        if last:
            break
        time.sleep(SETTLE_SECONDS)
        clock.check()
        item = _found_again(worker, item)
    raise CaseError(
        "CHANGED_WHILE_READ",
        f"{item.case_id}: its files changed each time they were read; wait until they are complete, and run "
        "the same command again",
    )


def _found_again(worker: Worker, item: Item) -> Item:
    """The study as it is by now, under the name that it has."""
    options = worker.options
    try:
        found = find_again(item, worker.model, select=options.select, key=options.key)
    except ConfigError as error:
        raise CaseError("CHANGED_WHILE_READ", str(error)) from error
    if found.refused is not None:
        raise CaseError(*found.refused)
    return replace(found, case_id=item.case_id)
