"""All frames of a case in one patch each: case tasks, and the dense tasks that lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medmtl.data.overview import coarse_mm, fits, see_whole
from medmtl.data.prepare import PreparedCase
from medmtl.data.spatial import SpatialDraw, patch_grid, sample_image
from medmtl.inference.context import Context
from medmtl.inference.windows import DensePass
from medmtl.models import CaseHead, FrameSummary
from medmtl.models.descriptors import FrameShapes
from medmtl.types import Overview

IDENTITY = SpatialDraw(((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0, 0.0), 1.0)


@dataclass(frozen=True)
class Placement:
    """Where a patch lies in a volume, on whole voxels.

    Attributes:
        centre: of the patch, in voxels of the volume.
        in_volume: the part of the volume that the patch covers, a slice per axis.
        in_patch: the same voxels in the patch.
    """

    centre: tuple[float, float, float]
    in_volume: tuple[slice, slice, slice]
    in_patch: tuple[slice, slice, slice]


def place(patch: Sequence[int], shape: Sequence[int], wanted: Sequence[float]) -> Placement:
    """Put a patch around a wanted centre; along axes on which the volume fits, it lies in the middle."""
    starts = [
        (p - s) // 2 if s <= p else -round(c - (p - 1) / 2)
        for p, s, c in zip(patch, shape, wanted, strict=True)
    ]
    starts[2] = min(max(starts[2], patch[2] - shape[2]), 0) if shape[2] > patch[2] else starts[2]
    spans = [(max(0, -b), min(s, p - b), b) for b, s, p in zip(starts, shape, patch, strict=True)]
    cx, cy, cz = ((p - 1) / 2 - start for p, start in zip(patch, starts, strict=True))
    ax, ay, az = (slice(low, high) for low, high, _ in spans)
    bx, by, bz = (slice(low + b, high + b) for low, high, b in spans)
    return Placement((cx, cy, cz), (ax, ay, az), (bx, by, bz))


def one_pass(
    context: Context, case: PreparedCase, placement: Placement, dense: Sequence[str], whole: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run every frame's patch through the network, in chunks, the encoder once per frame.

    Case tasks with a global view look at the whole frame besides, where it does not fit the patch.

    Returns:
        dense tasks ``(T, C, *patch)``, and case tasks' outputs ``(1, K)``.
    """
    network = context.network
    x, y, z = (int(s) for s in case.image.shape[2:])
    grid = patch_grid(IDENTITY, placement.centre, context.preparation.patch, (x, y, z), context.device)
    spacing = torch.tensor([case.spacing_mm], device=context.device)
    covariates = case.covariates[None].to(context.device)
    mirrored = DensePass(context, dense) if context.mirror and dense else None
    in_pass = [] if mirrored else list(dense)
    needed = network.needed([*in_pass, *whole])
    parts: dict[str, list[Tensor]] = {name: [] for name in dense}
    summaries: dict[str, list[FrameSummary]] = {name: [] for name in whole}
    seen = dict.fromkeys(whole, spacing)
    apart = any(_case_head(context, name).sees_whole for name in whole)
    numbers = range(case.n_frames)
    for first in numbers[:: context.volumes_at_once]:
        context.check()
        chosen = numbers[first : first + context.volumes_at_once]
        image = sample_image(case.image[chosen.start : chosen.stop].to(context.device), grid)
        if mirrored:
            for name, part in mirrored.split(mirrored(image)).items():
                parts[name].append(part)
        if not needed:
            continue
        same_case = torch.zeros(len(image), dtype=torch.int64, device=context.device)
        with context.autocast():
            overview = whole_view(context, case, chosen) if apart else None
            features = network.features(
                image, same_case, spacing, covariates, overview=overview, tasks=needed
            )
            outputs = network.run_dense(features, needed)
        for name in in_pass:
            part = context.tasks[name].stitchable(outputs[name])
            parts[name].append(part.cpu() if context.stitch_on_cpu else part)
        for name in whole:
            summaries[name].append(_case_head(context, name).frame_summary(network.seen_by(name, features)))
            seen[name] = _case_head(context, name).seen_mm(features)
    all_frames = torch.zeros(case.n_frames, dtype=torch.int64, device=context.device)
    results = {
        name: _case_head(context, name).from_frames(_join(found), all_frames, seen[name], covariates)
        for name, found in summaries.items()
    }
    return {name: torch.cat(found) for name, found in parts.items()}, results


def whole_pass(context: Context, case: PreparedCase, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Case tasks that look at the whole volume and at nothing else: outputs ``(1, K)``; no patch runs."""
    network = context.network
    spacing = torch.tensor([case.spacing_mm], device=context.device)
    covariates = case.covariates[None].to(context.device)
    summaries: dict[str, list[FrameSummary]] = {name: [] for name in tasks}
    seen = spacing
    numbers = range(case.n_frames)
    for first in numbers[:: context.volumes_at_once]:
        context.check()
        chosen = numbers[first : first + context.volumes_at_once]
        overview = whole_view(context, case, chosen)
        assert overview is not None
        same_case = torch.zeros(len(chosen), dtype=torch.int64, device=context.device)
        with context.autocast():
            features = network.features(None, same_case, spacing, covariates, overview=overview, tasks=tasks)
        for name in tasks:
            summaries[name].append(_case_head(context, name).frame_summary(network.seen_by(name, features)))
        seen = overview.spacing_mm
    all_frames = torch.zeros(case.n_frames, dtype=torch.int64, device=context.device)
    return {
        name: _case_head(context, name).from_frames(_join(found), all_frames, seen, covariates)
        for name, found in summaries.items()
    }


def whole_view(context: Context, case: PreparedCase, frames: Sequence[int]) -> Overview | None:
    """The overview of some frames, unchanged; None where the volume fits the patch, or there is none."""
    grid = context.preparation.overview
    if grid is None or fits(case.shape, context.preparation.patch):
        return None
    coarse = case.whole(frames, grid)
    return Overview(
        see_whole(coarse.to(context.device), grid, case.shape, IDENTITY),
        torch.arange(len(coarse), device=context.device),
        torch.tensor([coarse_mm(case.spacing_mm, case.shape, coarse.shape[2:])], device=context.device),
    )


def _case_head(context: Context, task: str) -> CaseHead:
    head = context.network.head(task)
    assert isinstance(head, CaseHead), "the head of a case-level task is a CaseHead"
    return head


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
