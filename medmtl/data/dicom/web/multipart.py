"""Parts of a multipart response into files, without holding one in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from medmtl.data.dicom.web.failures import MultipartError

_LONGEST_HEADER = 16_384


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names (RFC 2046, section 5.1.1).

    Raises:
        MultipartError: it names none.
    """
    found = re.search(r'boundary=(?:"([^"]+)"|([^\s;]+))', content_type, flags=re.IGNORECASE)
    if not content_type.lower().startswith("multipart/") or found is None:
        raise MultipartError("no multipart response")
    return (found[1] or found[2]).encode("latin-1")


def write_parts(chunks: Iterable[bytes], boundary: bytes, folder: Path) -> list[Path]:
    """Write each part of a multipart body to a file of its own, as it comes in.

    Args:
        chunks: the body, in pieces of any size.
        boundary: between the parts.
        folder: gets ``000000.dcm``, ``000001.dcm``, ...

    Returns:
        the files, in the order of the parts.

    Raises:
        MultipartError: the body does not end with the closing boundary, or a part has no header.
        OSError: a file cannot be written.
    """
    body = _Body(chunks)
    delimiter = b"\r\n--" + boundary
    files: list[Path] = []
    for _ in body.until(delimiter):
        pass  # a preamble means nothing
    while body.peek(2) != b"--":
        body.skip_header()
        files.append(folder / f"{len(files):06d}.dcm")
        with files[-1].open("wb") as out:
            for piece in body.until(delimiter):
                out.write(piece)
    return files


class _Body:
    """A stream of chunks, of which only what is being looked at is held."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._data = bytearray(b"\r\n")  # the first boundary has no line before it

    def until(self, delimiter: bytes) -> Iterator[bytes]:
        """What comes before a delimiter, in pieces; the delimiter itself is passed over."""
        while (at := self._data.find(delimiter)) < 0:
            yield self._cut(max(len(self._data) - len(delimiter) + 1, 0))
            self._more()
        yield self._cut(at)
        self._cut(len(delimiter))

    def peek(self, count: int) -> bytes:
        """The next bytes, left where they are."""
        while len(self._data) < count:
            self._more()
        return bytes(self._data[:count])

    def skip_header(self) -> None:
        """Go behind the empty line that ends a part's header."""
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            if len(self._data) > _LONGEST_HEADER:
                raise MultipartError("a part without a header")
            self._more()
        self._cut(end + 4)

    def _cut(self, count: int) -> bytes:
        piece = bytes(self._data[:count])
        del self._data[:count]
        return piece

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise MultipartError("the last boundary is missing")
        self._data += chunk
