"""EMIDEC: late enhancement of the left ventricle, with infarct and no-reflow, and clinical covariates.

Lalande et al. 2020, doi 10.3390/data5040089. A mask's values are 1 cavity, 2 normal myocardium, 3 infarct
and 4 no-reflow: here the anatomy (LV, MYO) and, inside the myocardium, the tissue. The voxel sizes are those
of ``pixdim``: not every file states directions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from medmtl.data.cells import parse_class, parse_number
from medmtl.data.columns import Column, Derived, Quantity, Schema
from medmtl.data.formats.base import FORMATS, DatasetFormat, LoadedCase, RawCase
from medmtl.data.formats.cardiac import LABELS
from medmtl.data.formats.labels import LabelMap
from medmtl.data.formats.tables import is_blank
from medmtl.data.formats.volumes import same_grid, without_folder
from medmtl.data.nifti import Volume, read_volume
from medmtl.types import CaseError, Finding

CITATION = (
    "A. Lalande, Z. Chen, T. Decourselle, et al. Emidec: A Database Usable for the Automatic Evaluation of "
    "Myocardial Infarction from Delayed-Enhancement Cardiac MRI. Data 5(4):89, 2020. doi 10.3390/data5040089"
)
NAMES = MappingProxyType({1: "cavity", 2: "healthy", 3: "infarct", 4: "no_reflow"})
TISSUES: Mapping[str, int] = MappingProxyType({"healthy": 1, "infarct": 2, "no_reflow": 3})
GROUPS: Mapping[str, str] = MappingProxyType({"N": "normal", "P": "pathological", "M": "pathological"})

_ANATOMY = LabelMap(
    NAMES, {"cavity": LABELS["LV"], **dict.fromkeys(("healthy", "infarct", "no_reflow"), LABELS["MYO"])}
)
_TISSUE = LabelMap(NAMES, TISSUES)
_FOLDER = re.compile(r"Case_([NPM]?)(\d+)")
_DEPTH = 2  # emidec-dataset-1.0.1/emidec-dataset-1.0.1/Case_N006, as the archive unpacks
_YES_NO = ("N", "Y")
_CATEGORIES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "sex": ("sex", ("F", "M")),
        "tobacco": ("tobacco", ("0", "1", "2", "3")),
        "overweight": ("overweight", _YES_NO),
        "arterial hypertension": ("hypertension", _YES_NO),
        "diabetes": ("diabetes", _YES_NO),
        "familial history of coronary artery disease": ("family_history", _YES_NO),
        "ecg (st +)": ("st_elevation", _YES_NO),
    }
)
_VALUES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "age": ("age", "years"),
        "troponin": ("troponin", ""),
        "killip max": ("killip_max", ""),
        "fevg": ("LVEF_echo", "%"),
        "ntprobnp": ("NTproBNP", ""),
    }
)


@FORMATS.register("emidec")
class Emidec(DatasetFormat):
    """The EMIDEC challenge: folders ``Case_N006`` (normal) and ``Case_P001`` (pathological), texts beside.

    Cases of the challenge's test archive, which have no group in their names, are test cases. The numbers of
    ``Tobacco`` are kept as they are: the files do not say what they mean.
    """

    looks_for: ClassVar[str] = "folders Case_N006, Case_P001, ... with Images/Case_N006.nii.gz"
    stratify_by: ClassVar[str | None] = "disease"

    def recognizes(self, path: Path) -> str | None:
        """The first case folder with an image."""
        first = next((folder for folder in _folders(path) if (folder / "Images").is_dir()), None)
        return f"the folder {first.name}/Images" if first is not None else None

    def schema(self, path: Path) -> Schema:
        """Anatomy, tissue, group, covariates, and the masses that follow from the masks."""

        def derived(name: str, quantity: Quantity, mask: str, structure: str, unit: str) -> Column:
            return Column(name, "value", unit=unit, derived=Derived(quantity, mask, structure))

        columns = [
            Column("anatomy", "mask", labels={"MYO": LABELS["MYO"], "LV": LABELS["LV"]}),
            Column("tissue", "mask", labels=TISSUES),
            Column("disease", "category", classes=("normal", "pathological")),
            *(Column(name, "category", classes=classes) for name, classes in _CATEGORIES.values()),
            *(Column(name, "value", unit=unit) for name, unit in _VALUES.values()),
            derived("LV_volume", "volume", "anatomy", "LV", "mL"),
            derived("MYO_mass", "mass", "anatomy", "MYO", "g"),
            derived("infarct_mass", "mass", "tissue", "infarct", "g"),
            derived("no_reflow_mass", "mass", "tissue", "no_reflow", "g"),
        ]
        return Schema("emidec", "MR", ("lge",), {column.name: column for column in columns}, None, CITATION)

    def read(self, path: Path) -> Iterable[RawCase]:
        """One case per folder."""
        for folder in _folders(path):
            where = folder.name if folder == path else folder.relative_to(path).as_posix()
            yield RawCase(folder.name, where, partial(_load, folder))


def _folders(path: Path) -> list[Path]:
    """Case folders by name: the path itself, or below it."""
    if _FOLDER.fullmatch(path.name) and path.is_dir():
        return [path]
    found: list[Path] = []
    level = [path] if path.is_dir() else []
    for _ in range(_DEPTH + 1):
        folders = [sub for folder in level for sub in folder.iterdir() if sub.is_dir()]
        found += [folder for folder in folders if _FOLDER.fullmatch(folder.name)]
        level = [folder for folder in folders if "emidec" in folder.name.lower()]
    return sorted(found, key=lambda folder: (folder.name, folder.as_posix()))


def _load(folder: Path) -> LoadedCase:
    """Reads one case.

    Raises:
        CaseError: a file cannot be used.
    """
    image = _read(folder, "Images")
    labels = {}
    drawn = _file(folder, "Contours")
    if drawn.is_file():
        mask = _read(folder, "Contours")
        same_grid(f"Contours/{drawn.name}", mask, image, "LABEL_GEOMETRY_MISMATCH")
        for name, mapping in (("anatomy", _ANATOMY), ("tissue", _TISSUE)):
            array = mapping.apply(mask.array, f"Contours/{drawn.name}")
            labels[name] = Volume(array, image.geometry)
    letter = _FOLDER.fullmatch(folder.name)
    group = GROUPS.get(letter[1]) if letter is not None else None
    values, findings = _covariates(folder)
    if group is not None:
        values["disease"] = group
    parts = {part.lower() for part in folder.parts[-4:-1]}
    split = "test" if any("emidec" in part and "test" in part for part in parts) else ""
    return LoadedCase(folder.name, (image,), labels, values, split=split, findings=tuple(findings))


def _file(folder: Path, kind: str) -> Path:
    plain = folder / kind / f"{folder.name}.nii"
    return plain if plain.is_file() else plain.with_name(f"{folder.name}.nii.gz")


def _read(folder: Path, kind: str) -> Volume:
    try:
        return read_volume(_file(folder, kind), spacing_from_pixdim=True)
    except CaseError as error:
        raise CaseError(error.code, without_folder(str(error), folder)) from error


def _covariates(folder: Path) -> tuple[dict[str, float | str], list[Finding]]:
    """What ``Case N006.txt`` says; a line that cannot be used leaves its value blank, with a warning."""
    name = folder.name.replace("_", " ")
    path = next(
        (file for place in (folder.parent, folder) if (file := place / f"{name}.txt").is_file()), None
    )
    if path is None:
        text = f"there is no {name}.txt; its covariates are not known"
        return {}, [Finding("LABEL_VALUES", "info", text, f"{name}.txt", folder.name)]
    values: dict[str, float | str] = {}
    findings = []
    # written on machines of several makes: the space before a colon is one byte that is no UTF-8
    text = path.read_bytes().decode("cp1252", errors="replace")
    for line in text.splitlines():
        key, colon, cell = line.partition(":")
        key, cell = _plain(key).lower(), _plain(cell)
        if not colon or is_blank(cell):
            continue
        try:
            if key in _CATEGORIES:
                column, classes = _CATEGORIES[key]
                values[column] = parse_class(cell.upper(), classes)
            elif key in _VALUES:
                values[_VALUES[key][0]] = parse_number(cell.replace(",", "."))
        except ValueError as error:
            message = f"{path.name}, {key}: {error}; left blank"
            findings.append(Finding("LABEL_VALUES", "warning", message, path.name, folder.name))
    return values, findings


def _plain(text: str) -> str:
    """Text without hard spaces and what they become in other encodings."""
    return re.sub(r"[\s\u00a0\u2020\u00ca\u00c2]+", " ", text).strip()
