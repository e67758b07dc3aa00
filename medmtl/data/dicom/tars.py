"""Tar archives, plain or compressed.

A compressed one has to be inflated to be read in any order: into memory where it is small, else into an
unnamed temporary file, which vanishes with the last member that refers to it.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from medmtl.data.dicom.members import Archive, ArchiveError, Limits, Members, too_large
from medmtl.types import Finding

_STEP = 1 << 20
_LONGEST_HEADER = 1 << 20
"""Bytes of a member's header with all extensions; tarfile reads it at once, whatever it claims."""


class Tar:
    """The bytes of a tar, kept open; its members can be read by several threads at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)

    def read(self, key: tuple[int, int], offset: int, length: int | None) -> bytes:
        """As ``Container.read``; ``key`` is the member's position and length."""
        start, whole = key
        wanted = whole - offset if length is None else min(length, whole - offset)
        if wanted <= 0:
            return b""
        with self._lock:
            self._file.seek(start + offset)
            return self._file.read(wanted)


def open_tar(path: Path, label: str, kind: str, limits: Limits) -> Archive:
    """Members of a tar file.

    Args:
        path: where it is.
        label: its name in messages.
        kind: ``tar``, ``gz``, ``bz2`` or ``xz``.
        limits: what it may make us do.

    Raises:
        ArchiveError: it is larger than any real one, or nothing in it can be read.
    """
    status = path.stat()
    findings: list[Finding] = []
    file = path.open("rb") if kind == "tar" else _inflated(path, label, kind, limits, findings)
    container = Tar(file)
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    members = Members(container, label, status.st_size, status.st_mtime_ns, limits)
    try:
        for member in _entries(file):
            if not member.isdir():
                refused = "" if member.isreg() and not member.issparse() else "are links or devices"
                length = max(0, min(member.size, end - member.offset_data))  # what is there of it
                members.add(member.name, (member.offset_data, length), length, refused=refused)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        findings.append(_cut(label, str(error)))
    return members.archive(findings[:1])


def _entries(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=_Guarded(file), mode="r:") as tar:  # type: ignore[call-overload]
        while (member := tar.next()) is not None:
            tar.members = []  # it would keep all of them
            yield member


class _Guarded:
    """A file that refuses to be read in larger pieces than any honest header needs."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, length: int = -1) -> bytes:
        if not 0 <= length <= _LONGEST_HEADER:
            raise tarfile.ReadError("a header that is larger than any real one")
        return self._file.read(length)


def _cut(label: str, reason: str) -> Finding:
    message = f"{label} breaks off ({reason}); what comes before that was read, copy it anew"
    return Finding("TRUNCATED", "error", message, label)


def _inflated(path: Path, label: str, kind: str, limits: Limits, findings: list[Finding]) -> IO[bytes]:
    """A compressed tar's bytes, in memory or in a temporary file, as far as they can be had."""
    allowed = limits.allowed(path.stat().st_size)
    spool = tempfile.SpooledTemporaryFile(max_size=limits.in_memory)  # noqa: SIM115, closed by its container
    done = 0
    try:
        with path.open("rb") as packed:
            for part in _parts(packed, kind):
                done += len(part)
                if done > allowed:
                    raise too_large(label, allowed)
                if done > limits.in_memory and shutil.disk_usage(tempfile.gettempdir()).free < 4 * _STEP:
                    raise ArchiveError(f"{label} needs more room for temporary files; unpack it yourself")
                spool.write(part)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        findings.append(_cut(label, str(error)))
    except (ArchiveError, MemoryError):
        spool.close()
        raise
    return spool


def _parts(packed: IO[bytes], kind: str) -> Iterator[bytes]:
    """What a compressed file holds, a step at a time."""
    openers: dict[str, Any] = {"gz": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}
    keyword = "fileobj" if kind == "gz" else "filename"
    with openers[kind](**{keyword: packed, "mode": "rb"}) as file:
        while part := file.read1(_STEP):  # what comes before a break is not lost
            yield part
