"""Where the frames of encapsulated (compressed) pixel data are in a file.

Every item is visited by its header, and offset tables are believed only as far as they agree with the items:
they are often blank and sometimes wrong (32-bit tables wrap at 4 GiB). An extended offset table says nothing
that the items do not, as it requires one fragment per frame.

Source: DICOM PS3.5 section A.4, tables A.4-1 and A.4-2; PS3.3 C.7.6.3.1.8 (extended offset table).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

from medmtl.data.dicom.model import Source
from medmtl.types import CaseError

_ITEM = 0xE000FFFE
_DELIMITER = 0xE0DDFFFE
_HEAD = struct.Struct("<LL")
_WINDOW = 1 << 16
_END_OF_IMAGE = b"\xff\xd9"

Fragment = tuple[int, int]
"""Offset in the file, length."""


def locate_frames(source: Source, offset: int, frames: int) -> list[list[Fragment]]:
    """Fragments of every frame.

    Args:
        source: the file.
        offset: of the first item, which is the basic offset table.
        frames: NumberOfFrames.

    Raises:
        CaseError: ``TRUNCATED`` (the file ends within a fragment, or too few of them),
            ``UNDECODABLE`` (no items, or more of them than frames and nothing says which belong together).
    """
    items = _items(source, offset)
    if not items:
        raise CaseError(
            "UNDECODABLE", f"{source.label}: its compressed pixel data are empty; export it again"
        )
    (table_offset, table_length), *fragments = items
    if frames == 1 and fragments:
        return [fragments]
    if len(fragments) < frames:
        raise CaseError(
            "TRUNCATED",
            f"{source.label}: holds {len(fragments)} of {frames} compressed frames; copy the file again",
        )
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    table = source.read(table_offset, table_length) if table_length else b""
    firsts = _firsts_from_table(table, fragments)
    if len(firsts) != frames:
        firsts = _firsts_from_ends(source, fragments)
    if len(firsts) != frames:
        raise CaseError(
            "UNDECODABLE",
            f"{source.label}: has {len(fragments)} fragments for {frames} frames, and nothing says which "
            "belong together; export it again with an offset table",
        )
    return [fragments[a:b] for a, b in zip(firsts, [*firsts[1:], len(fragments)], strict=True)]


def read_fragments(source: Source, fragments: Sequence[Fragment]) -> bytes:
    """The bytes of one frame.

    Raises:
        CaseError: ``TRUNCATED``.
    """
    parts = [source.read(offset, length) for offset, length in fragments]
    if any(len(part) != length for part, (_, length) in zip(parts, fragments, strict=True)):
        raise CaseError("TRUNCATED", f"{source.label}: ends within a compressed frame; copy the file again")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _items(source: Source, offset: int) -> list[Fragment]:
    """Offset and length of every item's value, up to the delimiter or, for want of one, the file's end."""
    size = source.size()
    items: list[Fragment] = []
    window, start = b"", offset
    while offset + _HEAD.size <= size:
        if not start <= offset <= start + len(window) - _HEAD.size:
            window, start = source.read(offset, _WINDOW), offset
            if len(window) < _HEAD.size:
                break
        tag, length = _HEAD.unpack_from(window, offset - start)
        if tag == _DELIMITER:
            break
        if tag != _ITEM or length == 0xFFFFFFFF:
            raise CaseError(
                "UNDECODABLE",
                f"{source.label}: its compressed pixel data are not a sequence of fragments; export it again",
            )
        offset += _HEAD.size
        if offset + length > size:
            raise CaseError(
                "TRUNCATED",
                f"{source.label}: ends within its compressed pixel data, {offset + length - size} bytes are "
                "missing; copy the file again",
            )
        items.append((offset, length))
        offset += length
    return items


def _firsts_from_table(table: bytes, fragments: Sequence[Fragment]) -> list[int]:
    """First fragment of every frame by the basic offset table; none where it contradicts the items."""
    origin = fragments[0][0] - _HEAD.size
    starts = {offset - _HEAD.size - origin: index for index, (offset, _) in enumerate(fragments)}
    offsets = struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4])
    firsts = [starts.get(offset, -1) for offset in offsets]
    consistent = firsts[:1] == [0] and all(a < b for a, b in pairwise(firsts))
    return firsts if consistent else []


def _firsts_from_ends(source: Source, fragments: Sequence[Fragment]) -> list[int]:
    """Likewise by the end-of-image markers of JPEG and its kin, which close a frame (or its padding does)."""
    firsts = [0]
    for index, (offset, length) in enumerate(fragments[:-1]):
        tail = min(length, 10)
        if _END_OF_IMAGE in source.read(offset + length - tail, tail):
            firsts.append(index + 1)
    return firsts
