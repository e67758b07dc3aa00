"""STOW: DICOM files to a PACS, as they lie on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

from medmtl.data.dicom.web.server import Server
from medmtl.types import CaseError

if TYPE_CHECKING:
    from requests import Response

_FAILED, _REASON = "00081198", "00081197"
_REASONS = {
    0x0110: "processing failure",
    0x0122: "its class is not supported",
    0x0124: "not authorized",
    0xA700: "out of resources",
    0xA900: "it does not match its class",
    0xC000: "it cannot be understood",
    0xC122: "its transfer syntax is not supported",
}
"""FailureReason (PS3.18, I.2.2, and PS3.4, table B.2-1), without the lower digits of a range."""


def store_files(server: Server, files: Sequence[Path]) -> None:
    """Send files one after the other; one that is there already is no error.

    Args:
        server: where to.
        files: DICOM files.

    Raises:
        CaseError: ``PACS_REJECTED`` where an object was not accepted, or the service fails.
        OSError: a file cannot be read.
    """
    for path in files:
        failed = server.ask(f"storing {path.name}", partial(_store, server, path))
        if failed is not None:
            known = (
                _REASONS[part] for part in (failed, failed & 0xFF00, failed & 0xF000) if part in _REASONS
            )
            raise CaseError(
                "PACS_REJECTED",
                f"{server.address.host}: refuses {path.name}: "
                f"{next(known, 'no reason known')} ({failed:04X}); look into its log",
            )


def _store(server: Server, path: Path) -> int | None:
    """FailureReason (PS3.18, 10.5.3) where the server did not take the file."""
    boundary = uuid4().hex
    headers = {
        "Accept": "application/dicom+json",
        "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"',
    }
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    with path.open("rb") as file:
        body = _Body(head, file, path.stat().st_size, f"\r\n--{boundary}--".encode())
        response = server.session.post(
            f"{server.address.service}/studies", data=body, headers=headers, timeout=server.timeout
        )
    failed = _failure(response)
    if failed is None or response.status_code != 409:
        response.raise_for_status()
    return failed


def _failure(response: Response) -> int | None:
    if "json" not in response.headers.get("Content-Type", ""):
        return None
    answer = response.json()
    failed = _values(answer, _FAILED)
    return None if not failed else int(next(iter(_values(failed[0], _REASON)), 0))


def _values(dataset: Any, tag: str) -> Sequence[Any]:
    element = dataset.get(tag) if isinstance(dataset, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values if isinstance(values, list) else ()


class _Body:
    """A part made of a file, read while it is sent."""

    def __init__(self, head: bytes, file: BinaryIO, size: int, tail: bytes) -> None:
        self._pieces: list[BinaryIO] = [BytesIO(head), file, BytesIO(tail)]
        self._length = len(head) + size + len(tail)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Any:
        while piece := self.read(1 << 20):
            yield piece

    def read(self, count: int = -1) -> bytes:
        while self._pieces:
            if data := self._pieces[0].read(count):
                return data
            self._pieces.pop(0)
        return b""
