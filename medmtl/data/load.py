"""Cases of a dataset -> prepared cases: every image, mask, map and value that the network will need."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from medmtl.data.dataset import Case, Column, Dataset
from medmtl.data.prepare import (
    Preparation,
    PreparedCase,
    labelled_frames,
    organ_centre,
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

    Raises:
        CaseError: a file cannot be used; names the file.
    """
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
        frame_ed=case.frame_ed,
        frame_es=case.frame_es,
    )
    given = case.values if targets is None else targets
    for name, column in columns.items():
        if wanted is not None and name not in wanted:
            continue
        if column.kind == "mask" and name in case.files:
            prepared.masks[name] = prepare_mask(case.files[name], source, column.labels, preparation)
        elif column.kind == "map" and name in case.files:
            prepared.maps[name] = prepare_map(case.files[name], source, preparation)
        elif column.kind == "category" and isinstance(given.get(name), str):
            prepared.values[name] = float(column.classes.index(str(given[name])))
        elif column.kind == "value" and (number := _number(given.get(name))) is not None:
            prepared.values[name] = number
    for name, label in {**prepared.masks, **prepared.maps}.items():
        if len(label) != len(image):
            raise CaseError(
                "LABEL_GEOMETRY_MISMATCH",
                f"{case.files[name]}: has {len(label)} frames, its image has {len(image)}",
            )
        prepared.labelled[name] = labelled_frames(label)
    prepared.centre = organ_centre(prepared.masks, image.shape[2:])
    numbers = [_number(given.get(name)) for name in covariates]
    prepared.covariates = torch.tensor([math.nan if n is None else n for n in numbers])
    return prepared


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
