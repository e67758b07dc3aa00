"""Who may do what with a store at a time: one writer, and nobody takes away what another run reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

if sys.platform != "win32":  # on Windows, runs that share a store are on their own
    import fcntl


class FileLock:
    """A lock on a file, which the system gives up when the process ends, however it ends.

    Args:
        path: the file; it is made where it is missing, and stays empty.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[bytes] | None = path.open("ab")

    def alone(self, *, wait: bool) -> bool:
        """Hold it alone; without waiting, say whether that was possible."""
        return self._take("LOCK_EX", wait=wait)

    def together(self) -> None:
        """Hold it with others that hold it together."""
        self._take("LOCK_SH", wait=True)

    @property
    def to_inherit(self) -> tuple[int, ...]:
        """What a process has to inherit so that the lock is held until it has ended too."""
        return () if sys.platform == "win32" or self._stream is None else (self._stream.fileno(),)

    def close(self) -> None:
        """Let it go."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __del__(self) -> None:
        self.close()

    def _take(self, how: str, *, wait: bool) -> bool:
        if sys.platform == "win32" or self._stream is None:
            return True
        try:
            fcntl.flock(self._stream, getattr(fcntl, how) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True
