"""What the scanner shows: tissue contrast, the body around the heart, coil shading, blur and noise.

Two channels: a balanced steady-state cine (bright blood and fat, grey muscle, dark lung) and a
late-enhancement contrast on the same frames (nulled muscle, bright scar, grey blood). Signal depends on the
native T1 that the T1 map holds, so the map can be learned; absolute scale, contrast, shading and noise vary
from case to case, so thresholds cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medmtl.data.phantom.population import Patient
from medmtl.data.phantom.raster import Part

Volume = NDArray[np.float32]

CHANNELS: tuple[str, ...] = ("cine", "lge")


@dataclass(frozen=True)
class Tissue:
    """Signal in one channel, relative to blood in the cine: ``(len(Part),)`` of the heart, and around it."""

    part: NDArray[np.float32]
    muscle: float
    fat: float
    lung: float
    liver: float
    vessel: float


def t1_of_parts(patient: Patient, rng: np.random.Generator) -> NDArray[np.float32]:
    """Native T1 ``(len(Part),)`` in ms at 1.5 T: muscle near 1000, scar and blood longer.

    Source: the order of magnitude of the consensus ranges in Messroghli 2017, JCMR 19:75.
    """
    muscle = patient.myocardial_t1_ms
    blood = 1580 + float(rng.normal(0, 45))
    t1 = np.full(len(Part), muscle, dtype=np.float32)
    t1[[Part.RV_BLOOD, Part.LV_BLOOD, Part.ATRIAL_BLOOD]] = blood
    t1[Part.SCAR] = muscle + 190 + float(rng.normal(0, 35))
    return t1


def draw_tissue(t1: NDArray[np.float32], rng: np.random.Generator) -> dict[str, Tissue]:
    """Signals of both channels for one case.

    Args:
        t1: ``(len(Part),)`` native T1 in ms.
        rng: source of all randomness.
    """
    muscle_t1 = float(t1[Part.MYOCARDIUM])
    cine_muscle = rng.uniform(0.33, 0.47) * (1000 / muscle_t1) ** 0.5
    cine = np.full(len(Part), cine_muscle, dtype=np.float32)
    cine[Part.SCAR] = cine_muscle * rng.uniform(1.0, 1.15)
    cine[[Part.LV_BLOOD, Part.ATRIAL_BLOOD]] = 1.0
    cine[Part.RV_BLOOD] = rng.uniform(0.86, 1.04)
    cine[Part.BASE_TISSUE] = rng.uniform(0.45, 0.7)
    nulled = rng.uniform(0.12, 0.2) + (muscle_t1 - 1000) * 6e-4
    lge = np.full(len(Part), nulled, dtype=np.float32)
    lge[[Part.LV_BLOOD, Part.ATRIAL_BLOOD, Part.RV_BLOOD]] = rng.uniform(0.5, 0.75)
    lge[Part.SCAR] = rng.uniform(0.75, 1.05)
    lge[Part.BASE_TISSUE] = rng.uniform(0.3, 0.5)
    return {
        "cine": Tissue(
            cine, rng.uniform(0.25, 0.4), rng.uniform(0.8, 1.2), rng.uniform(0.04, 0.1),
            rng.uniform(0.38, 0.58), rng.uniform(0.85, 1.05),
        ),
        "lge": Tissue(
            lge, rng.uniform(0.15, 0.28), rng.uniform(0.5, 0.9), rng.uniform(0.03, 0.08),
            rng.uniform(0.3, 0.45), rng.uniform(0.5, 0.7),
        ),
    }  # fmt: skip


def smooth_field(shape: tuple[int, ...], sigma: tuple[float, ...], rng: np.random.Generator) -> Volume:
    """A random field of mean 0 and standard deviation 1 with a correlation length of ``sigma`` voxels."""
    field = ndimage.gaussian_filter(
        rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=2.5
    )
    return (field - field.mean()) / max(float(field.std()), 1e-6)


@dataclass(frozen=True)
class Body:
    """Fractions ``(X, Y, Z)`` of what surrounds the heart, the same in both channels and all frames."""

    lung: Volume
    fat: Volume
    liver: Volume
    vessel: Volume
    texture: Volume


def draw_body(
    distance_mm: Volume,
    middle_mm: NDArray[np.float64],
    reach_mm: float,
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> Body:
    """Lung beside the heart, chest wall in front, liver and stomach below, aorta behind, fat in between.

    Args:
        distance_mm: ``(X, Y, Z)`` from the end-diastolic heart, 0 inside.
        middle_mm: ``(2,)`` middle of the heart in the image plane.
        reach_mm: half of its width.
        spacing_mm: voxel size.
        rng: source of all randomness.
    """
    shape = distance_mm.shape
    x, y = (
        ((np.arange(shape[axis]) + 0.5 - shape[axis] / 2) * spacing_mm[axis] - middle_mm[axis]).astype(
            np.float32
        )
        for axis in range(2)
    )
    x, y = x[:, None, None], y[None, :, None]
    z = np.linspace(-1, 1, shape[2], dtype=np.float32)
    wx = x + 9 * smooth_field(shape, (5, 5, 2), rng)
    wy = y + 9 * smooth_field(shape, (5, 5, 2), rng)

    diaphragm = reach_mm * rng.uniform(0.7, 1.0) + 8 * z + rng.uniform(-0.25, 0.25) * wx
    below = _soft(diaphragm - wy)
    edge = rng.uniform(-5, 25)
    liver = below * _soft(wx - edge)
    stomach = (
        below * _soft(edge + 12 - wx) * _soft(np.hypot(wx - 45, wy - reach_mm - 12) - rng.uniform(14, 24))
    )
    turn = rng.uniform(0.0, 0.6)
    front = -(np.cos(turn) * wy + np.sin(turn) * wx)
    ribs = reach_mm + rng.uniform(4, 14)
    wall, skin = _soft(ribs - front), _soft(ribs + rng.uniform(5, 12) - front)
    angle, size = rng.uniform(0.4, 0.9), rng.uniform(8, 12)
    aorta = _soft(
        np.hypot(x - np.cos(angle) * reach_mm * 1.15, y - np.sin(angle) * reach_mm * 1.15) - size, 0.8
    )
    irregular = distance_mm + 2.5 * smooth_field(shape, (3, 3, 1), rng)
    pad = rng.uniform(2, 5) + rng.uniform(0, 0.12) * np.maximum(-wx, 0)  # more fat over the right ventricle
    lung = _soft(pad - irregular) * (1 - below) * (1 - wall) * (1 - aorta)
    epicardial = _soft(irregular - pad, 1.5) * rng.uniform(0.35, 0.8) * (1 - aorta)
    branches = (
        np.clip(smooth_field(shape, (1.2, 1.2, 0.8), rng) - 1.9, 0, 1) * 0.5 * (lung + liver) + 0.25 * stomach
    )
    fat = np.clip(skin * (1 - below) + epicardial + 0.4 * stomach, 0, 1) * (1 - aorta)
    texture = smooth_field(shape, (1.6, 1.6, 0.6), rng)
    return Body(lung, fat, liver * (1 - epicardial) * (1 - aorta), np.clip(aorta + branches, 0, 1), texture)


def _soft(distance_mm: Volume, width_mm: float = 2.0) -> Volume:
    """1 where the signed distance is below zero, 0 above it, and a logistic edge between."""
    return 1 / (1 + np.exp(np.clip(distance_mm / np.float32(width_mm), -30, 30)))


def background(body: Body, tissue: Tissue) -> Volume:
    """Signal ``(X, Y, Z)`` of the surroundings in one channel."""
    signal = np.full_like(body.lung, tissue.muscle)
    for fraction, level in (
        (body.liver, tissue.liver),
        (body.lung, tissue.lung),
        (body.fat, tissue.fat),
        (body.vessel, tissue.vessel),
    ):
        signal += fraction * (level - signal)
    return signal * (1 + 0.10 * body.texture)


def draw_shading(shape: tuple[int, int, int], rng: np.random.Generator) -> Volume:
    """Receive-coil shading ``(X, Y, Z)``: brighter near the chest wall, with a smooth irregular part."""
    x, y = np.linspace(-1, 1, shape[0], dtype=np.float32), np.linspace(-1, 1, shape[1], dtype=np.float32)
    ramp = rng.normal(0, 0.12) * x[:, None, None] - rng.uniform(0.05, 0.35) * y[None, :, None]
    bump = rng.uniform(-0.15, 0.15) * (x[:, None, None] ** 2 + y[None, :, None] ** 2)
    slices = 0.04 * rng.standard_normal(shape[2], dtype=np.float32)
    return np.exp(ramp + bump + slices).astype(np.float32)


def acquire(
    signal: NDArray[np.float32], shading: Volume, noise: float, scale: float, rng: np.random.Generator
) -> NDArray[np.int16]:
    """The magnitude image: point spread, shading, Rician noise, rounding.

    Args:
        signal: ``(T, X, Y, Z)``, blood of the cine is 1.
        shading: ``(X, Y, Z)``.
        noise: standard deviation of the real and of the imaginary part, relative to blood.
        scale: units per signal.
        rng: source of all randomness.

    Returns:
        ``(T, X, Y, Z)`` int16.
    """
    blurred = signal
    for axis in (1, 2):
        blurred = ndimage.correlate1d(
            blurred, np.array([0.14, 0.72, 0.14], dtype=np.float32), axis=axis, mode="nearest"
        )
    real = blurred * shading + noise * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = noise * rng.standard_normal(signal.shape, dtype=np.float32)
    magnitude = np.sqrt(real * real + imaginary * imaginary) * np.float32(scale)
    return np.clip(np.rint(magnitude), 0, 32767).astype(np.int16)
