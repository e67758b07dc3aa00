"""Stored value -> real value: what a number in the pixels stands for, in which unit.

Where the answer may stand, in the order in which it is believed:

1. RescaleSlope and RescaleIntercept, of the frame (Pixel Value Transformation, PS3.3 C.7.6.16.2.9) or of the
   file (C.11.1). They may differ from slice to slice, and do in PET; every plane is scaled with its own.
2. The Modality LUT (PS3.3 C.11.1), a table where there is no slope.
3. A Real World Value Mapping (PS3.3 C.7.6.16.2.11) whose unit is known: the only place of the slope in some
   enhanced files, and in enhanced PET the only place of the unit, so that it comes first there. A mapping to
   a unit that is not known is left alone and said.
4. The stored value itself.

Philips' private MR scale ((2005,xx0E), which makes values comparable between scans) is mentioned and not
applied: it would change every value by a factor that other readers do not know. PixelPaddingValue is scaled
like any other value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.model import Plane
from medmtl.types import Finding, Severity

PET_UNITS = {
    "BQML": "Bq/mL",
    "CNTS": "counts",
    "CPS": "counts/s",
    "PROPCNTS": "proportional to counts",
    "PROPCPS": "proportional to counts/s",
    "NONE": "",
    "CM2": "cm2",
    "CM2ML": "SUVbsa",
    "PCNT": "%",
    "MGMINML": "mg/min/mL",
    "UMOLMINML": "umol/min/mL",
    "MLMING": "mL/min/g",
    "MLG": "mL/g",
    "1CM": "1/cm",
    "UMOLML": "umol/mL",
    "MLMINML": "mL/min/mL",
    "MLML": "mL/mL",
    "STDDEV": "standard deviations",
}
"""Units (0054,1001) of PET images (PS3.3 C.8.9.1.1.3), and their names here; for GML see `SUV_TYPES`."""

SUV_TYPES = {
    None: "SUVbw",
    "BW": "SUVbw",
    "LBM": "SUVlbm",
    "LBMJANMA": "SUVlbm (Janmahasatian)",
    "LBMJAMES128": "SUVlbm (James)",
    "BSA": "SUVbsa",
    "IBW": "SUVibw",
}
"""SUVType (0054,1006) of images in GML; body weight where it is absent, as PS3.3 C.8.9.1 has it."""

UCUM_UNITS = {
    "bq/ml": "Bq/mL",
    "{suvbw}g/ml": "SUVbw",
    "g/ml{suvbw}": "SUVbw",
    "{suvlbm}g/ml": "SUVlbm",
    "g/ml{suvlbm}": "SUVlbm",
    "{suvlbm(janma)}g/ml": "SUVlbm (Janmahasatian)",
    "g/ml{suvlbm(janma)}": "SUVlbm (Janmahasatian)",
    "{suvlbm(james128)}g/ml": "SUVlbm (James)",
    "g/ml{suvlbm(james128)}": "SUVlbm (James)",
    "{suvbsa}cm2/ml": "SUVbsa",
    "cm2/ml{suvbsa}": "SUVbsa",
    "{suvibw}g/ml": "SUVibw",
    "g/ml{suvibw}": "SUVibw",
    "[hnsf'u]": "HU",
    "ms": "ms",
    "s": "s",
    "hz": "Hz",
    "1/s": "1/s",
    "/s": "1/s",
    "s-1": "1/s",
    "1/ms": "1/ms",
    "mm2/s": "mm2/s",
    "um2/s": "um2/s",
    "10-6.mm2/s": "um2/s",
    "mm/s": "mm/s",
    "cm/s": "cm/s",
    "rad": "rad",
    "deg": "degrees",
    "mm": "mm",
    "%": "%",
    "ml/min/g": "mL/min/g",
    "ml/(100.g)/min": "mL/100g/min",
    "ml/100ml/min": "mL/100mL/min",
}
"""UCUM codes of real world values, in small letters, and what medmtl calls them (PS3.16 CID 82 to 85)."""


class Table(NamedTuple):
    """A Modality LUT.

    Attributes:
        first: stored value that the first entry is for.
        values: ``(n,)`` one per stored value from there on.
    """

    first: int
    values: NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Scaling:
    """What turns the stored values of P planes into real ones: ``stored * slope + intercept``, or a table.

    Attributes:
        slope: ``(P,)`` float64.
        intercept: ``(P,)`` float64.
        unit: ``HU``, ``Bq/mL``, ``SUVbw``, ...; blank where it is arbitrary or not known.
        tables: by plane, its Modality LUT; empty where there is none.
        findings: what is not plain about it.
    """

    slope: NDArray[np.float64]
    intercept: NDArray[np.float64]
    unit: str
    tables: tuple[Table, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def changes_nothing(self) -> bool:
        """Whether stored values are the real ones but for one whole number that is added to all."""
        return (
            not self.tables
            and bool((self.slope == 1.0).all())
            and bool((self.intercept == self.intercept[0]).all())
            and float(self.intercept[0]).is_integer()
        )

    def times(self, factors: NDArray[np.float64], unit: str, findings: Sequence[Finding]) -> Scaling:
        """The same, then multiplied by a factor per plane ``(P,)``."""
        return Scaling(
            self.slope * factors,
            self.intercept * factors,
            unit,
            self.tables,
            (*self.findings, *findings),
        )


def scaling_of(planes: Sequence[Plane], modality: str) -> Scaling:
    """How to scale the planes of one volume.

    Args:
        planes: P of them, in any order.
        modality: ``CT``, ``MR``, ``PT``, ...

    Returns:
        Slopes and intercepts in the planes' order, the unit, and findings: ``RESCALE_PER_SLICE`` (info) and
        ``VALUE_SCALE`` (stored values whose meaning is not plain).
    """
    first = planes[0]
    said = _said(planes, modality)
    notes = list(said.notes)
    if modality == "CT" and not said.unit:
        notes.append(("warning", "CT values are not known to be in Hounsfield units: no rescale says so"))
    if modality == "MR" and (private := first.get("Philips.ScaleSlope")):
        message = (
            f"carries Philips' private scale slope ({private:.6g}), which is not applied; to compare values "
        )
        notes.append(("info", f"{message}between scans, divide them by RescaleSlope times that slope"))
    where = first.instance.source.label
    findings = [Finding("VALUE_SCALE", severity, message, where) for severity, message in notes]
    slope, intercept = np.array(said.pairs, dtype=np.float64).T
    if (slope != slope[0]).any() or (intercept != intercept[0]).any():
        message = (
            f"slices have slopes of their own, {slope.min():.6g} to {slope.max():.6g}, and are scaled by them"
        )
        findings.append(Finding("RESCALE_PER_SLICE", "info", message, where))
    return Scaling(slope, intercept, said.unit, said.tables, tuple(findings))


class _Said(NamedTuple):
    """What the files say of the scale."""

    pairs: Sequence[tuple[float, float]]
    unit: str = ""
    tables: tuple[Table, ...] = ()
    notes: tuple[tuple[Severity, str], ...] = ()


def _said(planes: Sequence[Plane], modality: str) -> _Said:
    """The first of the sources of the module's docstring that all planes have."""
    as_stored = [(1.0, 0.0)] * len(planes)
    stated = [(plane.get("RescaleSlope"), plane.get("RescaleIntercept")) for plane in planes]
    no_rescale = all(pair == (None, None) for pair in stated)
    if no_rescale and (tables := _tables(planes)):
        return _Said(as_stored, _unit_of_table(planes[0]), tables)
    if no_rescale or (modality == "PT" and planes[0].get("Units") is None):
        mappings = [mapping for plane in planes if (mapping := _mapping(plane)) is not None]
        if len(mappings) == len(planes) and len({mapping.unit for mapping in mappings}) == 1:
            return _Said([mapping.pair for mapping in mappings], mappings[0].unit)
    if no_rescale:
        if any(plane.get("RealWorldValueMappingSequence") for plane in planes):
            note = "maps values to no unit that medmtl knows, or not in all slices; they are kept as stored"
            return _Said(as_stored, notes=(("info", note),))
        note = (
            "RescaleSlope is missing, so that values are kept as stored, in no unit; export the series again"
        )
        return _Said(as_stored, notes=(("warning", note),) if modality == "PT" else ())
    pairs = [pair for slope, intercept in stated if (pair := _pair(slope, intercept, modality)) is not None]
    if len(pairs) == len(planes):
        return _Said(pairs, _unit(planes[0], modality))
    note = (
        f"RescaleSlope or RescaleIntercept is missing or 0 in {len(planes) - len(pairs)} of {len(planes)} "
        "slices, so that all are kept as stored, and may not be comparable; export the series again"
    )
    return _Said(as_stored, notes=(("warning", note),))


def apply_table(stored: NDArray[Any], table: Table) -> NDArray[np.uint16]:
    """Values of a Modality LUT; stored values outside of it take its first or last one (PS3.3 C.11.1.1)."""
    index = np.clip(stored.astype(np.int64) - table.first, 0, len(table.values) - 1)
    return table.values[index]


def _pair(slope: float | None, intercept: float | None, modality: str = "") -> tuple[float, float] | None:
    """Slope and intercept that can be used; half a pair or a slope of 0 cannot."""
    if intercept is None and modality == "PT":  # always 0 there (PS3.3 C.8.9.4.1.2)
        intercept = 0.0
    if slope is None or intercept is None or slope == 0 or not math.isfinite(slope * intercept):
        return None
    return float(slope), float(intercept)


def _unit(plane: Plane, modality: str) -> str:
    """Unit of rescaled values; blank where it is arbitrary or nobody says."""
    rescale_type = plane.get("RescaleType")
    if modality == "CT":
        return {"": "HU", "US": ""}.get(rescale_type or "", rescale_type or "")
    if modality == "PT":
        units = plane.get("Units")
        if units == "GML":
            return SUV_TYPES.get(plane.get("SUVType"), "SUV of an unknown type")
        return PET_UNITS.get(units, units or "")
    pair, mapping = _pair(plane.get("RescaleSlope"), plane.get("RescaleIntercept")), _mapping(plane)
    if mapping is not None and mapping.pair == pair:
        return mapping.unit
    return UCUM_UNITS.get((rescale_type or "").lower(), "")


class _Mapping(NamedTuple):
    """A real world value mapping: slope and intercept, and the unit that they lead to."""

    pair: tuple[float, float]
    unit: str


def _mapping(plane: Plane) -> _Mapping | None:
    """The first real world value mapping whose unit is known."""
    for mapping in plane.get("RealWorldValueMappingSequence") or ():
        pair = _pair(mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept"))
        codes: tuple[Any, ...] = mapping.get("MeasurementUnitsCodeSequence") or ()
        if pair is None or len(codes) != 1 or codes[0].get("CodingSchemeDesignator") != "UCUM":
            continue
        if unit := UCUM_UNITS.get((codes[0].get("CodeValue") or "").lower()):
            return _Mapping(pair, unit)
    return None


def _tables(planes: Sequence[Plane]) -> tuple[Table, ...]:
    """The Modality LUT of every plane; none unless every plane has one."""
    made: dict[Any, Table | None] = {}
    tables = []
    for plane in planes:
        sequence = plane.get("ModalityLUTSequence")
        if not sequence:
            return ()
        key = (sequence[0].get("LUTDescriptor"), sequence[0].get("LUTData"))
        if key not in made:
            made[key] = _table(*key)
        if (table := made[key]) is None:
            return ()
        tables.append(table)
    return tuple(tables)


def _table(descriptor: tuple[int, int, int] | None, data: bytes | None) -> Table | None:
    """A Modality LUT: number of entries (0 is 65536), first stored value, bits (PS3.3 C.11.1.1.1)."""
    if descriptor is None or data is None:
        return None
    count, first, _ = descriptor
    count = (count & 0xFFFF) or 1 << 16
    values = np.frombuffer(data, "<u2" if len(data) >= 2 * count else np.uint8)
    return Table(first, values[:count].astype(np.uint16)) if len(values) >= count else None


def _unit_of_table(plane: Plane) -> str:
    kind = plane.get("ModalityLUTSequence")[0].get("ModalityLUTType")
    return "HU" if kind == "HU" else ""
