"""Finds the format of a folder, and says why it is that one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medmtl.data.formats.base import FORMATS, DatasetFormat
from medmtl.data.staging import is_dataset
from medmtl.types import DatasetError


@dataclass(frozen=True)
class Recognized:
    """The format that a source is read as.

    Attributes:
        name: short name, or ``package.module:Class``.
        reader: the format.
        because: what it was recognized by, and which less specific formats would have read it too.
    """

    name: str
    reader: DatasetFormat
    because: str

    def __str__(self) -> str:
        return f"{self.name}, because of {self.because}"


def find_format(source: Path, name: str = "auto") -> DatasetFormat:
    """The format of a folder; `recognize` without the reason."""
    return recognize(source, name).reader


def recognize(source: Path, name: str = "auto") -> Recognized:
    """The format of a folder, and why.

    Args:
        source: the folder.
        name: ``auto``, a registered format, or ``package.module:Class``.

    Raises:
        ConfigError: there is no format of that name.
        DatasetError: the folder is not of that format, of none, or of several equally specific ones.
    """
    if not source.exists():
        raise DatasetError(f"there is no {source}; name a folder that exists")
    if name != "auto":
        chosen = FORMATS.get(name)()
        why = chosen.recognizes(source)
        if why is None:
            raise DatasetError(f"{source} is not of the format {name!r}: looked for {chosen.looks_for}")
        return Recognized(name, chosen, why)
    if is_dataset(source):
        raise DatasetError(
            f"{source} is a dataset already; use it as it is, or write another layout with --to"
        )
    members = {known: FORMATS.get(known)() for known in FORMATS}
    reasons = {
        known: why for known, member in members.items() if (why := member.recognizes(source)) is not None
    }
    if not reasons:
        looked = "; ".join(f"{member.looks_for} ({known})" for known, member in members.items())
        raise DatasetError(f"nothing in {source} is of a known format; looked for {looked}")
    highest = max(members[known].rank for known in reasons)
    best = [known for known in reasons if members[known].rank == highest]
    if len(best) > 1:
        found = "; ".join(f"{known} because of {reasons[known]}" for known in best)
        raise DatasetError(
            f"{source} may be of several formats ({found}); name one, as in --format {best[0]}"
        )
    others = [f"{known} because of {why}" for known, why in reasons.items() if known != best[0]]
    also = f" (less specific: {'; '.join(others)})" if others else ""
    return Recognized(best[0], members[best[0]], reasons[best[0]] + also)
