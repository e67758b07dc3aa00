"""Height and weight of a patient as headers have them, for models that were trained with such covariates."""

from __future__ import annotations

from medmtl.data.dicom.model import VolumePlan
from medmtl.inference.model import Model

_TAKEN = {"height": ("PatientSize", {"m": 1.0, "cm": 100.0}), "weight": ("PatientWeight", {"kg": 1.0})}
"""Covariate: the element that has it (in m, in kg), and what a unit makes of that."""
_PLAUSIBLE = {"PatientSize": (0.2, 2.6), "PatientWeight": (0.4, 400.0)}


def body_of(plan: VolumePlan, model: Model) -> dict[str, float | str | None]:
    """Covariates that the header of a volume's first file says; what is not plausible is left blank.

    Args:
        plan: a volume of DICOM files.
        model: its covariates named ``height`` (cm or m) and ``weight`` (kg) are looked for.

    Source:
        DICOM PS3.3 C.7.2.2 (Patient Study): PatientSize in m, PatientWeight in kg.
    """
    header = plan.planes[0][0].instance.header
    found: dict[str, float | str | None] = {}
    for name in model.covariates:
        element, units = _TAKEN.get(name.lower(), ("", {}))
        factor = units.get(model.columns[name].unit) if name in model.columns else None
        value = header.get(element) if factor is not None else None
        if value is not None and factor is not None:
            low, high = _PLAUSIBLE[element]
            if low <= float(value) <= high:
                found[name] = float(value) * factor
    return found
