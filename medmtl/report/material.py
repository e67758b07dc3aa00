"""What an output folder holds: found once, read once, handed to every section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.report.read import read_mapping, read_table
from medmtl.types import ConfigError, MedmtlError, OutputError

if TYPE_CHECKING:
    from pandas import DataFrame

    from medmtl.data.dataset import Case, Dataset
    from medmtl.evaluation import PredictedTask


@dataclass(frozen=True)
class Material:
    """Everything the report is drawn from; None or empty where a folder lacks it.

    Attributes:
        folder: the folder that gets the report.
        kind: evaluation, predictions or training.
        run: RUN folder that the model came from.
        evaluation: content of evaluation.yaml.
        metrics: content of metrics.json, task -> metric -> {value, ci_low, ci_high, n, unit}.
        cases: evaluation's cases.csv, a row per case and frame.
        predictions_folder: folder with predictions.csv.
        predictions: its table, a row per case.
        outputs: what the prediction columns and files mean.
        dataset: the labelled cases.
        truth: category and value columns of the dataset, indexed by case_id.
        no_dataset: one sentence, why there is no dataset.
    """

    folder: Path
    kind: str
    run: Path | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    cases: DataFrame | None = None
    predictions_folder: Path | None = None
    predictions: DataFrame | None = None
    outputs: Mapping[str, PredictedTask] = field(default_factory=dict)
    dataset: Dataset | None = None
    truth: DataFrame | None = None
    no_dataset: str = ""

    @cached_property
    def by_case(self) -> DataFrame:
        """The predictions' table, indexed by case_id; without rows where there are none."""
        import pandas as pd

        table = pd.DataFrame({"case_id": []}) if self.predictions is None else self.predictions
        return table.drop_duplicates("case_id").set_index("case_id")

    @cached_property
    def dataset_cases(self) -> Mapping[str, Case]:
        """The dataset's cases by case_id."""
        return {case.case_id: case for case in self.dataset.cases} if self.dataset is not None else {}


def gather(folder: Path, dataset: Dataset | Path | str | None) -> Material:
    """Read what `folder` holds.

    Raises:
        ConfigError: the folder does not exist, or holds nothing to report.
        OutputError: one of its files cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is not a folder; name a folder that medmtl train, evaluate or predict wrote"
        )
    evaluation = read_mapping(folder / "evaluation.yaml") or {}
    metrics = read_mapping(folder / "metrics.json") or {}
    predictions_folder = _predictions_folder(folder, evaluation)
    run = _run_folder(folder, evaluation)
    if not (metrics or predictions_folder or run):
        raise ConfigError(
            f"{folder} holds nothing to report: expected metrics.json or evaluation.yaml (medmtl evaluate), "
            "predictions.csv "
            "(medmtl predict), or metrics.csv or weights.csv (medmtl train)"
        )
    is_evaluation = bool(metrics or evaluation)
    is_run = _is_run(folder)
    predictions = read_table(predictions_folder / "predictions.csv") if predictions_folder else None
    cases = read_table(folder / "cases.csv") if is_evaluation else None
    predictions = _evaluated(predictions, cases)
    opened, truth, no_dataset = _labelled(folder, evaluation, dataset, predictions)
    return Material(
        folder=folder,
        kind="evaluation" if is_evaluation else "training" if is_run else "predictions",
        run=run,
        evaluation=evaluation,
        metrics=_checked(folder, metrics),
        cases=cases,
        predictions_folder=predictions_folder,
        predictions=predictions,
        outputs=_tasks(predictions_folder, predictions, opened),
        dataset=opened,
        truth=truth,
        no_dataset=no_dataset,
    )


def _is_run(folder: Path) -> bool:
    return (folder / "weights.csv").is_file() or (folder / "metrics.csv").is_file()


def _run_folder(folder: Path, evaluation: Mapping[str, Any]) -> Path | None:
    if _is_run(folder):
        return folder
    run = _resolve(folder, evaluation.get("run"))
    return run if run is not None and _is_run(run) else None


def _predictions_folder(folder: Path, evaluation: Mapping[str, Any]) -> Path | None:
    places = [folder, _resolve(folder, evaluation.get("predictions")), folder / "predictions"]
    return next(
        (place for place in places if place is not None and (place / "predictions.csv").is_file()), None
    )


def _resolve(folder: Path, name: object) -> Path | None:
    """An existing folder that evaluation.yaml names, relative to itself or to the working directory."""
    if not isinstance(name, str) or not name:
        return None
    return next((place for place in (folder / name, Path(name)) if place.is_dir()), None)


def _labelled(
    folder: Path,
    evaluation: Mapping[str, Any],
    given: Dataset | Path | str | None,
    predictions: DataFrame | None,
) -> tuple[Dataset | None, DataFrame | None, str]:
    """The predicted cases of the dataset, their true values and, where there is no dataset, why."""
    from medmtl.data.dataset import Dataset, open_dataset

    if given is not None:
        dataset = given if isinstance(given, Dataset) else open_dataset(given)
        return (*_predicted(dataset, predictions), "")
    name = evaluation.get("dataset")
    if not name:
        return None, None, "no dataset with labels is named for this folder."
    place = _resolve(folder, name)
    if place is None:
        return (
            None,
            None,
            f"the dataset folder {Path(str(name)).name} is no longer where evaluation.yaml says.",
        )
    try:
        return (*_predicted(open_dataset(place), predictions), "")
    except MedmtlError as error:
        return None, None, f"the dataset cannot be used: {error}"


def _predicted(dataset: Dataset, predictions: DataFrame | None) -> tuple[Dataset, DataFrame | None]:
    """The dataset narrowed to the predicted cases, so that only their masks are read for their values."""
    if predictions is None:
        return dataset, None
    predicted = set(predictions["case_id"])
    narrowed = replace(dataset, cases=tuple(case for case in dataset.cases if case.case_id in predicted))
    return narrowed, narrowed.targets


def _tasks(
    folder: Path | None, predictions: DataFrame | None, dataset: Dataset | None
) -> Mapping[str, PredictedTask]:
    from medmtl.evaluation.read import read_predictions

    if folder is None or predictions is None:
        return {}
    return read_predictions(folder, {} if dataset is None else dataset.columns).tasks


def _evaluated(predictions: DataFrame | None, cases: DataFrame | None) -> DataFrame | None:
    """The predictions of the evaluated cases, with what evaluation measured on their masks."""
    if predictions is None or cases is None:
        return predictions
    chosen = predictions[predictions["case_id"].isin(set(cases["case_id"]))].copy()
    whole = cases[cases["frame"].isna()] if "frame" in cases.columns else cases
    whole = whole.drop_duplicates("case_id").set_index("case_id")
    for column in whole.columns:
        task, _, name = str(column).partition(".")
        if f"{task}.truth.{name}" in whole.columns:
            chosen[column] = whole[column].reindex(chosen["case_id"]).to_numpy()
    return chosen


def _checked(folder: Path, metrics: Mapping[str, Any]) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    for task, entries in metrics.items():
        if not isinstance(entries, Mapping) or not all(
            isinstance(entry, Mapping) for entry in entries.values()
        ):
            raise OutputError(
                f"{folder / 'metrics.json'}: task {task!r} must map every metric to its value, n and unit; "
                "evaluate again"
            )
    return metrics
