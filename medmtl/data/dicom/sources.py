"""Finds what may be DICOM in what a user named: files, folders with folders in them, DICOMDIRs, archives."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medmtl.data.dicom.archives import has_archive_name, kind_of_archive, open_archive
from medmtl.data.dicom.dicomdir import broken_references
from medmtl.data.dicom.files import FileSource, printable
from medmtl.data.dicom.members import ArchiveError
from medmtl.data.dicom.model import Source
from medmtl.types import ConfigError, Finding

BATCH = 20_000
"""Files of one folder that are looked at together, so that a folder of a million is not held at once."""


class Stamped(Source, Protocol):
    """A source that shows when it changes."""

    def stamp(self) -> tuple[int, int]:
        """Size in bytes and time of the last change in ns."""
        ...


@dataclass(frozen=True, eq=False)
class Batch:
    """Files of one folder or archive.

    Attributes:
        place: path of the folder or archive, with a number where it has several batches.
        names: of the files in it, sorted.
        sources: in the same order.
    """

    place: str
    names: Sequence[str]
    sources: Sequence[Stamped]


class Search:
    """Everything below some paths that may be DICOM; iterate it once.

    Args:
        paths: what the user named.
        inside: open archives and DICOMDIRs; otherwise they are files like others.

    Attributes:
        findings: about what could not be looked into; complete after the iteration.
        expected: files found so far, those of the current folder included.
    """

    def __init__(self, paths: Sequence[Path], *, inside: bool = True) -> None:
        self.findings: list[Finding] = []
        self.expected = 0
        self._paths = paths
        self._inside = inside
        self._seen: set[tuple[int, int]] = set()

    def __iter__(self) -> Iterator[Source]:
        for batch in self.batches():
            yield from batch.sources

    def batches(self) -> Iterator[Batch]:
        """The same, folder by folder and archive by archive."""
        prefixes = _prefixes(self._paths)
        for path, prefix in zip(self._paths, prefixes, strict=True):
            if path.is_dir():
                yield from self._folder(str(path), prefix)
            elif path.name.upper() == "DICOMDIR":
                yield from self._folder(str(path.parent), prefix)
            elif self._inside and kind_of_archive(path) is not None:
                yield from self._archive(str(path), prefix + path.name)
            else:
                yield self._batch(str(path), [path.name], [FileSource(str(path), prefix + path.name)])

    def _batch(self, place: str, names: Sequence[str], sources: Sequence[Stamped]) -> Batch:
        self.expected += len(sources)
        return Batch(place, names, sources)

    def _folder(self, top: str, prefix: str) -> Iterator[Batch]:
        waiting = [(top, prefix)]
        while waiting:
            folder, label = waiting.pop()
            try:
                status = os.stat(folder)  # noqa: PTH116
                if (status.st_dev, status.st_ino) in self._seen:
                    continue  # a link back, or a second way to it
                self._seen.add((status.st_dev, status.st_ino))
                names, folders = _listing(folder)
            except OSError as error:
                self._unreadable(label or folder, error)
                continue
            start = os.path.join(folder, "")  # noqa: PTH118, there may be a million of them
            waiting += [(start + name, f"{label}{printable(name)}/") for name in reversed(folders)]
            yield from self._files(folder, label, names)

    def _files(self, folder: str, label: str, names: list[str]) -> Iterator[Batch]:
        start = os.path.join(folder, "")  # noqa: PTH118
        archives = [name for name in names if self._inside and self._is_archive(start, name)]
        plain = [name for name in names if name not in archives] if archives else names
        for first in range(0, len(plain), BATCH):
            some = plain[first : first + BATCH]
            place = f"{folder}:{first}" if first else folder
            sources = [FileSource(start + name, label + printable(name)) for name in some]
            yield self._batch(place, some, sources)
        for name in plain:
            if self._inside and name.upper() == "DICOMDIR":
                self.findings += broken_references(FileSource(start + name, label + name), Path(folder))
        for name in archives:
            yield from self._archive(start + name, label + printable(name))

    @staticmethod
    def _is_archive(start: str, name: str) -> bool:
        return has_archive_name(name) and kind_of_archive(Path(start + name)) is not None

    def _archive(self, path: str, label: str) -> Iterator[Batch]:
        try:
            archive = open_archive(Path(path), label)
        except ArchiveError as error:
            self.findings.append(Finding("UNDECODABLE", "error", str(error), label))
            return
        except OSError as error:
            self._unreadable(label, error)
            return
        self.findings += archive.findings
        yield self._batch(path, [member.name for member in archive.members], archive.members)

    def _unreadable(self, label: str, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        message = f"{label} cannot be read ({reason}); what is in it was left out"
        self.findings.append(Finding("UNDECODABLE", "error", message, label))


def find_sources(paths: Sequence[Path | str]) -> Search:
    """Search files, folders, DICOMDIRs and archives (zip, tar, tar.gz, tar.bz2, tar.xz) for DICOM.

    Links are followed, and no folder is entered twice. Archives in archives are not opened.

    Args:
        paths: what the user named.

    Raises:
        ConfigError: one of them is not there.
    """
    found = [Path(path) for path in paths]
    for path in found:
        if not path.exists():
            raise ConfigError(f"{path} is not there; name a file, a folder or an archive")
    return Search(found)


def _listing(folder: str) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders in a folder, sorted; sockets, pipes and devices left out."""
    names, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file():
                names.append(entry.name)
            elif entry.is_dir():
                folders.append(entry.name)
    return sorted(names), sorted(folders)


def _prefixes(paths: Sequence[Path]) -> list[str]:
    """What the labels below each path start with, so that no two are equal; nothing where there is one."""
    if len(paths) == 1:
        return [""]
    names = [path.resolve().name if path.is_dir() else path.resolve().parent.name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{number}-{name}" for number, name in enumerate(names, start=1)]
    return [f"{name}/" for name in names]
