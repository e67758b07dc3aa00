"""One phantom case, from its seed to its arrays and its analytic truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medmtl.data.phantom.anatomy import build_heart
from medmtl.data.phantom.folder import class_of
from medmtl.data.phantom.image import (
    CHANNELS,
    Volume,
    acquire,
    background,
    draw_body,
    draw_shading,
    draw_tissue,
    smooth_field,
    t1_of_parts,
)
from medmtl.data.phantom.motion import Cycle, deform, draw_cycle, function_values
from medmtl.data.phantom.population import DISEASES, Patient, draw_patient
from medmtl.data.phantom.raster import Part, Samples, draw_pose, occupancy, outline_mm, parts, place

RV, MYO, LV = 1, 2, 3
HEALTHY, SCAR = 1, 2


@dataclass(frozen=True)
class PhantomCase:
    """One case.

    Attributes:
        patient: body, disease and targets.
        cycle: frames of ED and ES, time step.
        images: ``(T, X, Y, Z)`` int16 of each channel, ``cine`` and ``lge``.
        anatomy: ``(T, X, Y, Z)`` uint8, RV 1, MYO 2, LV 3.
        tissue: ``(T, X, Y, Z)`` uint8, healthy 1, scar 2 inside the myocardium.
        t1: ``(T, X, Y, Z)`` float32 ms, NaN outside the heart and on frames other than ED and ES.
        values: volumes (mL), ejection fractions (%) and masses (g) of the analytic surfaces.
    """

    patient: Patient
    cycle: Cycle
    images: Mapping[str, NDArray[np.int16]]
    anatomy: NDArray[np.uint8]
    tissue: NDArray[np.uint8]
    t1: NDArray[np.float32]
    values: Mapping[str, float]


def disease_of(index: int, seed: int) -> str:
    """The disease of case ``index`` (0-based): every five in a row hold each once, in a random order."""
    return class_of(index, seed, DISEASES)


def make_case(
    index: int,
    *,
    seed: int = 0,
    frames: int = 10,
    shape: tuple[int, int, int] = (64, 64, 10),
    spacing_mm: tuple[float, float, float] = (2.5, 2.5, 9.0),
) -> PhantomCase:
    """Case number ``index`` (0-based) of the cohort with this seed, whatever the cohort's size.

    Args:
        index: position in the cohort.
        seed: of the cohort.
        frames: T.
        shape: voxels along x, y, z.
        spacing_mm: voxel size.
    """
    streams = np.random.SeedSequence(seed, spawn_key=(0, index)).spawn(3)
    shape_rng, pose_rng, image_rng = (np.random.default_rng(stream) for stream in streams)
    patient = draw_patient(disease_of(index, seed), shape_rng)
    heart = build_heart(patient, shape_rng)
    cycle = draw_cycle(patient, frames, shape_rng)
    moments = [deform(heart, patient, float(emptying)) for emptying in cycle.emptying]
    ed, es = moments[cycle.frame_ed], moments[cycle.frame_es]
    pose = draw_pose(heart, ed, shape, spacing_mm, pose_rng)
    samples = place(heart, ed, pose, shape, spacing_mm)
    filled = [occupancy(parts(samples, heart, moment), samples.shape) for moment in moments]
    outline = outline_mm(heart, ed, pose.rotation)[:, :2] + pose.apex_mm[:2]
    anatomy, tissue = _labels(filled, samples, shape)
    images, t1 = _pictures(filled, samples, patient, outline, shape, spacing_mm, image_rng)
    shown = np.isin(np.arange(frames), (cycle.frame_ed, cycle.frame_es))[:, None, None, None]
    t1 = np.where(shown & (anatomy > 0), t1, np.float32(np.nan))
    return PhantomCase(patient, cycle, images, anatomy, tissue, t1, function_values(ed, es))


def _labels(
    filled: list[Volume], samples: Samples, shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Anatomy and tissue ``(T, X, Y, Z)``: what fills most of a voxel; papillary muscles are blood pool."""
    anatomy = np.zeros((len(filled), *shape), dtype=np.uint8)
    tissue = np.zeros_like(anatomy)
    for frame, part in enumerate(filled):
        muscle = part[Part.MYOCARDIUM] + part[Part.SCAR]
        fractions = np.stack(
            [np.zeros_like(muscle), part[Part.RV_BLOOD], muscle, part[Part.LV_BLOOD] + part[Part.PAPILLARY]]
        )
        fractions[0] = 1 - fractions[1:].sum(axis=0)
        label = fractions.argmax(axis=0)
        anatomy[frame][samples.region] = label
        scarred = part[Part.SCAR] > part[Part.MYOCARDIUM]
        tissue[frame][samples.region] = np.where(label == MYO, np.where(scarred, SCAR, HEALTHY), 0)
    return anatomy, tissue


def _pictures(
    filled: list[Volume],
    samples: Samples,
    patient: Patient,
    outline: NDArray[np.float64],
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
) -> tuple[dict[str, NDArray[np.int16]], NDArray[np.float32]]:
    """Both channels and the T1 map of all frames, ``(T, X, Y, Z)``."""
    t1_part = t1_of_parts(patient, rng)
    tissues = draw_tissue(t1_part, rng)
    low, high = outline.min(axis=0), outline.max(axis=0)
    outside = np.ones(shape, dtype=bool)
    outside[samples.region] = np.minimum.reduce([part[Part.OUTSIDE] for part in filled]) > 0.5
    distance = ndimage.distance_transform_edt(outside, sampling=spacing_mm).astype(np.float32)
    body = draw_body(distance, (low + high) / 2, float((high - low).mean() / 2), spacing_mm, rng)
    shading = draw_shading(shape, rng)
    local = smooth_field(samples.shape, (4, 4, 1), rng)
    flow = np.stack([smooth_field(samples.shape, (3, 3, 1), rng) for _ in range(2)])
    phase = np.linspace(0, 2 * np.pi, len(filled), endpoint=False, dtype=np.float32)
    blood = [Part.RV_BLOOD, Part.LV_BLOOD, Part.ATRIAL_BLOOD]
    images = {}
    t1 = np.zeros((len(filled), *shape), dtype=np.float32)
    for channel in CHANNELS:
        tissue = tissues[channel]
        around = background(body, tissue)
        signal = np.repeat(around[None], len(filled), axis=0)
        for frame, part in enumerate(filled):
            inside = np.tensordot(tissue.part[1:], part[1:], axes=1)
            swirl = np.cos(phase[frame]) * flow[0] + np.sin(phase[frame]) * flow[1]
            inside *= 1 + 0.07 * swirl * part[blood].sum(axis=0) + 0.04 * local
            signal[frame][samples.region] = inside + part[Part.OUTSIDE] * around[samples.region]
        noise = rng.uniform(0.025, 0.055) * (1.0 if channel == "cine" else 1.3)
        images[channel] = acquire(
            signal, shading, noise, float(np.exp(rng.uniform(np.log(180), np.log(900)))), rng
        )
    for frame, part in enumerate(filled):
        heart = part[1:].sum(axis=0)
        mean = np.tensordot(t1_part[1:], part[1:], axes=1) / np.maximum(heart, 1e-6)
        t1[frame][samples.region] = mean * (1 + 0.02 * local)
    return images, t1
