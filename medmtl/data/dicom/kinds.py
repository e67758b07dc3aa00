"""What a file is, told from its header: an image that may be part of a volume, or something else and what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from medmtl.data.dicom.model import Instance, Plane
from medmtl.data.dicom.table import columns_of

STORAGE = "1.2.840.10008.5.1.4.1.1."

SEGMENTATIONS = (f"{STORAGE}66.4", f"{STORAGE}66.7")
STRUCTURES = f"{STORAGE}481.3"

_OTHER_OBJECTS = {
    f"{STORAGE}4.2": "spectroscopy",
    f"{STORAGE}9.": "a signal",
    f"{STORAGE}11.": "a presentation state",
    f"{STORAGE}66": "raw or registration data",
    f"{STORAGE}88.": "a report or document",
    f"{STORAGE}104.": "a document",
    f"{STORAGE}481.": "radiotherapy data",
}
"""Objects that are no images, by the start of their SOP class."""

_OTHER_MODALITIES = {
    "SR": "a report",
    "KO": "a list of key images",
    "PR": "a presentation state",
    "DOC": "a document",
    "REG": "a registration",
    "PLAN": "a plan",
    "RTPLAN": "a radiotherapy plan",
    "RTDOSE": "a radiotherapy dose",
    "RTRECORD": "a radiotherapy record",
    "ECG": "a signal",
}

_SCREENS = ("SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "DOSE_INFO", "DOSE INFO", "CT_SOM5 PROT", "REPORT")
"""ImageType values of pictures of a screen or of a protocol page."""


_PROJECTIONS = ("MIP", "MAXIP", "MAX_IP", "MINIP", "MIN_IP", "PROJECTION IMAGE")

_SCOUTS = re.compile(r"\b(locali[sz]ers?|scouts?|survey|topogram|surview|pilot|(3|three)[ -]?plane)\b")


class Kind(NamedTuple):
    """Why a file is no part of a volume.

    Attributes:
        code: finding code.
        message: what it is.
    """

    code: str
    message: str


def is_image_class(uid: str) -> bool:
    """Whether a SOP class is one of images: of its objects, one without pixels has lost them."""
    others = (*SEGMENTATIONS, STRUCTURES, *_OTHER_OBJECTS)
    return uid.startswith(STORAGE) and not uid.startswith(others)


def other_kinds(instances: Sequence[Instance]) -> list[Kind | None]:
    """What each file is that is no part of any volume by its nature; None for an image."""
    columns = columns_of([instance.header for instance in instances])
    with_pixels = [instance.pixels is not None for instance in instances]
    placed = [position is not None for position in columns.column("ImagePositionPatient")]
    known: dict[tuple[Any, ...], Kind | None] = {}
    kinds = []
    for number, asked in enumerate(zip(with_pixels, placed, *map(columns.column, _ASKED), strict=True)):
        if asked not in known:
            known[asked] = _other_kind(instances[number])
        kinds.append(known[asked])
    return kinds


_ASKED = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
)
"""What tells kinds apart, with whether there are pixels and a position."""


def _other_kind(instance: Instance) -> Kind | None:
    get = instance.header.get
    uid, modality = get("SOPClassUID") or "", get("Modality") or ""
    if uid in SEGMENTATIONS or modality == "SEG":
        return Kind("NOT_AN_IMAGE", "a segmentation: read as labels of the image that it belongs to")
    if uid == STRUCTURES or modality == "RTSTRUCT":
        return Kind("NOT_AN_IMAGE", "contours (RTSTRUCT): read as labels of the image that they belong to")
    what = next((name for start, name in _OTHER_OBJECTS.items() if uid.startswith(start)), None)
    what = what or _OTHER_MODALITIES.get(modality)
    empty = instance.pixels is None and get("Rows") is None and not is_image_class(uid)
    if what is not None or empty:
        return Kind("NOT_AN_IMAGE", f"{what or 'an object without pixels'}: no image")
    image_type = get("ImageType") or ()
    if "LOCALIZER" in image_type or "SCOUT" in image_type:
        return Kind("LOCALIZER", "a localizer (scout): no volume")
    samples, photometric = get("SamplesPerPixel") or 1, get("PhotometricInterpretation") or "MONOCHROME2"
    if samples > 1 or not photometric.startswith("MONOCHROME"):
        return Kind("NOT_AN_IMAGE", f"a colour picture ({photometric}): its values are no measurements")
    screen = any(word in _SCREENS for word in image_type)
    captured = uid.startswith(f"{STORAGE}7") and (get("NumberOfFrames") or 1) == 1
    if screen or (captured and get("ImagePositionPatient") is None):
        return Kind("NOT_AN_IMAGE", "a screenshot or secondary capture: no measured image")
    return None


def nature_of(plane: Plane) -> dict[str, str]:
    """What sort of image a plane is, where it is not plainly one as acquired: for a volume's attributes."""
    image_type = (*(plane.get("FrameType") or ()), *(plane.instance.header.get("ImageType") or ()))
    nature = {}
    if "DERIVED" in image_type:
        nature["Derived"] = "\\".join(dict.fromkeys(image_type))
    if any(word in _PROJECTIONS for word in (*image_type, plane.get("VolumeBasedCalculationTechnique"))):
        nature["Projection"] = "yes"
    if plane.tile is not None:
        nature["Mosaic"] = "yes"
    return nature


def described_as_localizer(description: str | None) -> bool:
    """Whether a series' description says that it only serves to plan others."""
    return bool(_SCOUTS.search((description or "").lower().replace("_", " ")))
