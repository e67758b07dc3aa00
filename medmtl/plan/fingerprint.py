"""What a dataset is like: voxel sizes, shapes and frames from the headers, label counts from the table.

Cases are measured along the network's axes, with the slice axis of a stack last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medmtl.data.augment import THICK
from medmtl.data.columns import Column, Kind
from medmtl.data.dataset import Case, Dataset
from medmtl.plan.axes import network_axes
from medmtl.plan.voxels import Voxels

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """Who is labelled in one column.

    Attributes:
        kind: of the column.
        cases: how many of the cases carry a label, or one that follows from their mask.
        classes: of a category column, how many cases each class has.
    """

    kind: Kind
    cases: int
    classes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Fingerprint:
    """What was found, a row per case.

    Attributes:
        case_ids: names of the cases.
        spacings: voxel size of each in mm.
        shapes: number of voxels of each.
        frames: number of frames of each.
        channels: names of the image channels.
        modality: the dataset's DICOM modality.
        labels: by column.
        voxels: what only the voxels tell, where they were read.
    """

    case_ids: tuple[str, ...]
    spacings: tuple[Triple, ...]
    shapes: tuple[Shape, ...]
    frames: tuple[int, ...] = (1,)
    channels: tuple[str, ...] = ("image",)
    modality: str = ""
    labels: Mapping[str, Labels] = field(default_factory=dict)
    voxels: Voxels | None = None

    @property
    def spacing_mm(self) -> Triple:
        """Median voxel size."""
        x, y, z = (float(s) for s in np.median(self.spacings, axis=0))
        return (x, y, z)

    @property
    def shape(self) -> Shape:
        """Median number of voxels."""
        x, y, z = (int(s) for s in np.median(self.shapes, axis=0))
        return (x, y, z)

    @property
    def is_stack(self) -> bool:
        """Whether most cases are stacks of thick slices."""
        spacing = np.array(self.spacings)
        return bool(np.median(spacing.max(1) / spacing.min(1)) > THICK)

    def resampled(self, target: Sequence[float | None]) -> np.ndarray:
        """``(cases, 3)``: number of voxels of each case at a target voxel size; None keeps a case's own."""
        columns = [
            [shape[axis] if wanted is None else max(1, round(shape[axis] * spacing[axis] / wanted))
             for shape, spacing in zip(self.shapes, self.spacings, strict=True)]
            for axis, wanted in enumerate(target)
        ]  # fmt: skip
        return np.array(columns).T


def fingerprint(dataset: Dataset, cases: Sequence[Case]) -> Fingerprint:
    """Measure the given cases from their headers and the table alone."""
    spacings, shapes = [], []
    for case in cases:
        geometry = dataset.geometry[case.case_id]
        order = network_axes(geometry.affine)
        sx, sy, sz = (float(geometry.spacing_mm[axis]) for axis in order)
        x, y, z = (int(geometry.shape[axis]) for axis in order)
        spacings.append((sx, sy, sz))
        shapes.append((x, y, z))
    return Fingerprint(
        case_ids=tuple(case.case_id for case in cases),
        spacings=tuple(spacings),
        shapes=tuple(shapes),
        frames=tuple(dataset.geometry[case.case_id].frames for case in cases),
        channels=dataset.channels,
        modality=dataset.modality,
        labels={name: _labels(column, cases) for name, column in dataset.columns.items()},
    )


def _labels(column: Column, cases: Sequence[Case]) -> Labels:
    if column.kind in ("mask", "map"):
        return Labels(column.kind, sum(column.name in case.files for case in cases))
    if column.kind == "category":
        found = Counter(str(case.values[column.name]) for case in cases if column.name in case.values)
        return Labels("category", sum(found.values()), {name: found[name] for name in column.classes})
    source = "" if column.derived is None else column.derived.mask
    return Labels("value", sum(column.name in case.values or source in case.files for case in cases))
