"""What a phantom scan of the trunk holds, and a folder of such scans that ingest reads as ``phantom``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.cases import Case
from medmtl.data.nifti import Geometry, Volume, write_volume
from medmtl.data.phantom.folder import check_numbers, empty_folder, write_table
from medmtl.data.phantom.solids import Grid
from medmtl.data.splits import DEFAULT_FRACTIONS, assign_splits

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


def generate_ct(output: Path, **options: Any) -> Path:
    """Writes a cohort of CT phantoms, see `write_scans` and `medmtl.data.phantom.ct`."""
    from medmtl.data.phantom.ct import class_of, make_ct  # which draws into the classes above

    return write_scans(output, make_ct, "effusion", class_of, **options)


def generate_petct(output: Path, **options: Any) -> Path:
    """Writes a cohort of PET/CT phantoms, see `write_scans` and `medmtl.data.phantom.petct`."""
    from medmtl.data.phantom.petct import class_of, make_petct  # likewise

    return write_scans(output, make_petct, "bulk", class_of, **options)


def write_scans(
    output: Path,
    make: Callable[..., Scan],
    label: str,
    class_of: Callable[[int, int], str],
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
        label: the category column that splits are stratified by.
        class_of: the class of a case.
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

    Example:
        >>> import tempfile
        >>> root = generate_ct(Path(tempfile.mkdtemp()), cases=1, shape=(48, 48, 24))
        >>> sorted(path.name for path in root.glob("*/*"))
        ['ct.nii.gz', 'organs.nii.gz']
    """
    check_numbers(cases=(cases, 1), seed=(seed, 0), workers=(workers, 1))
    check_numbers(
        **{f"shape[{axis}]": (n, least) for axis, (n, least) in enumerate(zip(shape, SMALLEST, strict=True))}
    )
    names = [f"phantom_{index + 1:04d}" for index in range(cases)]
    known = [Case(name, name, "", (), values={label: class_of(i, seed)}) for i, name in enumerate(names)]
    split_of = assign_splits(known, splits, seed, label)
    output = empty_folder(output)
    draw = partial(_write_one, output, make, seed, shape)
    rows = []
    with ThreadPoolExecutor(workers) as pool:
        for done, row in enumerate(pool.map(draw, range(cases), names), start=1):
            rows.append({**row, "split": split_of[row["case_id"]]})
            if progress is not None:
                progress(done, cases)
    write_table(output / "truth.csv", rows)
    return output


def _write_one(
    output: Path, make: Callable[..., Scan], seed: int, shape: tuple[int, int, int], index: int, name: str
) -> dict[str, str]:
    """Writes one case; returns its row."""
    scan = make(index, seed=seed, shape=shape)
    folder = output / name
    folder.mkdir()
    # voxel axes run to the left, to posterior and to the head; NIfTI's to the right, anterior and head
    x, y, z = scan.grid.spacing_mm
    affine = np.diag([-x, -y, z, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(scan.grid.shape) - 1) / 2
    geometry = Geometry(scan.grid.shape, 1, affine)
    for file, array in {**scan.images, **scan.masks}.items():
        write_volume(folder / f"{file}.nii.gz", Volume(array, geometry))
    return {"case_id": name, "patient": name, **{key: str(value) for key, value in scan.values.items()}}
