"""What a phantom scan of the trunk holds, and a folder of such scans that ingest reads as ``phantom``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.nifti import Geometry, Volume, write_volume
from medmtl.data.phantom.folder import (
    affine_of,
    case_id,
    check_numbers,
    class_of,
    empty_folder,
    split_cases,
    write_cases,
)
from medmtl.data.phantom.solids import Grid
from medmtl.data.splits import DEFAULT_FRACTIONS

CLASSES = ("no", "yes")
"""Of the one thing that a scan shows or not."""
SMALLEST = (32, 32, 16)
"""Voxels along x, y, z, at least; on fewer, lesions fall between voxels."""


@dataclass(frozen=True)
class Scan:
    """One case.

    Attributes:
        grid: its voxels.
        images: by channel, ``(X, Y, Z)``.
        masks: by column, ``(X, Y, Z)`` uint8.
        values: by column, a class or a number.
    """

    grid: Grid
    images: Mapping[str, NDArray[Any]]
    masks: Mapping[str, NDArray[np.uint8]]
    values: Mapping[str, str | float]


def write_scans(
    output: Path,
    make: Callable[..., Scan],
    label: str,
    *,
    cases: int,
    seed: int = 0,
    shape: tuple[int, int, int] = (512, 512, 200),
    splits: Mapping[str, float] = DEFAULT_FRACTIONS,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes scans as NIfTI, ``phantom_0001/<channel or mask>.nii.gz``, and their truth in ``truth.csv``.

    The same arguments write the same bytes, and a case does not depend on how many there are, except for the
    splits.

    Args:
        output: a new or empty folder.
        make: draws one case.
        label: the category column, of `CLASSES`, that splits are stratified by.
        cases: number of cases, at least 1.
        seed: of everything random, at least 0.
        shape: voxels along x, y, z; the field is 400 mm wide along each.
        splits: share of ``train``, ``val`` and ``test``, summing to 1.
        workers: threads that draw and write.
        progress: called with the number of cases done and of all cases.

    Returns:
        ``output``.

    Raises:
        ConfigError: an argument cannot be used; nothing was written.
        OutputError: ``output`` is a file or holds something.
    """
    check_numbers(cases=(cases, 1), seed=(seed, 0), workers=(workers, 1))
    check_numbers(
        **{f"shape[{axis}]": (n, least) for axis, (n, least) in enumerate(zip(shape, SMALLEST, strict=True))}
    )
    split_of = split_cases([class_of(i, seed, CLASSES) for i in range(cases)], label, splits, seed)
    output = empty_folder(output)
    draw = partial(_write_one, output, make, seed, shape)
    write_cases(output, draw, cases, split_of=split_of, workers=workers, progress=progress)
    return output


def _write_one(
    output: Path, make: Callable[..., Scan], seed: int, shape: tuple[int, int, int], index: int
) -> dict[str, str]:
    """Writes one case; returns its row."""
    scan, name = make(index, seed=seed, shape=shape), case_id(index)
    folder = output / name
    folder.mkdir()
    geometry = Geometry(scan.grid.shape, 1, affine_of(scan.grid.shape, scan.grid.spacing_mm))
    for file, array in {**scan.images, **scan.masks}.items():
        write_volume(folder / f"{file}.nii.gz", Volume(array, geometry))
    return {"case_id": name, "patient": name, **{key: str(value) for key, value in scan.values.items()}}
