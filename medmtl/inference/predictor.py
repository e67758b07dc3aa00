"""A prepared case through the network: dense tasks by sliding window, case tasks in one pass over the organ.

Where the whole volume fits the patch both are the same tensor, and the encoder runs once per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch import Tensor

from medmtl.data.augment import SpatialDraw, patch_grid, sample_image
from medmtl.data.prepare import Preparation, PreparedCase, back_to_source, organ_centre
from medmtl.inference.device import fast_dtype
from medmtl.models import CaseHead, FrameSummary, MultiTaskNetwork
from medmtl.models.descriptors import FrameShapes
from medmtl.tasks import CaseResult, Task

VOXELS_AT_ONCE = {"cpu": 2**20, "cuda": 2**25}
"""Voxels of input that go through the network together, by device."""

IDENTITY = SpatialDraw(((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0, 0.0), 1.0)


@dataclass(frozen=True)
class Context:
    """What stays the same from case to case.

    Attributes:
        network: in evaluation mode, on ``device``.
        tasks: by name.
        preparation: its ``patch`` is what the network sees at once.
        device: where to compute.
        mirror: average dense tasks over in-plane mirror images.
    """

    network: MultiTaskNetwork
    tasks: Mapping[str, Task]
    preparation: Preparation
    device: torch.device
    mirror: bool = False

    def autocast(self) -> torch.autocast:
        """Mixed precision where the device is fast at it."""
        dtype = fast_dtype(self.device)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    def chunk(self, voxels: int) -> int:
        """How many volumes of so many voxels go through at once."""
        return max(1, VOXELS_AT_ONCE.get(self.device.type, 2**20) // max(1, voxels))


@torch.inference_mode()
def predict_prepared(
    context: Context, case: PreparedCase, names: Sequence[str], *, on_source_grid: bool = True
) -> CaseResult:
    """Everything the asked tasks say of one case.

    Args:
        context: network, tasks and device.
        case: a prepared case; labels in it are not looked at.
        names: tasks wanted.
        on_source_grid: labels and maps on the grid of the files (else on the network's grid).
    """
    needed = context.network.needed(names)
    dense = [name for name in needed if context.tasks[name].dense]
    whole = [name for name in needed if not context.tasks[name].dense]
    patch = context.preparation.patch
    fits = all(size <= limit for size, limit in zip(case.image.shape[2:], patch, strict=True))
    if fits and not context.mirror:
        stitched, outputs = _one_pass(context, case, (0.0, 0.0, 0.0), dense, whole)
    else:
        wants_masks = any(name in names for name in dense) or any(
            context.network.head(n).reads_masks for n in whole
        )
        stitched = _windows(context, case.image, dense) if wants_masks else {}
        outputs = {}
        if whole:
            centre = _centre(context, stitched, case)
            _, outputs = _one_pass(context, case, centre, [], whole)
    result = CaseResult()
    for name in dense:
        if name in stitched:
            result.dense[name] = _decode(context, stitched[name], case, name, result.dense, on_source_grid)
    for name, output in outputs.items():
        result.values[name] = context.tasks[name].decode_case(output)[0]
    result.dense = {name: volume for name, volume in result.dense.items() if name in names}
    result.values = {name: values for name, values in result.values.items() if name in names}
    return result


def _one_pass(
    context: Context,
    case: PreparedCase,
    centre: tuple[float, float, float],
    dense: Sequence[str],
    whole: Sequence[str],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All frames through the network, a patch each, in chunks: dense tasks ``(T, C, X, Y, Z)``, case outputs.

    The patch lies on whole voxels, so nothing is interpolated; a volume that fits it lies in its middle.
    """
    network, patch = context.network, context.preparation.patch
    x, y, z = (int(s) for s in case.image.shape[2:])
    starts = [
        (p - s) // 2 if s <= p else -round(c - (p - 1) / 2)
        for p, s, c in zip(patch, (x, y, z), centre, strict=True)
    ]
    cx, cy, cz = ((p - 1) / 2 - start for p, start in zip(patch, starts, strict=True))
    grid = patch_grid(IDENTITY, (cx, cy, cz), patch, (x, y, z), context.device)
    inside = tuple(slice(start, start + size) for start, size in zip(starts, (x, y, z), strict=True))
    spacing = torch.tensor([case.spacing_mm], device=context.device)
    covariates = case.covariates[None].to(context.device)
    needed = network.needed([*dense, *whole])
    parts: dict[str, list[Tensor]] = {name: [] for name in dense}
    summaries: dict[str, list[FrameSummary]] = {name: [] for name in whole}
    for frames in case.image.split(context.chunk(patch[0] * patch[1] * patch[2])):
        image = sample_image(frames.to(context.device), grid)
        same_case = torch.zeros(len(image), dtype=torch.int64, device=context.device)
        with context.autocast():
            features = network.features(image, same_case, spacing, covariates)
            outputs = network.run_dense(features, needed)
        for name in dense:
            parts[name].append(context.tasks[name].stitchable(outputs[name])[(..., *inside)])
        for name in whole:
            head = network.head(name)
            assert isinstance(head, CaseHead)
            summaries[name].append(head.frame_summary(features))
    results: dict[str, Tensor] = {}
    all_frames = torch.zeros(case.n_frames, dtype=torch.int64, device=context.device)
    for name, found in summaries.items():
        head = network.head(name)
        assert isinstance(head, CaseHead)
        results[name] = head.from_frames(_join(found), all_frames, spacing, covariates)
    return {name: torch.cat(found) for name, found in parts.items()}, results


def _windows(context: Context, image: Tensor, dense: Sequence[str]) -> dict[str, Tensor]:
    """Dense tasks of every frame by Gaussian-weighted sliding windows, on the whole volume."""
    network, patch = context.network, context.preparation.patch
    widths: dict[str, int] = {}

    def window(batch: Tensor) -> Tensor:
        n = len(batch)
        cases = torch.arange(n, device=batch.device)
        with context.autocast():
            features = network.features(batch, cases, batch.new_ones((n, 3)), batch.new_zeros((n, 0)))
            outputs = network.run_dense(features, network.needed(dense))
        found = [context.tasks[name].stitchable(outputs[name]) for name in dense]
        widths.update({name: part.shape[1] for name, part in zip(dense, found, strict=True)})
        return torch.cat(found, dim=1)

    mirrored: Callable[[Tensor], Tensor] = _mirrored(window) if context.mirror else window
    stitched = [
        sliding_window_inference(
            frame.to(context.device),
            roi_size=patch,
            sw_batch_size=context.chunk(patch[0] * patch[1] * patch[2]),
            predictor=mirrored,
            overlap=0.5,
            mode="gaussian",
            progress=False,
        )
        for frame in image.split(1)
    ]
    together = torch.cat([_plain(s) for s in stitched])
    return dict(zip(dense, together.split([widths[name] for name in dense], dim=1), strict=True))


def _plain(stitched: Tensor) -> Tensor:
    """Without MONAI's metadata, should it have added any."""
    return stitched.as_tensor() if isinstance(stitched, MetaTensor) else stitched


def _mirrored(window: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The mean over the four in-plane mirror images."""

    def averaged(batch: Tensor) -> Tensor:
        total = window(batch)
        for axes in ((2,), (3,), (2, 3)):
            total = total + window(batch.flip(axes)).flip(axes)
        return total / 4

    return averaged


def _centre(
    context: Context, stitched: Mapping[str, Tensor], case: PreparedCase
) -> tuple[float, float, float]:
    """Middle of the organ that the dense tasks found, as in training; else the image centre."""
    masks = {
        name: torch.as_tensor(context.tasks[name].decode_dense(volume, {}))
        for name, volume in stitched.items()
        if context.tasks[name].structures and not context.tasks[name].reads
    }
    return organ_centre(masks, case.image.shape[2:])


def _decode(
    context: Context,
    stitched: Tensor,
    case: PreparedCase,
    name: str,
    decoded: Mapping[str, np.ndarray],
    on_source_grid: bool,
) -> np.ndarray:
    if on_source_grid:
        stitched = torch.stack(
            [back_to_source(frame, case.affine, case.source) for frame in stitched.unbind()]
        )
    return context.tasks[name].decode_dense(stitched, decoded)


def _join(parts: Sequence[FrameSummary]) -> FrameSummary:
    """Frame summaries of consecutive chunks as one."""
    found = [part.shapes for part in parts if part.shapes is not None]
    shapes = None
    if found:
        thickness = [f.thickness_mm for f in found if f.thickness_mm is not None]
        shapes = FrameShapes(
            torch.cat([f.volume_ml for f in found]),
            torch.cat([f.descriptors for f in found]),
            torch.cat(thickness) if thickness else None,
        )
    return FrameSummary(torch.cat([p.pooled for p in parts]), torch.cat([p.score for p in parts]), shapes)
