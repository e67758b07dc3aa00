"""DICOM studies as they come: folders, files or archives, with the labels and targets that lie beside them.

Every study becomes one case, of one volume (``dicom_studies.py`` says which), with masks from SEG and
RTSTRUCT files that were drawn on it and with values from a table. All that is not in a case is named in
``findings.csv``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

from medmtl.data.columns import Column, Schema
from medmtl.data.dicom.labelgrid import LabelGrid
from medmtl.data.dicom.model import VolumePlan
from medmtl.data.dicom.scan import scan
from medmtl.data.dicom.sources import find_sources
from medmtl.data.dicom.suv import SuvKind
from medmtl.data.formats.base import FORMATS, DatasetFormat, Found, LoadedCase, RawCase
from medmtl.data.formats.dicom_labels import LabelFile, draw, is_label_file, mask_columns
from medmtl.data.formats.dicom_studies import (
    Study,
    case_ids,
    choose,
    common_modality,
    one_of,
    parse_conditions,
    parse_structures,
    series_uids,
    studies_of,
)
from medmtl.data.formats.dicom_targets import Targets
from medmtl.data.formats.scanned import as_volume, load_plan, told_of
from medmtl.data.nifti import Volume
from medmtl.data.schema import FILE as DATASET_FILE
from medmtl.types import CaseError, DatasetError, Finding

Labels = Literal["auto", "joined", "separate"]
Names = Literal["uid", "folder"]

_ENDINGS = (".dcm", ".dicom", ".ima")
_LOOKED_AT = 300  # files, before a folder is taken for one without DICOM
_MAGIC = slice(128, 132)


@FORMATS.register("dicom")
class Dicom(DatasetFormat):
    """DICOM studies.

    Args:
        targets: table of classes and values; see `Targets`.
        select: conditions on the volume of a case, such as ``["modality=MR", "description=*SAX*"]``.
        structures: labels that are wanted, as ``NAME=PATTERN``, such as ``["GTV=gtv*"]``; all by default.
        labels: ``joined`` (one mask for all structures), ``separate`` (one each), or ``auto``: joined where
            every labelled case has the same structures and none overlap.
        resample_labels: segmentations on another grid take the nearest voxels, instead of being refused.
        names: what names a case: ``uid``, a digest of the study's UID, or ``folder``, its folder.
        suv: unit of PET; see `medmtl.data.dicom.load`.

    Raises:
        ConfigError: an option cannot be used.
    """

    looks_for: ClassVar[str] = "DICOM files, in folders or archives"
    rank: ClassVar[int] = 0

    def __init__(
        self,
        *,
        targets: Path | str | None = None,
        select: Sequence[str] = (),
        structures: Sequence[str] = (),
        labels: Labels = "auto",
        resample_labels: bool = False,
        names: Names = "uid",
        suv: SuvKind = "bw",
    ) -> None:
        self.targets = Path(targets) if targets is not None else None
        self.conditions = parse_conditions(select)
        self.structures = parse_structures(structures)
        self.labels: Labels = one_of("labels", labels, Labels)
        self.resample_labels = resample_labels
        self.names: Names = one_of("names", names, Names)
        self.suv: SuvKind = one_of("suv", suv, SuvKind)

    def recognizes(self, path: Path) -> str | None:
        """The first DICOM file among a bounded number of files."""
        if not path.exists() or (path.is_dir() and (path / DATASET_FILE).is_file()):
            return None
        for source in islice(find_sources([path]), _LOOKED_AT):
            if source.label.lower().endswith(_ENDINGS) or source.read(0, _MAGIC.stop)[_MAGIC] == b"DICM":
                return f"the DICOM file {source.label}"
        return None

    def schema(self, path: Path) -> Schema:
        """Masks of the labels found, and the columns of the table."""
        return self.find([path]).schema

    def read(self, path: Path) -> Iterable[RawCase]:
        """One case per study."""
        return self.find([path]).cases

    def find(self, paths: Sequence[Path], *, strict: bool = False) -> Found:
        """One case per study, over all sources.

        Raises:
            DatasetError: there are no studies, the table cannot be used (names row and column), or a file
                cannot and ``strict`` is set.
        """
        targets = Targets.read(self.targets) if self.targets is not None else None
        found = scan(paths, strict=strict)
        broken = [finding for finding in found.findings if finding.severity == "error"]
        if strict and broken:
            raise DatasetError(
                f"{broken[0].message} ({len(broken)} such in all); without --strict it is left out"
            )
        studies, strays = studies_of(found, self.structures)
        if not studies:
            raise DatasetError(f"{', '.join(map(str, paths))}: holds no DICOM studies; name another folder")
        modality = common_modality(studies, self.conditions)
        chosen = [choose(study, modality, self.conditions) for study in studies]
        files = [_files(study, plan) for study, plan in zip(studies, chosen, strict=True)]
        masks = mask_columns(files, self.labels)
        columns = {**masks, **(targets.columns if targets is not None else {})}
        if len(columns) < len(masks) + (len(targets.columns) if targets is not None else 0):
            clash = next(name for name in masks if targets is not None and name in targets.columns)
            raise DatasetError(f"{self.targets}: the column {clash!r} is a mask already; rename it")
        reader = _Reader(self, masks, targets, strict)
        cases = []
        used: set[int] = set()
        ids = case_ids(studies, self.names)
        for case_id, study, plan, drawn in zip(ids, studies, chosen, files, strict=True):
            row = targets.row_of(study, case_id) if targets is not None else None
            used |= {row.number} if row is not None else set()
            cases.append(
                RawCase(case_id, study.folder or case_id, partial(reader.load, case_id, study, plan, drawn))
            )
        unused = targets.unused(used) if targets is not None else []
        schema = Schema(_name(paths), modality, ("image",), columns)
        ordered = tuple(sorted(cases, key=lambda case: case.case_id))
        return Found(schema, ordered, (*_of_files(found.findings, ids, studies), *strays, *unused))


class _Reader:
    """Reads the case of a study."""

    def __init__(
        self, options: Dicom, masks: Mapping[str, Column], targets: Targets | None, strict: bool
    ) -> None:
        self.options = options
        self.masks = masks
        self.targets = targets
        self.strict = strict

    def load(
        self, case_id: str, study: Study, plan: VolumePlan | None, files: Sequence[LabelFile]
    ) -> LoadedCase:
        """Image, masks and values of one study.

        Raises:
            CaseError: it has no volume that will do, or its labels or targets cannot be used.
        """
        if plan is None:
            raise _no_volume(study, self.options.conditions)
        _check_patient(study, plan, files)
        values: dict[str, float | str] = {}
        frame_ed = frame_es = None
        split = ""
        row = self.targets.row_of(study, case_id) if self.targets is not None else None
        if self.targets is not None and row is not None:
            values = self.targets.values_of(row)
            frame_ed, frame_es, split = self.targets.frames_and_split_of(row)
        loaded = load_plan(plan, suv=self.options.suv, strict=self.strict)
        image = as_volume(loaded)
        grid = LabelGrid.of(plan)
        files, strange = _that_fit(files, plan, grid)
        made, said = draw(files, self.masks, grid, resample=self.options.resample_labels)
        labels = {name: Volume(mask, image.geometry, image.time_step_ms) for name, mask in made.items()}
        where = study.folder or case_id
        findings = told_of(
            [*loaded.findings, *strange, *said, *study.findings, *_left_out(study, plan, files)],
            where,
            case_id,
        )
        return LoadedCase(plan.patient, (image,), labels, values, frame_ed, frame_es, split, tuple(findings))


def _files(study: Study, plan: VolumePlan | None) -> tuple[LabelFile, ...]:
    """Label files of the chosen volume: those that name it, and those that name nothing that is here."""
    if plan is None:
        return ()
    return (*study.labels_of(plan), *study.homeless())


def _that_fit(
    files: Sequence[LabelFile], plan: VolumePlan, grid: LabelGrid
) -> tuple[list[LabelFile], list[Finding]]:
    """Label files without those that name no series that is here, and do not lie on this volume either."""
    uids = series_uids(plan)
    kept, findings = [], []
    for file in files:
        if not file.content.series_uids & uids:
            try:
                file.on(grid).labelled()
            except CaseError as error:
                text = f"{error}; it names no series that is here, and was left out"
                findings.append(Finding(error.code, "warning", text, file.content.name))
                continue
        kept.append(file)
    return kept, findings


def _check_patient(study: Study, plan: VolumePlan, files: Sequence[LabelFile]) -> None:
    """Labels that name this series and another patient are not to be trusted.

    Raises:
        CaseError: ``LABEL_WRONG_PATIENT``.
    """
    for file in files:
        if file.content.patient and study.patient_key and file.content.patient != study.patient_key:
            text = "carries another PatientID than the images that it lies on; see whose labels they are"
            raise CaseError("LABEL_WRONG_PATIENT", f"{file.content.name}: {text}")


def _no_volume(study: Study, conditions: Mapping[str, str]) -> CaseError:
    """Why a study has no case: nothing fits, or else the first error of its largest series."""
    if study.volumes:
        wish = " and ".join(f"{name}={pattern}" for name, pattern in conditions.items())
        found = "; ".join(f"{plan.modality} {plan.description or plan.name}" for plan in study.volumes[:3])
        text = f"none of its volumes ({found}) is {wish or 'of the modality that the other studies have'}"
        return CaseError("NO_USABLE_SERIES", f"{text}; choose otherwise with --select")
    for series in sorted(study.series, key=lambda series: -series.instances):
        for finding in series.findings:
            if finding.severity == "error":
                return CaseError(finding.code, finding.message)
    return CaseError(
        "NO_USABLE_SERIES", "none of its series is a volume; see its findings with medmtl inspect"
    )


def _left_out(study: Study, chosen: VolumePlan, files: Sequence[LabelFile]) -> Iterator[Finding]:
    """Everything of a study that is not in its case."""
    for series in study.series:
        if all(is_label_file(instance) for instance in series.files):
            continue  # what became of labels is told where they are read
        yield from _as_warnings(series.findings)
        for plan in series.volumes:
            if plan is not chosen:
                shape = " x ".join(str(n) for n in plan.shape)
                text = f"the {plan.modality} volume {plan.name} ({plan.description}, {shape}) was not chosen"
                yield Finding("NO_USABLE_SERIES", "info", f"{text}; see --select", plan.name)
    for file in study.labels:
        if file not in files:
            text = "labels of another series than the one that was chosen; see --select"
            yield Finding("NO_USABLE_SERIES", "info", text, file.content.name)


def _as_warnings(findings: Iterable[Finding]) -> Iterator[Finding]:
    """What is an error of a series is a warning of a case that does without it."""
    for finding in findings:
        yield replace(finding, severity="warning") if finding.severity == "error" else finding


def _of_files(findings: Sequence[Finding], ids: Sequence[str], studies: Sequence[Study]) -> Iterator[Finding]:
    """Findings about single files, with the case in whose folder they lie."""
    cases = {f"{study.folder}/": case_id for case_id, study in zip(ids, studies, strict=True) if study.folder}
    for finding in _as_warnings(findings):
        near = [start for start in cases if finding.where.startswith(start)]
        yield replace(finding, case_id=cases[max(near, key=len)]) if near else finding


def _name(paths: Sequence[Path]) -> str:
    name = paths[0].resolve().name
    return name.partition(".")[0] or "dicom"
