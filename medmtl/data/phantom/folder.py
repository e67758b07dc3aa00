"""What every phantom cohort has in common: random streams, classes, names, geometry, and the folder."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medmtl.data.cases import Case
from medmtl.data.splits import assign_splits
from medmtl.types import ConfigError, OutputError


def stream(seed: int, *key: int) -> np.random.Generator:
    """One of the independent random streams of a cohort; its key begins with what it draws."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def class_of(index: int, seed: int, classes: Sequence[str]) -> str:
    """The class of case ``index`` (0-based): each once in as many in a row, in a random order."""
    block, position = divmod(index, len(classes))
    return classes[stream(seed, 1, block).permutation(len(classes))[position]]


def case_id(index: int) -> str:
    """The name of case ``index`` (0-based)."""
    return f"phantom_{index + 1:04d}"


def affine_of(shape: Sequence[int], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Voxel index to RAS+ mm from the middle: voxel axes run to the left, to the back and to the head."""
    affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


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


def split_cases(
    classes: Sequence[str], column: str, splits: Mapping[str, float], seed: int
) -> dict[str, str]:
    """The split of every case_id, stratified by the class of each case.

    Raises:
        ConfigError: ``splits`` cannot be used.
    """
    named = ((case_id(index), label) for index, label in enumerate(classes))
    known = [Case(name, name, "", (), values={column: label}) for name, label in named]
    return assign_splits(known, splits, seed, column)


def write_cases(
    output: Path,
    draw: Callable[[int], Mapping[str, str]],
    cases: int,
    *,
    split_of: Mapping[str, str],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Writes all cases, and then their truth in ``truth.csv``.

    Args:
        output: the folder.
        draw: writes case ``index`` (0-based); gives its row.
        cases: how many.
        split_of: by case_id; adds a column ``split`` unless it is empty.
        workers: threads.
        progress: called with the number of cases done and of all cases, from the calling thread.
    """
    rows = []
    with ThreadPoolExecutor(workers) as pool:
        for done, row in enumerate(pool.map(draw, range(cases)), start=1):
            rows.append({**row, "split": split_of[row["case_id"]]} if split_of else row)
            if progress is not None:
                progress(done, cases)
    write_table(output / "truth.csv", rows)


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Writes a table in one go, so that a broken-off run leaves none; columns are those of the first row."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    partial.replace(path)
