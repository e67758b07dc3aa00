"""Prepared cases -> batches. A batch follows from (seed, step) alone, so a resumed run sees the same ones.

A sample follows from the seed and its place in the endless row of samples, so several ranks that share a
batch make the very samples that one would make alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Generator, Tensor

from medmtl.data.ahead import Ahead
from medmtl.data.augment import NONE, Augmentation, draw_spatial
from medmtl.data.crop import box_of, into_box
from medmtl.data.dataset import Column
from medmtl.data.focus import Focus, draw_centre
from medmtl.data.intensity import change_intensity
from medmtl.data.overview import coarse_mm, fits, see_whole
from medmtl.data.prepare import PreparedCase
from medmtl.data.sampling import Sampling, case_weights, one_pass
from medmtl.data.spatial import patch_grid, sample_image, sample_map, sample_mask
from medmtl.types import NO_CLASS, Batch, ConfigError, Overview


@dataclass(frozen=True)
class Sample:
    """One case as the network sees it; the fields are those of `medmtl.types.Batch` for a single case.

    ``overview`` ``(F, C, X, Y, Z)`` is None where the patch holds the whole volume.
    """

    image: Tensor
    spacing_mm: tuple[float, float, float]
    labels: Mapping[str, Tensor]
    counts: Mapping[str, int]
    case: PreparedCase
    seed: int = 0
    overview: Tensor | None = None
    overview_mm: tuple[float, float, float] | None = None


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
    centre: tuple[float, float, float] | None = None,
    overview: tuple[int, int, int] | None = None,
) -> Sample:
    """Cut one augmented patch of the given frames out of a prepared case, on the case's device.

    Args:
        case: in memory or in a store, of which only what the patch needs is read.
        patch: ``(X, Y, Z)`` voxels.
        frames: which.
        augmentation: how it is changed.
        generator: of all that is drawn.
        centre: of the patch in voxels of the case; the organ's by default.
        overview: ``(X, Y, Z)`` voxels of the whole volume that goes with a patch which does not hold it; it
            is turned, mirrored and zoomed as the patch is.
    """
    draw = draw_spatial(augmentation, generator, case.spacing_mm)
    box, where = None, torch.device("cpu") if case.in_parts else case.device
    grid = patch_grid(draw, case.centre if centre is None else centre, patch, case.shape, where)
    if case.in_parts:
        box = box_of(grid, case.shape)
        grid = into_box(grid, case.shape, box).to(case.device)
    part = case.crop(frames, box)
    image = sample_image(part.image, grid)
    if augmentation.probability > 0:
        image = change_intensity(image, augmentation, generator, draw.aspect if draw.deep else None)
    masks = {name: sample_mask(mask, grid) for name, mask in part.masks.items()}
    maps = {name: sample_map(values, grid) for name, values in part.maps.items()}
    whole, whole_mm = None, None
    if overview is not None and not fits(case.shape, patch):
        coarse = case.whole(frames, overview)
        whole = see_whole(coarse, overview, case.shape, draw)
        whole_mm = coarse_mm(case.spacing_mm, case.shape, coarse.shape[2:], draw.zooms)
        if augmentation.probability > 0:
            aspect = 2 * whole_mm[2] / (whole_mm[0] + whole_mm[1]) if draw.deep else None
            whole = change_intensity(whole, augmentation, generator, aspect)
    x, y, z = (mm / zoom for mm, zoom in zip(case.spacing_mm, draw.zooms, strict=True))
    return Sample(
        image=image,
        spacing_mm=(x, y, z),
        labels={**masks, **maps},
        counts={name: sum(flags[f] for f in frames) for name, flags in case.labelled.items()},
        case=case,
        overview=whole,
        overview_mm=whole_mm,
    )


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
        overview=_overview(samples),
    )


def _overview(samples: Sequence[Sample]) -> Overview | None:
    """The overviews of the samples that have one."""
    seen = [s.overview for s in samples if s.overview is not None]
    if not seen:
        return None
    has = [s.overview is not None for s in samples for _ in range(len(s.image))]
    return Overview(
        image=torch.cat(seen),
        frames=torch.tensor([frame for frame, flag in enumerate(has) if flag]),
        spacing_mm=torch.tensor([s.overview_mm or s.spacing_mm for s in samples]),
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
        overview=None
        if batch.overview is None
        else Overview(
            move(batch.overview.image), move(batch.overview.frames), move(batch.overview.spacing_mm)
        ),
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

    Every pass through the data is a fresh permutation of the cases; every draw comes from the seed and the
    sample's place.

    Args:
        cases: prepared cases, on the device where batches are wanted.
        columns: the label columns that tasks need.
        patch: ``(X, Y, Z)`` voxels.
        batch_size: cases per batch, of all ranks together.
        random_frames: frames besides ED and ES per case, on average.
        augmentation: how samples are changed; None changes nothing.
        seed: run seed.
        part: which of how many parts of each batch to make, such as ``(rank, ranks)``.
        focus: what patches are centred on: the ``organ``, or a third of them on a labelled voxel and the
            others anywhere (``foreground``), for organs larger than the patch (nnU-Net's).
        ahead: batches that are made in threads before they are asked for, so that a disk is not waited for.
        overview: ``(X, Y, Z)`` voxels of the whole volumes that go with patches; None makes none.
        sampling: every case once per pass (``uniform``), or those with rare ``labels`` more often.

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
        focus: Focus = "organ",
        ahead: int = 0,
        overview: tuple[int, int, int] | None = None,
        sampling: Sampling = "uniform",
    ) -> None:
        self.cases = list(cases)
        self.columns = columns
        self.patch = patch
        self.batch_size = min(batch_size, len(self.cases))
        self.random_frames = random_frames
        self.augmentation = augmentation or NONE
        self.seed = seed
        self.part = part
        self.focus = focus
        self.overview = overview
        self._weights = (
            [1.0] * len(self.cases) if sampling == "uniform" else case_weights(self.cases, columns)
        )
        self._ahead = Ahead(self._samples, ahead) if ahead else None
        check_parts(self.batch_size, part[1])

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every case is seen about once."""
        return max(1, round(len(self.cases) / self.batch_size))

    def batch(self, step: int) -> Batch:
        """The batch of a global step, 0-based, or this part of it."""
        make = self._samples(step)
        samples = [one() for one in make] if self._ahead is None else self._ahead.get(step)
        return collate(samples, self.columns)

    def _samples(self, step: int) -> list[Callable[[], Sample]]:
        """What makes each sample of a step, or of this part of it."""
        rank, ranks = self.part
        own = range(rank * self.batch_size // ranks, (rank + 1) * self.batch_size // ranks)
        cases = self._indices(step)
        first = step * self.batch_size
        return [partial(self._sample, self.cases[cases[i]], first + i) for i in own]

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
        return one_pass(self._weights, generator)

    def _sample(self, case: PreparedCase, place: int) -> Sample:
        generator = torch.Generator().manual_seed(self.seed * 1_000_000_007 + place)
        seed = int(torch.randint(2**62, (), generator=generator))
        frames = choose_frames(case, self.random_frames, generator)
        centre = None if self.focus == "organ" else draw_centre(case, self.patch, frames, generator)
        sample = sample_case(case, self.patch, frames, self.augmentation, generator, centre, self.overview)
        return replace(sample, seed=seed)
