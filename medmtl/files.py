"""Files and folders that are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medmtl.types import OutputError


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8, line ends as they stand) beside ``path`` and move it into place.

    Raises:
        OutputError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}); free space or change its permissions"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: Path, tag: str = "") -> Iterator[Path]:
    """A new folder beside ``path`` that takes its place when the block ends well, and vanishes otherwise.

    What stood at ``path`` is removed only after the new folder is there. Two writers of one path need a
    ``tag`` each, so that neither writes into the other's half.
    """
    partial, old = path.with_name(f".{path.name}{tag}.part"), path.with_name(f".{path.name}{tag}.old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.replace(old)
    partial.replace(path)
    shutil.rmtree(old, ignore_errors=True)


def is_free(folder: Path) -> bool:
    """Whether nothing stands at a path, or only an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
