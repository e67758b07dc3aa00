"""Soft volumes and shapes of predicted masks, in mL and mm: what a small cohort teaches no pooled feature.

Everything here is computed on detached probabilities: case-level losses must not bend the outlines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medmtl.models.frames import extreme_frames

SECTORS = 12
EMPTY_ML = 0.5
"""Below this volume a structure counts as absent, and its shape as 0."""


@dataclass(frozen=True)
class Ring:
    """A wall around a cavity, both indices into the structures; its thickness is described by sectors."""

    wall: int
    cavity: int


@dataclass(frozen=True)
class FrameShapes:
    """What one mask says, per frame.

    Attributes:
        volume_ml: ``(N, K)``.
        descriptors: ``(N, D)``: volume, largest slice area (cm2), radius of gyration in-plane and along the
            stack (mm).
        thickness_mm: ``(N, Z, SECTORS)`` wall thickness, NaN where there is no cavity; None without a ring.
        cycles: what `cycle_of` found, by structure.
    """

    volume_ml: Tensor
    descriptors: Tensor
    thickness_mm: Tensor | None
    cycles: dict[int | None, Cycle] = field(default_factory=dict, init=False, compare=False, repr=False)


@dataclass(frozen=True)
class Cycle:
    """The extreme frames of each case, ``(B,)`` indices, and what they say together ``(B, cycle_size)``."""

    ed: Tensor
    es: Tensor
    described: Tensor


@torch.no_grad()
def describe_frames(probabilities: Tensor, spacing_mm: Tensor, ring: Ring | None = None) -> FrameShapes:
    """Describe structures frame by frame.

    Args:
        probabilities: ``(N, K, X, Y, Z)`` in 0..1, background left out.
        spacing_mm: ``(N, 3)``.
        ring: wall and cavity among the K structures.
    """
    p = probabilities.detach().float()
    sx, sy, sz = spacing_mm.float().unbind(1)
    area = p.sum((2, 3)) * (sx * sy)[:, None, None] / 100.0  # (N, K, Z) cm2
    volume = area.sum(2) * sz[:, None] / 10.0
    weight = p / p.sum((2, 3, 4), keepdim=True).clamp_min(1e-6)
    planar = _variance(weight.sum((3, 4)), sx) + _variance(weight.sum((2, 4)), sy)
    along = _variance(weight.sum((2, 3)), sz)
    present = (volume > EMPTY_ML).float()
    descriptors = torch.cat(
        [
            volume,
            area.amax(2) * present,
            planar.clamp_min(0).sqrt() * present,
            along.clamp_min(0).sqrt() * present,
        ],
        1,
    )
    thickness = None if ring is None else _thickness(p[:, ring.wall], p[:, ring.cavity], sx, sy)
    return FrameShapes(volume, descriptors, thickness)


def _variance(profile: Tensor, spacing: Tensor) -> Tensor:
    """Variance in mm2 of ``(N, K, S)`` mass profiles along one axis of ``(N,)`` spacing."""
    position = torch.arange(profile.shape[2], device=profile.device).float() * spacing[:, None]
    mean = (profile * position[:, None]).sum(2, keepdim=True)
    return (profile * (position[:, None] - mean) ** 2).sum(2)


def _thickness(wall: Tensor, cavity: Tensor, sx: Tensor, sy: Tensor) -> Tensor:
    """Wall thickness ``(N, Z, SECTORS)`` in mm around each slice's cavity centre: outer minus inner radius.

    In a sector of angle a, a cavity of area A has radius sqrt(2 A / a), and wall plus cavity likewise.
    """
    n, x, y, z = cavity.shape
    px = torch.arange(x, device=cavity.device).float()[None, :, None, None] * sx[:, None, None, None]
    py = torch.arange(y, device=cavity.device).float()[None, None, :, None] * sy[:, None, None, None]
    mass = cavity.sum((1, 2), keepdim=True).clamp_min(1e-6)
    dx = px - (cavity * px).sum((1, 2), keepdim=True) / mass
    dy = py - (cavity * py).sum((1, 2), keepdim=True) / mass
    angle = torch.atan2(dy.expand(n, x, y, z), dx.expand(n, x, y, z))
    sector = ((angle / (2 * math.pi) + 0.5) * SECTORS).long().clamp(0, SECTORS - 1)
    pixel = (sx * sy)[:, None, None]

    # One masked sum per sector, not a scatter: a GPU's atomics would add in another order on every run.
    areas = torch.stack([cavity, cavity + wall])
    parts = [torch.where(sector == s, areas, 0.0).sum((2, 3)) for s in range(SECTORS)]
    inner, both = (torch.stack(parts, dim=3) * pixel).unbind()
    per_radian = 2 * SECTORS / (2 * math.pi)
    thickness = (both * per_radian).sqrt() - (inner * per_radian).sqrt()
    has_cavity = (cavity.sum((1, 2)) * (sx * sy)[:, None]) > 100.0
    return torch.where(has_cavity[:, :, None], thickness, torch.nan)


def cycle_of(shapes: FrameShapes, case_of_frame: Tensor, n_cases: int, structure: int | None) -> Cycle:
    """Extreme frames of each case by one structure's volume, or by all; computed once for all heads."""
    if structure not in shapes.cycles:
        volume = shapes.volume_ml
        size = volume.sum(1) if structure is None else volume[:, structure]
        ed, es = extreme_frames(size, case_of_frame, n_cases)
        shapes.cycles[structure] = Cycle(ed, es, describe_cycle(shapes, ed, es))
    return shapes.cycles[structure]


def describe_cycle(shapes: FrameShapes, ed: Tensor, es: Tensor) -> Tensor:
    """What the two extreme frames of each case say together: ``(B, cycle_size(K, ring))``.

    ED and ES descriptors, the ejected fraction of every structure, and with a ring the wall's mean, spread,
    thinnest and thickest sector at ED and ES, and how unevenly it thickens.
    """
    first, last = shapes.descriptors[ed], shapes.descriptors[es]
    v_ed, v_es = shapes.volume_ml[ed], shapes.volume_ml[es]
    ejected = (v_ed - v_es) / v_ed.clamp_min(1.0) * (v_ed > EMPTY_ML)
    parts = [first, last, ejected]
    if shapes.thickness_mm is not None:
        t_ed, t_es = shapes.thickness_mm[ed].flatten(1), shapes.thickness_mm[es].flatten(1)
        spread = _spread(torch.cat([t_ed, t_es, t_es - t_ed]))
        parts += spread.chunk(3)
    return torch.cat(parts, dim=1)


def _spread(values: Tensor) -> Tensor:
    """Mean, standard deviation, 10th and 90th percentile over ``(B, S)`` without NaN; 0 where all are NaN."""
    known = torch.isfinite(values)
    filled = torch.where(known, values, torch.nan)
    mean = filled.nanmean(1)
    deviation = ((filled - mean[:, None]) ** 2).nanmean(1).sqrt()
    ranked = filled.sort(1).values  # NaN at the end
    low, high = (_ranked_at(ranked, share * (known.sum(1) - 1).clamp_min(0)) for share in (0.1, 0.9))
    return torch.stack([mean, deviation, low, high], dim=1).nan_to_num(0.0)


def _ranked_at(ranked: Tensor, place: Tensor) -> Tensor:
    """Between the two nearest of ``(B, S)`` ranked values, ``(B,)``; `nanquantile` may wait for a GPU."""
    below = place.floor()
    one, other = (ranked.gather(1, at.long()[:, None])[:, 0] for at in (below, place.ceil()))
    return torch.lerp(one, other, place - below)


def cycle_size(n_structures: int, ring: Ring | None) -> int:
    """Number of values that `describe_cycle` gives."""
    return 9 * n_structures + (12 if ring is not None else 0)


def ring_of(structures: Sequence[str], wall: str | None, cavity: str | None) -> Ring | None:
    """Ring from structure names; None unless both are there."""
    if wall in structures and cavity in structures:
        return Ring(structures.index(str(wall)), structures.index(str(cavity)))
    return None
