"""Finds the format of a folder."""

from __future__ import annotations

from pathlib import Path

from medmtl.data.formats.base import FORMATS, DatasetFormat
from medmtl.types import DatasetError


def find_format(source: Path, name: str = "auto") -> DatasetFormat:
    """The format of a folder.

    Args:
        source: the folder.
        name: ``auto``, a registered format, or ``package.module:Class``.

    Raises:
        ConfigError: there is no format of that name.
        DatasetError: the folder is not of that format, of none, or of several.
    """
    if not source.exists():
        raise DatasetError(f"there is no {source}; name a folder that exists")
    if name != "auto":
        chosen = FORMATS.get(name)()
        if chosen.recognizes(source) is None:
            raise DatasetError(f"{source} is not of the format {name!r}: looked for {chosen.looks_for}")
        return chosen
    members = {known: FORMATS.get(known)() for known in FORMATS}
    reasons = {
        known: why for known, member in members.items() if (why := member.recognizes(source)) is not None
    }
    if not reasons:
        looked = "; ".join(f"{member.looks_for} ({known})" for known, member in members.items())
        raise DatasetError(f"nothing in {source} is of a known format; looked for {looked}")
    if len(reasons) > 1:
        found = "; ".join(f"{known} because of {why}" for known, why in reasons.items())
        raise DatasetError(
            f"{source} may be of several formats ({found}); name one, as in --format {next(iter(reasons))}"
        )
    return members[next(iter(reasons))]
