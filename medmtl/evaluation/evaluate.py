"""Evaluation of a folder of predictions, wherever they were made, against a dataset."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.data import Case, Dataset
from medmtl.evaluation.classes import fill_classes, summarise_classes
from medmtl.evaluation.maps import score_map, summarise_map
from medmtl.evaluation.masks import PHASES, score_masks, structures_of, summarise_masks
from medmtl.evaluation.read import Predictions, read_predictions
from medmtl.evaluation.record import CaseRecord, Entry, Metrics, Missing
from medmtl.evaluation.tasks import MASK_KINDS, PredictedTask
from medmtl.evaluation.values import ValueColumn, fill_values, summarise_values, value_columns
from medmtl.evaluation.write import cases_table, prepare_folder, write_evaluation
from medmtl.types import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame

Progress = Callable[[int, int], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: ``{task: {metric: {"value", "ci_low", "ci_high", "n", "unit"}}}``; what is undefined is None.
        cases: a row per case (blank ``frame``) and per labelled frame.
        path: the EVALUATION folder.
        missing: what should have been scored and was not, and why.
        notes: what else a reader should know.
    """

    metrics: Metrics
    cases: DataFrame
    path: Path
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = ()


def evaluate_predictions(
    predictions: Path,
    dataset: Dataset,
    output: Path,
    *,
    split: str = "test",
    run: Path | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores a predictions folder and writes ``metrics.json``, ``cases.csv`` and ``evaluation.yaml``.

    Every case of the split is scored in one pass. A case that was not predicted, was refused or failed, or
    whose volume is damaged or on another grid is listed in ``missing``; it enters no mean, and every mean
    says its ``n``.

    Args:
        predictions: folder with ``predictions.csv`` and ``<case_id>/segmentation.nii.gz``.
        dataset: the truth; a dataset without labels gives blank cells and ``n`` 0.
        output: EVALUATION folder to write into.
        split: ``train``, ``val``, ``test`` or ``all``.
        run: run that made the predictions, to be named in ``evaluation.yaml``.
        seed: seed of the bootstrap.
        workers: threads; more than two seldom help.
        progress: called with the number of cases done and of all cases.

    Raises:
        ConfigError: the split has no case, or the predictions contradict themselves or the dataset; nothing
            was written.
        OutputError: the output cannot be written.
    """
    selected = _select(dataset, split)
    read = read_predictions(Path(predictions), dataset.columns)
    values = {name: value_columns(task, dataset, read) for name, task in read.tasks.items()}
    records: list[CaseRecord] = []
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for record in pool.map(lambda case: _score_case(case, dataset, read, values), selected):
            records.append(record)
            if progress is not None:
                progress(len(records), len(selected))
    metrics, notes = _summarise(dataset, read, values, records, selected, seed)
    missing = tuple(found for record in records for found in record.missing)
    notes = (*read.notes, *_task_notes(dataset, read), *notes, *_counted(records))
    table = cases_table(records, list(read.tasks))
    output = Path(output)
    prepare_folder(output)
    description: dict[str, Any] = {
        "dataset": str(dataset.root.resolve()),
        "predictions": _relative_to(read.root, output),
        "split": split,
        "run": None if run is None else str(Path(run).resolve()),
        "seed": seed,
        "n_cases": len(records),
        "missing": [asdict(found) for found in missing],
        "notes": list(notes),
    }
    write_evaluation(output, metrics, table, description)
    for found in missing:
        what = f"{found.case_id}, {found.task}" if found.task else found.case_id
        _log.warning("%s is not scored: %s %s", what, found.code or found.status, found.message)
    for note in notes:
        _log.info("%s", note)
    return Evaluation(metrics, table, output, missing, notes)


def _select(dataset: Dataset, split: str) -> tuple[Case, ...]:
    selected = dataset.select(split)
    if not selected:
        counts = Counter(case.split or "blank" for case in dataset.cases)
        found = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        raise ConfigError(
            f"{dataset.root / 'cases.csv'}, column split: no case is in {split!r} (found {found}); evaluate "
            "another split, or all"
        )
    return selected


def _score_case(
    case: Case, dataset: Dataset, read: Predictions, values: Mapping[str, tuple[ValueColumn, ...]]
) -> CaseRecord:
    status, code, message = read.status(case.case_id)
    ok = status == "ok"
    record = CaseRecord(case.case_id, row={"status": status, "message": message})
    if not ok:
        record.missing.append(Missing(case.case_id, "", status, code, message))
    for name, task in read.tasks.items():
        if ok and task.kind in MASK_KINDS:
            score_masks(task, case, dataset, read, record)
        elif ok and task.kind == "dense_regression":
            score_map(task, case, dataset, read, record)
        elif task.kind == "classification":
            fill_classes(task, dataset, read, record, ok)
        fill_values(values[name], dataset, read, record, ok)
    if ok and record.missing:
        record.row["status"] = "error"
        record.row["message"] = "; ".join(found.message for found in record.missing)
    return record


def _summarise(
    dataset: Dataset,
    read: Predictions,
    values: Mapping[str, tuple[ValueColumn, ...]],
    records: list[CaseRecord],
    selected: tuple[Case, ...],
    seed: int,
) -> tuple[Metrics, tuple[str, ...]]:
    phased = any(case.frame_ed is not None or case.frame_es is not None for case in selected) or any(
        phase in record.frames for record in records for phase in PHASES
    )
    metrics: Metrics = {}
    notes: list[str] = []
    for name, task in read.tasks.items():
        entries: dict[str, Entry] = {}
        if task.kind in MASK_KINDS:
            entries = summarise_masks(task, dataset, records, phased, seed)
        elif task.kind == "dense_regression":
            entries = summarise_map(task, dataset, records, seed)
        elif task.kind == "classification":
            entries, of_task = summarise_classes(task, dataset, records, seed)
            notes += of_task
        metrics[name] = entries | summarise_values(values[name], records, seed)
    return metrics, tuple(notes)


def _task_notes(dataset: Dataset, read: Predictions) -> list[str]:
    """What of the predictions has no counterpart in the dataset, and the other way round."""
    notes = []
    for task in read.tasks.values():
        notes += _target_notes(task, dataset)
    extra = sorted(set(read.rows) - {case.case_id for case in dataset.cases})
    if extra:
        shown = ", ".join(extra[:3]) + (", ..." if len(extra) > 3 else "")
        notes.append(f"{len(extra)} predicted case(s) are not in the dataset: {shown}")
    return notes


def _target_notes(task: PredictedTask, dataset: Dataset) -> list[str]:
    column = dataset.columns.get(task.target)
    if task.target and column is None:
        return [f"{task.name}: the dataset has no column {task.target!r} to hold it against"]
    notes = []
    if column is not None and column.kind == "mask" and task.kind in MASK_KINDS:
        common = set(structures_of(task, dataset))
        for owner, labels in (("the dataset", column.labels), ("the prediction", task.labels)):
            alone = [name for name in labels if name not in common]
            if alone:
                notes.append(f"{task.name}: only {owner} has {', '.join(alone)}; not scored")
    notes += [
        f"{task.name}: the dataset has no value column {name!r} to hold it against"
        for name in task.values
        if name not in dataset.columns
    ]
    return notes


def _counted(records: list[CaseRecord]) -> list[str]:
    """Notes of single cases, each with the number of times that it was made."""
    counts = Counter(note for record in records for note in record.notes)
    return [f"{note} ({count} time{'s' if count > 1 else ''})" for note, count in counts.items()]


def _relative_to(folder: Path, output: Path) -> str:
    inner, outer = folder.resolve(), output.resolve()
    return inner.relative_to(outer).as_posix() if inner.is_relative_to(outer) else str(inner)
