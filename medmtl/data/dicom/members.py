"""Files in archives as sources, within limits.

An archive can lie about everything, so what it may make us do is bounded: members, bytes altogether, how many
times larger than the archive they are. Names that lead outside, links and encrypted members are left out, and
said so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Protocol

from medmtl.data.dicom.files import printable
from medmtl.data.dicom.tally import Tally
from medmtl.types import Finding

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz")


@dataclass(frozen=True)
class Limits:
    """What an archive may make us do.

    Attributes:
        members: files in it.
        directory: bytes of a zip's table of contents.
        ratio: bytes of all members per byte of the archive. Studies shrink about threefold.
        free: bytes of all members that are allowed whatever the ratio.
        total: bytes of all members, at most.
        in_memory: bytes of an inflated tar that are kept in memory and not in a temporary file.
    """

    members: int = 500_000
    directory: int = 64 << 20
    ratio: int = 200
    free: int = 256 << 20
    total: int = 512 << 30
    in_memory: int = 64 << 20

    def allowed(self, packed: int) -> int:
        """Bytes that an archive of ``packed`` bytes may unpack to."""
        return min(self.total, max(self.free, self.ratio * packed))


class ArchiveError(Exception):
    """An archive that is not opened; the message says why, as a sentence."""


class Container(Protocol):
    """An open archive."""

    def read(self, key: Any, offset: int, length: int | None) -> bytes:
        """Bytes of a member, as ``Source.read``."""
        ...


@dataclass(frozen=True, slots=True)
class MemberSource:
    """A file in an archive.

    Attributes:
        container: the archive.
        key: what the archive knows it by.
        name: its path in the archive, numbered where there are several of one name.
        label: the archive's label and the name.
        length: in bytes.
        changed_ns: when the archive was changed, as its file system says.
    """

    container: Container
    key: Any
    name: str
    label: str
    length: int
    changed_ns: int

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``offset`` on, or all that follow; fewer where the member ends.

        Raises:
            OSError: the archive is broken here.
        """
        return self.container.read(self.key, offset, length)

    def size(self) -> int:
        """Length in bytes."""
        return self.length

    def stamp(self) -> tuple[int, int]:
        """Size in bytes and time of the archive's last change in ns."""
        return self.length, self.changed_ns


@dataclass(frozen=True)
class Archive:
    """Members that may be read, and what is to be said about the others."""

    members: tuple[MemberSource, ...]
    findings: tuple[Finding, ...]


class Members:
    """Collects the members of an archive within limits.

    Args:
        container: the archive, open.
        label: of the archive.
        packed: bytes of the archive.
        changed_ns: when it was changed.
        limits: what it may make us do.
    """

    def __init__(
        self, container: Container, label: str, packed: int, changed_ns: int, limits: Limits
    ) -> None:
        self._container, self._label, self._changed_ns = container, label, changed_ns
        self._limits, self._allowed = limits, limits.allowed(packed)
        self._sources: list[MemberSource] = []
        self._names: dict[str, int] = {}
        self._left_out: dict[str, Tally] = {}
        self._bytes = 0

    def add(self, name: str, key: Any, length: int, *, refused: str = "") -> None:
        """Take a member in, or note why not.

        Args:
            name: as the archive says.
            key: what the container knows it by.
            length: in bytes, unpacked.
            refused: why it cannot be read, if so.

        Raises:
            ArchiveError: the archive is larger than any real one.
        """
        reason = refused or ("would lead outside of it" if leads_outside(name) else "")
        if not reason and name.lower().endswith(SUFFIXES):
            reason = "are archives themselves"
        if reason:
            self._left_out.setdefault(reason, Tally()).add(printable(name))
            return
        self._bytes += length
        if len(self._sources) >= self._limits.members:
            raise ArchiveError(f"{self._label} holds more than {self._limits.members:,} files: not opened")
        if self._bytes > self._allowed:
            raise too_large(self._label, self._allowed)
        shown = printable(name)
        again = self._names[shown] = self._names.get(shown, 0) + 1
        shown = shown if again == 1 else f"{shown}#{again}"
        label = f"{self._label}/{shown}"
        self._sources.append(MemberSource(self._container, key, shown, label, length, self._changed_ns))

    def archive(self, findings: Iterable[Finding] = ()) -> Archive:
        """All members that were taken in, in the order of their labels."""
        said = []
        for reason, names in sorted(self._left_out.items()):
            message = f"{self._label} holds {names.of('file', 'files')} that {reason}: {names.examples()}"
            said.append(Finding("UNDECODABLE", "warning", f"{message}; left out", self._label))
        return Archive(tuple(sorted(self._sources, key=lambda source: source.label)), (*findings, *said))


def too_large(label: str, allowed: int) -> ArchiveError:
    """What to raise for an archive that unpacks to more than it may."""
    return ArchiveError(
        f"{label} would unpack to more than {allowed >> 20:,} MiB, far more than its size lets expect; "
        "not opened, unpack it yourself if you trust it"
    )


def leads_outside(name: str) -> bool:
    """Whether a member's name is absolute or climbs out of the archive, on any system."""
    return any(
        path.is_absolute() or bool(path.drive) or bool(path.root) or ".." in path.parts
        for path in (PurePosixPath(name), PureWindowsPath(name))
    )
