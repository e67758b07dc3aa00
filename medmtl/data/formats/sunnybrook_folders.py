"""Where the Sunnybrook Cardiac Data keep images, contours and the list that says which belong together.

Three layouts are about: that of the Cardiac Atlas Project (``SCD0000301/CINESAX_5/*.dcm``, with
``SCD_ManualContours/SC-HF-I-04/contours-manual/IRCCI-expert/*.txt`` and ``scd_patientdata.csv``), that of the
2009 challenge (images under ``SC-HF-I-4`` too), and a later one (``dicoms/SCD0000301``,
``contourfiles/SC-HF-I-4/i-contours``, ``link.csv``). Only names, and lists of them, are looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medmtl.data.dicom.contours import is_contour_name
from medmtl.data.formats.tables import Table, read_table
from medmtl.types import DatasetError

GROUPS = ("HF-I", "HF-NI", "HYP", "N")
"""Heart failure with and without infarction, hypertrophy, normal: the study's four groups."""

_PATIENT = re.compile(r"SCD\d{7}")
_ORIGINAL = re.compile(r"SC-(HF-I|HF-NI|HYP|N)-0*(\d+)", re.IGNORECASE)
_NO_OWNER = re.compile(
    r"([io]|p\d*)-?contours?|contours?(-(manual|auto))?|ircci-expert|expert|manual|inner|outer|images.*",
    re.IGNORECASE,
)
_NO_IMAGE: tuple[str, ...] = (
    *(".txt", ".csv", ".tsv", ".xls", ".xlsx", ".json", ".xml", ".yaml", ".yml", ".mat"),
    *(".pgm", ".jpg", ".jpeg", ".png", ".gif", ".tif", ".tiff", ".avi"),
    *(".md", ".pdf", ".html", ".py", ".ipynb", ".zip"),
)
_MAX_NAMES = 200_000
_DEPTH = 7


@dataclass(frozen=True)
class Patient:
    """What the list says about a patient.

    Attributes:
        original: name in the contours, such as ``SC-HF-I-4``.
        age: years, or None.
        sex: ``F`` or ``M``, or blank.
    """

    original: str
    age: float | None = None
    sex: str = ""


@dataclass(frozen=True)
class Folders:
    """What is where.

    Attributes:
        images: folders with image files by name, such as ``SCD0000301``; in the order of the names.
        contours: contour files by their owner: ``SC-HF-I-4``, or the name of the folder they are in.
        listed: what a list says, by image name.
    """

    images: Mapping[str, tuple[Path, ...]]
    contours: Mapping[str, tuple[Path, ...]]
    listed: Mapping[str, Patient]


def original_name(text: str) -> str | None:
    """``SC-HF-I-04`` and ``SC-HF-I-4`` are one patient: the latter; None for what is no such name."""
    match = _ORIGINAL.fullmatch(text.strip())
    return f"SC-{match[1].upper()}-{int(match[2])}" if match is not None else None


def group_of(original: str) -> str | None:
    """The group that an original name speaks of."""
    match = _ORIGINAL.fullmatch(original)
    return match[1].upper() if match is not None else None


def first_contour(root: Path) -> Path | None:
    """The first contour file of a folder, looking through a bounded number of names."""
    return next((path for path in _files(root) if is_contour_name(path.name)), None)


def find_folders(roots: Sequence[Path]) -> Folders:
    """Sorts the files below some folders.

    Raises:
        DatasetError: a list that names patients cannot be read or contradicts itself.
    """
    images: dict[str, set[Path]] = {}
    contours: dict[str, set[Path]] = {}
    listed: dict[str, Patient] = {}
    for root in roots:
        for path in _files(root):
            if is_contour_name(path.name):
                contours.setdefault(_owner(path, root)[0], set()).add(path)
            elif path.suffix.lower() == ".csv":
                if _names_patients(path):
                    _add_listed(listed, read_table(path))
            elif not path.name.lower().endswith(_NO_IMAGE) and path.name.upper() != "DICOMDIR":
                name, folder = _owner(path, root)
                images.setdefault(name, set()).add(folder)
    return Folders(
        {name: _outermost(folders) for name, folders in sorted(images.items())},
        {name: tuple(sorted(files)) for name, files in sorted(contours.items())},
        listed,
    )


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder by name, a bounded number of them; links to folders are not followed."""
    seen = 0
    pending = [(root, 0)] if root.is_dir() else []
    while pending:
        folder, depth = pending.pop()
        below = []
        for path in sorted(folder.iterdir()):
            seen += 1
            if seen > _MAX_NAMES or path.name.startswith("."):
                continue
            if not path.is_dir():
                yield path
            elif depth < _DEPTH and not path.is_symlink():
                below.append((path, depth + 1))
        pending += reversed(below)


def _owner(path: Path, root: Path) -> tuple[str, Path]:
    """Whose file it is: the nearest folder named like a patient, else the nearest that is named at all."""
    folders = [folder for folder in path.parents if folder == root or folder.is_relative_to(root)]
    for folder in folders:
        if _PATIENT.fullmatch(folder.name):
            return folder.name, folder
        if (original := original_name(folder.name)) is not None:
            return original, folder
    named = [folder for folder in folders if not _NO_OWNER.fullmatch(folder.name)]
    folder = named[0] if named else root
    return folder.name, folder


def _outermost(folders: set[Path]) -> tuple[Path, ...]:
    return tuple(
        sorted(folder for folder in folders if not any(parent in folders for parent in folder.parents))
    )


def _names_patients(path: Path) -> bool:
    """Whether a table speaks of patients of this study, by its first 64 kB."""
    with path.open("rb") as file:
        text = file.read(65536).decode("latin-1")
    return _PATIENT.search(text) is not None and _ORIGINAL.search(text) is not None


def _add_listed(listed: dict[str, Patient], table: Table) -> None:
    """Adds the rows that name a patient both ways, whatever the columns are called."""
    for row in table.rows:
        names = [cell for cell in row.cells.values() if _PATIENT.fullmatch(cell)]
        originals = [original for cell in row.cells.values() if (original := original_name(cell)) is not None]
        if len(names) != 1 or len(originals) != 1:
            continue
        name, original = names[0], originals[0]
        known = listed.get(name, Patient(original))
        if known.original != original:
            text = f"{name} is {original} here and {known.original} elsewhere; correct the list"
            raise DatasetError(f"{table.path}, row {row.number}: {text}")
        by_header = {header.strip().lower(): cell for header, cell in row.cells.items()}
        sex = by_header.get("gender", by_header.get("sex", ""))[:1].upper()
        age = _age(by_header.get("age", ""))
        listed[name] = Patient(
            original, known.age if age is None else age, sex if sex in ("F", "M") else known.sex
        )


def _age(text: str) -> float | None:
    digits = text.strip().rstrip("Yy").lstrip("0")
    return float(digits) if digits.isdecimal() and 0 < int(digits) < 120 else None
