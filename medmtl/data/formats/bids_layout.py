"""What a BIDS data set holds: which images are the channels, which files are masks, what the tables say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medmtl.data.columns import Column, Schema
from medmtl.data.formats.bids_files import BidsFile, derivatives, images
from medmtl.data.formats.bids_tables import PARTICIPANTS, Covariates, read_covariates, structure_names
from medmtl.data.formats.description import KEY, read_json, safe_name, section, text_of
from medmtl.data.formats.labels import LabelMap, plain_codes
from medmtl.data.formats.volumes import read_any
from medmtl.data.nifti import Geometry, read_geometry
from medmtl.data.problems import Problems
from medmtl.data.schema import parse_schema
from medmtl.types import UNLABELLED, CaseError, DatasetError, Finding

FILE = "dataset_description.json"
_NAMING = ("desc", "label", "seg", "atlas")
_MODALITIES = {"pet": "PT", "ct": "CT"}

Key = tuple[str, str, str]
"""Subject, session, run."""


def case_name(key: Key) -> str:
    """``sub-01_ses-02_run-1``, as its files begin."""
    sub, ses, run = key
    return f"sub-{sub}" + (f"_ses-{ses}" if ses else "") + (f"_run-{run}" if run else "")


@dataclass(frozen=True)
class Description:
    """What the folder says.

    Attributes:
        cases: image of each kind, by subject, session and run.
        kinds: kind of image of each channel.
        labels: file of each mask or map column, by case.
        maps: how the values of each mask column become codes.
        covariates: the tables.
        schema: what the columns mean.
        ours: the folder was written by medmtl.
        remarks: what was left out.
    """

    cases: Mapping[Key, Mapping[str, BidsFile]]
    kinds: tuple[str, ...]
    labels: Mapping[str, Mapping[Key, BidsFile]]
    maps: Mapping[str, LabelMap]
    covariates: Covariates
    schema: Schema
    ours: bool
    remarks: tuple[Finding, ...]

    @classmethod
    def read(cls, root: Path) -> Description:
        """Looks at names, tables and headers.

        Raises:
            DatasetError: a table or description cannot be used, or it cannot be told which images are meant.
        """
        data = read_json(root / FILE)
        block = section(data, KEY, root / FILE) if KEY in data else {}
        cases = _by_case(images(root))
        if not cases:
            raise DatasetError(f"{root}: holds no image such as sub-01/anat/sub-01_T1w.nii.gz")
        derived = derivatives(root)
        if "channels" in block:
            named = section(block, "channels", root / FILE)
            channels, kinds = tuple(named), tuple(str(kind) for kind in named.values())
        else:
            kinds = _kinds(root, cases, derived)
            channels = tuple(safe_name(kind) for kind in kinds)
        chosen = [file for files in cases.values() for kind, file in files.items() if kind in kinds]
        covariates = read_covariates(root, sorted({sub for sub, _, _ in cases}))
        if "columns" in block:
            labels, maps, schema = _as_written(root, block, channels, derived, cases)
        else:
            labels, maps = _masks(root, derived, chosen, cases)
            masks = {name: Column(name, "mask", labels=mask.codes) for name, mask in maps.items()}
            clash = next((name for name in masks if name in covariates.columns), None)
            if clash is not None:
                raise DatasetError(
                    f"{root / PARTICIPANTS}: the column {clash!r} has a mask's name; rename it"
                )
            modality = _MODALITIES.get(chosen[0].folder, "MR") if chosen else "MR"
            schema = Schema("", modality, channels, {**masks, **covariates.columns})
        schema = replace(
            schema,
            name=text_of(data, "Name") or root.resolve().name,
            citation=text_of(data, "HowToAcknowledge", "DatasetDOI"),
            licence=text_of(data, "License"),
        )
        findings = _left_out(cases, kinds) + (() if "columns" in block else covariates.remarks(FILE))
        wanted = {key: files for key, files in cases.items() if set(kinds) & set(files)}
        return cls(wanted, kinds, labels, maps, covariates, schema, bool(block), findings)


def _left_out(cases: Mapping[Key, Mapping[str, BidsFile]], kinds: Sequence[str]) -> tuple[Finding, ...]:
    others = sorted({kind for files in cases.values() for kind in files} - set(kinds))
    why = "not every case has them, or they lie on another grid"
    return tuple(
        Finding("MIXED_GRID", "info", f"images of the kind {kind} are not read: {why}", FILE)
        for kind in others
    )


def _by_case(files: Sequence[BidsFile]) -> dict[Key, dict[str, BidsFile]]:
    cases: dict[Key, dict[str, BidsFile]] = {}
    for file in files:
        cases.setdefault(file.case, {})[file.kind] = file
    return cases


def _kinds(
    root: Path, cases: Mapping[Key, Mapping[str, BidsFile]], derived: Sequence[BidsFile]
) -> tuple[str, ...]:
    """The kinds of image that are the channels: those on one grid, if need be the grid of the masks.

    Raises:
        DatasetError: several grids, and no mask says which is meant.
    """
    counts = Counter(kind for files in cases.values() for kind in files)
    common = sorted(kind for kind, count in counts.items() if count == max(counts.values()))
    if len(common) == 1:
        return (common[0],)
    complete = [(key, files) for key, files in cases.items() if set(common) <= set(files)]
    by_grid = ((key, _by_grid([files[kind] for kind in common])) for key, files in complete)
    key, grids = next(((key, grids) for key, grids in by_grid if grids), (None, []))
    if key is None and complete:
        return tuple(common)  # no file can be read, and each case says so
    masks = [mask for mask in derived if key is not None and mask.case[:2] == key[:2]]
    drawn = [group for group in grids if any(mask.may_belong_to(file) for mask in masks for file in group)]
    for groups in (grids, drawn):
        if len(groups) == 1:
            return tuple(file.kind for file in groups[0])
    shown = ", ".join(f"{kind} ({counts[kind]})" for kind in common)
    example = f'"{KEY}": {{"channels": {{"{safe_name(common[0])}": "{common[0]}"}}}}'
    raise DatasetError(
        f"{root}: holds images of several kinds that do not lie on one grid: {shown}; say in {FILE} which "
        f"are meant, as in {example}"
    )


def _by_grid(files: Sequence[BidsFile]) -> list[list[BidsFile]]:
    """Files that can be read, together with those on the same grid."""
    groups: list[tuple[Geometry, list[BidsFile]]] = []
    for file in files:
        try:
            geometry = read_geometry(file.path)
        except CaseError:
            continue  # its case says what is wrong with it
        fitting = (group for grid, group in groups if _same(grid, geometry))
        group = next(fitting, None)
        if group is None:
            groups.append((geometry, [file]))
        else:
            group.append(file)
    return [group for _, group in groups]


def _same(one: Geometry, other: Geometry) -> bool:
    return not one.differs_from(other) and one.frames == other.frames


def _masks(
    root: Path, derived: Sequence[BidsFile], chosen: Sequence[BidsFile], cases: Mapping[Key, object]
) -> tuple[dict[str, dict[Key, BidsFile]], dict[str, LabelMap]]:
    """The mask columns of somebody else's data set, named by ``desc``, ``label`` and the like."""
    of_case: dict[tuple[str, str], list[BidsFile]] = {}
    for image in chosen:
        of_case.setdefault(image.case[:2], []).append(image)
    groups: dict[tuple[str, str], list[BidsFile]] = {}
    for file in derived:
        owners = of_case.get(file.case[:2], [])
        if file.suffix in ("dseg", "mask") and any(file.may_belong_to(image) for image in owners):
            groups.setdefault((file.pipeline, file.kind), []).append(file)
    short = {group: _column_name(files[0]) for group, files in groups.items()}
    repeated = Counter(short.values())
    labels: dict[str, dict[Key, BidsFile]] = {}
    maps: dict[str, LabelMap] = {}
    for (pipeline, kind), files in sorted(groups.items()):
        name = short[pipeline, kind]
        if repeated[name] > 1:
            name = safe_name(f"{pipeline}_{kind}")
        labels[name] = _by_owner(files, cases)
        if files[0].suffix == "mask":
            structure = next(
                (files[0].entities[key] for key in ("label", "desc") if key in files[0].entities), "mask"
            )
            maps[name] = LabelMap({1: structure}, {structure: 1})
            continue
        names = structure_names(files, root)
        blank = tuple(value for value, text in names.items() if text.lower() in ("unlabelled", "ignore"))
        names = {value: text for value, text in names.items() if value not in blank}
        named = plain_codes(names, f"dseg.tsv of {kind}") if names else _numbered(files)
        maps[name] = replace(named, unlabelled=(*named.unlabelled, *blank))
    return labels, maps


def _column_name(file: BidsFile) -> str:
    given = next((file.entities[key] for key in _NAMING if key in file.entities), "")
    return given or ("segmentation" if file.suffix == "dseg" else "mask")


def _by_owner(files: Sequence[BidsFile], cases: Iterable[Key]) -> dict[Key, BidsFile]:
    """Each file by its case; a mask without a run belongs to the only run that there is."""
    found = {}
    for file in files:
        sub, ses, run = file.case
        owners = [key for key in cases if key[:2] == (sub, ses)]
        exact = [key for key in owners if key[2] == run]
        for key in exact or (owners if not run and len(owners) == 1 else []):
            found[key] = file
    return found


def _numbered(files: Sequence[BidsFile]) -> LabelMap:
    """Structures called by number, where no ``dseg.tsv`` names them."""
    values: set[int] = set()
    for file in files:
        try:
            values |= {int(value) for value in np.unique(read_any(file.path).array)}
        except (CaseError, ValueError):
            continue  # the case that has this file says what is wrong with it
    names = {value: f"label_{value}" for value in sorted(values - {0, UNLABELLED})} or {1: "label_1"}
    return replace(plain_codes(names, "derivatives"), unlabelled=(UNLABELLED,))


def _as_written(
    root: Path,
    block: Mapping[str, Any],
    channels: tuple[str, ...],
    derived: Sequence[BidsFile],
    cases: Iterable[Key],
) -> tuple[dict[str, dict[Key, BidsFile]], dict[str, LabelMap], Schema]:
    """The columns of a data set that medmtl wrote: as they were."""
    data = {
        "medmtl_dataset": 1,
        "name": root.name,
        "modality": block.get("modality", ""),
        "channels": list(channels),
        "columns": block["columns"],
        "cycle": block.get("cycle"),
    }
    problems = Problems(root)
    schema = parse_schema(data, problems, f"{FILE}, {KEY}")
    problems.raise_if_any()
    kinds = block.get("files", {})
    labels = {}
    maps = {}
    for name, column in schema.columns.items():
        if column.kind in ("mask", "map") and isinstance(kinds, dict) and name in kinds:
            labels[name] = _by_owner([file for file in derived if file.kind == kinds[name]], cases)
        if column.kind == "mask":
            names = {value: structure for structure, value in column.labels.items()}
            maps[name] = LabelMap(names, column.labels, (UNLABELLED,))
    return labels, maps, schema
