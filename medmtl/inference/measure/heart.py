"""What follows from a heart's volumes at ED and ES: stroke volume, ejection fraction, output, mass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from medmtl.data.columns import Column, Derived, Quantity
from medmtl.tasks.regression import value_name
from medmtl.types import MYOCARDIAL_DENSITY_G_PER_ML

VENTRICLES = frozenset({"lv", "rv", "lv_cavity", "rv_cavity", "left_ventricle", "right_ventricle"})
WALLS = frozenset({"myo", "myocardium", "lv_myocardium", "lvm", "lv_myo"})
_SUFFIX: Mapping[tuple[Quantity, str | None], str] = {
    ("volume", "ED"): "EDV",
    ("volume", "ES"): "ESV",
    ("stroke_volume", None): "SV",
    ("ejection_fraction", None): "EF",
    ("mass", "ED"): "mass",
    ("volume", None): "volume",
}
OUTPUT_UNIT = "L/min"


def heart_values(
    curves: Mapping[str, NDArray[np.float64]],
    columns: Iterable[Column],
    cycle: str | None,
    phases: tuple[int | None, int | None],
    heart_rate: float | None,
) -> dict[str, float]:
    """Values of a segmentation that the model's columns do not name already: ``{"LV_SV [mL]": 83.0}``.

    Ventricles: EDV, ESV, stroke volume EDV - ESV, ejection fraction 100 (EDV - ESV) / EDV, and, with a heart
    rate, cardiac output SV x rate. Walls: mass at ED, volume x 1.05 g/mL. Without frames of ED and ES: the
    volume of every structure, where there is one frame.

    Args:
        curves: volume in mL of each structure over time.
        columns: derived value columns of this mask, which are reported under their own names.
        cycle: the structure that finds ED and ES.
        phases: 0-based ED and ES frames.
        heart_rate: per minute.
    """
    known = {(c.derived.quantity, c.derived.structure, c.derived.frame) for c in columns if c.derived}
    ed, es = phases
    values: dict[str, float] = {}

    def put(structure: str, quantity: Quantity, frame: str | None, value: float, unit: str) -> None:
        if (quantity, structure, frame) not in known:
            values[value_name(f"{structure}_{_SUFFIX[quantity, frame]}", unit)] = value

    for name, curve in curves.items():
        if ed is None or cycle is None:
            if len(curve) == 1 and not any(of == name for _, of, _ in known):
                put(name, "volume", None, float(curve[0]), "mL")
        elif name.lower() in WALLS:
            put(name, "mass", "ED", float(curve[ed]) * MYOCARDIAL_DENSITY_G_PER_ML, "g")
        elif name == cycle or name.lower() in VENTRICLES:
            edv = float(curve[ed])
            put(name, "volume", "ED", edv, "mL")
            if es is None or es == ed:
                continue
            stroke = edv - float(curve[es])
            put(name, "volume", "ES", float(curve[es]), "mL")
            put(name, "stroke_volume", None, stroke, "mL")
            if edv > 0:
                put(name, "ejection_fraction", None, 100.0 * stroke / edv, "%")
            if heart_rate is not None and name == cycle:
                values[value_name(f"{name}_CO", OUTPUT_UNIT)] = stroke * heart_rate / 1000.0
    return values


def head_values(
    said: Mapping[str, float | str],
    columns: Mapping[str, Column],
    cycle: str | None,
    heart_rate: float | None,
) -> dict[str, float]:
    """What follows from a regression head's values: stroke volume, ejection fraction and cardiac output.

    Args:
        said: the head's values by header, such as ``{"LV_EDV [mL]": 140.0}``.
        columns: the value columns that it predicts.
        cycle: the structure whose output is the heart's.
        heart_rate: per minute.
    """
    found: dict[Derived, float] = {}
    for column in columns.values():
        value = said.get(value_name(column.name, column.unit))
        if column.derived is not None and isinstance(value, float):
            found[column.derived] = value
    values: dict[str, float] = {}
    for mask, structure in sorted({(d.mask, d.structure) for d in found}):
        edv = found.get(Derived("volume", mask, structure, "ED"))
        esv = found.get(Derived("volume", mask, structure, "ES"))
        fraction = found.get(Derived("ejection_fraction", mask, structure))
        stroke = found.get(Derived("stroke_volume", mask, structure))
        if stroke is None and edv is not None and (esv is not None or fraction is not None):
            stroke = edv - esv if esv is not None else edv * float(fraction or 0.0) / 100.0
            values[value_name(f"{structure}_SV", "mL")] = stroke
        if fraction is None and stroke is not None and edv is not None and edv > 0:
            values[value_name(f"{structure}_EF", "%")] = 100.0 * stroke / edv
        if stroke is not None and heart_rate is not None and structure == cycle:
            values[value_name(f"{structure}_CO", OUTPUT_UNIT)] = stroke * heart_rate / 1000.0
    return values
