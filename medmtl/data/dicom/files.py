"""Sources of bytes: a file of the file system, and the data set of a deflated file.

Members of archives are in ``archives.py``. All of them can be read by several threads at once.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from medmtl.data.dicom.model import Source

_BINARY = getattr(os, "O_BINARY", 0)


def printable(name: str) -> str:
    """A file's name as it may stand in a message: without control characters and bytes that are no text."""
    return name if name.isprintable() else "".join(c if c.isprintable() else "?" for c in name)


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of the file system.

    Attributes:
        path: where it is.
        label: its path relative to what the user named.
    """

    path: str
    label: str

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``offset`` on, or all that follow; fewer where the file ends."""
        with self.opened() as file:
            return file.read(offset, length)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills a buffer of bytes from ``offset`` on, without a copy; gives the number that were there."""
        with self.opened() as file:
            return file.read_into(offset, buffer)

    def size(self) -> int:
        """Length in bytes."""
        return os.stat(self.path).st_size  # noqa: PTH116, a Path would take longer than the call

    def stamp(self) -> tuple[int, int]:
        """Size in bytes and time of the last change in ns: what changes when the file does."""
        status = os.stat(self.path)  # noqa: PTH116
        return status.st_size, status.st_mtime_ns

    def opened(self) -> OpenFile:
        """The file, open, for several reads; to be used in a ``with`` statement."""
        return OpenFile(self.path)


class OpenFile:
    """An open file.

    Attributes:
        size: its length in bytes.
    """

    __slots__ = ("_handle", "size")

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_RDONLY | _BINARY)
        self.size = os.fstat(self._handle).st_size

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """As ``Source.read``."""
        wanted = self.size - offset if length is None else min(length, self.size - offset)
        if wanted <= 0:
            return b""
        block = _read_at(self._handle, offset, wanted)
        while block and len(block) < wanted:  # a system may give less than was asked for, but never nothing
            more = _read_at(self._handle, offset + len(block), wanted - len(block))
            if not more:
                break
            block += more
        return block

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """As ``FileSource.read_into``."""
        if not hasattr(os, "preadv"):
            block = self.read(offset, len(buffer))
            buffer[: len(block)] = block
            return len(block)
        done = 0
        while done < len(buffer) and (more := os.preadv(self._handle, [buffer[done:]], offset + done)):
            done += more
        return done


def _read_at(handle: int, offset: int, length: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(handle, length, offset)
    os.lseek(handle, offset, os.SEEK_SET)
    return os.read(handle, length)


class InflationError(ValueError):
    """A deflated data set that is broken, or larger than any real one."""


LARGEST_INFLATED = 4 << 30
"""Bytes of an inflated data set beyond which a file is refused."""

_STEP = 1 << 20
_WINDOW = 64 * 1024


@dataclass(frozen=True, slots=True)
class InflatedSource:
    """A file whose data set is deflated, as if it were not: a file in explicit VR little endian.

    Offsets hold, and any reader understands it. It is inflated anew at every read.

    Attributes:
        inner: the deflated file.
        prefix: preamble and file meta information of the inflated file, as long as the deflated file's.
    """

    inner: Source
    prefix: bytes

    @property
    def label(self) -> str:
        """The deflated file's."""
        return self.inner.label

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """As ``Source.read``.

        Raises:
            InflationError: the data set is broken, or too large.
        """
        end = LARGEST_INFLATED + 1 if length is None else offset + length
        return b"".join((self.prefix, *self._parts(end - len(self.prefix))))[offset:end]

    def size(self) -> int:
        """Length in bytes, once inflated."""
        return len(self.prefix) + sum(len(part) for part in self._parts(LARGEST_INFLATED + 1))

    def _parts(self, needed: int) -> Iterator[bytes]:
        """The data set, inflated, until there are as many bytes as needed."""
        inflater, position, done, data = zlib.decompressobj(-zlib.MAX_WBITS), len(self.prefix), 0, b""
        while done < needed and not inflater.eof:
            if not data:
                data = self.inner.read(position, _STEP)
                position += len(data)
                if not data:
                    return  # the file was cut; what there is is found to be too short later
            try:
                part = inflater.decompress(data, _STEP)
            except zlib.error as error:
                raise InflationError(f"{self.label} cannot be inflated ({error}); copy it anew") from error
            data = inflater.unconsumed_tail
            done += len(part)
            if done > LARGEST_INFLATED:
                raise InflationError(f"{self.label} inflates to more than {LARGEST_INFLATED >> 30} GiB")
            yield part


class SeekableSource:
    """Bytes of a source as a file that pydicom can read; it never asks for more than there is.

    Args:
        read: ``(offset, length) -> bytes``.
        size: of the file in bytes.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size = read, size
        self._position = self._start = 0
        self._block = b""

    def read(self, length: int = -1) -> bytes:
        """As of any file."""
        left = max(0, self._size - self._position)
        length = left if length < 0 else min(length, left)
        first = self._position - self._start
        if first < 0 or first + length > len(self._block):
            self._start, first = self._position, 0
            self._block = self._read(self._start, max(length, _WINDOW))
        data = self._block[first : first + length]
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """As of any file."""
        return self._position
