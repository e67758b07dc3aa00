"""What was read of the files of a folder, as one piece of bytes, for the cache.

    magic, crc of the rest, length of the index | index (JSON) | sections

The index names the sections and their lengths, and holds what is small: transfer syntaxes, findings. Bytes
that are not exactly that are no record. File names and labels are not in it, only digests of them.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from struct import error as StructError
from typing import Any
from zlib import crc32

from medmtl.data.dicom.decode import Context
from medmtl.data.dicom.files import InflatedSource
from medmtl.data.dicom.header import Stored
from medmtl.data.dicom.model import Instance, PixelData, Source
from medmtl.data.dicom.outcome import Outcome
from medmtl.data.dicom.stored import LazyHeader, from_bytes, to_bytes
from medmtl.types import Finding

_MAGIC = b"medmtl-1"
_HEAD = Struct("<8sII")
_KEY = 8
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NO_PIXELS, _UNDEFINED = -2, -1
_COLUMNS = ("common", "syntax", "offset", "length", "keyword", "own")


def key_of(name: str, stamp: tuple[int, int]) -> bytes:
    """What a file is known by: its name, size and time of change, digested."""
    return blake2b(f"{name}\0{stamp[0]}\0{stamp[1]}".encode("utf-8", "replace"), digest_size=_KEY).digest()


def key_of_all(names: Sequence[str], stamps: Sequence[tuple[int, int]]) -> bytes:
    """What all the files of a folder are known by together."""
    numbers = array("q", [number for stamp in stamps for number in stamp])
    digest = blake2b("\0".join(names).encode("utf-8", "replace"), digest_size=_KEY)
    digest.update(numbers.tobytes())
    return digest.digest()


def encode(outcomes: Sequence[Outcome], keys: Sequence[bytes], whole: bytes) -> bytes:
    """A record of the files of a folder.

    Args:
        outcomes: what came of them.
        keys: what each is known by.
        whole: what all are known by together, blank if these are not all.
    """
    columns: dict[str, array[int]] = {name: array("q") for name in _COLUMNS}
    commons: dict[tuple[int, Context], tuple[int, bytes, Context]] = {}
    syntaxes: dict[str, int] = {}
    own: list[bytes] = []
    start = 0
    for outcome in outcomes:
        instance = outcome.instance
        if instance is None:
            row = (-1, -1, _NO_PIXELS, 0, 0, start)
        else:
            mine, shared, context = instance.header.layers
            kind = (id(shared), context)
            if kind not in commons:
                commons[kind] = (len(commons), to_bytes(shared), context)
            syntax = syntaxes.setdefault(instance.transfer_syntax, len(syntaxes))
            own.append(to_bytes(mine))
            row = (commons[kind][0], syntax, *_row_of(instance.pixels), start)
            start += len(own[-1])
        for name, number in zip(_COLUMNS, row, strict=True):
            columns[name].append(number)
    columns["own"].append(start)
    shared_bytes = [raw for _, raw, _ in commons.values()]
    sections = [
        *(column.tobytes() for column in columns.values()),
        b"".join(keys),
        "\n".join(outcome.uid for outcome in outcomes).encode(),
        b"".join(shared_bytes),
        b"".join(own),
    ]
    index = json.dumps(
        {
            "files": len(outcomes),
            "whole": whole.hex(),
            "sections": [len(section) for section in sections],
            "commons": [(len(raw), c.implicit, c.charset.hex(), c.signed) for _, raw, c in commons.values()],
            "syntaxes": list(syntaxes),
            "rare": {str(n): rare for n, outcome in enumerate(outcomes) if (rare := _rare(outcome))},
        }
    ).encode()
    body = b"".join((index, *sections))
    return _HEAD.pack(_MAGIC, crc32(body), len(index)) + body


def _row_of(pixels: PixelData | None) -> tuple[int, int, int]:
    if pixels is None:
        return _NO_PIXELS, 0, 0
    length = _UNDEFINED if pixels.length is None else pixels.length
    return pixels.offset, length, _PIXEL_KEYWORDS.index(pixels.keyword)


def _rare(outcome: Outcome) -> dict[str, Any]:
    """What most files do not have."""
    rare: dict[str, Any] = {}
    if outcome.finding is not None:
        label = outcome.finding.where
        rare["finding"] = [
            outcome.finding.code,
            outcome.finding.severity,
            outcome.finding.message.replace(label, "\0"),
        ]
    if outcome.foreign:
        rare["foreign"] = True
    if outcome.wrong:
        rare["wrong"] = outcome.wrong
    if outcome.instance is not None and isinstance(outcome.instance.source, InflatedSource):
        rare["prefix"] = outcome.instance.source.prefix.hex()
    return rare


class Record:
    """A record that was read back.

    Attributes:
        whole: what all its files are known by together; blank if they were not all of their folder.

    Raises:
        ValueError: these bytes are no record.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._parse(data)
        except (LookupError, TypeError, AttributeError, OverflowError, StructError) as error:
            raise ValueError("not a record") from error

    def _parse(self, data: bytes) -> None:
        magic, crc, index_length = _HEAD.unpack_from(data)
        view = memoryview(data)
        if magic != _MAGIC or crc32(view[_HEAD.size :]) != crc:
            raise ValueError("not a record")
        position = _HEAD.size + index_length
        index = json.loads(bytes(view[_HEAD.size : position]))
        sections = []
        for length in index["sections"]:
            sections.append(view[position : position + length])
            position += length
        columns = [section.cast("q").tolist() for section in sections[: len(_COLUMNS)]]
        self._common, self._syntax, *places, self._own = columns
        self._pixels = _pixels(*places)
        keys, uids, shared, self._data = sections[len(_COLUMNS) :]
        self.whole = bytes.fromhex(index["whole"])
        self._keys = bytes(keys)
        files = index["files"]
        self._uids = bytes(uids).decode().split("\n") if files else []
        self._syntaxes = index["syntaxes"]
        self._rare: dict[int, dict[str, Any]] = {int(n): rare for n, rare in index["rare"].items()}
        self._shared: list[tuple[dict[str, Stored], Context]] = []
        start = 0
        for length, implicit, charset, signed in index["commons"]:
            context = Context(bool(implicit), bytes.fromhex(charset), bool(signed))
            self._shared.append((from_bytes(shared[start : start + length]), context))
            start += length
        inside = (
            [len(column) for column in columns] == [files] * (len(columns) - 1) + [files + 1]
            and (len(self._uids), len(self._keys), position) == (files, files * _KEY, len(data))
            and all(-1 <= number < len(self._shared) for number in self._common)
            and all(-1 <= number < len(self._syntaxes) for number in self._syntax)
            and self._own[-1] == len(self._data)
        )
        if not inside:
            raise ValueError("not a record")

    def keys(self) -> dict[bytes, int]:
        """Number of each file by what it is known by."""
        return {self._keys[n * _KEY : (n + 1) * _KEY]: n for n in range(len(self._uids))}

    def outcomes(self, sources: Sequence[Source]) -> list[Outcome]:
        """What came of all files.

        Args:
            sources: the same files in the same order.
        """
        rare, shared, syntaxes, uids, data = self._rare, self._shared, self._syntaxes, self._uids, self._data
        rows = zip(sources, self._common, self._syntax, self._pixels, self._own, self._own[1:], strict=False)
        outcomes = []
        for number, (source, common, syntax, pixels, start, stop) in enumerate(rows):
            if common < 0 or number in rare:
                outcomes.append(self.outcome(number, source))
                continue
            stored, context = shared[common]
            header = LazyHeader(data, start, stop, context, stored)
            outcomes.append(Outcome(Instance(source, header, syntaxes[syntax], pixels), uids[number]))
        return outcomes

    def outcome(self, number: int, source: Source) -> Outcome:
        """What came of one file.

        Args:
            number: of the file.
            source: the same file.
        """
        instance = None
        if (common := self._common[number]) >= 0:
            stored, context = self._shared[common]
            header = LazyHeader(self._data, self._own[number], self._own[number + 1], context, stored)
            instance = Instance(source, header, self._syntaxes[self._syntax[number]], self._pixels[number])
        rare = self._rare.get(number)
        if rare is None:
            return Outcome(instance, self._uids[number])
        finding = None
        if "finding" in rare:
            code, severity, message = rare["finding"]
            finding = Finding(code, severity, message.replace("\0", source.label), source.label)
        if instance is not None and "prefix" in rare:
            inflated = InflatedSource(source, bytes.fromhex(rare["prefix"]))
            instance = Instance(inflated, instance.header, instance.transfer_syntax, instance.pixels)
        return Outcome(
            instance, self._uids[number], finding, rare.get("foreign", False), tuple(rare.get("wrong", ()))
        )


def _pixels(offsets: list[int], lengths: list[int], keywords: list[int]) -> list[PixelData | None]:
    """Where the pixels of each file are; equal places are one object."""
    places = list(zip(offsets, lengths, keywords, strict=True))
    objects: dict[tuple[int, int, int], PixelData | None] = {
        place: PixelData(place[0], None if place[1] == _UNDEFINED else place[1], _PIXEL_KEYWORDS[place[2]])
        for place in set(places)
        if place[0] != _NO_PIXELS
    }
    return [objects.get(place) for place in places]
