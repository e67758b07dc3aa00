"""A folder of phantom patients: the raw layout ``phantom`` that ingest reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.phantom.case import PhantomCase, disease_of, make_case
from medmtl.data.phantom.folder import (
    affine_of,
    case_id,
    check_numbers,
    empty_folder,
    split_cases,
    stream,
    write_cases,
)
from medmtl.registry import nearest
from medmtl.types import ConfigError

FILES: tuple[str, ...] = ("anatomy", "tissue", "t1")
"""Label files of a case."""

VALUES: tuple[str, ...] = (
    "disease", "height", "weight", "LV_EDV", "LV_ESV", "LV_EF", "RV_EDV", "RV_ESV", "RV_EF", "MYO_mass",
    "scar_mass",
)  # fmt: skip
"""Columns of ``truth.csv`` that may be blank: cm, kg, mL, %, g."""

_SMALLEST_FIELD_MM = (155.0, 155.0, 86.0)


def generate_cohort(
    output: Path,
    *,
    cases: int,
    seed: int = 0,
    frames: int = 10,
    shape: tuple[int, int, int] = (64, 64, 10),
    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 9.0),
    drop_labels: Mapping[str, float] | None = None,
    splits: Mapping[str, float] | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a cohort of beating phantom hearts with their analytic truth.

    ``output/phantom_0001/`` holds ``cine.nii.gz`` and ``lge.nii.gz`` (x, y, z, t; int16), ``anatomy.nii.gz``
    (uint8: RV 1, MYO 2, LV 3), ``tissue.nii.gz`` (uint8: healthy 1, scar 2 inside the myocardium) and
    ``t1.nii.gz`` (float32 ms, NaN outside the heart and on frames other than ED and ES).
    ``output/truth.csv`` has a row per case. Papillary muscles and trabeculae count as blood pool, as in
    ACDC. The same arguments write the same bytes, and a case does not depend on how many there are, except
    for which labels are dropped and for the splits.

    Args:
        output: a new or empty folder.
        cases: number of cases, at least 1.
        seed: of everything random, at least 0.
        frames: per heart beat, at least 2.
        shape: voxels along x, y, z; the field of view holds a whole heart, 155 x 155 x 86 mm or more.
        spacing_mm: voxel size along x, y, z.
        drop_labels: fraction (0..1) of the cases that lack a label, by column: the file is not written, or
            the cell is blank.
        splits: share of ``train``, ``val`` and ``test``, summing to 1; adds a column ``split``, stratified
            by disease. Without it the column is not there, and ingest splits.
        workers: threads that draw and write.
        progress: called with the number of cases done and of all cases, after each case, from the calling
            thread.

    Returns:
        ``output``.

    Raises:
        ConfigError: an argument cannot be used; nothing was written.
        OutputError: ``output`` is a file or holds something.

    Example:
        >>> import tempfile
        >>> root = generate_cohort(Path(tempfile.mkdtemp()), cases=1, frames=2)
        >>> sorted(path.name for path in root.glob("*/*"))
        ['anatomy.nii.gz', 'cine.nii.gz', 'lge.nii.gz', 't1.nii.gz', 'tissue.nii.gz']
    """
    check_numbers(cases=(cases, 1), seed=(seed, 0), frames=(frames, 2), workers=(workers, 1))
    _check_field(shape, spacing_mm)
    dropped = _choose_dropped(drop_labels or {}, cases, seed)
    diseases = [disease_of(index, seed) for index in range(cases)]
    split_of = {} if splits is None else split_cases(diseases, "disease", splits, seed)
    output = empty_folder(output)

    def draw(index: int) -> dict[str, str]:
        case = make_case(index, seed=seed, frames=frames, shape=shape, spacing_mm=spacing_mm)
        without = {name for name, indices in dropped.items() if index in indices}
        _write_case(output / case_id(index), case, spacing_mm, without)
        return {name: "" if name in without else text for name, text in _truth(case_id(index), case).items()}

    write_cases(output, draw, cases, split_of=split_of, workers=workers, progress=progress)
    return output


def _truth(name: str, case: PhantomCase) -> dict[str, str]:
    """The row of one case."""
    values = {"height": case.patient.height_cm, "weight": case.patient.weight_kg, **case.values}
    return {
        "case_id": name,
        "patient": name,
        "disease": case.patient.disease,
        "frame_ed": str(case.cycle.frame_ed),
        "frame_es": str(case.cycle.frame_es),
        **{column: f"{values[column]:.4f}" for column in VALUES[1:]},
        "time_step_ms": f"{case.cycle.time_step_ms:.3f}",
    }


def _write_case(
    folder: Path, case: PhantomCase, spacing_mm: tuple[float, float, float], without: set[str]
) -> None:
    """Writes the images and the labels that are not dropped."""
    import nibabel

    folder.mkdir()
    arrays: dict[str, NDArray[Any]] = {
        **case.images,
        "anatomy": case.anatomy,
        "tissue": case.tissue,
        "t1": case.t1,
    }
    affine = affine_of(case.anatomy.shape[1:], spacing_mm)
    for name, frames_first in arrays.items():
        if name in without:
            continue
        image = nibabel.Nifti1Image(np.moveaxis(frames_first, 0, -1), affine)
        image.header.set_xyzt_units("mm", "msec")
        image.header["pixdim"][4] = case.cycle.time_step_ms
        nibabel.save(image, folder / f"{name}.nii.gz")


def _check_field(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> None:
    if {len(shape), len(spacing_mm)} != {3}:
        raise ConfigError(
            f"shape {shape!r} and spacing_mm {spacing_mm!r} need three numbers each, for x, y and z"
        )
    check_numbers(**{f"shape[{axis}]": (size, 1) for axis, size in enumerate(shape)})
    for axis, (size, step, least) in enumerate(zip(shape, spacing_mm, _SMALLEST_FIELD_MM, strict=True)):
        if not (math.isfinite(step) and step > 0):
            raise ConfigError(f"spacing_mm[{axis}] is {step!r}; give a size above 0 mm")
        if size * step < least:
            raise ConfigError(
                f"the field of view along {'xyz'[axis]} is {size} x {step:g} = {size * step:g} mm, too small "
                f"for a heart; make it {least:g} mm or more"
            )


def _choose_dropped(drop_labels: Mapping[str, float], cases: int, seed: int) -> dict[str, set[int]]:
    """Which cases lack which label: exactly the fraction, rounded half up."""
    known = [*FILES, *VALUES]
    dropped = {}
    for name, fraction in drop_labels.items():
        if name not in known:
            raise ConfigError(f"drop_labels: unknown column {name!r}{nearest(name, known)}")
        if not 0 <= fraction <= 1:
            raise ConfigError(
                f"drop_labels: the fraction of {name!r} is {fraction!r}; give a number from 0 to 1"
            )
        rng = stream(seed, 2, known.index(name))
        dropped[name] = set(rng.permutation(cases)[: math.floor(fraction * cases + 0.5)].tolist())
    return dropped
