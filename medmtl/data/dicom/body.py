"""Size of a patient's body, from weight, height and sex: what an SUV is normalized by."""

from __future__ import annotations

from medmtl.data.dicom.tags import Tags

WEIGHT_KG = (0.3, 500.0)
HEIGHT_M = (0.2, 2.6)
"""Beyond these a number is in another unit (pounds cannot be told from kilograms, grams can)."""


class BodyError(Exception):
    """A measure of the patient is missing or cannot be true; the message names its tag."""


def lean_mass_janmahasatian(weight_kg: float, height_m: float, sex: str) -> float:
    """Lean body mass in kg by Janmahasatian et al., Clin Pharmacokinet 2005;44:1051, as QIBA recommends.

    Args:
        weight_kg: body weight.
        height_m: body height.
        sex: ``M`` or ``F``.
    """
    bmi = weight_kg / height_m**2
    a, b = (6680.0, 216.0) if sex == "M" else (8780.0, 244.0)
    return 9270.0 * weight_kg / (a + b * bmi)


def lean_mass_james(weight_kg: float, height_m: float, sex: str) -> float:
    """Lean body mass in kg (James, Research on Obesity, HMSO 1976; DICOM's LBMJAMES128), arguments as above.

    It falls again, and below zero, for heavy patients.
    """
    ratio = (weight_kg / (100.0 * height_m)) ** 2
    return 1.10 * weight_kg - 128.0 * ratio if sex == "M" else 1.07 * weight_kg - 148.0 * ratio


def surface_du_bois(weight_kg: float, height_m: float) -> float:
    """Body surface in m2 (Du Bois and Du Bois, Arch Intern Med 1916;17:863)."""
    return 0.007184 * weight_kg**0.425 * (100.0 * height_m) ** 0.725


def size_of(kind: str, tags: Tags) -> float:
    """What an SUV of a kind is normalized by: g, or cm2 for ``bsa``.

    Args:
        kind: ``bw``, ``lbm``, ``lbm-james`` or ``bsa``.
        tags: with PatientWeight, and PatientSize and PatientSex where the kind needs them.

    Raises:
        BodyError: one of them is missing or cannot be true.
    """
    weight = _within(tags, "PatientWeight", WEIGHT_KG, "kg")
    if kind == "bw":
        return 1000.0 * weight
    height = _within(tags, "PatientSize", HEIGHT_M, "m")
    if kind == "bsa":
        return 10000.0 * surface_du_bois(weight, height)
    sex = tags.get("PatientSex")
    if sex not in ("M", "F"):
        raise BodyError(f"PatientSex is {sex or 'missing'}, and lean mass has a formula for M and one for F")
    lean = (lean_mass_janmahasatian if kind == "lbm" else lean_mass_james)(weight, height, sex)
    if lean <= 0.2 * weight:
        raise BodyError(
            f"PatientWeight {weight:g} kg with PatientSize {height:g} m gives a lean mass of {lean:.3g} kg"
        )
    return 1000.0 * lean


def _within(tags: Tags, keyword: str, limits: tuple[float, float], unit: str) -> float:
    value = tags.get(keyword)
    if value is None or value == 0:
        raise BodyError(f"{keyword} is missing")
    if not limits[0] <= value <= limits[1]:
        raise BodyError(f"{keyword} is {value:g}, which cannot be in {unit}")
    return float(value)
