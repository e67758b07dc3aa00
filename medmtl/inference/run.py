"""Many cases through one model, results into a PREDICTIONS folder; one bad case never ends the run."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from medmtl.data.dataset import Case, Dataset
from medmtl.data.load import prepare_case
from medmtl.data.prepare import PreparedCase
from medmtl.files import is_free, write_text
from medmtl.inference.device import choose_device
from medmtl.inference.model import Model
from medmtl.inference.predictor import Context, predict_prepared
from medmtl.inference.quantities import find_phases, quantities_from_masks
from medmtl.inference.sources import find_cases
from medmtl.inference.write import write_case
from medmtl.tasks import CaseResult
from medmtl.types import CaseError, Finding, OutputError

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger("medmtl.predict")
Progress = Callable[[int, int], None]


@dataclass
class PredictionRun:
    """A finished PREDICTIONS folder.

    Attributes:
        folder: where it is.
        table: what `predictions.csv` holds.
        outputs: what `outputs.yaml` says of each task.
        findings: why cases were refused or failed.
        images: first image channel of each case.
    """

    folder: Path
    table: pd.DataFrame
    outputs: dict[str, dict[str, Any]]
    findings: list[Finding]
    images: dict[str, Path]


def predict_source(
    model: Model,
    source: Path,
    output: Path | None,
    *,
    tasks: Sequence[str] | None = None,
    split: str = "all",
    device: str = "auto",
    mirror: bool = False,
    progress: Progress | None = None,
) -> PredictionRun:
    """Find the cases of a source and predict them; see `predict_cases`."""
    found = find_cases(source, model.channels, split=split)
    folder = output if output is not None else Path(tempfile.mkdtemp(prefix="medmtl-"))
    return predict_cases(
        model,
        found.cases,
        folder,
        dataset=found.dataset,
        tasks=tasks,
        device=device,
        mirror=mirror,
        progress=progress,
    )


def predict_cases(
    model: Model,
    cases: Sequence[Case],
    output: Path,
    *,
    dataset: Dataset | None = None,
    tasks: Sequence[str] | None = None,
    device: str = "auto",
    mirror: bool = False,
    progress: Progress | None = None,
) -> PredictionRun:
    """Predict cases and write ``predictions.csv``, ``outputs.yaml`` and one folder per case.

    Args:
        model: the model.
        cases: what to predict; their labels are not looked at.
        output: folder for the results; new, empty, or of an earlier prediction.
        dataset: where the cases come from; its headers were checked, those of plain files are not.
        tasks: tasks wanted, all by default.
        device: ``auto``, ``cpu`` or ``cuda``.
        mirror: average dense tasks over in-plane mirror images.
        progress: called after every case.

    Raises:
        ConfigError: unknown task or device.
        OutputError: the output folder holds something else.
    """
    import pandas as pd

    names = model.task_names(tasks)
    where = choose_device(device)
    check_predictions_folder(output)
    context = model.context(where, mirror=mirror)
    output.mkdir(parents=True, exist_ok=True)
    outputs = describe_outputs(model, names)
    write_text(output / "outputs.yaml", yaml.safe_dump({"tasks": outputs}, sort_keys=False))
    (output / "predictions.csv").unlink(missing_ok=True)
    rows, findings = [], []
    for done, case in enumerate(cases, start=1):
        row = _predict_one(model, context, case, dataset, names, outputs, output)
        if row["status"] != "ok":
            findings.append(Finding(row["code"], "error", row["message"], case_id=case.case_id))
            LOG.warning("%s %s: %s", case.case_id, row["status"], row["message"])
        rows.append(row)
        if progress is not None:
            progress(done, len(cases))
    table = pd.DataFrame(rows, columns=_header(rows) or list(_row("")))
    write_text(output / "predictions.csv", table.to_csv(index=False))
    images = {case.case_id: case.images[0] for case in cases}
    return PredictionRun(output, table, outputs, findings, images)


def describe_outputs(model: Model, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`outputs.yaml`: how to read the folder. The first segmentation is ``segmentation.nii.gz``."""
    outputs: dict[str, dict[str, Any]] = {}
    first = next((name for name in names if model.tasks[name].kind == "segmentation"), None)
    for name in names:
        entry = dict(model.tasks[name].describe())
        if model.tasks[name].dense:
            taken = f"{name}_task" if name == "segmentation" else name
            entry["file"] = "segmentation.nii.gz" if name == first else f"{taken}.nii.gz"
        outputs[name] = entry
    return outputs


def check_predictions_folder(output: Path) -> None:
    """Refuse a folder that holds anything but an earlier prediction.

    Raises:
        OutputError: it does.
    """
    if not is_free(output) and not (output / "outputs.yaml").is_file():
        raise OutputError(
            f"{output}: exists and holds something other than predictions; choose another folder"
        )


def _predict_one(
    model: Model,
    context: Context,
    case: Case,
    dataset: Dataset | None,
    names: Sequence[str],
    outputs: dict[str, dict[str, Any]],
    output: Path,
) -> dict[str, Any]:
    """One row of `predictions.csv`; a case that cannot be used is refused, one too large fails."""
    row = _row(case.case_id)
    started = time.perf_counter()
    try:
        prepared = prepare_case(
            case,
            model.columns,
            model.preparation,
            covariates=model.covariates,
            wanted=(),
            spacing_from_pixdim=dataset is None,
        )
        if prepared.image.shape[1] != len(model.channels):
            raise CaseError(
                "MIXED_GRID",
                f"{case.case_id}: has {prepared.image.shape[1]} channels, "
                f"the model needs {len(model.channels)}",
            )
        result = predict_prepared(context, prepared, names)
        phases = _add_quantities(model, prepared, result)
        write_case(output, prepared, result, outputs, phases)
        for task, values in result.values.items():
            row.update({f"{task}.{name}": value for name, value in values.items()})
    except CaseError as error:
        row.update(status="refused", code=error.code, message=str(error))
    except torch.OutOfMemoryError:
        row.update(status="failed", code="OUT_OF_MEMORY", message="the GPU ran out of memory; try device=cpu")
    if row["status"] != "ok":
        shutil.rmtree(output / case.case_id, ignore_errors=True)
    row["seconds"] = round(time.perf_counter() - started, 3)
    return row


def _row(case_id: str) -> dict[str, Any]:
    """The columns that every row of `predictions.csv` has."""
    row = dict.fromkeys(("case_id", "study_uid", "series_uid", "status", "code", "message"), "")
    return {**row, "case_id": case_id, "status": "ok", "seconds": 0.0}


def _add_quantities(model: Model, case: PreparedCase, result: CaseResult) -> tuple[int | None, int | None]:
    """Put what follows from the masks beside what the heads say; returns the ED and ES frames used."""
    given = (case.frame_ed, case.frame_es)
    phases = find_phases(model.tasks, result.dense, model.cycle, given)
    for name, mask in result.dense.items():
        if model.tasks[name].structures:
            found = quantities_from_masks(
                model.tasks[name], mask, model.columns, case.source.voxel_ml, phases
            )
            result.values[name] = {k: v for k, v in found.items() if math.isfinite(v)}
    return phases


def _header(rows: Sequence[dict[str, Any]]) -> list[str]:
    header: dict[str, None] = {}
    for row in rows:
        header.update(dict.fromkeys(row))
    return list(header)
