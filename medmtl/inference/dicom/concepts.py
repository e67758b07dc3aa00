"""Which coded concept stands for a structure, a value or a class, by the names that data sets give them.

Sources: DICOM PS3.16 CID 7150 and 7151 (segmentation categories and property types), CID 4 (anatomic
regions), CID 12233 (cardiac phase), CID 3468, 3469, 3833 and 3835 (ventricular volumes and ejection
fractions), CID 12200 (cardiac measurements); units are UCUM's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from medmtl.data.dicom.seg import Code

PRIVATE_SCHEME = "99MEDMTL"
"""Coding scheme of what has no code of its own; the value is medmtl's own name."""

ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
ALTERED = Code("49755003", "SCT", "Morphologically Abnormal Structure")
LEFT_VENTRICLE = Code("87878005", "SCT", "Left ventricle")
RIGHT_VENTRICLE = Code("53085002", "SCT", "Right ventricle")
LV_MYOCARDIUM = Code("49848007", "SCT", "Left Ventricle Myocardium")
NORMAL_MYOCARDIUM = Code("122112", "DCM", "Normal Myocardium")
HEART = Code("80891009", "SCT", "Heart")

ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
SUM_OF_VOXELS = Code("126030", "DCM", "Sum of segmented voxel method for volume")
FROM_MASKS = Code("from-masks", PRIVATE_SCHEME, "Computed from the segmented voxels")
FROM_HEAD = Code("from-head", PRIVATE_SCHEME, "Estimated from the images by a regression head")
CARDIAC_PHASE = Code("246092007", "SCT", "Cardiac cycle phase")
PHASES = {
    "ED": Code("416190007", "SCT", "End Diastole"),
    "ES": Code("416430001", "SCT", "End Systole"),
}
VOLUME = Code("118565006", "SCT", "Volume")

_STRUCTURES: tuple[tuple[str, Code, Code], ...] = (
    ("lv lvc lvcavity lvbloodpool leftventricle leftventricularcavity heartventricleleft cavity",
     ANATOMY, LEFT_VENTRICLE),
    ("rv rvc rvcavity rvbloodpool rightventricle rightventricularcavity heartventricleright",
     ANATOMY, RIGHT_VENTRICLE),
    ("myo lvm lvmyo myocardium lvmyocardium leftventricularmyocardium heartmyocardium",
     ANATOMY, LV_MYOCARDIUM),
    ("la leftatrium heartatriumleft", ANATOMY, Code("82471001", "SCT", "Left atrium")),
    ("ra rightatrium heartatriumright", ANATOMY, Code("73829009", "SCT", "Right atrium")),
    ("ao aorta", ANATOMY, Code("15825003", "SCT", "Aorta")),
    ("pa pulmonaryartery", ANATOMY, Code("81040000", "SCT", "Pulmonary artery")),
    ("pericardium", ANATOMY, Code("76848001", "SCT", "Pericardium")),
    ("heart", ANATOMY, HEART),
    ("normalmyocardium healthymyocardium", TISSUE, NORMAL_MYOCARDIUM),
    ("scar scartissue lge infarct infarction myocardialinfarction", ALTERED,
     Code("12402003", "SCT", "Scar tissue")),
    ("fibrosis", ALTERED, Code("112674009", "SCT", "Fibrosis")),
    ("edema oedema", ALTERED, Code("79654002", "SCT", "Edema")),
    ("necrosis necrotic", ALTERED, Code("6574001", "SCT", "Necrosis")),
    ("thrombus", ALTERED, Code("396339007", "SCT", "Thrombus")),
    ("tumor tumour cancer neoplasm gtv livertumor livertumour kidneytumor lungtumor", ALTERED,
     Code("108369006", "SCT", "Neoplasm")),
    ("lesion", ALTERED, Code("52988006", "SCT", "Lesion")),
    ("nodule", ALTERED, Code("27925004", "SCT", "Nodule")),
    ("liver", ANATOMY, Code("10200004", "SCT", "Liver")),
    ("spleen", ANATOMY, Code("78961009", "SCT", "Spleen")),
    ("pancreas", ANATOMY, Code("15776009", "SCT", "Pancreas")),
    ("kidney kidneys", ANATOMY, Code("64033007", "SCT", "Kidney")),
    ("lung lungs", ANATOMY, Code("39607008", "SCT", "Lung")),
    ("brain", ANATOMY, Code("12738006", "SCT", "Brain")),
    ("bladder urinarybladder", ANATOMY, Code("89837001", "SCT", "Bladder")),
    ("gallbladder", ANATOMY, Code("28231008", "SCT", "Gallbladder")),
    ("esophagus oesophagus", ANATOMY, Code("32849002", "SCT", "Esophagus")),
    ("stomach", ANATOMY, Code("69695003", "SCT", "Stomach")),
    ("prostate", ANATOMY, Code("41216001", "SCT", "Prostate")),
    ("adrenal adrenalgland adrenalglands", ANATOMY, Code("23451007", "SCT", "Adrenal gland")),
)  # fmt: skip
STRUCTURES: Mapping[str, tuple[Code, Code]] = {
    name: (category, code) for names, category, code in _STRUCTURES for name in names.split()
}
"""Category and property type of a structure, by its name in small letters without anything between them."""

UNITS: Mapping[str, Code] = {
    unit: Code(ucum, "UCUM", meaning)
    for unit, ucum, meaning in (
        ("mL", "mL", "milliliter"),
        ("ml", "mL", "milliliter"),
        ("%", "%", "percent"),
        ("g", "g", "gram"),
        ("L/min", "L/min", "liter per minute"),
        ("/min", "/min", "per minute"),
        ("bpm", "/min", "per minute"),
        ("1/min", "/min", "per minute"),
        ("ms", "ms", "millisecond"),
        ("s", "s", "second"),
        ("mm", "mm", "millimeter"),
        ("cm", "cm", "centimeter"),
        ("mm2", "mm2", "square millimeter"),
        ("cm2", "cm2", "square centimeter"),
        ("kg", "kg", "kilogram"),
        ("HU", "[hnsf'U]", "Hounsfield unit"),
        ("a", "a", "year"),
        ("years", "a", "year"),
        ("mL/m2", "mL/m2", "milliliter per square meter"),
        ("g/m2", "g/m2", "gram per square meter"),
        ("", "1", "no units"),
        ("1", "1", "no units"),
    )
}
"""UCUM units by the way they are written in data sets."""

_VALUES: Mapping[tuple[str, str], tuple[Code, str]] = {
    ("LV", "EDV"): (Code("8821-1", "LN", "Left Ventricular ED Volume"), "ED"),
    ("LV", "ESV"): (Code("8823-7", "LN", "Left Ventricular ES Volume"), "ES"),
    ("LV", "MASS"): (Code("18087-7", "LN", "Left Ventricle Mass"), "ED"),
    ("LV", "SV"): (Code("90096001", "SCT", "Stroke Volume"), ""),
    ("LV", "CO"): (Code("82799009", "SCT", "Cardiac Output"), ""),
    ("RV", "EDV"): (Code("8822-9", "LN", "Right Ventricular ED Volume"), "ED"),
    ("RV", "ESV"): (Code("8824-5", "LN", "Right Ventricular ES Volume"), "ES"),
    ("RV", "SV"): (Code("429483009", "SCT", "RV Stroke Volume"), ""),
}
_EJECTION_FRACTION: Mapping[tuple[str, str], Code] = {
    ("LV", "MR"): Code("8811-2", "LN", "Left ventricular ejection fraction by MR"),
    ("LV", "CT"): Code("8810-4", "LN", "Left ventricular ejection fraction by CT"),
    ("RV", "MR"): Code("8818-7", "LN", "Right ventricular ejection fraction by MR"),
    ("RV", "CT"): Code("8817-9", "LN", "Right ventricular ejection fraction by CT"),
}
_EJECTION_FRACTION_OF_ANY = Code("70822001", "SCT", "Cardiac ejection fraction")
_HEART_RATE = Code("8867-4", "LN", "Heart rate")


def plain(name: str) -> str:
    """A name in small letters, without what stands between them: ``Left ventricle`` is ``leftventricle``."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def structure_concept(name: str, inside: str = "") -> tuple[Code, Code]:
    """Category and property type of a structure; a generic pair where its name is not known.

    Args:
        name: as in the data set.
        inside: name of the structure that it is a part of, for tissue classes such as ``healthy``.
    """
    within = STRUCTURES.get(plain(inside))
    if plain(name) in ("healthy", "normal") and within is not None and within[1] == LV_MYOCARDIUM:
        return TISSUE, NORMAL_MYOCARDIUM
    return STRUCTURES.get(plain(name), (ANATOMY, TISSUE))


def value_concept(name: str, modality: str = "") -> tuple[Code, Code | None, str]:
    """Code, finding site and cardiac phase (``ED``, ``ES`` or blank) of a value such as ``LV_EF``.

    A value without a code of its own gets its name in `PRIVATE_SCHEME`.
    """
    structure, _, quantity = name.rpartition("_")
    known = STRUCTURES.get(plain(structure))
    site = known[1] if known is not None else None
    side = {LEFT_VENTRICLE: "LV", LV_MYOCARDIUM: "LV", RIGHT_VENTRICLE: "RV"}.get(site) if site else None
    quantity = quantity.upper()
    if side and quantity == "EF":
        return _EJECTION_FRACTION.get((side, modality), _EJECTION_FRACTION_OF_ANY), site, ""
    myocardial = site == LV_MYOCARDIUM
    if side and (side, quantity) in _VALUES and myocardial == (quantity == "MASS"):
        code, phase = _VALUES[side, quantity]
        return code, site, phase
    if plain(name) in ("heartrate", "hr"):
        return _HEART_RATE, HEART, ""
    phase = {"EDV": "ED", "ESV": "ES"}.get(quantity, "")
    if quantity in ("VOLUME", "EDV", "ESV"):
        return VOLUME, site, phase
    return own_code(name), site, ""


def own_code(name: str) -> Code:
    """A code of medmtl's own scheme."""
    value = text(name, 64) or "unnamed"
    return Code(value, PRIVATE_SCHEME, value.replace("_", " "))


def unit_code(unit: str) -> Code:
    """UCUM's code of a unit; one that is not known is UCUM's if it can be, and else a term of our own."""
    if unit in UNITS:
        return UNITS[unit]
    return Code(unit, "UCUM", unit) if re.fullmatch(r"[!-~]{1,64}", unit) else own_code(unit)


def text(value: str, length: int) -> str:
    """A text of at most so many characters, without what DICOM's short texts may not hold."""
    return re.sub(r"[\x00-\x1f\\]", " ", value).strip()[:length].strip()
