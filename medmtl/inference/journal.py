"""What became of every study, in one SQLite file that one process writes.

A killed run leaves it as the last finished study left it: SQLite rolls back what was half written. Workers
never open it, because SQLite is not safe for many writers on a network file system.
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from medmtl._version import __version__
from medmtl.inference.items import Item
from medmtl.inference.outcome import Outcome
from medmtl.types import OutputError, StoppedError

FILE = "journal.sqlite"
FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
    id TEXT NOT NULL, format INTEGER NOT NULL, version TEXT NOT NULL, model TEXT NOT NULL,
    options TEXT NOT NULL, created REAL NOT NULL, session REAL NOT NULL,
    found_all INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS study (
    position INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, case_id TEXT UNIQUE NOT NULL,
    state TEXT NOT NULL, seen REAL NOT NULL,
    code TEXT NOT NULL DEFAULT '', attempts INTEGER NOT NULL DEFAULT 0, fingerprint TEXT NOT NULL DEFAULT '',
    begun REAL, ended REAL, stages TEXT NOT NULL DEFAULT '{}', findings TEXT NOT NULL DEFAULT '[]',
    row TEXT NOT NULL DEFAULT '{}');
CREATE INDEX IF NOT EXISTS by_state ON study (state, code);
"""


class Journal:
    """The journal of one PREDICTIONS folder.

    Args:
        path: the file; None keeps it in memory, for a run that nobody will continue.
        model: digest of the model.
        options: what results depend on, see `Options.identity`.

    Raises:
        OutputError: the folder belongs to another model, other options or another version.
    """

    def __init__(self, path: Path | None, model: str, options: Mapping[str, Any]) -> None:
        self.path, self._session, self.run_options = path, time.time(), dict(options)
        self._base = sqlite3.connect(":memory:" if path is None else path, timeout=60, isolation_level=None)
        with self._telling():
            # a rollback journal, not a write-ahead log: it needs no shared memory, which network disks lack
            self._base.execute("PRAGMA journal_mode = TRUNCATE")
            self._base.execute("PRAGMA secure_delete = ON")
            with self.transaction():
                for statement in _SCHEMA.split(";"):
                    self._base.execute(statement)
                self.run = self._begin(model, self.run_options)

    def close(self) -> None:
        """Close the file, and leave none beside it."""
        with suppress(sqlite3.OperationalError):
            self._base.execute("PRAGMA journal_mode = DELETE")
        self._base.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that happens inside is noted, or nothing."""
        with self._telling():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def add(self, item: Item, *, retry_failed: bool = False) -> Item | None:
        """Note a study that was found.

        Args:
            item: the study.
            retry_failed: do a study once more that failed before.

        Returns:
            the study where there is work to do, under the name that it has here; else None: it is done.
        """
        seen = self._base.execute(
            "SELECT case_id, state, fingerprint FROM study WHERE key = ?", (item.key,)
        ).fetchone()
        if seen is None:
            named = _renamed(item, self._free_name(item))
            self._base.execute(
                "INSERT INTO study (key, case_id, state, fingerprint, seen) VALUES (?, ?, 'waiting', ?, ?)",
                (item.key, named.case_id, item.fingerprint, self._session),
            )
            return named
        case_id, state, fingerprint = seen
        named = _renamed(item, case_id)
        changed = fingerprint != item.fingerprint
        if state in ("ok", "refused", "failed") and not changed:
            gone = state == "ok" and self.path is not None and not (self.path.parent / case_id).is_dir()
            if not gone and not (state == "failed" and retry_failed):
                return None
        self._base.execute(
            "UPDATE study SET state = 'waiting', code = '', fingerprint = ?, row = '{}', seen = ?, "
            "attempts = CASE WHEN ? THEN 0 ELSE attempts END WHERE key = ?",
            (item.fingerprint, self._session, changed, item.key),
        )
        return named

    def begin(self, key: str) -> None:
        """Note that a worker has it."""
        with self.transaction():
            self._base.execute(
                "UPDATE study SET state = 'running', begun = ?, attempts = attempts + 1 WHERE key = ?",
                (time.time(), key),
            )

    def end(self, outcome: Outcome) -> None:
        """Note what became of a study."""
        with self.transaction():
            self._base.execute(
                "UPDATE study SET state = ?, code = ?, fingerprint = ?, ended = ?, stages = ?, findings = ?, "
                "row = ?, attempts = attempts + ? WHERE key = ?",
                (
                    outcome.state,
                    outcome.row.get("code", ""),
                    outcome.fingerprint,
                    time.time(),
                    json.dumps({name: round(seconds, 4) for name, seconds in outcome.stages.items()}),
                    json.dumps([[f.code, f.severity, f.message, f.where] for f in outcome.findings]),
                    json.dumps(dict(outcome.row)),
                    outcome.attempts - 1,
                    outcome.key,
                ),
            )

    def found_all(self) -> None:
        """Note that no more studies will be found in this call; forget those that wait and are gone."""
        with self.transaction():
            self._base.execute("DELETE FROM study WHERE state = 'waiting' AND seen < ?", (self._session,))
            self._base.execute("UPDATE run SET found_all = 1")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of ``predictions.csv`` of all studies that are done, in the order in which they were found."""
        done = "SELECT row FROM study WHERE state IN ('ok', 'refused', 'failed') ORDER BY position"
        with closing(self._base.execute(done)) as found:
            for (row,) in found:
                yield json.loads(row)

    def counts(self) -> dict[str, int]:
        """How many studies are in which state."""
        return dict(self._base.execute("SELECT state, COUNT(*) FROM study GROUP BY state"))

    def _begin(self, model: str, options: dict[str, Any]) -> str:
        now = self._session
        found = self._base.execute("SELECT id, format, version, model, options FROM run").fetchone()
        if found is None:
            run = uuid.uuid4().hex
            self._base.execute(
                "INSERT INTO run (id, format, version, model, options, created, session) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run, FORMAT, __version__, model, json.dumps(options), now, now),
            )
            return run
        run, *old = found
        self._check(old, [FORMAT, __version__, model, options])
        self._base.execute("UPDATE run SET session = ?, found_all = 0", (now,))
        self._base.execute("UPDATE study SET state = 'waiting' WHERE state = 'running'")
        return str(run)

    def _check(self, old: list[Any], new: list[Any]) -> None:
        """Refuse another model, other options, another version."""
        before = json.loads(old[3])
        differs = []
        if old[0] != new[0] or old[1] != new[1]:
            differs.append(f"it was begun by medmtl {old[1]}, this is {new[1]}")
        if old[2] != new[2]:
            differs.append(f"another model (sha256 {old[2][:12]}, now {new[2][:12]})")
        for name in sorted({*before, *new[3]}):
            if before.get(name) != new[3].get(name):
                differs.append(f"{name} was {_shown(before.get(name))}, now {_shown(new[3].get(name))}")
        if differs:
            where = self.path.parent if self.path is not None else "memory"
            raise OutputError(
                f"{where}: holds predictions of another run: {'; '.join(differs)}; choose another folder"
            )

    def _free_name(self, item: Item) -> str:
        """The item's name, with a part of its key where another study has that name."""
        taken = self._base.execute("SELECT 1 FROM study WHERE case_id = ?", (item.case_id,)).fetchone()
        return item.case_id if taken is None else f"{item.case_id}-{item.key_digest()[:8]}"

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """SQLite's errors as sentences."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error) or "disk I/O" in str(error):
                raise StoppedError(
                    f"{self.path}: nothing more can be written ({error}); make room and run the same command "
                    "again, which goes on where it stopped"
                ) from error
            raise OutputError(f"{self.path}: the journal cannot be used ({error})") from error
        except sqlite3.DatabaseError as error:
            raise OutputError(
                f"{self.path}: is no journal of medmtl, or damaged ({error}); choose another folder"
            ) from error


def _renamed(item: Item, case_id: str) -> Item:
    return item if item.case_id == case_id else replace(item, case_id=case_id)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "all"
    return str(value) if value not in ("", None) else "none"
