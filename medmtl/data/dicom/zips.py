"""Zip archives. Source: PKWARE APPNOTE 6.3, sections 4.3.14 to 4.3.16 (end of central directory)."""

from __future__ import annotations

import weakref
import zipfile
import zlib
from lzma import LZMAError
from pathlib import Path
from struct import error as StructError
from struct import unpack_from

from medmtl.data.dicom.members import Archive, ArchiveError, Limits, Members

_ENCRYPTED = 0x1
_END, _END_LENGTH, _LONGEST_COMMENT = b"PK\5\6", 22, 0xFFFF
_LOCATOR, _LOCATOR_LENGTH = b"PK\6\7", 20
_END_64 = b"PK\6\6"
_BROKEN = (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, RuntimeError)
"""What reading a broken member raises; an unknown method of compression is a RuntimeError."""


class Zip:
    """A zip file, kept open; its members can be read by several threads at once."""

    def __init__(self, path: Path, label: str) -> None:
        self._file = zipfile.ZipFile(path)
        self._label = label
        weakref.finalize(self, self._file.close)

    def infos(self) -> list[zipfile.ZipInfo]:
        """What the table of contents says."""
        return self._file.infolist()

    def read(self, key: zipfile.ZipInfo, offset: int, length: int | None) -> bytes:
        """As ``Container.read``."""
        try:
            with self._file.open(key) as member:
                if offset:
                    member.seek(offset)
                return member.read(-1 if length is None else length)
        except _BROKEN as error:
            raise OSError(f"{self._label} is broken: {error}") from error


def open_zip(path: Path, label: str, limits: Limits) -> Archive:
    """Members of a zip file.

    Raises:
        ArchiveError: it is broken or larger than any real one.
    """
    status = path.stat()
    if (directory := _directory_length(path, status.st_size)) > limits.directory:
        raise ArchiveError(
            f"{label} has a table of contents of {directory >> 20:,} MiB: not opened; unpack it yourself"
        )
    try:
        container = Zip(path, label)
        members = Members(container, label, status.st_size, status.st_mtime_ns, limits)
        for info in container.infos():
            if not info.is_dir():
                refused = "are encrypted" if info.flag_bits & _ENCRYPTED else ""
                members.add(info.filename, info, info.file_size, refused=refused)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, StructError) as error:
        raise ArchiveError(f"{label} is broken ({error}) and was not opened; copy it anew") from error
    return members.archive()


def _directory_length(path: Path, size: int) -> int:
    """Bytes of the table of contents, which Python reads at once."""
    tail = min(size, _END_LENGTH + _LONGEST_COMMENT + _LOCATOR_LENGTH)
    with path.open("rb") as file:
        file.seek(size - tail)
        block = file.read(tail)
        at = block.rfind(_END)
        if at < 0 or at + _END_LENGTH > len(block):
            return 0  # no zip: Python says so
        (length,) = unpack_from("<I", block, at + 12)
        if at >= _LOCATOR_LENGTH and block[at - _LOCATOR_LENGTH :].startswith(_LOCATOR):
            file.seek(min(size, unpack_from("<Q", block, at - _LOCATOR_LENGTH + 8)[0]))
            end = file.read(56)
            if end.startswith(_END_64) and len(end) == 56:
                return int(unpack_from("<Q", end, 40)[0])
        return int(length)
