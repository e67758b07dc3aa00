"""One process at a time in an output folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medmtl.types import OutputError

FILE = "journal.lock"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder; the system lets go of it when the process ends, however it ends.

    Raises:
        OutputError: another process holds it, or files cannot be locked there.
    """
    path = folder / FILE
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise OutputError(
                    f"{path}: cannot be locked ({error.strerror}); use a local folder"
                ) from error
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise OutputError(
                f"{folder}: {holder} predicts into it; wait for it, or look with "
                f"`medmtl predict --status {folder}`"
            ) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        yield
        stream.truncate(0)
