"""Prepared cases -> batches. A batch follows from (seed, step) alone, so a resumed run sees the same ones.

A sample follows from the seed and its place in the endless row of samples, so several ranks that share a
batch make the very samples that one would make alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from medmtl.data.augment import (
    NONE,
    Augmentation,
    draw_spatial,
    patch_grid,
    sample_image,
    sample_map,
    sample_mask,
)
from medmtl.data.dataset import Column
from medmtl.data.intensity import change_intensity
from medmtl.data.prepare import PreparedCase
from medmtl.types import NO_CLASS, Batch, ConfigError


@dataclass(frozen=True)
class Sample:
    """One case as the network sees it; the fields are those of `medmtl.types.Batch` for a single case."""

    image: Tensor
    spacing_mm: tuple[float, float, float]
    labels: Mapping[str, Tensor]
    counts: Mapping[str, int]
    case: PreparedCase
    seed: int = 0


def choose_frames(case: PreparedCase, n_random: float, generator: Generator) -> list[int]:
    """Frames of one training sample: the ED/ES pair where known, and on average ``n_random`` others.

    A network that saw other frames between ED and ES meets nothing new in a full cine. A case without known
    ED and ES gives ``n_random + 2`` random frames.
    """
    known = sorted({f for f in (case.frame_ed, case.frame_es) if f is not None})
    others = [f for f in range(case.n_frames) if f not in known]
    order = torch.randperm(len(others), generator=generator).tolist()
    n_extra = math.floor(n_random + float(torch.rand((), generator=generator)))
    wanted = n_extra + 2 - len(known)
    return known + sorted(others[i] for i in order[: max(0, wanted)])


def sample_case(
    case: PreparedCase,
    patch: tuple[int, int, int],
    frames: Sequence[int],
    augmentation: Augmentation,
    generator: Generator,
) -> Sample:
    """Cut one augmented patch of the given frames out of a prepared case, on the case's device."""
    device = case.image.device
    x, y, z = (int(s) for s in case.image.shape[2:])
    draw = draw_spatial(augmentation, generator)
    grid = patch_grid(draw, case.centre, patch, (x, y, z), device)
    image = sample_image(_take(case.image, frames), grid)
    if augmentation.probability > 0:
        image = change_intensity(image, augmentation, generator)
    masks = {name: sample_mask(_take(mask, frames), grid) for name, mask in case.masks.items()}
    maps = {name: sample_map(_take(values, frames), grid) for name, values in case.maps.items()}
    return Sample(
        image=image,
        spacing_mm=(case.spacing_mm[0] / draw.zoom, case.spacing_mm[1] / draw.zoom, case.spacing_mm[2]),
        labels={**masks, **maps},
        counts={name: sum(flags[f] for f in frames) for name, flags in case.labelled.items()},
        case=case,
    )


def _take(volumes: Tensor, frames: Sequence[int]) -> Tensor:
    """The chosen frames, without an index tensor that would have to reach the GPU first."""
    if list(frames) == list(range(len(volumes))):
        return volumes
    return torch.stack([volumes[frame] for frame in frames])


def collate(samples: Sequence[Sample], columns: Mapping[str, Column]) -> Batch:
    """Put cases with any number of frames and any subset of labels into one `Batch`.

    Volumes stay on their device; the few numbers per case are on the CPU until `to_device`.
    """
    image = torch.cat([s.image for s in samples])
    frames = [len(s.image) for s in samples]
    targets: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for name, column in columns.items():
        if column.kind in ("mask", "map"):
            counts[name] = sum(s.counts.get(name, 0) for s in samples)
            if counts[name]:
                targets[name] = torch.cat(
                    [s.labels[name] if name in s.labels else _blank(s, column) for s in samples]
                )
        else:
            values = [s.case.values.get(name, math.nan) for s in samples]
            counts[name] = sum(math.isfinite(v) for v in values)
            if counts[name] and column.kind == "category":
                classes = [NO_CLASS if math.isnan(v) else int(v) for v in values]
                targets[name] = torch.tensor(classes)
            elif counts[name]:
                targets[name] = torch.tensor(values, dtype=torch.float32)
    return Batch(
        image=image,
        case_of_frame=torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(frames)),
        spacing_mm=torch.tensor([s.spacing_mm for s in samples]),
        covariates=torch.stack([s.case.covariates for s in samples]),
        targets=targets,
        counts=counts,
        case_ids=tuple(s.case.case_id for s in samples),
        seeds=tuple(s.seed for s in samples),
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on a device; what has to move is pinned first, so that nothing waits for the GPU."""

    def move(tensor: Tensor) -> Tensor:
        if tensor.device.type != "cpu" or device.type != "cuda":
            return tensor.to(device)
        return tensor.pin_memory().to(device, non_blocking=True)

    return replace(
        batch,
        image=move(batch.image),
        case_of_frame=move(batch.case_of_frame),
        spacing_mm=move(batch.spacing_mm),
        covariates=move(batch.covariates),
        targets={name: move(target) for name, target in batch.targets.items()},
    )


def _blank(sample: Sample, column: Column) -> Tensor:
    """Labels of a case that has none: 255 in a mask, NaN in a map."""
    shape = (sample.image.shape[0], *sample.image.shape[2:])
    if column.kind == "mask":
        return torch.full(shape, 255, dtype=torch.int64, device=sample.image.device)
    return torch.full(shape, math.nan, device=sample.image.device)


def check_parts(batch_size: int, ranks: int) -> None:
    """Refuse batches of which some rank would have nothing.

    Raises:
        ConfigError: so.
    """
    if batch_size < ranks:
        raise ConfigError(
            f"training.batch_size: the {batch_size} cases of a step cannot be dealt to {ranks} ranks; use a "
            f"batch_size of {ranks} or more (and as many training cases), or fewer ranks"
        )


class TrainingBatches:
    """Endless source of training batches over prepared cases.

    Every epoch is a fresh permutation of the cases; every draw comes from the seed and the sample's place.

    Args:
        cases: prepared cases, on the device where batches are wanted.
        columns: the label columns that tasks need.
        patch: ``(X, Y, Z)`` voxels.
        batch_size: cases per batch, of all ranks together.
        random_frames: frames besides ED and ES per case, on average.
        augmentation: how samples are changed; None changes nothing.
        seed: run seed.
        part: which of how many parts of each batch to make, such as ``(rank, ranks)``.

    Raises:
        ConfigError: there are more parts than cases in a batch.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        columns: Mapping[str, Column],
        patch: tuple[int, int, int],
        *,
        batch_size: int,
        random_frames: float = 0,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.cases = list(cases)
        self.columns = columns
        self.patch = patch
        self.batch_size = min(batch_size, len(self.cases))
        self.random_frames = random_frames
        self.augmentation = augmentation or NONE
        self.seed = seed
        self.part = part
        check_parts(self.batch_size, part[1])

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every case is seen about once."""
        return max(1, round(len(self.cases) / self.batch_size))

    def batch(self, step: int) -> Batch:
        """The batch of a global step, 0-based, or this part of it."""
        rank, ranks = self.part
        own = range(rank * self.batch_size // ranks, (rank + 1) * self.batch_size // ranks)
        cases = self._indices(step)
        first = step * self.batch_size
        return collate([self._sample(self.cases[cases[i]], first + i) for i in own], self.columns)

    def epoch(self, first_step: int, steps: int) -> Iterator[Batch]:
        """The batches of ``steps`` global steps from ``first_step`` on."""
        for step in range(first_step, first_step + steps):
            yield self.batch(step)

    def _indices(self, step: int) -> list[int]:
        """Cases of a step: a running window over one seeded permutation per pass through the data."""
        n = len(self.cases)
        window = range(step * self.batch_size, (step + 1) * self.batch_size)
        orders = {p: self._permutation(p) for p in {i // n for i in window}}
        return [orders[i // n][i % n] for i in window]

    def _permutation(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 7_368_787 + epoch)
        return torch.randperm(len(self.cases), generator=generator).tolist()

    def _sample(self, case: PreparedCase, place: int) -> Sample:
        generator = torch.Generator().manual_seed(self.seed * 1_000_000_007 + place)
        seed = int(torch.randint(2**62, (), generator=generator))
        frames = choose_frames(case, self.random_frames, generator)
        return replace(sample_case(case, self.patch, frames, self.augmentation, generator), seed=seed)
