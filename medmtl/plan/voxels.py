"""What only voxels tell of a dataset: intensities in the foreground, volumes and extents of structures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dataset import Case, Dataset
from medmtl.data.nifti import Geometry, frames_first, read_volume
from medmtl.plan.axes import network_axes
from medmtl.types import UNLABELLED, CaseError

PER_CASE = 20_000
"""Foreground voxels that are looked at per case and channel, evenly spread, so that large cases count no
more."""
BODY_HU = -500.0
"""Where nothing is segmented, the foreground of a CT is what lies above this: the body without the air."""


@dataclass(frozen=True)
class Intensity:
    """Intensities of one channel in the foreground, over all cases.

    Attributes:
        low: 0.5 percentile.
        median: 50 percentile.
        high: 99.5 percentile.
        mean: mean.
        sd: standard deviation.
    """

    low: float
    median: float
    high: float
    mean: float
    sd: float


@dataclass(frozen=True)
class Structure:
    """One structure of a mask column.

    Attributes:
        cases: in how many cases it is there at all.
        volume_ml: median over the labelled frames in which it is there.
        smallest_ml: 5 percentile of the same.
        largest_ml: 95 percentile.
    """

    cases: int
    volume_ml: float
    smallest_ml: float
    largest_ml: float


@dataclass(frozen=True)
class Voxels:
    """What `measure_voxels` found.

    Attributes:
        cases: how many could be read.
        intensities: by channel, in the channels' order.
        foreground: what was taken for foreground, in words.
        structures: by mask column and structure.
        extent_mm: the box that holds all that is labelled, along the network's axes, 95 percentile over
            cases; None without masks.
    """

    cases: int
    intensities: tuple[Intensity, ...]
    foreground: str
    structures: Mapping[str, Mapping[str, Structure]] = field(default_factory=dict)
    extent_mm: tuple[float, float, float] | None = None


@dataclass
class _Found:
    """One case: a sample of every channel, volumes of structures per frame, box of all that is labelled."""

    samples: list[NDArray[np.float32]]
    volumes: dict[tuple[str, str], list[float]]
    extent_mm: list[float] | None


def measure_voxels(
    dataset: Dataset, cases: Sequence[Case], progress: Callable[[int, int], None] | None = None
) -> Voxels | None:
    """Read all given cases; those that cannot be read are left out, as training leaves them out and says so.

    Args:
        dataset: what the columns mean.
        cases: which to read.
        progress: called with (done, all).

    Returns:
        what was found, or None when no case could be read.
    """
    found: list[_Found] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for done, one in enumerate(pool.map(lambda case: _read(dataset, case), cases), start=1):
            if one is not None:
                found.append(one)
            if progress is not None:
                progress(done, len(cases))
    if not found:
        return None
    intensities = tuple(
        _intensity(np.concatenate([one.samples[channel] for one in found]))
        for channel in range(len(dataset.channels))
    )
    masks = [column for column in dataset.columns.values() if column.kind == "mask"]
    structures = {
        column.name: {
            name: _structure([one.volumes.get((column.name, name), []) for one in found])
            for name in column.labels
        }
        for column in masks
    }
    boxes = [one.extent_mm for one in found if one.extent_mm is not None]
    extent = None
    if boxes:
        x, y, z = (float(v) for v in np.percentile(boxes, 95, axis=0))
        extent = (x, y, z)
    segmented = any(one.volumes for one in found)
    words = "labelled voxels" if segmented else "all voxels (CT: above -500 HU), as nothing is segmented"
    return Voxels(len(found), intensities, words, structures, extent)


def _read(dataset: Dataset, case: Case) -> _Found | None:
    masks = {name: column for name, column in dataset.columns.items() if column.kind == "mask"}
    try:
        images = [frames_first(read_volume(path).array) for path in case.images]
        labels = {
            name: frames_first(read_volume(case.files[name]).array) for name in masks if name in case.files
        }
    except CaseError:
        return None
    geometry = dataset.geometry[case.case_id]
    volumes: dict[tuple[str, str], list[float]] = {}
    inside: NDArray[np.bool_] | None = None
    for name, array in labels.items():
        for structure, value in masks[name].labels.items():
            counts = (array == value).sum(axis=(1, 2, 3))
            volumes[name, structure] = [float(n) * geometry.voxel_ml for n in counts if n]
        drawn = (array != 0) & (array != UNLABELLED)
        if drawn.shape == images[0].shape:
            inside = drawn if inside is None else inside | drawn
    samples = [_sample(image, inside, dataset.modality) for image in images]
    extent = None if inside is None or not inside.any() else _extent(inside, geometry)
    return _Found(samples, volumes, extent)


def _sample(image: NDArray[Any], inside: NDArray[np.bool_] | None, modality: str) -> NDArray[np.float32]:
    values = image[inside] if inside is not None and inside.any() else image.reshape(-1)
    if inside is None and modality == "CT":
        values = values[values > BODY_HU]
    step = max(1, values.size // PER_CASE)
    found = values[::step].astype(np.float32)
    return found[np.isfinite(found)]


def _extent(inside: NDArray[np.bool_], geometry: Geometry) -> list[float]:
    """Size in mm of the box around all that is labelled in any frame, along the network's axes."""
    drawn: NDArray[np.bool_] = np.logical_or.reduce(inside, axis=0)
    sizes = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        where = np.flatnonzero(np.logical_or.reduce(drawn, axis=others))
        sizes.append(float(where[-1] - where[0] + 1) * geometry.spacing_mm[axis])
    return [sizes[axis] for axis in network_axes(geometry.affine)]


def _intensity(values: NDArray[np.float32]) -> Intensity:
    if values.size == 0:
        return Intensity(0.0, 0.0, 0.0, 0.0, 0.0)
    low, median, high = (float(v) for v in np.percentile(values, (0.5, 50, 99.5)))
    return Intensity(
        low, median, high, float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    )


def _structure(volumes: Sequence[Sequence[float]]) -> Structure:
    every = [ml for one in volumes for ml in one]
    if not every:
        return Structure(0, 0.0, 0.0, 0.0)
    median, small, large = (float(v) for v in np.percentile(every, (50, 5, 95)))
    return Structure(sum(bool(one) for one in volumes), median, small, large)
