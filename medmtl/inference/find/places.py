"""Where the files of a study are: few paths instead of many."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from medmtl.data.dicom.archives import kind_of_archive, open_archive
from medmtl.data.dicom.files import FileSource, printable
from medmtl.data.dicom.members import Archive, ArchiveError
from medmtl.data.dicom.model import Source
from medmtl.types import CaseError

WASTE = 50
"""Files of a folder beside those of a series that are looked at again rather than naming each."""
_OPEN_ARCHIVES = 2


def sources_of(paths: Sequence[str]) -> list[Source]:
    """The files at some paths: each itself, those directly in a folder, those in an archive.

    Their labels do not tell the names of folders and archives, which may be patients'.

    Raises:
        CaseError: ``NO_USABLE_SERIES``: one is gone; ``UNDECODABLE``: an archive cannot be opened.
    """
    sources: list[Source] = []
    for number, path in enumerate(sorted(set(paths)), start=1):
        start = f"{number}/" if len(set(paths)) > 1 else ""
        if os.path.isdir(path):  # noqa: PTH112
            inside = os.path.join(path, "")  # noqa: PTH118
            sources += [FileSource(inside + name, start + printable(name)) for name in _names(path)]
        elif not os.path.exists(path):  # noqa: PTH110
            text = "a file of the study is gone since it was found; see what moves it"
            raise CaseError("NO_USABLE_SERIES", text)
        elif kind_of_archive(Path(path)) is not None:
            sources += members_of(path, f"archive {number}")
        else:
            sources.append(FileSource(path, start + printable(os.path.basename(path))))  # noqa: PTH119
    return sources


def members_of(path: str, label: str) -> Sequence[Source]:
    """Files in an archive, which stays open for the next study in it.

    Raises:
        CaseError: ``UNDECODABLE``: it cannot be opened.
    """
    try:
        status = os.stat(path)  # noqa: PTH116
        return _opened(path, label, status.st_size, status.st_mtime_ns).members
    except ArchiveError as error:
        raise CaseError("UNDECODABLE", str(error)) from error
    except OSError as error:
        raise CaseError("UNDECODABLE", f"{label} cannot be read ({error.strerror or error})") from error


@lru_cache(_OPEN_ARCHIVES)
def _opened(path: str, label: str, size: int, changed_ns: int) -> Archive:
    return open_archive(Path(path), label)


def compact(files: Iterable[str], counts: Mapping[str, int]) -> tuple[str, ...]:
    """Folders in place of their files, where these are most of what is in them.

    Args:
        files: absolute paths.
        counts: number of files directly in each folder, where it is known.
    """
    by_folder: dict[str, list[str]] = {}
    for path in files:
        by_folder.setdefault(os.path.dirname(path), []).append(path)  # noqa: PTH120
    paths: list[str] = []
    for folder, names in by_folder.items():
        few = 0 < counts.get(folder, 0) <= 2 * len(names) + WASTE and len(names) > 1
        paths += [folder] if few and is_leaf(folder) else names
    return tuple(sorted(paths))


def is_leaf(folder: str) -> bool:
    """Whether a folder has no folders in it."""
    try:
        with os.scandir(folder) as entries:
            return not any(entry.is_dir() for entry in entries)
    except OSError:
        return False


def _names(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file())


def parents_of(paths: Sequence[str]) -> list[str]:
    """The folders that files lie in; folders and archives themselves."""
    found = {
        path
        if os.path.isdir(path) or kind_of_archive(Path(path)) is not None  # noqa: PTH112
        else os.path.dirname(path)  # noqa: PTH120
        for path in paths
    }
    return sorted(path for path in found if os.path.exists(path))  # noqa: PTH110
