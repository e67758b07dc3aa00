"""Cases -> the single volumes that layouts without a time axis hold: a case, or its labelled frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medmtl.data.cases import Case
from medmtl.data.columns import Column
from medmtl.data.dataset import Dataset
from medmtl.data.export.base import Progress
from medmtl.data.nifti import Volume, frames_first, read_volume, smallest_lossless
from medmtl.registry import nearest
from medmtl.types import UNLABELLED, CaseError, ConfigError, Finding

_THREADS = 8  # reading and compressing release the interpreter; more threads only hold more cases in memory

Result = TypeVar("Result")


@dataclass(frozen=True)
class Codes:
    """The values that one mask column has in a layout that counts structures from 1.

    Attributes:
        column: the mask column.
        values: value of each structure: 1, 2, ... in the order of the dataset's codes.
    """

    column: Column
    values: Mapping[str, int]

    @property
    def ignore(self) -> int:
        """Value of voxels that nobody labelled."""
        return len(self.values) + 1

    def apply(self, mask: NDArray[Any]) -> NDArray[np.uint8]:
        """A mask ``(X, Y, Z)`` in the layout's values."""
        table = np.zeros(256, dtype=np.uint8)
        table[UNLABELLED] = self.ignore
        for structure, code in self.column.labels.items():
            table[code] = self.values[structure]
        return table[mask.astype(np.uint8)]


@dataclass(frozen=True, eq=False)
class Sample:
    """One volume of an export.

    Attributes:
        name: the case, and the frame where it has several: ``heart01_frame09``.
        case: the case.
        frame: 0-based, None for a 3D case.
        split: ``train``, ``val`` or ``test``.
        images: one 3D volume per channel.
        mask: ``(X, Y, Z)`` in the layout's values, or None where nobody labelled anything.
        ignored: the mask has voxels that nobody labelled.
    """

    name: str
    case: Case
    frame: int | None
    split: str
    images: tuple[Volume, ...]
    mask: Volume | None
    ignored: bool


@dataclass(frozen=True)
class Record:
    """What is remembered of a sample after it was written."""

    name: str
    case: Case
    frame: int | None
    split: str
    labelled: bool
    ignored: bool


def record(sample: Sample) -> Record:
    """A sample without its voxels."""
    return Record(
        sample.name, sample.case, sample.frame, sample.split, sample.mask is not None, sample.ignored
    )


def choose_mask(dataset: Dataset, name: str | None) -> Codes:
    """The mask column to write.

    Args:
        dataset: the dataset.
        name: of the column; by default the one that ED and ES are found by, else the first.

    Raises:
        ConfigError: there is none of that name, or none at all.
    """
    masks = {column.name: column for column in dataset.columns.values() if column.kind == "mask"}
    if not masks:
        raise ConfigError(f"{dataset.root}: has no mask column, and this layout is made for segmentation")
    if name is None:
        name = dataset.cycle.mask if dataset.cycle is not None else next(iter(masks))
    if name not in masks:
        raise ConfigError(f"{dataset.root}: there is no mask column {name!r}{nearest(name, list(masks))}")
    labels = masks[name].labels
    for reserved in ("background", "ignore"):
        if reserved in labels:
            raise ConfigError(
                f"{dataset.root}: a structure of {name!r} is called {reserved!r}, which has its own meaning "
                "in the layout; rename it in dataset.yaml"
            )
    order = sorted(labels, key=lambda structure: labels[structure])
    return Codes(masks[name], {structure: number for number, structure in enumerate(order, start=1)})


def other_dense_columns(dataset: Dataset, kept: str) -> tuple[Finding, ...]:
    """Says which masks and maps a layout with one mask per volume has no place for."""
    dense = [column.name for column in dataset.columns.values() if column.kind in ("mask", "map")]
    others = ", ".join(name for name in dense if name != kept)
    if not others:
        return ()
    text = f"the layout holds one mask per image: {kept} was written, and not {others}"
    return (Finding("LABEL_VALUES", "info", text, "dataset.yaml"),)


def split_of(dataset: Dataset) -> Callable[[Case], str]:
    """The split of a case; where no case of the dataset has one, all of them train."""
    if any(case.split for case in dataset.cases):
        return lambda case: case.split
    return lambda case: "train"


class LeftOut(Exception):
    """A case that a layout cannot hold; the message says why."""


def for_each(
    cases: Sequence[Case], work: Callable[[Case], Result], progress: Progress | None
) -> tuple[list[Result], list[Finding]]:
    """Works on all cases side by side.

    Returns:
        the results in the order of the cases, and why other cases have none.
    """

    def one(case: Case) -> Result | Finding:
        try:
            return work(case)
        except LeftOut as error:
            return Finding("NO_USABLE_SERIES", "warning", f"left out: {error}", "cases.csv", case.case_id)
        except CaseError as error:
            return Finding(error.code, "error", str(error), "cases.csv", case.case_id)

    results: list[Result] = []
    findings: list[Finding] = []
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        for done, result in enumerate(pool.map(one, cases), start=1):
            if isinstance(result, Finding):
                findings.append(result)
            else:
                results.append(result)
            if progress is not None:
                progress(done, len(cases))
    return results, findings


def samples_of(case: Case, split: str, codes: Codes) -> list[Sample]:
    """The volumes of a case, in memory.

    Of a 4D case only labelled frames are taken; for tests, all frames where none is labelled.

    Raises:
        LeftOut: the case is in no split, or nobody labelled it and it is not for tests.
        CaseError: a file cannot be read.
    """
    if not split:
        raise LeftOut("it is in no split")
    path = case.files.get(codes.column.name)
    if path is None and split != "test":
        raise LeftOut(f"it has no {codes.column.name}, and a case without a mask cannot train")
    images = [read_volume(file) for file in case.images]
    mask = read_volume(path) if path is not None else None
    n_frames = images[0].geometry.frames
    masks = [None] * n_frames if mask is None else list(frames_first(mask.array))
    labelled = [
        frame for frame, array in enumerate(masks) if array is not None and bool((array != UNLABELLED).any())
    ]
    frames = labelled or (list(range(n_frames)) if split == "test" else [])
    if not frames:
        raise LeftOut(f"no frame of its {codes.column.name} is labelled")
    is_4d = images[0].array.ndim == 4
    found = []
    for frame in frames:
        name = f"{case.case_id}_frame{frame:02d}" if is_4d else case.case_id
        volumes = tuple(_frame(image, frame) for image in images)
        drawn = masks[frame] if frame in labelled else None
        label = None if drawn is None else Volume(codes.apply(drawn), volumes[0].geometry)
        ignored = drawn is not None and bool((drawn == UNLABELLED).any())
        found.append(Sample(name, case, frame if is_4d else None, split, volumes, label, ignored))
    return found


def _frame(image: Volume, frame: int) -> Volume:
    array = frames_first(image.array)[frame]
    return Volume(smallest_lossless(array), replace(image.geometry, frames=1))
