"""How far a prediction has come, from its journal, while it runs or after."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from medmtl.types import OutputError

JOURNAL = "journal.sqlite"


@dataclass(frozen=True)
class Status:
    """How far a prediction has come.

    Attributes:
        counts: studies by state: waiting, running, ok, refused, failed.
        codes: studies without values by code.
        found_all: whether the sources were looked through to their end.
        running: whether a process works on it.
        per_hour: studies ended per hour since the last start; None before two have ended.
        seconds_left: at that rate; None where nothing is known.
    """

    counts: dict[str, int]
    codes: dict[str, int]
    found_all: bool
    running: bool
    per_hour: float | None
    seconds_left: float | None

    @property
    def done(self) -> int:
        """Studies that have ended."""
        return sum(self.counts.get(state, 0) for state in ("ok", "refused", "failed"))

    @property
    def total(self) -> int:
        """Studies found so far."""
        return sum(self.counts.values())


def read_status(output: Path) -> Status:
    """Read a journal without disturbing who writes it.

    Raises:
        OutputError: no journal there, or none that can be read.
    """
    path = output / JOURNAL
    if not path.is_file():
        raise OutputError(f"{output}: no {JOURNAL} here; give the folder that `medmtl predict` writes to")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as base:
            counts = dict(base.execute("SELECT state, COUNT(*) FROM study GROUP BY state"))
            codes = dict(
                base.execute(
                    "SELECT code, COUNT(*) FROM study WHERE state IN ('refused', 'failed') GROUP BY code "
                    "ORDER BY COUNT(*) DESC, code"
                )
            )
            session, found_all = base.execute("SELECT session, found_all FROM run").fetchone()
            ended, last = base.execute(
                "SELECT COUNT(*), MAX(ended) FROM study WHERE ended >= ?", (session,)
            ).fetchone()
    except (sqlite3.DatabaseError, TypeError) as error:
        raise OutputError(f"{path}: is no journal of medmtl, or damaged ({error})") from error
    running = is_held(output)
    until = time.time() if running else last
    per_second = ended / (until - session) if ended > 1 and until > session else None
    left = counts.get("waiting", 0) + counts.get("running", 0)
    return Status(
        counts,
        codes,
        bool(found_all),
        running,
        None if per_second is None else 3600 * per_second,
        None if per_second is None else left / per_second,
    )


def is_held(output: Path) -> bool:
    """Whether a process of this machine, or of one that shares its locks, holds the folder."""
    import fcntl

    path = output / "journal.lock"
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
