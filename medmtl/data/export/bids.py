"""BIDS: images by subject, masks and maps below ``derivatives/medmtl``, targets in ``participants.tsv``.

BIDS knows no cine and no CT. Such images get a suffix that is not in its list, and ``.bidsignore`` names
them, so that a validator passes over them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmtl._version import __version__
from medmtl.data.cases import Case
from medmtl.data.columns import Column
from medmtl.data.dataset import FINDINGS_FILE, Dataset
from medmtl.data.export.base import LAYOUTS, Layout, Progress, Written
from medmtl.data.export.samples import for_each
from medmtl.data.export.targets import target_cells, write_json
from medmtl.data.formats.bids_layout import FILE
from medmtl.data.formats.description import KEY
from medmtl.data.nifti import read_volume, write_volume
from medmtl.data.schema import column_section
from medmtl.files import write_text
from medmtl.types import UNLABELLED, ConfigError

VERSION = "1.10.0"
"""Of the standard that the names follow."""

_SUFFIXES = frozenset({"T1w", "T2w", "PDw", "T2starw", "FLAIR", "inplaneT1", "inplaneT2", "PDT2", "angio"})
_FOLDERS = {"PT": "pet", "CT": "ct"}
_UNKNOWN = {"CT": "ct", "MR": "MR"}
_OURS = Path("derivatives") / "medmtl"
_NA = "n/a"


@LAYOUTS.register("bids")
class ToBids(Layout):
    """One subject per patient, a session per case where a patient has several; 4D images stay whole.

    All masks and maps are written; 255 in a mask, which ``dseg.tsv`` calls ``unlabelled``, is a voxel that
    nobody labelled.
    """

    def write(
        self, dataset: Dataset, folder: Path, *, mask: str | None = None, progress: Progress | None = None
    ) -> Written:
        """Writes a dataset."""
        if mask is not None:
            raise ConfigError(f"BIDS holds all masks; leave out the choice of {mask!r}")
        places = _places(dataset.cases)
        kinds = _kinds(dataset)
        files = {
            column.name: f"desc-{_alphanumeric(column.name)}_{'dseg' if column.kind == 'mask' else 'map'}"
            for column in dataset.columns.values()
            if column.kind in ("mask", "map")
        }
        data_type = _FOLDERS.get(dataset.modality, "anat")

        def one(case: Case) -> int:
            place = places[case.case_id]
            wanted = [(Path(), kind, path) for kind, path in zip(kinds.values(), case.images, strict=True)]
            wanted += [(_OURS, files[name], path) for name, path in case.files.items()]
            volumes = [(root, kind, read_volume(path)) for root, kind, path in wanted]
            for root, kind, volume in volumes:
                target = folder / root / place.folder / data_type
                target.mkdir(parents=True, exist_ok=True)
                write_volume(target / f"{place.name}_{kind}.nii.gz", volume)
            return len(case.images)

        counts, left_out = for_each(dataset.cases, one, progress)
        if not counts:
            raise ConfigError(f"{dataset.root}: no case could be read; see `medmtl ingest`")
        gone = {finding.case_id for finding in left_out}
        _write_tables(folder, dataset, {name: place for name, place in places.items() if name not in gone})
        _write_descriptions(folder, dataset, kinds, files)
        return Written(len(counts), sum(counts), tuple(left_out))

    def findings_file(self, folder: Path) -> Path:
        """Below the derivatives, so that the top of the folder is BIDS alone."""
        (folder / _OURS).mkdir(parents=True, exist_ok=True)
        return folder / _OURS / FINDINGS_FILE


@dataclass(frozen=True)
class _Place:
    """Where the files of a case are: ``sub-01``, or ``sub-01/ses-02`` where its patient has several cases."""

    sub: str
    ses: str

    @property
    def folder(self) -> Path:
        return Path(f"sub-{self.sub}") / (f"ses-{self.ses}" if self.ses else "")

    @property
    def name(self) -> str:
        return f"sub-{self.sub}" + (f"_ses-{self.ses}" if self.ses else "")


def _places(cases: Sequence[Case]) -> dict[str, _Place]:
    """Subjects by their patients' names where those can be labels and stay different, else by number."""
    of_patient: dict[str, list[str]] = {}
    for case in sorted(cases, key=lambda case: case.case_id):
        of_patient.setdefault(case.patient, []).append(case.case_id)
    labels = _labels(sorted(of_patient))
    places = {}
    for patient, case_ids in of_patient.items():
        sessions = [""] if len(case_ids) == 1 else _labels(case_ids).values()
        for case_id, session in zip(case_ids, sessions, strict=True):
            places[case_id] = _Place(labels[patient], session)
    return places


def _labels(names: Sequence[str]) -> dict[str, str]:
    plain = [_alphanumeric(name) for name in names]
    if "" in plain or len({label.lower() for label in plain}) < len(plain):
        plain = [f"{number:04d}" for number in range(1, len(names) + 1)]
    return dict(zip(names, plain, strict=True))


def _alphanumeric(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", name)


def _kinds(dataset: Dataset) -> dict[str, str]:
    """The part of a file name that says which channel it is."""
    if dataset.modality == "PT" and len(dataset.channels) == 1:
        return {dataset.channels[0]: "pet"}
    unknown = "pet" if dataset.modality == "PT" else _UNKNOWN.get(dataset.modality, "image")
    labels = _labels(dataset.channels)
    return {
        name: name if name in _SUFFIXES and dataset.modality == "MR" else f"acq-{labels[name]}_{unknown}"
        for name in dataset.channels
    }


def _write_tables(folder: Path, dataset: Dataset, places: Mapping[str, _Place]) -> None:
    """``participants.tsv``, sessions of patients with several cases, and what the columns mean."""
    cells = target_cells(dataset)
    targets = [column for column in dataset.columns.values() if column.kind in ("category", "value")]
    own = ("case_id", "split", "frame_ed", "frame_es", *(column.name for column in targets))
    participants = []
    sessions: dict[str, list[dict[str, str]]] = {}
    for case in sorted(dataset.cases, key=lambda case: case.case_id):
        if case.case_id not in places:
            continue
        place = places[case.case_id]
        frames = {"frame_ed": case.frame_ed, "frame_es": case.frame_es}
        row = {"case_id": case.case_id, "split": case.split, **cells[case.case_id]}
        row |= {name: str(frame) for name, frame in frames.items() if frame is not None}
        who = {"participant_id": f"sub-{place.sub}", "patient": case.patient}
        if not place.ses:
            participants.append(who | row)
            continue
        if place.sub not in sessions:
            participants.append(who)
        sessions.setdefault(place.sub, []).append({"session_id": f"ses-{place.ses}", **row})
    _write_tsv(folder / "participants.tsv", ["participant_id", "patient", *own], participants)
    write_json(folder / "participants.json", _meanings(targets))
    for sub, rows in sessions.items():
        _write_tsv(folder / f"sub-{sub}" / f"sub-{sub}_sessions.tsv", ["session_id", *own], rows)
    if sessions:
        write_json(folder / "sessions.json", _meanings(targets))


def _meanings(targets: Iterable[Column]) -> dict[str, Any]:
    meanings: dict[str, Any] = {
        "split": {"Description": "who trains, validates and tests", "Levels": ["train", "val", "test"]},
        "frame_ed": {"Description": "frame of end diastole, counted from 0"},
        "frame_es": {"Description": "frame of end systole, counted from 0"},
    }
    for column in targets:
        if column.kind == "category":
            meanings[column.name] = {"Levels": {name: name for name in column.classes}}
        else:
            meanings[column.name] = {"Units": column.unit or _NA}
    return meanings


def _write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row.get(name) or _NA for name in columns] for row in rows)


def _write_descriptions(
    folder: Path, dataset: Dataset, kinds: Mapping[str, str], files: Mapping[str, str]
) -> None:
    """``dataset_description.json``, ``README``, ``.bidsignore`` and what the numbers of masks mean."""
    cycle = dataset.cycle
    block: dict[str, Any] = {
        "modality": dataset.modality,
        "channels": dict(kinds),
        "files": dict(files),
        "columns": {name: column_section(column) for name, column in dataset.columns.items()},
    }
    if cycle is not None:
        block["cycle"] = {"mask": cycle.mask, "structure": cycle.structure}
    texts = {"License": dataset.schema.licence, "HowToAcknowledge": dataset.schema.citation}
    description = {"Name": dataset.name, "BIDSVersion": VERSION, "DatasetType": "raw"}
    write_json(
        folder / FILE, {**description, **{key: text for key, text in texts.items() if text}, KEY: block}
    )
    write_text(folder / "README", f"{dataset.name}\n\nWritten by medmtl {__version__}.\n")
    strange = sorted({kind.rpartition("_")[2] for kind in kinds.values()} & {"ct", "MR", "image"})
    if strange:
        lines = [f"**/*_{suffix}.nii.gz\n" for suffix in strange]
        write_text(folder / ".bidsignore", "".join([*lines, *(["ct/\n"] if "ct" in strange else [])]))
    if not files:
        return
    made_by = {"GeneratedBy": [{"Name": "medmtl", "Version": __version__}]}
    (folder / _OURS).mkdir(parents=True, exist_ok=True)
    write_json(folder / _OURS / FILE, {**description, "DatasetType": "derivative", **made_by})
    for name, kind in files.items():
        column = dataset.columns[name]
        if column.kind == "mask":
            codes = sorted((code, structure) for structure, code in column.labels.items())
            rows = [{"index": str(code), "name": structure} for code, structure in codes]
            rows += [{"index": str(UNLABELLED), "name": "unlabelled"}]
            _write_tsv(folder / _OURS / f"{kind}.tsv", ["index", "name"], rows)
