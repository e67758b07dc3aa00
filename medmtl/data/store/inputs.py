"""The files that a case is made from: have they changed since?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medmtl.data.cases import Case
from medmtl.types import CaseError


def inputs_of(case: Case, columns: Sequence[str]) -> dict[str, Path]:
    """The files of a case by what they are: ``image 0``, ``image 1``, ..., and its mask and map columns."""
    images = {f"image {channel}": path for channel, path in enumerate(case.images)}
    return images | {name: case.files[name] for name in sorted(columns) if name in case.files}


def signature(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Size, date and content hash of each file.

    Raises:
        CaseError: a file cannot be read.
    """
    return {name: {**_date(path), "hash": _hash(path)} for name, path in files.items()}


def changed(files: Mapping[str, Path], before: Mapping[str, Mapping[str, Any]]) -> str:
    """Which file is another than it was, in words; blank where none is.

    A file of the same size and date is taken for the same; with another date its content decides.
    """
    for name in {**before, **files}:
        if name not in files:
            return f"{name} is no longer there"
        if name not in before:
            return f"{name} is new"
        path, then = files[name], before[name]
        try:
            now = _date(path)
            if now["bytes"] != then["bytes"]:
                return f"{name} changed"
            if now["mtime_ns"] != then["mtime_ns"] and _hash(path) != then["hash"]:
                return f"{name} changed"
        except CaseError:
            return f"{name} cannot be read"
    return ""


def same_dates(files: Mapping[str, Path], before: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all files have the dates that were noted."""
    return all(_date(path)["mtime_ns"] == before[name]["mtime_ns"] for name, path in files.items())


def _date(path: Path) -> dict[str, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise CaseError("NO_USABLE_SERIES", f"{path}: cannot be read ({error.strerror})") from error
    return {"bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def _hash(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CaseError("NO_USABLE_SERIES", f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
