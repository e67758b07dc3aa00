"""M&Ms: short-axis cine of several centres and vendors, ED and ES labelled, covariates in one table.

Campello et al. 2021, doi 10.1109/TMI.2021.3090082. A mask numbers LV 1, MYO 2, RV 3, the reverse of ACDC's;
here it gets the codes that all cine data sets of medmtl share. Frames of the table count from 0. A case of
``Unlabeled`` comes with an empty mask, and in every other case the frames besides ED and ES are empty: both
mean "not labelled", not "background".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from medmtl.data.cells import parse_class, parse_frame, parse_number
from medmtl.data.columns import Column, Cycle, Schema
from medmtl.data.formats.base import FORMATS, DatasetFormat, LoadedCase, RawCase
from medmtl.data.formats.cardiac import LABELS, cardiac_columns
from medmtl.data.formats.labels import LabelMap
from medmtl.data.formats.tables import TableRow, header_of, is_blank, read_table
from medmtl.data.formats.volumes import files_below, read_any, same_grid
from medmtl.data.nifti import Volume, frames_first
from medmtl.types import UNLABELLED, CaseError, DatasetError, Finding

CITATION = (
    "V. M. Campello, P. Gkontra, C. Izquierdo, et al. Multi-Centre, Multi-Vendor and Multi-Disease Cardiac "
    "Segmentation: The M&Ms Challenge. IEEE Transactions on Medical Imaging 40(12):3543-3554, 2021. "
    "doi 10.1109/TMI.2021.3090082"
)
MASK = LabelMap(MappingProxyType({1: "LV", 2: "MYO", 3: "RV"}), LABELS)
DISEASES = ("NOR", "DCM", "HCM", "ARV", "HHD", "AHS", "IHD", "LVNC", "Other")
VENDORS = ("Siemens", "Philips", "GE", "Canon")
CENTRES = ("1", "2", "3", "4", "5", "6")

_FILE = re.compile(r"(?P<case>.+)_sa(?:_(?P<phase>ED|ES))?(?:_(?P<what>gt|pred))?\.nii(?:\.gz)?")
_CODE = re.compile(r"(?<![A-Z0-9])[A-Z]\d[A-Z]\d[A-Z]\d(?![A-Z0-9])")
_DEPTH = 3  # OpenDataset/Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz, seen from OpenDataset
_PARTS = ("training", "validation", "testing", "labeled", "unlabeled", "training-corrected")
_NEEDED = ("External code", "ED", "ES")


@FORMATS.register("mnms")
class MnMs(DatasetFormat):
    """The M&Ms challenge: whole cines or loose ED and ES frames, and the table of patients if there is one.

    Cases of ``Testing`` and ``Validation`` keep their splits. Predictions of other models (``_pred``) that
    lie beside the masks are not read.
    """

    looks_for: ClassVar[str] = "files CODE_sa.nii.gz or CODE_sa_ED.nii.gz and CODE_sa_ES.nii.gz"
    stratify_by: ClassVar[str | None] = "disease"

    def recognizes(self, path: Path) -> str | None:
        """The first short-axis file."""
        first = next((file for file in files_below(path, _DEPTH) if _FILE.fullmatch(file.name)), None)
        return f"the short-axis file {first.relative_to(path).as_posix()}" if first is not None else None

    def schema(self, path: Path) -> Schema:
        """Anatomy, disease, vendor, centre, other covariates, and the values that follow from masks."""
        cardiac = cardiac_columns()
        columns = {
            "anatomy": cardiac.pop("anatomy"),
            "disease": replace(cardiac.pop("disease"), classes=DISEASES),
            "vendor": Column("vendor", "category", classes=VENDORS),
            "centre": Column("centre", "category", classes=CENTRES),
            "sex": Column("sex", "category", classes=("F", "M")),
            "age": Column("age", "value", unit="years"),
            **cardiac,
        }
        return Schema("mnms", "MR", ("cine",), columns, Cycle("anatomy", "LV"), CITATION)

    def read(self, path: Path) -> Iterable[RawCase]:
        """One case per name before ``_sa``, by name."""
        rows = _table(path)
        found = _group(path)
        validates = any(files.split == "val" for files in found.values())
        for (where, case_id), files in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
            # where nobody said who validates, ingest chooses among the training cases
            split = "" if files.split == "train" and not validates else files.split
            load = partial(_load, files, split, _code(case_id, rows), rows)
            yield RawCase(case_id, f"{where}/{case_id}" if where else case_id, load)


@dataclass(frozen=True)
class _Files:
    """The files of one case, by phase; the whole cine has the phase ""."""

    split: str
    unlabelled: bool
    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)


def _group(path: Path) -> dict[tuple[str, str], _Files]:
    """The files of each case, by the folder that they are in (relative to the source) and the case's name."""
    found: dict[tuple[str, str], _Files] = {}
    for file in files_below(path, _DEPTH):
        match = _FILE.fullmatch(file.name)
        if match is None or match["what"] == "pred":
            continue
        folder = file.parent.relative_to(path)
        parents = folder.parent if folder.name == match["case"] else folder
        where = "" if parents == Path() else parents.as_posix()
        parts = {part.lower() for part in (path.name, *parents.parts)}
        split = next((name for part, name in _SPLIT_OF.items() if part in parts), "")
        files = found.setdefault((where, match["case"]), _Files(split, "unlabeled" in parts))
        (files.masks if match["what"] == "gt" else files.images)[match["phase"] or ""] = file
    return found


_SPLIT_OF = {"testing": "test", "validation": "val", "training": "train"}


def _table(path: Path) -> dict[str, TableRow]:
    """The rows of the patients' table by code; none where there is no table.

    Raises:
        DatasetError: the table is a spreadsheet, stands there twice, or cannot be read.
    """
    folders = [path]
    while folders[-1].name.lower() in _PARTS:
        folders.append(folders[-1].parent)
    for folder in folders:
        tables = [file for file in sorted(folder.glob("*.csv")) if set(_NEEDED) <= set(header_of(file))]
        if len(tables) > 1:
            both = f"{tables[0].name} and {tables[1].name}"
            raise DatasetError(f"{folder}: {both} are both tables of patients; keep one")
        if tables:
            return read_table(tables[0], required=_NEEDED).by("External code")
        if sheets := sorted(folder.glob("*Dataset*nformation*.xlsx")):
            raise DatasetError(f"{sheets[0]}: is a spreadsheet; save it as CSV beside it, and ingest again")
    return {}


def _code(case_id: str, rows: Mapping[str, TableRow]) -> str:
    """The patient's code: the case's name, or the code in it where files were renamed."""
    if case_id in rows:
        return case_id
    match = _CODE.search(case_id.replace("_", " "))
    return match[0] if match is not None else case_id


def _load(files: _Files, split: str, code: str, rows: Mapping[str, TableRow]) -> LoadedCase:
    """Reads one case.

    Raises:
        CaseError: a file or a cell of its row cannot be used.
    """
    phases, values = _row(rows.get(code))
    findings = []
    if rows and code not in rows:
        text = f"{code} has no row in the table: its ED, ES and covariates are not known"
        findings.append(Finding("TIME_AMBIGUOUS", "warning", text, "", code))
    image, masks, phases = _whole_cine(files, phases) if "" in files.images else _pair(files)
    for name, frame in phases.items():
        if frame >= image.geometry.frames:
            raise CaseError(
                "TIME_AMBIGUOUS",
                f"{code}: the table names frame {frame} for {name}, and the cine has "
                f"{image.geometry.frames} frames, counted from 0",
            )
    labels = {}
    if masks and not files.unlabelled:
        anatomy, found = _anatomy(image, masks, phases, code)
        findings += found
        if (anatomy != UNLABELLED).any():
            labels["anatomy"] = Volume(anatomy, image.geometry)
    return LoadedCase(
        code, (image,), labels, values, phases.get("ED"), phases.get("ES"), split, tuple(findings)
    )


def _whole_cine(files: _Files, phases: dict[str, int]) -> tuple[Volume, dict[int, Volume], dict[str, int]]:
    """The cine, and its mask frame by frame."""
    image = read_any(files.images[""])
    if "" not in files.masks:
        return image, {}, phases
    mask = read_any(files.masks[""])
    same_grid(files.masks[""].name, mask, image, "LABEL_GEOMETRY_MISMATCH")
    frames = {number: Volume(frame, mask.geometry) for number, frame in enumerate(frames_first(mask.array))}
    return image, frames, phases


def _pair(files: _Files) -> tuple[Volume, dict[int, Volume], dict[str, int]]:
    """Loose ED and ES frames as one volume, in this order, and the masks that there are."""
    names = [name for name in ("ED", "ES") if name in files.images]
    if not names:
        mask = next(iter(files.masks.values()))
        raise CaseError("NO_USABLE_SERIES", f"{mask.name}: the image that it belongs to is missing")
    volumes = [read_any(files.images[name]) for name in names]
    masks = {}
    for frame, (name, volume) in enumerate(zip(names, volumes, strict=True)):
        same_grid(files.images[name].name, volume, volumes[0], "MIXED_GRID")
        if name in files.masks:
            masks[frame] = read_any(files.masks[name])
            same_grid(files.masks[name].name, masks[frame], volume, "LABEL_GEOMETRY_MISMATCH")
    phases: dict[str, int] = {name: frame for frame, name in enumerate(names)}
    if len(volumes) == 1:
        return volumes[0], masks, phases
    array = np.stack([volume.array for volume in volumes], axis=-1)
    return Volume(array, replace(volumes[0].geometry, frames=len(volumes))), masks, phases


def _anatomy(
    image: Volume, masks: Mapping[int, Volume], phases: Mapping[str, int], code: str
) -> tuple[np.ndarray, list[Finding]]:
    """The mask in medmtl's codes; frames in which nothing is drawn are not labelled."""
    anatomy = np.full(image.array.shape, UNLABELLED, dtype=np.uint8)
    frames = frames_first(anatomy)
    drawn = set()
    for number, mask in masks.items():
        labels = MASK.apply(mask.array, f"{code}, mask of frame {number}")
        if labels.any():
            frames[number] = labels
            drawn.add(number)
    findings = []
    named = {frame: name for name, frame in phases.items()}
    for frame in sorted(named.keys() & masks.keys() - drawn):
        text = f"nothing is drawn in the mask of {named[frame]} (frame {frame}); taken as not labelled"
        findings.append(Finding("LABEL_VALUES", "warning", text, "anatomy", code))
    if len(named) == 2 and (others := sorted(drawn - named.keys())):
        shown = ", ".join(map(str, others))
        text = f"frame(s) {shown} are labelled too, which the table does not name as ED or ES"
        findings.append(Finding("TIME_AMBIGUOUS", "warning", text, "anatomy", code))
    return anatomy, findings


def _row(row: TableRow | None) -> tuple[dict[str, int], dict[str, float | str]]:
    """ED and ES, and the covariates, of one row.

    Raises:
        CaseError: ``UNDECODABLE`` or ``LABEL_VALUES``; names the row and the column.
    """
    if row is None:
        return {}, {}
    phases: dict[str, int] = {}
    values: dict[str, float | str] = {}
    for column, text in row.cells.items():
        if is_blank(text):
            continue
        code = "LABEL_VALUES"
        try:
            if column in ("ED", "ES"):
                code = "UNDECODABLE"
                phases[column] = parse_frame(text)
            elif column in _CLASSES:
                name, classes = _CLASSES[column]
                values[name] = parse_class(_spelled(text, classes), classes)
            elif column in ("Age", "Weight"):
                values[column.lower()] = parse_number(text)
            elif column == "Height":
                values["height"] = _height_cm(parse_number(text))
        except ValueError as error:
            raise CaseError(code, f"the table, row {row.number}, column {column!r}: {error}") from error
    if len(phases) == 2 and phases["ED"] == phases["ES"]:
        raise CaseError(
            "TIME_AMBIGUOUS",
            f"the table, row {row.number}: ED and ES are both frame {phases['ED']}; correct it",
        )
    return phases, values


_CLASSES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Pathology": ("disease", DISEASES),
        "VendorName": ("vendor", VENDORS),
        "Centre": ("centre", CENTRES),
        "Sex": ("sex", ("F", "M")),
    }
)


def _spelled(text: str, classes: tuple[str, ...]) -> str:
    """The class that differs from a cell in capitals only, or ``1`` for the ``1.0`` of a spreadsheet."""
    plain = text.removesuffix(".0")
    return next((name for name in classes if name.lower() == plain.lower()), text)


def _height_cm(number: float) -> float:
    """A height in cm; nobody is shorter than 3 cm, so what is below is in metres.

    Raises:
        ValueError: it is neither.
    """
    for low, high, factor in ((0.3, 2.7, 100.0), (30.0, 270.0, 1.0)):
        if low <= number <= high:
            return round(number * factor, 6)
    raise ValueError(f"found {number:g}, which is the height of nobody in m or cm; correct it")
