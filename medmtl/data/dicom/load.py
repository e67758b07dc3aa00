"""A plan's planes -> one array of real values, each file read once and each plane put straight in its place.

Type of the result: what is stored as whole numbers and rescaled by nothing but a whole offset (MR; CT in HU)
stays whole, as the smallest of uint8, int16, uint16, int32, uint32 that holds it without loss. All else is
float32, computed as ``stored * slope + intercept`` in float64 with the slope of each plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.fill import Filler, frames_of
from medmtl.data.dicom.layout import Layout
from medmtl.data.dicom.model import LoadedVolume, Plane, VolumePlan
from medmtl.data.dicom.suv import SuvKind, suv_factors
from medmtl.data.dicom.values import Scaling, scaling_of
from medmtl.types import CaseError, Finding


def load(
    plan: VolumePlan, *, suv: SuvKind | None = "bw", strict: bool = False, workers: int | None = None
) -> LoadedVolume:
    """Read the voxels of a volume.

    Args:
        plan: one of a scan's volumes.
        suv: what PET values are turned into: standardized uptake by body weight, by lean mass (``lbm`` is
            Janmahasatian's, ``lbm-james`` James's) or by body surface; None leaves them as they are. Other
            modalities are not touched.
        strict: PET values of which no SUV can be had are an error, not a warning.
        workers: decoding processes for compressed series at most; by default one per core.

    Returns:
        Voxels ``(X, Y, Z[, T])`` as in ``plan.shape``, a view of one array ``(T, Z, rows, columns)``; their
        unit; and the findings of plan, decoding and scaling.

    Raises:
        CaseError: ``NOT_AN_IMAGE``, ``UNDECODABLE``, ``TRUNCATED`` (names the file), ``OUT_OF_MEMORY``, and
            ``SUV_MISSING_TAG`` if strict.
    """
    planes = _in_order(plan)
    scaling = _scaling_of(plan, planes, suv)
    if strict:
        _refuse_without_suv(plan, scaling.findings)
    frames = frames_of(planes)
    layouts = {of.layout for of in frames}
    filler = Filler(planes, frames, scaling, workers)
    shape = (len(plan.planes), *planes[0].shape)
    if plan.correction is None:
        whole = scaling.changes_nothing and all(layout.dtype.kind != "f" for layout in layouts)
        dtype = np.result_type(*(layout.dtype for layout in layouts)) if whole else np.dtype(np.float32)
        array = _allocate((plan.frames, *shape), dtype)
        filler.fill(array.reshape(-1, *shape[1:]), range(len(planes)))
        if whole:
            array = _finish_whole(array, int(scaling.intercept[0]), layouts)
    else:
        array = _corrected(plan, filler, shape)
    voxels = array.transpose(3, 2, 1, 0) if len(plan.shape) == 4 else array[0].transpose(2, 1, 0)
    assert voxels.shape == tuple(plan.shape), "the plan's shape is not that of its planes"
    findings = (*plan.findings, *scaling.findings, *_layout_notes(planes[0], layouts))
    return LoadedVolume(voxels, plan, scaling.unit, findings)


def findings_of_values(plan: VolumePlan, *, suv: SuvKind | None = "bw") -> tuple[Finding, ...]:
    """What `load` would add to the plan's findings, from headers alone: scaling, SUV, impossible layouts.

    Args:
        plan: one of a scan's volumes.
        suv: see `load`.
    """
    planes = _in_order(plan)
    try:
        layouts = {of.layout for of in frames_of(planes)}
    except CaseError as error:
        return (Finding(error.code, "error", str(error), plan.name),)
    return (*_scaling_of(plan, planes, suv).findings, *_layout_notes(planes[0], layouts))


def _in_order(plan: VolumePlan) -> list[Plane]:
    """The planes in the order of the array: slices of the first frame, then of the next."""
    return [of_slice[t] for t in range(len(plan.planes[0])) for of_slice in plan.planes]


def _scaling_of(plan: VolumePlan, planes: Sequence[Plane], suv: SuvKind | None) -> Scaling:
    scaling = scaling_of(planes, plan.modality)
    if plan.modality != "PT" or suv is None:
        return scaling
    result = suv_factors(planes, scaling.unit, suv, where=planes[0].instance.source.label)
    return scaling.times(result.factors, result.unit, result.findings)


def _refuse_without_suv(plan: VolumePlan, findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.code == "SUV_MISSING_TAG":
            raise CaseError("SUV_MISSING_TAG", f"{plan.name}: {finding.message}")


def _corrected(plan: VolumePlan, filler: Filler, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Real values on the plan's grid ``(T, Z', rows', columns')``, one frame's planes in memory besides."""
    assert plan.correction is not None
    stack = _allocate(shape, np.dtype(np.float32))
    array: NDArray[Any] | None = None
    for t in range(plan.frames):
        filler.fill(stack, range(t * shape[0], (t + 1) * shape[0]))
        moved = plan.correction(stack)
        if array is None:
            array = _allocate((plan.frames, *moved.shape), moved.dtype)
        array[t] = moved
    assert array is not None
    return array


def _allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        gigabytes = float(np.prod(shape, dtype=np.float64)) * dtype.itemsize / 1e9
        raise CaseError(
            "OUT_OF_MEMORY", f"a volume of {gigabytes:.1f} GB does not fit into memory"
        ) from error


def _finish_whole(array: NDArray[Any], offset: int, layouts: set[Layout]) -> NDArray[Any]:
    """Stored whole numbers plus an offset, in the smallest type that holds them; in place where it can be."""
    limits = [layout.limits or (0, 0) for layout in layouts]
    dtype = _smallest(min(low for low, _ in limits) + offset, max(high for _, high in limits) + offset, array)
    if dtype is None or dtype.itemsize > min(array.dtype.itemsize, 2) or dtype == np.uint16:
        # What may be stored needs a larger type than what is: 16 bits of CT hold no air of -33,000 HU.
        dtype = _smallest(int(array.min()) + offset, int(array.max()) + offset, array)
    if dtype is None:
        return array.astype(np.float64) + offset
    if dtype.itemsize > array.dtype.itemsize:
        array = array.astype(dtype)
    bits = 8 * array.dtype.itemsize
    signed, unsigned = np.dtype(f"i{bits // 8}"), np.dtype(f"u{bits // 8}")
    if offset:  # modulo 2^bits, which is right whenever the result fits, in one sign or the other
        array.view(unsigned)[...] += unsigned.type(offset % (1 << bits))
    return array.view(signed if dtype.kind == "i" else unsigned).astype(dtype, copy=False)


def _smallest(low: int, high: int, array: NDArray[Any]) -> np.dtype[Any] | None:
    """Smallest integer type for low to high; None where there is none of 32 bits."""
    candidates = ("u1", "i2", "u2", "i4", "u4") if array.dtype.itemsize == 1 else ("i2", "u2", "i4", "u4")
    for name in candidates:
        if np.iinfo(name).min <= low and high <= np.iinfo(name).max:
            return np.dtype(name)
    return None


def _layout_notes(plane: Plane, layouts: set[Layout]) -> list[Finding]:
    where = plane.instance.source.label
    notes = []
    if any(layout.inverted for layout in layouts):
        notes.append(
            Finding(
                "VALUE_SCALE",
                "info",
                "is shown inverted (MONOCHROME1); its values are kept as measured",
                where,
            )
        )
    if any(layout.low_bit for layout in layouts):
        message = (
            "HighBit is not BitsStored - 1, as it has to be; values were taken from the bits that carry them"
        )
        notes.append(Finding("VALUE_SCALE", "warning", message, where))
    return notes
