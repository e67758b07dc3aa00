"""Soft volumes and shapes of predicted masks, in mL and mm: what a small cohort teaches no pooled feature.

Everything here is computed on detached probabilities: case-level losses must not bend the outlines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from medmtl.models.frames import extreme_frames

SECTORS = 12
EMPTY_ML = 0.5
"""Below this volume a structure counts as absent, and its shape as 0."""
AT_ONCE = 2**25
"""Numbers that sums by sector hold at a time, about."""


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
    """Describe structures frame by frame, in float32 even under autocast.

    Args:
        probabilities: ``(N, K, X, Y, Z)`` in 0..1, background left out.
        spacing_mm: ``(N, 3)``.
        ring: wall and cavity among the K structures.
    """
    with torch.autocast(probabilities.device.type, enabled=False):
        p, mm = probabilities.detach().float(), spacing_mm.float()
        along = p.sum((2, 3))
        mass = along.sum(2)
        planar_mm2, stack_mm2 = _variances([p.sum((3, 4)), p.sum((2, 4)), along], mass, mm)
        area = along * (mm[:, 0] * mm[:, 1] / 100.0)[:, None, None]  # (N, K, Z) cm2
        volume = mass * (mm.prod(1) / 1000.0)[:, None]
        shape = torch.cat([area.amax(2), planar_mm2.sqrt(), stack_mm2.sqrt()], 1)
        present = (volume > EMPTY_ML).repeat(1, 3)
        descriptors = torch.cat([volume, shape * present], 1)
        thickness = None if ring is None else _thickness(p[:, ring.wall], p[:, ring.cavity], mm)
    return FrameShapes(volume, descriptors, thickness)


def _variances(profiles: list[Tensor], mass: Tensor, mm: Tensor) -> tuple[Tensor, Tensor]:
    """``(N, K)`` in mm2 in-plane and along the stack, of ``(N, K, S)`` mass profiles along x, y and z."""
    powers = [profile @ _places(profile.shape[2], profile.device) for profile in profiles]
    first, second = (torch.stack(powers) / mass.clamp_min(1e-6)[:, :, None]).unbind(-1)
    x, y, z = ((second - first.square()).clamp_min(0) * mm.T.square()[:, :, None]).unbind()
    return x + y, z


@lru_cache(maxsize=64)
def _places(size: int, device: torch.device) -> Tensor:
    """Places of voxels along an axis from its middle, and their squares: ``(size, 2)``."""
    place = torch.arange(size, device=device) - (size - 1) / 2
    return torch.stack([place, place.square()], 1)


def _thickness(wall: Tensor, cavity: Tensor, mm: Tensor) -> Tensor:
    """Wall thickness ``(N, Z, SECTORS)`` in mm around each slice's cavity centre: outer minus inner radius.

    In a sector of angle a, a cavity of area A has radius sqrt(2 A / a), and wall plus cavity likewise.
    """
    by_x, by_y = cavity.sum(2), cavity.sum(1)
    mass = by_x.sum(1)
    from_centre = []
    for axis, profile in enumerate((by_x, by_y)):
        place = _places(profile.shape[1], profile.device)[:, 0]
        centre = (place @ profile) / mass.clamp_min(1e-6)
        from_centre.append((place[:, None] - centre[:, None]) * mm[:, axis, None, None])
    dx, dy = from_centre
    angle = torch.atan2(dy[:, None], dx[:, :, None])
    sector = ((angle / (2 * math.pi) + 0.5) * SECTORS).to(torch.uint8).clamp_max(SECTORS - 1)
    pixel = (mm[:, 0] * mm[:, 1])[:, None]
    areas = _sums_by_sector(torch.stack([cavity, cavity + wall], 1), sector) * pixel[:, :, None, None]
    inner, both = (areas * (2 * SECTORS / (2 * math.pi))).sqrt().unbind(2)
    return torch.where((mass * pixel > 100.0)[:, :, None], both - inner, torch.nan)


def _sums_by_sector(values: Tensor, sector: Tensor) -> Tensor:
    """Of ``(N, K, X, Y, Z)`` values in every slice ``(N, Z, K, SECTORS)``, by ``(N, X, Y, Z)`` sectors.

    By matrix products, not by a scatter: a GPU's atomics would add in another order on every run.
    """
    n, k, x, y, z = values.shape
    slices = values.permute(0, 4, 1, 2, 3).reshape(n * z, k, x * y)
    own = sector.permute(0, 3, 1, 2).reshape(n * z, x * y, 1)
    sectors = torch.arange(SECTORS, device=sector.device)
    at_once = max(1, AT_ONCE // (x * y * SECTORS))
    found = [
        torch.bmm(some, (theirs == sectors).to(some.dtype))
        for some, theirs in zip(slices.split(at_once), own.split(at_once), strict=True)
    ]
    return torch.cat(found).view(n, z, k, SECTORS)


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
    """Mean, standard deviation, 10th and 90th percentile over ``(B, S)`` without NaN; 0 where all are NaN.

    Percentiles by hand: `nanquantile` may wait for a GPU.
    """
    known = torch.isfinite(values)
    count = known.sum(1)
    some = count.clamp_min(1)
    mean = torch.where(known, values, 0.0).sum(1) / some
    deviation = (torch.where(known, values - mean[:, None], 0.0).square().sum(1) / some).sqrt()
    ranked = torch.where(known, values, torch.inf).sort(1).values
    place = torch.stack([0.1 * (some - 1), 0.9 * (some - 1)], 1)
    below = place.floor()
    one, other = ranked.gather(1, torch.cat([below, place.ceil()], 1).long()).chunk(2, 1)
    percentiles = torch.lerp(one, other, place - below)
    found = torch.cat([mean[:, None], deviation[:, None], percentiles], 1)
    return torch.where(count[:, None] > 0, found, 0.0)


def cycle_size(n_structures: int, ring: Ring | None) -> int:
    """Number of values that `describe_cycle` gives."""
    return 9 * n_structures + (12 if ring is not None else 0)


def ring_of(structures: Sequence[str], wall: str | None, cavity: str | None) -> Ring | None:
    """Ring from structure names; None unless both are there."""
    if wall in structures and cavity in structures:
        return Ring(structures.index(str(wall)), structures.index(str(cavity)))
    return None
