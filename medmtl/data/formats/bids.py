"""BIDS: ``sub-01/ses-01/anat``, covariates in ``participants.tsv``, masks below ``derivatives``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from medmtl.data.columns import Schema
from medmtl.data.formats.base import FORMATS, DatasetFormat, LoadedCase, RawCase
from medmtl.data.formats.bids_layout import FILE, Description, Key, case_name
from medmtl.data.formats.bids_tables import PARTICIPANTS
from medmtl.data.formats.description import frames_and_split, parse_values
from medmtl.data.formats.tables import TableRow
from medmtl.data.formats.volumes import read_any, same_grid
from medmtl.data.nifti import Volume
from medmtl.types import CaseError, Finding


@FORMATS.register("bids")
class Bids(DatasetFormat):
    """A BIDS data set: one case per subject, session and run; kinds of image on one grid are channels.

    Masks are ``*_dseg`` (named by ``dseg.tsv``) and ``*_mask`` files of ``derivatives``. Where images of
    several grids are there, those are taken that the masks lie on.
    """

    looks_for: ClassVar[str] = f"{FILE} beside folders sub-01, sub-02, ..."
    rank: ClassVar[int] = 2

    def recognizes(self, path: Path) -> str | None:
        """``dataset_description.json`` and the first subject."""
        if not (path / FILE).is_file():
            return None
        first = min((folder.name for folder in path.glob("sub-*") if folder.is_dir()), default=None)
        return f"{FILE} and the folder {first}" if first is not None else None

    def schema(self, path: Path) -> Schema:
        """Channels, a mask column per kind of mask, and the covariates of participants and sessions."""
        return Description.read(path).schema

    def read(self, path: Path) -> Iterable[RawCase]:
        """One case per subject, session and run, by name."""
        description = Description.read(path)
        found = []
        for key in description.cases:
            row = description.covariates.row(key[0], key[1])
            given = row.cells.get("case_id") if row is not None and description.ours else None
            found.append((given or case_name(key), key, row))
        for number, (case_id, key, row) in enumerate(sorted(found, key=lambda case: case[0])):
            remarks = description.remarks if number == 0 else ()
            yield RawCase(case_id, case_name(key), partial(_load, description, key, row, remarks))


def _load(
    description: Description, key: Key, row: TableRow | None, findings: tuple[Finding, ...]
) -> LoadedCase:
    """Reads one case.

    Raises:
        CaseError: an image is missing, or a file or a cell cannot be used.
    """
    files = description.cases[key]
    for kind in description.kinds:
        if kind not in files:
            raise CaseError(
                "NO_USABLE_SERIES", f"{case_name(key)}: the image {case_name(key)}_{kind} is missing"
            )
    volumes = tuple(read_any(files[kind].path) for kind in description.kinds)
    for kind, volume in zip(description.kinds[1:], volumes[1:], strict=True):
        same_grid(files[kind].path.name, volume, volumes[0], "MIXED_GRID")
    labels = {}
    for name, by_case in description.labels.items():
        if key not in by_case:
            continue
        path = by_case[key].path
        label = _over_time(read_any(path), volumes[0])
        same_grid(path.name, label, volumes[0], "LABEL_GEOMETRY_MISMATCH")
        array = label.array
        if name in description.maps:
            array = description.maps[name].apply(array, path.name)
        labels[name] = Volume(array, volumes[0].geometry)
    patient = f"sub-{key[0]}"
    if row is None:
        return LoadedCase(patient, volumes, labels, findings=findings)
    if description.ours:
        patient = row.cells.get("patient") or patient
    values = parse_values(row, description.schema.columns, PARTICIPANTS)
    frame_ed, frame_es, split = frames_and_split(row, PARTICIPANTS)
    return LoadedCase(patient, volumes, labels, values, frame_ed, frame_es, split, findings)


def _over_time(label: Volume, image: Volume) -> Volume:
    """A 3D mask of a 4D image holds for all of its frames, as BIDS has it."""
    frames = image.geometry.frames
    if label.array.ndim != 3 or frames == 1:
        return label
    array = np.broadcast_to(label.array[..., None], (*label.array.shape, frames))
    return Volume(array, replace(label.geometry, frames=frames))
