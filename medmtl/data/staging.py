"""An output folder that appears whole or not at all, and never in place of something that is not ours."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medmtl.data.schema import FILE as SCHEMA_FILE
from medmtl.types import OutputError

_OURS = frozenset({SCHEMA_FILE, "cases.csv", "findings.csv", "volumes"})


def check_output(source: Path, output: Path, overwrite: bool) -> None:
    """Makes sure that a dataset may be put at ``output``: new, empty, or an earlier dataset to overwrite.

    Raises:
        OutputError: it is not; nothing was touched.
    """
    if source.resolve() == output.resolve() or source.resolve().is_relative_to(output.resolve()):
        raise OutputError(f"{output} holds the source {source}; choose another output folder")
    if not output.exists():
        return
    if not output.is_dir():
        raise OutputError(f"{output} is a file; choose another output folder")
    if not any(output.iterdir()):
        return
    left = "so it is left as it is; choose a new folder"
    if not is_dataset(output):
        raise OutputError(f"{output} is not empty and holds no dataset, {left}")
    if not overwrite:
        raise OutputError(f"{output} is a dataset already, {left}, or ask for it to be overwritten")
    foreign = sorted({path.name for path in output.iterdir()} - _OURS)
    if foreign:
        raise OutputError(f"{output} holds {foreign[0]!r}, which is no part of a dataset, {left}")


def is_dataset(folder: Path) -> bool:
    """Whether the folder's ``dataset.yaml`` is medmtl's; it need not be a valid one."""
    try:
        return "medmtl_dataset" in (folder / SCHEMA_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` that takes its place when all went well, and vanishes otherwise."""
    output.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    folder = workspace / "new"
    folder.mkdir()
    try:
        yield folder
        _put_in_place(folder, output, workspace / "old")
    finally:
        shutil.rmtree(workspace)


def _put_in_place(folder: Path, output: Path, old: Path) -> None:
    replaced = output.exists()
    if replaced:
        output.rename(old)
    try:
        folder.rename(output)
    except OSError:
        if replaced:
            old.rename(output)
        raise
