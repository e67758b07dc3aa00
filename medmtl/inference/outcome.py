"""What became of one study: a row of ``predictions.csv``, and why where there are no values."""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medmtl.inference.items import Item
from medmtl.types import CaseError, Finding

LOG = logging.getLogger("medmtl.predict")
BASE_COLUMNS = ("case_id", "study_uid", "series_uid", "status", "code", "message", "seconds")
"""The columns that every row of `predictions.csv` has."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says when there is no room to write."""
FAILED = frozenset(
    {
        "OUT_OF_MEMORY",
        "PACS_DENIED",
        "PACS_FAILED",
        "PACS_INCOMPLETE",
        "PACS_REJECTED",
        "PACS_TIMEOUT",
        "PACS_UNREACHABLE",
        "TIMEOUT",
        "UNEXPECTED",
        "WORKER_DIED",
    }
)
"""Codes that speak of a machine or of medmtl, not of the study, which may succeed another time."""


@dataclass(frozen=True)
class Outcome:
    """What became of one study, as plain data.

    Attributes:
        key: of its item.
        state: ``ok``, ``refused``, ``failed``, or ``waiting`` where the run ends before the study does.
        row: of ``predictions.csv``.
        fingerprint: of what was read.
        stages: seconds by stage.
        findings: what was noticed in it, and kept.
        attempts: how often it was begun.
        kept: its folder is whole, although it failed.
        stop: why the whole run has to stop, in one sentence, such as a full disk.
    """

    key: str
    state: str
    row: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    stages: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    attempts: int = 1
    kept: bool = False
    stop: str = ""


def base_row(item: Item) -> dict[str, Any]:
    """The columns that do not depend on the result."""
    row: dict[str, Any] = dict.fromkeys(BASE_COLUMNS, "")
    uids = {"study_uid": item.study_uid, "series_uid": item.series_uid}
    return row | {"case_id": item.case_id, **uids, "status": "ok", "seconds": 0.0}


def without_values(
    item: Item,
    code: str,
    message: str,
    *,
    seconds: float = 0.0,
    stages: Mapping[str, float] | None = None,
    hidden: bool = False,
) -> Outcome:
    """A study that gives no values, and why.

    Args:
        item: the study.
        code: a finding code; one of `FAILED` makes it failed, any other refused.
        message: one sentence; names of folders are taken out of it.
        seconds: that it took.
        stages: the same by stage.
        hidden: take names of files out as well.
    """
    state = "failed" if code in FAILED else "refused"
    told = {
        "status": state,
        "code": code,
        "message": _without_folders(message, item, hidden),
        "seconds": round(seconds, 3),
    }
    return Outcome(item.key, state, base_row(item) | told, item.fingerprint, stages or {})


def _without_folders(message: str, item: Item, hidden: bool) -> str:
    """Folders are often named after patients; left is the name of the file, or of the study where hidden."""
    for path in sorted({*item.paths, *item.watched}, key=len, reverse=True):
        name = Path(path).name
        if name not in message:
            continue
        parts = Path(path).parts
        for start in range(len(parts)):  # the whole path first, then what stands relative to some folder
            message = message.replace(str(Path(*parts[start:])), item.case_id if hidden else name)
    return message


def outcome_of(future: Future[Outcome], item: Item, *, hidden: bool = False) -> Outcome:
    """What a finished future holds; an error that nobody foresaw fails its study and no other.

    Raises:
        BaseException: it was no error but the end of the program, such as Ctrl-C.
    """
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, CaseError):
        return without_values(item, error.code, str(error), hidden=hidden)
    if isinstance(error, MemoryError):
        message = "the machine ran out of memory; use one with more, or fewer workers"
        return without_values(item, "OUT_OF_MEMORY", message, hidden=hidden)
    if isinstance(error, OSError) and error.errno in FULL:
        return Outcome(item.key, "waiting", stop=f"nothing more can be written: {error.strerror}")
    if not isinstance(error, Exception):
        raise error
    return _unforeseen(item, error, hidden)


def _unforeseen(item: Item, error: Exception, hidden: bool) -> Outcome:
    """Which error and where, without its text, which may hold anything that stood in a header."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "medmtl" in Path(f.filename).parts]
    places += [f"{Path(f.filename).name}:{f.lineno}" for f in frames[-1:]]
    what = f"{type(error).__name__} at {' > '.join(dict.fromkeys(places[-3:])) or 'an unknown place'}"
    LOG.debug("%s: %s", item.case_id, what, exc_info=error)
    message = f"{what}; this is an error of medmtl or of a library, please report it"
    return without_values(item, "UNEXPECTED", message, hidden=hidden)
