"""Where the heart lies in the scanner, and how much of every voxel each of its parts fills.

Image coordinates are millimetres from the middle of the field of view along the voxel axes: x to the
patient's left, y to posterior, z to the head (the stack runs from the apex to the base). Voxels have
2 x 2 x 3 samples and one in the middle; what the samples of a voxel are is averaged into occupancies, which
gives the partial volume of thick slices.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from medmtl.data.phantom.anatomy import Heart, Table
from medmtl.data.phantom.motion import Frame

_OFFSETS = np.array([*itertools.product((-1 / 4, 1 / 4), (-1 / 4, 1 / 4), (-1 / 3, 0, 1 / 3)), (0, 0, 0)])
"""Samples of a voxel relative to its size. An odd number: two parts that share a voxel cannot tie."""

_EDGE_MM = 2.0


class Part(IntEnum):
    """What a sample is made of."""

    OUTSIDE = 0
    RV_BLOOD = 1
    MYOCARDIUM = 2
    LV_BLOOD = 3
    SCAR = 4
    PAPILLARY = 5
    RV_WALL = 6
    ATRIAL_BLOOD = 7
    BASE_TISSUE = 8


@dataclass(frozen=True)
class Pose:
    """How the heart lies in the stack.

    Attributes:
        rotation: ``(3, 3)`` from heart to image axes.
        apex_mm: ``(3,)`` image position of the epicardial apex.
        slice_shift_mm: ``(Z, 2)`` in-plane displacement of each slice, from unequal breath-holds.
    """

    rotation: NDArray[np.float64]
    apex_mm: NDArray[np.float64]
    slice_shift_mm: NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """The samples of the voxels near the heart, in heart coordinates.

    Attributes:
        region: voxel slices of the region within the image grid.
        x, y, z: ``(S, V)`` float32 mm, S samples of V voxels; the origin is the apex, z the long axis.
        radius2: ``(S, V)`` float32, squared distance from the axis, mm².
        row: ``(S, V)`` intp, offset of each sample's angle in a flattened ``(P, U)`` table.
    """

    region: tuple[slice, slice, slice]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: NDArray[np.float32]
    radius2: NDArray[np.float32]
    row: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the region along x, y, z."""
        x, y, z = (part.stop - part.start for part in self.region)
        return x, y, z


def outline_mm(heart: Heart, ed: Frame, rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points ``(N, 3)`` of the end-diastolic outer surface, in image axes relative to the apex."""
    radius = np.sqrt(np.maximum(ed.epi2, ed.rv_wall2 * (ed.rv2 > 0)))[::4, ::4]
    radius = np.concatenate([radius, radius[:, -1:]], axis=1)
    level = np.append(heart.u[::4], 1.0) * ed.height_mm
    phi = heart.phi[::4, None]
    points = np.stack(
        [radius * np.cos(phi), radius * np.sin(phi), np.broadcast_to(level, radius.shape)], axis=-1
    )
    return np.concatenate([np.zeros((1, 3)), points.reshape(-1, 3)]) @ rotation.T


def draw_pose(
    heart: Heart,
    ed: Frame,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> Pose:
    """A position, in which the whole heart lies inside the field of view.

    Args:
        heart: its surfaces.
        ed: the heart at end-diastole.
        shape: voxels along x, y, z.
        spacing_mm: voxel size.
        rng: source of all randomness.
    """
    field = np.multiply(shape, spacing_mm)
    widest = float(np.sqrt(ed.rv_wall2.max()))
    room = max(float(field[2]) - 2 * _EDGE_MM - heart.length_mm, 0.0)
    tilt = min(math.radians(rng.uniform(1.5, 8.0)), math.asin(min(room / widest, 1.0)))
    turn = math.pi + math.radians(float(np.clip(rng.normal(22, 16), -15, 60)))
    towards = rng.uniform(0, 2 * np.pi)
    rotation = _about(2, towards) @ _about(0, tilt) @ _about(2, turn - towards)
    shift = rng.normal(0, 1.0, (shape[2], 2))
    shift[rng.integers(shape[2])] += rng.normal(0, 2.0, 2)
    shift = np.clip(shift, -5, 5)
    points = outline_mm(heart, ed, rotation)
    low, high = points.min(axis=0), points.max(axis=0)
    slack = np.maximum((field - (high - low)) / 2 - _EDGE_MM, 0.0)
    slack[:2] = np.maximum(slack[:2] - np.abs(shift).max(), 0.0)
    centre = rng.uniform(-1, 1, 3) * np.minimum(slack, (9.0, 9.0, 6.0))
    return Pose(rotation, centre - (low + high) / 2, shift)


def place(
    heart: Heart, ed: Frame, pose: Pose, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> Samples:
    """The samples of every voxel that the heart may touch, and of all slices above it.

    Args:
        heart: its tables' angles.
        ed: the heart at end-diastole, where it is largest.
        pose: where it lies.
        shape: voxels along x, y, z.
        spacing_mm: voxel size.
    """
    points = outline_mm(heart, ed, pose.rotation) + pose.apex_mm
    margin = float(np.abs(pose.slice_shift_mm).max()) + 10.0
    region, centres = [], []
    for axis in range(3):
        half = shape[axis] * spacing_mm[axis] / 2
        first, last = 0, shape[axis]
        if axis < 2:
            first = max(0, int((points[:, axis].min() - margin + half) // spacing_mm[axis]))
            last = min(shape[axis], math.ceil((points[:, axis].max() + margin + half) / spacing_mm[axis]))
        region.append(slice(first, last))
        centres.append((np.arange(first, last) + 0.5) * spacing_mm[axis] - half - pose.apex_mm[axis])
    voxel = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)
    voxel[..., :2] -= pose.slice_shift_mm
    # a row vector times the rotation is its inverse applied to the vector
    in_heart = (voxel.reshape(-1, 3) @ pose.rotation).T[:, None]
    step = (_OFFSETS * spacing_mm @ pose.rotation).T[:, :, None]
    x, y, z = (in_heart + step).astype(np.float32)
    turn = np.arctan2(y, x) * np.float32(heart.phi.size / (2 * np.pi))
    row = np.floor(turn).astype(np.intp) % heart.phi.size * heart.u.size
    return Samples((region[0], region[1], region[2]), x, y, z, x * x + y * y, row)


def parts(samples: Samples, heart: Heart, frame: Frame) -> NDArray[np.uint8]:
    """What every sample ``(S, V)`` is made of in one frame, as :class:`Part` codes."""
    column = np.clip(samples.z * np.float32(heart.u.size / frame.height_mm), 0, heart.u.size - 1)
    index = samples.row + column.astype(np.intp)
    above = samples.z > frame.height_mm
    # atria taper towards the head, so samples above the base count as farther from the axis
    rise = np.maximum(samples.z - np.float32(frame.height_mm), 0) * np.float32(1 / 42)
    radius2 = samples.radius2 * (1 + rise * rise)

    def within(table: Table) -> NDArray[np.bool_]:
        return radius2 < np.take(table.astype(np.float32), index)

    code = np.where(within(frame.rv_wall2), np.uint8(Part.RV_WALL), np.uint8(Part.OUTSIDE))
    code[within(frame.rv2)] = Part.RV_BLOOD
    code[within(frame.epi2)] = Part.MYOCARDIUM
    if np.any(frame.scar2 > frame.endo2):
        code[within(frame.scar2)] = Part.SCAR
    code[within(frame.endo2)] = Part.PAPILLARY
    code[within(frame.trabecula2)] = Part.LV_BLOOD
    code[samples.z < 0] = Part.OUTSIDE
    _add_papillaries(code, samples, heart, frame)
    return np.where(above, _ABOVE_THE_BASE[code], code)


_ABOVE_THE_BASE = np.array(
    [
        Part.OUTSIDE,
        Part.ATRIAL_BLOOD,
        Part.BASE_TISSUE,
        Part.ATRIAL_BLOOD,
        Part.BASE_TISSUE,
        Part.ATRIAL_BLOOD,
        Part.BASE_TISSUE,
        Part.ATRIAL_BLOOD,
        Part.BASE_TISSUE,
    ],
    dtype=np.uint8,
)


def _add_papillaries(code: NDArray[np.uint8], samples: Samples, heart: Heart, frame: Frame) -> None:
    """Marks the papillary muscles in the cavity's samples, in place of blood; they keep their volume."""
    cavity = np.flatnonzero(code == Part.LV_BLOOD)
    x, y, z = (part.ravel()[cavity] for part in (samples.x, samples.y, samples.z))
    for muscle in heart.papillaries:
        middle = int((muscle.low + muscle.high) / 2 * heart.u.size)
        row = int(muscle.phi / (2 * np.pi) * heart.phi.size) % heart.phi.size
        reach = muscle.depth * math.sqrt(frame.endo2[row, middle])
        beside2 = (x - reach * math.cos(muscle.phi)) ** 2 + (y - reach * math.sin(muscle.phi)) ** 2
        u = z / frame.height_mm
        inside = (beside2 < muscle.radius_mm**2 / frame.stretch) & (u > muscle.low) & (u < muscle.high)
        code.ravel()[cavity[inside]] = Part.PAPILLARY


def occupancy(code: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Fraction ``(parts, X, Y, Z)`` of every voxel that each part fills."""
    counts = np.stack([(code == part).sum(axis=0, dtype=np.uint8) for part in Part])
    return (counts * np.float32(1 / code.shape[0])).reshape(len(Part), *shape)


def _about(axis: int, angle: float) -> NDArray[np.float64]:
    """Rotation ``(3, 3)`` about a coordinate axis."""
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix
