"""Remembers the headers of a folder between scans, by the names, sizes and times of change of its files.

One SQLite file in the user's cache folder, readable by the user only. It holds what ``Header`` keeps, which
is no names and no PatientID, under digests of the folders' paths. Where it is wrong, the files are read.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from time import time
from types import TracebackType
from typing import TypeVar

from medmtl.data.dicom.records import Record
from medmtl.data.dicom.stored import TABLE

LARGEST = 512 << 20
"""Bytes of all records; beyond that, those that were not used for longest go."""

T = TypeVar("T")

_DAY = 24 * 3600
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS records"
    " (place BLOB PRIMARY KEY, used INTEGER NOT NULL, size INTEGER NOT NULL, record BLOB NOT NULL)"
)


def default_cache() -> Path:
    """Where headers are remembered, by the platform's convention; ``XDG_CACHE_HOME`` wins where it is set."""
    home = os.environ.get("XDG_CACHE_HOME")
    if home:
        folder = Path(home)
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        folder = Path.home() / ".cache"
    return folder / "medmtl" / "headers.sqlite"


class HeaderCache:
    """Records of folders, in one file; to be used in a ``with`` statement, from one thread.

    Args:
        path: the file; made where it is not there. Where it cannot be made or used, nothing is remembered.
        largest: bytes of all records.
    """

    def __init__(self, path: Path, largest: int = LARGEST) -> None:
        self._path = path
        self._largest = largest
        self._database: sqlite3.Connection | None = None
        self._grown = False

    def __enter__(self) -> HeaderCache:
        try:
            self._database = _opened(self._path)
        except (sqlite3.OperationalError, OSError):
            self._database = None
        except sqlite3.DatabaseError:
            self._forget()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            if self._grown:
                self._guarded(self._shrink)
            self._close()

    def get(self, place: str) -> Record | None:
        """What is remembered of a folder or archive.

        Args:
            place: its path.
        """
        data = self.get_bytes(key_of_place(place))
        try:
            return None if data is None else Record(data)
        except ValueError:
            return None

    def put(self, place: str, record: bytes) -> None:
        """Remember a folder or archive.

        Args:
            place: its path.
            record: see ``records.encode``.
        """
        self.put_bytes(key_of_place(place), record)

    def get_bytes(self, key: bytes) -> bytes | None:
        """What was put under a key."""
        query = "SELECT record, used FROM records WHERE place = ?"
        row = self._guarded(lambda database: database.execute(query, (key,)).fetchone())
        if row is None:
            return None
        if time() - row[1] > _DAY:
            self._guarded(
                lambda d: d.execute("UPDATE records SET used = ? WHERE place = ?", (int(time()), key))
            )
        return row[0] if isinstance(row[0], bytes) else None

    def put_bytes(self, key: bytes, data: bytes) -> None:
        """Remember some bytes under a key."""
        if len(data) <= self._largest:
            row = (key, int(time()), len(data), data)
            insert = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)"
            self._guarded(lambda database: database.execute(insert, row))
            self._grown = True

    def _guarded(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do something with the database, or nothing where it cannot be done."""
        if self._database is None:
            return None
        try:
            return action(self._database)
        except sqlite3.OperationalError:  # another process is writing, or the disk is full: not now, then
            self._close()
            return None
        except sqlite3.DatabaseError:
            self._forget()
            return None

    def _shrink(self, database: sqlite3.Connection) -> None:
        """Drop what was not used for longest, where it is too much."""
        (total,) = database.execute("SELECT COALESCE(SUM(size), 0) FROM records").fetchone()
        rows = (
            database.execute("SELECT place, size FROM records ORDER BY used").fetchall()
            if total > self._largest
            else []
        )
        for place, size in rows:
            if total <= self._largest * 3 // 4:
                break
            database.execute("DELETE FROM records WHERE place = ?", (place,))
            total -= size

    def _forget(self) -> None:
        """Do away with a file that is no database, or a broken one."""
        self._close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    database = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous = OFF")  # what a crash breaks is read anew
        database.execute(_SCHEMA)
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def key_of_place(place: str) -> bytes:
    """Key of a folder's or archive's record."""
    path = str(Path(place).absolute())
    return blake2b(TABLE + path.encode("utf-8", "surrogateescape"), digest_size=16).digest()
