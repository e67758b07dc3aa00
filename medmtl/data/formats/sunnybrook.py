"""Sunnybrook Cardiac Data: short-axis cines as DICOM, contours of the left ventricle as text files.

Radau et al. 2009, hdl.handle.net/10380/3070. Images are named ``SCD0000301``, contours ``SC-HF-I-4``; a list
(``scd_patientdata.csv``, ``link.csv``) says which belong together. Where there is none, contours are taken
for those of an image only if their instance numbers are in it and its borders are where they were drawn.
Those that a list gives to a patient are held against the images all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from medmtl.data.columns import UNIT_OF, Column, Cycle, Derived, Frame, Quantity, Schema
from medmtl.data.dicom.model import LoadedVolume, Scan, VolumePlan
from medmtl.data.dicom.scan import scan
from medmtl.data.formats.base import FORMATS, DatasetFormat, Found, LoadedCase, RawCase
from medmtl.data.formats.cardiac import LABELS
from medmtl.data.formats.scanned import as_volume, left_out, load_plan, told_of
from medmtl.data.formats.sunnybrook_folders import (
    GROUPS,
    Folders,
    Patient,
    find_folders,
    first_contour,
    group_of,
    original_name,
)
from medmtl.data.formats.sunnybrook_masks import PAPILLARY, Placed, masks
from medmtl.data.formats.sunnybrook_match import Known, likely, match_contours, without_strangers
from medmtl.data.nifti import Volume
from medmtl.types import CaseError, DatasetError, Finding

CITATION = (
    "P. Radau, Y. Lu, K. Connelly, G. Paul, A. J. Dick, G. A. Wright. Evaluation Framework for Algorithms "
    "Segmenting Short Axis Cardiac MRI. The MIDAS Journal - Cardiac MR Left Ventricle Segmentation "
    "Challenge, 2009. hdl.handle.net/10380/3070"
)


@FORMATS.register("sunnybrook")
class Sunnybrook(DatasetFormat):
    """Folders of cine DICOM and of contours, in any of the layouts that are about."""

    looks_for: ClassVar[str] = "contours named like IM-0001-0048-icontour-manual.txt"
    fractions: ClassVar[Mapping[str, float]] = MappingProxyType({"train": 0.64, "val": 0.16, "test": 0.20})
    stratify_by: ClassVar[str | None] = "disease"

    def recognizes(self, path: Path) -> str | None:
        """The first contour file."""
        found = first_contour(path)
        return f"the contour {found.relative_to(path).as_posix()}" if found is not None else None

    def schema(self, path: Path) -> Schema:
        """Cavity and myocardium, group, and the values that follow from the masks."""
        return self.find([path]).schema

    def read(self, path: Path) -> Iterable[RawCase]:
        """One case per folder of images."""
        return self.find([path]).cases

    def find(self, paths: Sequence[Path], *, strict: bool = False) -> Found:
        """One case per folder of images, with its contours where it has any."""
        folders = find_folders(paths)
        if not folders.images:
            raise DatasetError(f"{paths[0]}: has contours and no images; name the folder that holds both")
        known = Known.read(folders)
        cases = []
        for name in folders.images:
            where = _where(folders.images[name][0], paths)
            cases.append(RawCase(name, where, partial(_load, name, where, known, strict)))
        claimed = {owner for name in folders.images for owner in (known.owner(name), *known.open(name))}
        unclaimed = [
            Finding("NO_USABLE_SERIES", "warning", f"contours of {owner} belong to no images here", owner)
            for owner in folders.contours
            if owner not in claimed
        ]
        return Found(_schema(folders), tuple(cases), tuple(unclaimed))


def _schema(folders: Folders) -> Schema:
    def derived(name: str, quantity: Quantity, structure: str, frame: Frame | None = None) -> Column:
        mask = {"LV": "anatomy", "MYO": "myocardium"}[structure]
        return Column(
            name, "value", unit=UNIT_OF[quantity], derived=Derived(quantity, mask, structure, frame)
        )

    columns = [
        Column("anatomy", "mask", labels={"LV": LABELS["LV"]}),
        Column("myocardium", "mask", labels={"MYO": LABELS["MYO"]}),
    ]
    if any("-p" in file.name.lower() for files in folders.contours.values() for file in files):
        columns.append(Column("papillary", "mask", labels={"PAP": PAPILLARY}))
    columns.append(Column("disease", "category", classes=GROUPS))
    if any(patient.age is not None for patient in folders.listed.values()):
        columns.append(Column("age", "value", unit="years"))
    if any(patient.sex for patient in folders.listed.values()):
        columns.append(Column("sex", "category", classes=("F", "M")))
    columns += [
        derived("LV_EDV", "volume", "LV", "ED"),
        derived("LV_ESV", "volume", "LV", "ES"),
        derived("LV_SV", "stroke_volume", "LV"),
        derived("LV_EF", "ejection_fraction", "LV"),
        derived("MYO_mass", "mass", "MYO", "ED"),
    ]
    return Schema(
        name="sunnybrook",
        modality="MR",
        channels=("cine",),
        columns={column.name: column for column in columns},
        cycle=Cycle("anatomy", "LV"),
        citation=CITATION,
        licence="CC0 1.0",
    )


def _load(name: str, where: str, known: Known, strict: bool) -> LoadedCase:
    """Reads one patient.

    Raises:
        CaseError: there is no complete cine, or its contours cannot be used or are another patient's.
    """
    found = scan(list(known.folders.images[name]), strict=strict)
    plans = [plan for series in found.series for plan in series.volumes]
    if not plans:
        raise _refusal(found)
    match, said = match_contours(name, plans, known)
    if match is None:
        loaded = load_plan(max(plans, key=likely))
        made: dict[str, Volume] = {}
        phases: tuple[int | None, int | None] = (None, None)
        said.append(Finding("LABEL_VALUES", "info", "has no contours; nothing is labelled"))
    else:
        loaded, phases = match.loaded, match.placed.phases
        placed, doubts = without_strangers(match, known)
        made, gaps = _volumes(placed, loaded)
        said += [*doubts, *gaps]
    owner = match.owner if match is not None else name
    findings = told_of([*said, *loaded.findings, *left_out(found, loaded.plan)], where, name)
    values = _values(name, owner, loaded.plan, known.folders)
    return LoadedCase(name, (as_volume(loaded),), made, values, *phases, findings=tuple(findings))


def _volumes(placed: Placed, loaded: LoadedVolume) -> tuple[dict[str, Volume], list[Finding]]:
    image = as_volume(loaded)
    shape = image.array.shape
    arrays, findings = masks(placed, shape if len(shape) == 4 else (*shape, 1))
    volumes = {name: replace(image, array=array.reshape(shape)) for name, array in arrays.items()}
    return volumes, findings


def _values(name: str, owner: str, plan: VolumePlan, folders: Folders) -> dict[str, float | str]:
    """Group, age and sex, where they are known."""
    listed = folders.listed.get(name, Patient(owner))
    described = plan.planes[0][0].get("StudyDescription") or ""
    originals = (original_name(text) for text in (listed.original, owner, name, described))
    group = next((group_of(original) for original in originals if original is not None), None)
    values: dict[str, float | str] = {}
    if group is not None:
        values["disease"] = group
    if listed.age is not None:
        values["age"] = listed.age
    if listed.sex:
        values["sex"] = listed.sex
    return values


def _refusal(found: Scan) -> CaseError:
    """The first error of the series with the most files, or of a file: it says why there is no volume."""
    for series in sorted(found.series, key=lambda series: -series.instances):
        for finding in series.findings:
            if finding.severity == "error":
                return CaseError(finding.code, finding.message)
    for finding in found.findings:
        if finding.severity == "error":
            return CaseError(finding.code, finding.message)
    return CaseError("NO_USABLE_SERIES", "holds no DICOM images; see whether the download is complete")


def _where(folder: Path, roots: Sequence[Path]) -> str:
    root = next(root for root in roots if folder == root or folder.is_relative_to(root))
    return folder.relative_to(root).as_posix() if folder != root else folder.name
