"""How the heart moves: a volume-preserving map of the wall, driven by a volume curve over the cardiac cycle.

In cylindrical coordinates around the long axis the map ``z' = s z``,
``r'² = endo'²(phi, z') + (r² - endo²(phi, z)) / s`` has Jacobian 1 for any choice of the deformed
endocardium, so the wall is incompressible exactly, sector by sector: where it contracts it thickens, where
it is akinetic it hardly does. The deformed endocardium is ``endo'² = endo² (1 - c m)`` with the regional
motion m and one contraction c per frame, which the wanted cavity volume determines in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmtl.data.phantom.anatomy import Heart, Table, rv_outer2, solve_rv_width, volume_ml
from medmtl.data.phantom.population import Patient
from medmtl.types import MYOCARDIAL_DENSITY_G_PER_ML

_MOST_CONTRACTION = 0.93  # of the squared radius; beyond it the walls would touch


@dataclass(frozen=True)
class Frame:
    """The heart at one time; squared radii ``(P, U)`` in mm² on the material grid of :class:`Heart`.

    Attributes:
        height_mm: epicardial apex to base plane.
        stretch: height relative to end-diastole, ``<= 1``.
        endo2, epi2, scar2, trabecula2: left ventricle.
        rv2, rv_wall2: blood pool and free wall of the right ventricle; inside ``epi2`` they mean nothing.
    """

    height_mm: float
    stretch: float
    endo2: Table
    epi2: Table
    scar2: Table
    trabecula2: Table
    rv2: Table
    rv_wall2: Table

    @property
    def lv_ml(self) -> float:
        """Left ventricular cavity below the base plane, papillary muscles and trabeculae included."""
        return volume_ml(self.endo2, 0.0, self.height_mm)

    @property
    def rv_ml(self) -> float:
        """Right ventricular cavity below the base plane."""
        return volume_ml(self.rv2, self.epi2, self.height_mm)

    @property
    def myocardium_ml(self) -> float:
        """Left ventricular wall, septum included."""
        return volume_ml(self.epi2, self.endo2, self.height_mm)

    @property
    def scar_ml(self) -> float:
        """Scarred part of the wall."""
        return volume_ml(self.scar2, self.endo2, self.height_mm)


@dataclass(frozen=True)
class Cycle:
    """Times of one heart beat.

    Attributes:
        emptying: ``(T,)`` fraction of the stroke volume that has left the ventricle: 0 at ED, 1 at ES.
        frame_ed, frame_es: 0-based.
        time_step_ms: between frames.
    """

    emptying: NDArray[np.float64]
    frame_ed: int
    frame_es: int
    time_step_ms: float


def draw_cycle(patient: Patient, frames: int, rng: np.random.Generator) -> Cycle:
    """The volume curve: ejection, isovolumic relaxation, early filling, diastasis, atrial contraction.

    Most series begin at ED; one in six is gated late, so that ED is a later frame.

    Args:
        patient: its heart rate sets the length of systole (Weissler's linear relation) and its disease the
            filling.
        frames: T, at least 2.
        rng: source of all randomness.
    """
    period = 60_000 / patient.heart_rate_bpm
    systole = (500 - 1.9 * patient.heart_rate_bpm + rng.normal(0, 12)) / period
    early = rng.normal(0.66, 0.05) - (0.12 if patient.disease in ("DCM", "HCM") else 0.0)
    atrial = rng.normal(0.22, 0.03) + (0.08 if patient.disease in ("DCM", "HCM") else 0.0)
    t = np.arange(frames) / frames
    ejected = _smoothstep((t - 0.03) / (systole - 0.03))
    relaxed = systole + 0.05
    filled = (
        early * _smoothstep((t - relaxed) / 0.22)
        + (1 - early - atrial) * np.clip((t - relaxed) / (1 - relaxed), 0, 1)
        + atrial * _smoothstep((t - 0.82) / 0.18)
    )
    emptying = np.where(t <= systole, ejected, 1 - filled)
    emptying /= emptying.max()
    shift = int(rng.integers(1, max(2, frames // 2 + 1))) if rng.random() < 1 / 6 else 0
    emptying = np.roll(emptying, shift)
    return Cycle(emptying, int(emptying.argmin()), int(emptying.argmax()), period / frames)


def deform(heart: Heart, patient: Patient, emptying: float) -> Frame:
    """The heart after it has ejected a fraction ``emptying`` (0..1) of both stroke volumes."""
    stretch = 1 - emptying * patient.longitudinal_shortening
    height = heart.length_mm * stretch
    wanted_lv = patient.lv_edv_ml * (1 - emptying * patient.lv_ef / 100)
    full = volume_ml(heart.endo2, 0.0, heart.length_mm)
    moving = 2 * (full - volume_ml(heart.endo2 * (1 - heart.motion / 2), 0.0, heart.length_mm))
    contraction = (full - wanted_lv / stretch) / moving
    kept = np.clip(1 - contraction * heart.motion, 1 - _MOST_CONTRACTION, None)
    endo2 = heart.endo2 * kept
    epi2 = endo2 + (heart.epi2 - heart.endo2) / stretch
    width = heart.rv_width_mm
    if emptying > 0:
        width = solve_rv_width(heart, epi2, height, heart.rv_edv_ml * (1 - emptying * patient.rv_ef / 100))
    rv2 = rv_outer2(epi2, heart.phi, width * heart.rv_profile, heart.rv_half_angle)
    wall = heart.rv_wall_mm * (1 + 0.25 * emptying)
    return Frame(
        height_mm=height,
        stretch=stretch,
        endo2=endo2,
        epi2=epi2,
        scar2=endo2 + (heart.scar2 - heart.endo2) / stretch,
        trabecula2=heart.trabecula2 * kept,
        rv2=rv2,
        rv_wall2=np.square(np.sqrt(rv2) + wall),
    )


def function_values(ed: Frame, es: Frame) -> dict[str, float]:
    """Volumes (mL), ejection fractions (%) and masses (g) from the analytic surfaces at ED and ES."""
    return {
        "LV_EDV": ed.lv_ml,
        "LV_ESV": es.lv_ml,
        "LV_EF": 100 * (1 - es.lv_ml / ed.lv_ml),
        "RV_EDV": ed.rv_ml,
        "RV_ESV": es.rv_ml,
        "RV_EF": 100 * (1 - es.rv_ml / ed.rv_ml),
        "MYO_mass": ed.myocardium_ml * MYOCARDIAL_DENSITY_G_PER_ML,
        "scar_mass": ed.scar_ml * MYOCARDIAL_DENSITY_G_PER_ML,
    }


def _smoothstep(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A smooth rise from 0 to 1 over 0..1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
