"""PET: Bq/mL to standardized uptake values (SUV), or the sentence that says why not.

    SUV = activity concentration [Bq/mL] / (injected dose, decayed to the same moment [Bq] / body size [g or
    cm2])

Body size is the weight in g (bw), the lean mass in g (lbm) or the surface in cm2 (bsa). Nothing is assumed: a
tag that is missing, contradicts another or cannot be true is a ``SUV_MISSING_TAG`` finding that names it, and
the values stay in the unit that they have.

Source: QIBA Profile FDG-PET/CT 1.13, appendix G (vendor-neutral pseudo-code for SUV); IBSI-SUV for what it
leaves open (reference time of post-processed series, DecayCorrection NONE); DICOM PS3.3 C.8.9 (PET), C.8.22
(enhanced PET).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.body import BodyError, size_of
from medmtl.data.dicom.decay import DecayError, decayed_dose
from medmtl.data.dicom.tags import Tags
from medmtl.types import Finding

SuvKind = Literal["bw", "lbm", "lbm-james", "bsa"]

UNITS: dict[SuvKind, str] = {
    "bw": "SUVbw",
    "lbm": "SUVlbm (Janmahasatian)",
    "lbm-james": "SUVlbm (James)",
    "bsa": "SUVbsa",
}
"""Names of the kinds as units: g/mL, and cm2/mL for bsa."""

_KINDS = {unit: kind for kind, unit in UNITS.items()}


@dataclass(frozen=True, eq=False)
class SuvFactors:
    """What to multiply real values with.

    Attributes:
        factors: ``(P,)`` one per plane; all 1 where no SUV can be had, or is one already.
        unit: of the values after that.
        findings: ``SUV_MISSING_TAG`` (warning) or ``SUV_ALREADY`` (info), if any.
    """

    factors: NDArray[np.float64]
    unit: str
    findings: tuple[Finding, ...] = ()


def suv_factors(planes: Sequence[Tags], unit: str, kind: SuvKind, *, where: str = "") -> SuvFactors:
    """Factors that turn the real values of one PET series into SUV.

    Args:
        planes: P planes, or their headers.
        unit: of the real values, as `scaling_of` found it: ``Bq/mL``, ``counts``, ``SUVbw``, ...
        kind: which SUV; ``lbm`` is by Janmahasatian 2005, ``lbm-james`` by James 1976.
        where: what findings are about.
    """
    factors = np.ones(len(planes))
    wanted = UNITS[kind]
    notes = []
    if unit.startswith("SUV"):
        notes.append(Finding("SUV_ALREADY", "info", f"its values are {unit} already", where))
        if unit == wanted:
            return SuvFactors(factors, unit, tuple(notes))
    try:
        if unit == "counts":
            factors, unit = _philips(planes)
        if unit.startswith("SUV"):
            factors = factors * _between(unit, kind, planes[0])
        elif unit == "Bq/mL":
            _check_attenuation(planes)
            factors = factors * size_of(kind, planes[0]) / decayed_dose(planes)
        else:
            raise MissingTagError(f"no SUV follows from values in {unit or 'no known unit'} (Units)")
    except (MissingTagError, BodyError, DecayError) as error:
        kept = f"values stay in {unit}" if unit else "values stay as they are"
        notes.append(Finding("SUV_MISSING_TAG", "warning", f"{error}; {kept}", where))
        return SuvFactors(factors, unit, tuple(notes))
    return SuvFactors(factors, wanted, tuple(notes))


class MissingTagError(Exception):
    """A tag without which there is no SUV; the message names it."""


def _between(unit: str, kind: SuvKind, tags: Tags) -> float:
    """Factor from one kind of SUV to another: the dose drops out, the body sizes remain."""
    if UNITS[kind] == unit:
        return 1.0
    if unit not in _KINDS:
        raise MissingTagError(f"its values are {unit}, by a formula that SUVType does not name")
    return size_of(kind, tags) / size_of(_KINDS[unit], tags)


def _philips(planes: Sequence[Tags]) -> tuple[NDArray[np.float64], str]:
    """Factors from counts to SUVbw, or else to Bq/mL: Philips' private (7053,xx00) and (7053,xx09)."""
    for keyword, unit in (
        ("Philips.SUVScaleFactor", "SUVbw"),
        ("Philips.ActivityConcentrationScaleFactor", "Bq/mL"),
    ):
        factors = [plane.get(keyword) or 0.0 for plane in planes]
        if min(factors) > 0:
            return np.array(factors), unit
    raise MissingTagError(
        "its values are counts (Units), without Philips' factor to SUV (7053,xx00) or to Bq/mL (7053,xx09)"
    )


def _check_attenuation(planes: Sequence[Tags]) -> None:
    """Without attenuation correction values depend on how deep they lie, and no dose relates to them."""
    for plane in planes:
        corrected = plane.get("CorrectedImage")
        if corrected is None and plane.get("AttenuationCorrected") is None:
            raise MissingTagError("CorrectedImage is missing, so that attenuation may not be corrected")
        if plane.get("AttenuationCorrected") != "YES" and "ATTN" not in (corrected or ()):
            raise MissingTagError("CorrectedImage does not list ATTN: attenuation is not corrected")
