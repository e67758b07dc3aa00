"""The heart at end-diastole as analytic surfaces around the long axis of the left ventricle.

Heart coordinates: z runs along the long axis, 0 at the epicardial apex, up to the base plane; the angle phi
is 0 in the middle of the septum, 90 degrees anterior, 180 lateral, 270 inferior. Every surface is a radius
r(phi, u) with u = z / length. Tables hold squared radii in mm² at the midpoints of a (phi, u) grid,
because half the difference of two squared radii is an area per radian, and sums of it are volumes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medmtl.data.phantom.population import Infarct, Patient

Table = NDArray[np.float64]

N_PHI, N_U = 240, 128
"""Grid of the surface tables: 1.5 degrees by less than 0.7 mm."""

_EQUATOR = 0.72  # the ventricle is widest here, 0 apex to 1 base; the base plane cuts the ellipsoid beyond it
_RV_WALL_MM = 3.0
_WIDEST_HEART_MM = 140.0


@dataclass(frozen=True)
class Papillary:
    """One papillary muscle: a cylinder along the long axis.

    Attributes:
        phi: its angle, radians.
        depth: its distance from the axis as a fraction of the endocardial radius.
        radius_mm: its radius at end-diastole.
        low, high: its extent along the long axis, as u.
    """

    phi: float
    depth: float
    radius_mm: float
    low: float
    high: float


@dataclass(frozen=True)
class Heart:
    """The end-diastolic heart in material coordinates; P angles by U levels, all squared radii in mm².

    Attributes:
        phi: ``(P,)`` radians; u: ``(U,)``, midpoints.
        length_mm: epicardial apex to base plane.
        endo2, epi2, scar2: ``(P, U)`` endocardium, epicardium, outer border of the scar (equal to ``endo2``
            without one).
        trabecula2: ``(P, U)`` where trabeculae begin inside the cavity, ``<= endo2``.
        motion: ``(P, U)`` contraction relative to the whole, 1 normal, 0 akinetic.
        rv_profile: ``(U,)`` width of the right ventricle relative to its widest level.
        rv_half_angle: angle from the middle of the septum to the insertion of the right ventricle, radians.
        rv_width_mm: largest distance from epicardium to the right ventricle's free wall at end-diastole.
        rv_edv_ml: volume of the right ventricle at that width.
        rv_wall_mm: thickness of the free wall, which no label covers.
        papillaries: of the left ventricle; blood pool by convention, as in ACDC.
    """

    phi: NDArray[np.float64]
    u: NDArray[np.float64]
    length_mm: float
    endo2: Table
    epi2: Table
    scar2: Table
    trabecula2: Table
    motion: Table
    rv_profile: NDArray[np.float64]
    rv_half_angle: float
    rv_width_mm: float
    rv_edv_ml: float
    rv_wall_mm: float
    papillaries: tuple[Papillary, ...]


def grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Midpoints of the tables: phi ``(P,)`` in radians, u ``(U,)``."""
    return np.linspace(np.pi / N_PHI, 2 * np.pi - np.pi / N_PHI, N_PHI), np.linspace(
        0.5 / N_U, 1 - 0.5 / N_U, N_U
    )


def volume_ml(outer2: Table, inner2: Table | float, height_mm: float) -> float:
    """Volume between squared radii ``(P, U)`` in mm² over a height in mm; negative gaps count as none."""
    area2 = np.maximum(outer2 - inner2, 0.0)
    return float(area2.sum() * 0.5 * (2 * np.pi / area2.shape[0]) * (height_mm / area2.shape[1]) / 1000)


def rv_outer2(
    epi2: Table, phi: NDArray[np.float64], width_mm: NDArray[np.float64], half_angle: float
) -> Table:
    """Squared radius ``(P, U)`` of the right ventricle's outer border; 0 where there is no right ventricle.

    At each level a circle passes ``width_mm`` beyond the mean epicardial circle in the middle of the septum
    and meets that circle at +-``half_angle``; the gap between the two, laid on the actual epicardium, is the
    crescent.

    Args:
        epi2: ``(P, U)`` squared epicardial radius, mm².
        phi: ``(P,)`` radians.
        width_mm: ``(U,)`` width of the crescent.
        half_angle: radians.
    """
    rho = np.sqrt(epi2.mean(axis=0))
    far = rho + width_mm
    offset = (far**2 - rho**2) / (2 * (far - rho * math.cos(half_angle)))
    radius = far - offset
    cos, sin = np.cos(phi)[:, None], np.sin(phi)[:, None]
    gap = offset * cos + np.sqrt(np.maximum(radius**2 - (offset * sin) ** 2, 0.0)) - rho
    blunt_corner = 1 + 0.25 * np.exp(-((wrap(phi + 0.8) / 0.35) ** 2))[:, None]  # at the diaphragm
    return np.where(gap > 1e-9, np.square(np.sqrt(epi2) + gap * blunt_corner), 0.0)


def build_heart(patient: Patient, rng: np.random.Generator) -> Heart:
    """The end-diastolic heart whose volumes are the patient's.

    The left ventricle is a pair of prolate ellipsoids cut at the base plane, made less round by a few low
    harmonics, septal hypertrophy, septal flattening or an infarct. Its radius follows in closed form from
    the wanted volume; the right ventricle's width is found by bisection.

    Args:
        patient: targets in mL and mm.
        rng: source of the shape's small individual variations.
    """
    phi, u = grid()
    endo, epi = _left_ventricle(patient, phi, u, rng)
    infarct, territory = patient.infarct, _territory(phi, u, patient.infarct)
    depth = np.zeros_like(endo)
    motion = (1.04 - 0.08 * u) * (1 - 0.02 * patient.septal_extra_mm * np.exp(-((wrap(phi) / 0.9) ** 2)))[
        :, None
    ]
    if infarct is not None:
        epi = endo + (epi - endo) * (1 - infarct.thinning * territory)
        depth = infarct.transmurality * np.clip(2.2 * territory, 0, 1) * (territory > 0.12)
        motion = motion * (1 - infarct.motion_loss * np.clip(1.5 * territory, 0, 1))
    start = rng.uniform(0.08, 0.16)
    v = np.clip((u - start) / (1 - start), 0, 1)
    heart = Heart(
        phi=phi,
        u=u,
        length_mm=patient.length_mm,
        endo2=endo**2,
        epi2=epi**2,
        scar2=(endo + depth * (epi - endo)) ** 2,
        trabecula2=endo**2 * (1 - _trabeculae(phi, u, rng)),
        motion=motion,
        rv_profile=np.power(1 - np.power(1 - v, 2.3), 0.85) * (1 - 0.06 * v**4),
        rv_half_angle=math.radians(rng.uniform(80, 96)),
        rv_width_mm=0.0,
        rv_edv_ml=0.0,
        rv_wall_mm=_RV_WALL_MM,
        papillaries=_papillaries(rng),
    )
    width = min(solve_rv_width(heart, heart.epi2, heart.length_mm, patient.rv_edv_ml), _widest_rv_mm(heart))
    outer2 = rv_outer2(heart.epi2, phi, width * heart.rv_profile, heart.rv_half_angle)
    return replace(heart, rv_width_mm=width, rv_edv_ml=volume_ml(outer2, heart.epi2, heart.length_mm))


def _left_ventricle(
    patient: Patient, phi: NDArray[np.float64], u: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Table, Table]:
    """Radii ``(P, U)`` in mm of endocardium and epicardium, infarct aside."""
    outline = _outline(phi, u, patient.septal_flattening, rng)
    apex = 0.9 * patient.wall_mm / patient.length_mm
    endo_shape = _ellipsoid((u - apex) / (1 - apex)) * outline
    radius = math.sqrt(patient.lv_edv_ml / volume_ml(endo_shape**2, 0.0, patient.length_mm))
    level = _ellipsoid(u)
    extra = patient.septal_extra_mm * np.exp(-((wrap(phi - 0.35) / 0.95) ** 2))[:, None] * level**2
    return radius * endo_shape, (radius + patient.wall_mm) * level * outline + extra


def _widest_rv_mm(heart: Heart) -> float:
    """The width at which the whole heart still fits the field of view."""
    around = np.sqrt(heart.epi2.max(axis=1))
    septal = np.cos(heart.phi) > 0
    return float(_WIDEST_HEART_MM - around[septal].max() - around[~septal].max() - heart.rv_wall_mm)


def solve_rv_width(heart: Heart, epi2: Table, height_mm: float, wanted_ml: float) -> float:
    """Width (mm) at which the crescent outside ``epi2`` has the wanted volume: 16 bisections of 3..80 mm."""
    rows, columns = slice(None, None, 4), slice(1, None, 3)
    phi, part, profile = heart.phi[rows], epi2[rows, columns], heart.rv_profile[columns]
    low, high = 3.0, 80.0
    for _ in range(16):
        middle = (low + high) / 2
        outer2 = rv_outer2(part, phi, middle * profile, heart.rv_half_angle)
        if volume_ml(outer2, part, height_mm) < wanted_ml:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _ellipsoid(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius of an ellipsoid of unit semi-axis, its apex at u = 0 and equator at ``_EQUATOR``; 0 outside."""
    return np.sqrt(np.maximum(1 - np.square((u - _EQUATOR) / _EQUATOR), 0.0)) * (u > 0)


def wrap(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same angle within -pi..pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _outline(
    phi: NDArray[np.float64], u: NDArray[np.float64], flattening: float, rng: np.random.Generator
) -> Table:
    """Deviation ``(P, U)`` of both walls from a circle."""
    outline = np.ones((phi.size, u.size))
    for order, size in ((2, 0.025), (3, 0.015)):
        phase, twist = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.6)
        outline += size * rng.normal() * np.cos(order * (phi[:, None] - phase) + twist * u)
    return outline - flattening * np.exp(-((wrap(phi) / 0.85) ** 2))[:, None] * np.clip(1.4 * u, 0, 1)


def _territory(phi: NDArray[np.float64], u: NDArray[np.float64], infarct: Infarct | None) -> Table:
    """Bump ``(P, U)`` of height 1 over the infarct's territory; 0 without one."""
    if infarct is None:
        return np.zeros((phi.size, u.size))
    across = (wrap(phi - infarct.angle) / infarct.half_width)[:, None]
    along = (u - infarct.level) / infarct.half_height
    return np.exp(-np.square(across**2 + along**2) * 1.6)


def _trabeculae(phi: NDArray[np.float64], u: NDArray[np.float64], rng: np.random.Generator) -> Table:
    """Trabeculated fraction ``(P, U)`` of the squared endocardial radius: ridges, stronger at the apex."""
    ridges = np.zeros((phi.size, u.size))
    for order in (7, 11, 17):
        ridges += np.cos(order * phi[:, None] + rng.uniform(0, 2 * np.pi) + rng.normal(0, 9) * u)
    return np.clip(ridges / 3 + 0.05, 0, 1) * (0.40 - 0.28 * u)


def _papillaries(rng: np.random.Generator) -> tuple[Papillary, ...]:
    """The anterolateral and the posteromedial muscle."""
    return tuple(
        Papillary(
            phi=math.radians(degrees + rng.normal(0, 8)),
            depth=rng.uniform(0.56, 0.68),
            radius_mm=rng.uniform(3.2, 4.8),
            low=rng.uniform(0.25, 0.34),
            high=rng.uniform(0.58, 0.70),
        )
        for degrees in (133, 232)
    )
