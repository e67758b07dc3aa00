"""What every phantom cohort checks before it writes, and how its truth is written."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from medmtl.types import ConfigError, OutputError


def check_numbers(**limits: tuple[int, int]) -> None:
    """Refuse numbers that are not whole, or below what there has to be.

    Raises:
        ConfigError: names the first.
    """
    for name, (value, least) in limits.items():
        if value != int(value) or value < least:
            raise ConfigError(f"{name} is {value!r}; give a whole number of at least {least}")


def empty_folder(output: Path) -> Path:
    """Make the folder of a cohort.

    Raises:
        OutputError: it is a file or holds something.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(
            f"{output} is not an empty folder; remove it or name another one for the phantom cohort"
        )
    output.mkdir(parents=True, exist_ok=True)
    return output


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes a table in one go, so that a broken-off run leaves none; columns are those of the first row."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
