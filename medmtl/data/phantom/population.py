"""Who the phantom patients are: body, disease and the function that their hearts are built to have.

Ranges are body-surface indexed and follow the five groups of the ACDC challenge (Bernard 2018, IEEE TMI
37:2514) and SSFP reference values (Kawel-Boehm 2020, JCMR 22:87). Neighbouring groups overlap, as they do in
a clinic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

DISEASES: tuple[str, ...] = ("NOR", "MINF", "DCM", "HCM", "RV")
"""Normal, infarction, dilated and hypertrophic cardiomyopathy, abnormal right ventricle."""


@dataclass(frozen=True)
class Range:
    """A normal distribution cut at two limits."""

    mean: float
    sd: float
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """One value, drawn again until it lies within the limits."""
        while True:
            value = rng.normal(self.mean, self.sd)
            if self.low <= value <= self.high:
                return float(value)


@dataclass(frozen=True)
class Group:
    """What is usual in one disease: volumes in mL/m², ejection fractions in %, thickness in mm."""

    lv_edv_index: Range
    lv_ef: Range
    rv_edv_index: Range
    rv_ef: Range
    wall_mm: Range
    septal_extra_mm: Range
    septal_flattening: Range


_NO_EXTRA = Range(0.4, 0.5, 0.0, 1.8)
_ROUND = Range(0.02, 0.02, 0.0, 0.07)

_GROUPS: Mapping[str, Group] = {
    "NOR": Group(
        Range(71, 11, 48, 100), Range(61, 4.5, 51, 73), Range(76, 12, 52, 106), Range(57, 5, 45, 69),
        Range(7.6, 0.9, 5.5, 10.5), _NO_EXTRA, _ROUND,
    ),
    "MINF": Group(
        Range(90, 19, 60, 140), Range(38, 8, 20, 53), Range(73, 13, 48, 105), Range(53, 7, 36, 68),
        Range(8.2, 1.1, 6.0, 11.5), _NO_EXTRA, _ROUND,
    ),
    "DCM": Group(
        Range(128, 21, 92, 178), Range(25, 8, 10, 43), Range(84, 18, 50, 130), Range(43, 11, 20, 65),
        Range(7.8, 1.1, 5.5, 10.5), _NO_EXTRA, _ROUND,
    ),
    "HCM": Group(
        Range(66, 12, 42, 95), Range(67, 6, 53, 78), Range(68, 12, 46, 98), Range(61, 6, 48, 73),
        Range(9.6, 1.3, 7.0, 13.0), Range(8.5, 3.5, 3.0, 17.0), _ROUND,
    ),
    "RV": Group(
        Range(69, 12, 46, 98), Range(57, 6, 46, 70), Range(118, 19, 88, 165), Range(37, 8, 18, 51),
        Range(7.6, 1.0, 5.5, 10.5), _NO_EXTRA, Range(0.10, 0.05, 0.0, 0.2),
    ),
}  # fmt: skip

_LARGEST_LV_ML = 310.0
_LARGEST_RV_ML = 290.0


@dataclass(frozen=True)
class Infarct:
    """Where a coronary occlusion has scarred the wall.

    Attributes:
        angle: centre of the territory, radians from the middle of the septum towards anterior.
        half_width: half of its angular extent, radians.
        level: centre along the long axis, 0 apex to 1 base.
        half_height: half of its extent along the long axis, same unit.
        transmurality: largest depth of the scar as a fraction of the wall thickness, from the endocardium.
        thinning: fraction of the wall thickness lost in the middle of the scar.
        motion_loss: fraction of the contraction lost there; above 1 the wall bulges out.
    """

    angle: float
    half_width: float
    level: float
    half_height: float
    transmurality: float
    thinning: float
    motion_loss: float


@dataclass(frozen=True)
class Patient:
    """Body (cm, kg), disease, and the targets that the heart's shape is solved for (mL, %, mm)."""

    disease: str
    height_cm: float
    weight_kg: float
    lv_edv_ml: float
    lv_ef: float
    rv_edv_ml: float
    rv_ef: float
    wall_mm: float
    septal_extra_mm: float
    septal_flattening: float
    length_mm: float
    longitudinal_shortening: float
    heart_rate_bpm: float
    myocardial_t1_ms: float
    infarct: Infarct | None


def draw_patient(disease: str, rng: np.random.Generator) -> Patient:
    """One patient of a group.

    Args:
        disease: a member of ``DISEASES``.
        rng: source of all randomness.
    """
    group = _GROUPS[disease]
    male = rng.random() < 0.6
    height = Range(177, 7, 155, 200).draw(rng) if male else Range(164, 6.5, 145, 185).draw(rng)
    weight = Range(25.5, 4.0, 18.0, 38.0).draw(rng) * (height / 100) ** 2
    surface = math.sqrt(height * weight / 3600)  # Mosteller, m²
    lv_ef = group.lv_ef.draw(rng)
    length = 74 * (height / 171) ** 0.7 + {"DCM": 4.0, "MINF": 1.5}.get(disease, 0.0) + rng.normal(0, 2)
    shortening = 0.155 * (lv_ef / 62) ** 0.9 + rng.normal(0, 0.012)
    diffuse = {"DCM": 45.0, "HCM": 35.0, "MINF": 15.0}.get(disease, 0.0)
    return Patient(
        disease=disease,
        height_cm=round(height, 1),
        weight_kg=round(weight, 1),
        lv_edv_ml=_draw_volume(group.lv_edv_index, surface, _LARGEST_LV_ML, rng),
        lv_ef=lv_ef,
        rv_edv_ml=_draw_volume(group.rv_edv_index, surface, _LARGEST_RV_ML, rng),
        rv_ef=group.rv_ef.draw(rng),
        wall_mm=group.wall_mm.draw(rng) + (0.5 if male else -0.5),
        septal_extra_mm=group.septal_extra_mm.draw(rng),
        septal_flattening=group.septal_flattening.draw(rng),
        length_mm=float(np.clip(length, 67, 80)),
        longitudinal_shortening=float(np.clip(shortening, 0.03, 0.20)),
        heart_rate_bpm=Range(70, 11, 48, 105).draw(rng),
        myocardial_t1_ms=1000 + diffuse + float(rng.normal(0, 25)),
        infarct=_draw_infarct(rng) if disease == "MINF" else None,
    )


def _draw_volume(index: Range, surface_m2: float, largest_ml: float, rng: np.random.Generator) -> float:
    """A volume in mL that still fits the field of view."""
    high = min(index.high, largest_ml / surface_m2)
    return Range(index.mean, index.sd, index.low, high).draw(rng) * surface_m2


def _draw_infarct(rng: np.random.Generator) -> Infarct:
    """A scar in the territory of the left anterior descending, right or circumflex artery."""
    angle_deg, level = ((50, 0.52), (285, 0.55), (185, 0.55))[rng.choice(3, p=(0.5, 0.3, 0.2))]
    return Infarct(
        angle=math.radians(angle_deg + rng.normal(0, 12)),
        half_width=math.radians(rng.uniform(38, 68)),
        level=level + rng.normal(0, 0.06),
        half_height=rng.uniform(0.26, 0.42),
        transmurality=rng.uniform(0.45, 1.0),
        thinning=rng.uniform(0.15, 0.45),
        motion_loss=rng.uniform(0.85, 1.08),
    )
