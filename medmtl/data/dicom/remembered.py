"""Reads the files of a folder, or takes what the cache remembers of those that have not changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

from medmtl.data.dicom.cache import HeaderCache, key_of_place
from medmtl.data.dicom.outcome import Outcome
from medmtl.data.dicom.reading import Reader
from medmtl.data.dicom.records import encode, key_of, key_of_all
from medmtl.data.dicom.sources import Batch, Search

_SUM = 4
_SETTLED_NS = 2_000_000_000
"""A file that changed more recently may change again without showing it: its time may be that coarse."""


def read_remembered(
    batch: Batch, cache: HeaderCache, reader: Reader, tick: Callable[..., None]
) -> list[Outcome]:
    """What comes of the files of a folder or archive, and remember it.

    Args:
        batch: the files.
        cache: what is remembered.
        reader: reads those that are not.
        tick: called with a number of files that are done.
    """
    sources = batch.sources
    try:
        stamps = [source.stamp() for source in sources]
    except OSError:  # one is gone, or may not be looked at: reading says so
        return reader.read(sources, tick)
    whole = key_of_all(batch.names, stamps)
    record = cache.get(batch.place)
    if record is not None and record.whole == whole:
        tick(len(sources))
        return record.outcomes(sources)
    keys = [key_of(name, stamp) for name, stamp in zip(batch.names, stamps, strict=True)]
    outcomes: list[Outcome | None] = [None] * len(sources)
    if record is not None:
        known = record.keys()
        for number, key in enumerate(keys):
            if key in known:
                outcomes[number] = record.outcome(known[key], sources[number])
    missing = [number for number, outcome in enumerate(outcomes) if outcome is None]
    tick(len(sources) - len(missing))
    for number, outcome in zip(missing, reader.read((sources[n] for n in missing), tick), strict=True):
        outcomes[number] = outcome
    done = [outcome for outcome in outcomes if outcome is not None]
    now = time.time_ns()
    settled = [number for number, (_, changed) in enumerate(stamps) if now - changed > _SETTLED_NS]
    if settled:
        complete = whole if len(settled) == len(done) else b""
        cache.put(batch.place, encode([done[n] for n in settled], [keys[n] for n in settled], complete))
    return done


def remembered_answer(
    paths: Sequence[Path | str], cache: Path, about: str, make: Callable[[], bytes]
) -> bytes:
    """What was made of files the last time, if none of them came, went or changed; else what is made now.

    Args:
        paths: as for ``find_sources``.
        cache: file that remembers.
        about: all that the answer depends on besides the files: what it is, its options, the version.
        make: makes it.
    """
    digest = blake2b(about.encode(), digest_size=16)
    latest = 0
    try:
        for batch in Search([Path(path).absolute() for path in paths], inside=False).batches():
            stamps = [source.stamp() for source in batch.sources]
            latest = max([latest, *(changed for _, changed in stamps)])
            digest.update(key_of_place(batch.place) + key_of_all(batch.names, stamps))
    except OSError:  # something is being changed right now
        return make()
    with HeaderCache(cache) as remembered:
        kept = remembered.get_bytes(digest.digest()) or b""
    if kept[:_SUM] == crc32(kept[_SUM:]).to_bytes(_SUM, "little"):
        return kept[_SUM:]
    answer = make()
    if time.time_ns() - latest > _SETTLED_NS:
        with HeaderCache(cache) as remembered:
            remembered.put_bytes(digest.digest(), crc32(answer).to_bytes(_SUM, "little") + answer)
    return answer
