"""Cases of a dataset -> prepared cases: every image, mask, map and value that the network will need."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medmtl.data.dataset import Case, Column, Dataset
from medmtl.data.foreground import foreground_index, labelled_box, organ_place
from medmtl.data.overview import make_coarse
from medmtl.data.prepare import (
    LoadedImage,
    Preparation,
    PreparedCase,
    labelled_frames,
    prepare_image,
    prepare_map,
    prepare_mask,
)
from medmtl.types import CaseError, Finding


def prepare_case(
    case: Case,
    columns: Mapping[str, Column],
    preparation: Preparation,
    *,
    covariates: Sequence[str] = (),
    targets: Mapping[str, float | str | None] | None = None,
    wanted: Sequence[str] | None = None,
    spacing_from_pixdim: bool = False,
    loaded: LoadedImage | None = None,
) -> PreparedCase:
    """Bring one case onto the network's grid.

    Args:
        case: where its files are.
        columns: the dataset's columns.
        preparation: spacing, normalization.
        covariates: value columns that heads read as input.
        targets: category and value columns of this case (derived ones too); by default its own cells.
        wanted: label columns to read; all by default.
        spacing_from_pixdim: trust the header's voxel sizes over its affine (see `read_geometry`).
        loaded: its image, where that does not come from files.

    Raises:
        CaseError: a file cannot be used; names the file.
    """
    names = [name for name in columns if wanted is None or name in wanted]
    voxelwise = {name: columns[name] for name in names if columns[name].kind in ("mask", "map")}
    prepared = prepare_volumes(
        case, voxelwise, preparation, spacing_from_pixdim=spacing_from_pixdim, loaded=loaded
    )
    given = case.values if targets is None else targets
    facts = table_facts(case, {name: columns[name] for name in names}, given, covariates)
    return replace(prepared, **facts)


def prepare_volumes(
    case: Case,
    columns: Mapping[str, Column],
    preparation: Preparation,
    *,
    spacing_from_pixdim: bool = False,
    loaded: LoadedImage | None = None,
) -> PreparedCase:
    """The part of `prepare_case` that comes from volumes: image, masks and maps, and where the organ lies.

    Args:
        case: where its files are.
        columns: the mask and map columns to read.
        preparation: spacing, normalization.
        spacing_from_pixdim: trust the header's voxel sizes over its affine.
        loaded: its image, where that does not come from files.

    Raises:
        CaseError: a file cannot be used; names the file.
    """
    if loaded is None:
        loaded = prepare_image(case.images, preparation, spacing_from_pixdim=spacing_from_pixdim)
    image, source = loaded.image, loaded.source
    x, y, z = np.linalg.norm(loaded.affine[:3, :3], axis=0).tolist()
    prepared = PreparedCase(
        case_id=case.case_id,
        image=image,
        spacing_mm=(x, y, z),
        source=source,
        is_4d=loaded.is_4d,
        affine=loaded.affine,
        time_step_ms=loaded.time_step_ms,
    )
    for name, column in columns.items():
        if column.kind == "mask" and name in case.files:
            prepared.masks[name] = prepare_mask(case.files[name], source, column.labels, preparation)
        elif column.kind == "map" and name in case.files:
            prepared.maps[name] = prepare_map(case.files[name], source, preparation)
    for name, label in {**prepared.masks, **prepared.maps}.items():
        if len(label) != len(image):
            raise CaseError(
                "LABEL_GEOMETRY_MISMATCH",
                f"{case.files[name]}: has {len(label)} frames, its image has {len(image)}",
            )
        prepared.labelled[name] = labelled_frames(label)
    boxes = [labelled_box(mask) for mask in prepared.masks.values()]
    prepared.centre, prepared.extent = organ_place(boxes, prepared.shape)
    prepared.foreground = foreground_index(prepared.masks)
    if preparation.overview is not None:
        prepared.coarse = make_coarse(image, preparation.overview)
    return prepared


def table_facts(
    case: Case,
    columns: Mapping[str, Column],
    given: Mapping[str, float | str | None],
    covariates: Sequence[str] = (),
) -> dict[str, Any]:
    """The part of `prepare_case` that comes from the table, as fields of a `PreparedCase`.

    Args:
        case: frames of ED and ES.
        columns: the category and value columns to read, among others.
        given: what they hold for this case.
        covariates: value columns that heads read as input.
    """
    values: dict[str, float] = {}
    for name, column in columns.items():
        if column.kind == "category" and isinstance(given.get(name), str):
            values[name] = float(column.classes.index(str(given[name])))
        elif column.kind == "value" and (number := _number(given.get(name))) is not None:
            values[name] = number
    numbers = [_number(given.get(name)) for name in covariates]
    return {
        "frame_ed": case.frame_ed,
        "frame_es": case.frame_es,
        "values": values,
        "covariates": torch.tensor([math.nan if n is None else n for n in numbers]),
    }


def prepare_cases(
    dataset: Dataset,
    cases: Sequence[Case],
    preparation: Preparation,
    *,
    covariates: Sequence[str] = (),
    wanted: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[PreparedCase], list[Finding]]:
    """Prepare many cases side by side; a case that cannot be used becomes a finding, and the others go on."""
    targets = dataset.targets
    prepared: list[PreparedCase] = []
    findings: list[Finding] = []

    def one(case: Case) -> PreparedCase | Finding:
        try:
            row = {str(k): v for k, v in targets.loc[case.case_id].to_dict().items()}
            return prepare_case(
                case, dataset.columns, preparation, covariates=covariates, targets=row, wanted=wanted
            )
        except CaseError as error:
            return Finding(error.code, "error", str(error), case_id=case.case_id)

    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for done, result in enumerate(pool.map(one, cases), start=1):
            if isinstance(result, Finding):
                findings.append(result)
            else:
                prepared.append(result)
            if progress is not None:
                progress(done, len(cases))
    return prepared, findings


def _number(value: float | str | None) -> float | None:
    """The value as a finite number, or None."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return None
    return float(value)
