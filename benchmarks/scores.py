"""What a trained model says of the cases of a split, scored case by case on the network's grid."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch

from medmtl.data import Dataset
from medmtl.data.load import prepare_cases
from medmtl.inference import Model
from medmtl.inference.predictor import predict_prepared
from medmtl.metrics import Estimate, bootstrap_interval, dice, macro_auc
from medmtl.types import UNLABELLED


def score_split(
    model: Model, dataset: Dataset, split: str, device: str, until: float = math.inf
) -> dict[str, dict[str, Any]]:
    """By case: the mean Dice of every mask task, true and predicted class of every classification.

    Dice is the mean over structures of the mean over labelled frames. A structure that neither has counts
    for nothing. No case is begun after ``until``, on the clock of `time.perf_counter`.
    """
    context = model.context(torch.device(device))
    wanted = tuple(target for task in model.tasks.values() for target in task.targets)
    cases, refused = prepare_cases(
        dataset, dataset.select(split), model.preparation, covariates=model.covariates, wanted=wanted
    )
    assert not refused, refused
    rows: dict[str, dict[str, Any]] = {}
    for case in cases:
        if time.perf_counter() > until:
            break
        result = predict_prepared(context, case, list(model.tasks), on_source_grid=False)
        row: dict[str, Any] = {}
        for name, task in model.tasks.items():
            target = task.targets[0]
            if task.kind in ("segmentation", "tissue") and target in case.masks:
                labels = task.columns[target].labels
                row[f"{name}.dice"] = _mean_dice(result.dense[name], case.masks[target].cpu().numpy(), labels)
            elif task.kind == "classification" and target in case.values:
                classes = task.columns[target].classes
                row[f"{name}.truth"] = classes[int(case.values[target])]
                said = result.values[name]
                row[f"{name}.class"] = said["class"]
                row[f"{name}.probabilities"] = [float(said[f"probability.{c}"]) for c in classes]
        rows[case.case_id] = row
    return rows


def auroc(rows: dict[str, dict[str, Any]], task: str, classes: tuple[str, ...]) -> Estimate:
    """Of one classification, the mean over classes of one against the rest, with an interval over cases."""
    probabilities = np.array([row[f"{task}.probabilities"] for row in rows.values()])
    truth = np.array([row[f"{task}.truth"] for row in rows.values()])

    def statistic(p: np.ndarray, t: np.ndarray) -> float:
        return float(macro_auc(p, t, classes))

    interval = bootstrap_interval(statistic, probabilities, truth, n=1000)
    return Estimate(statistic(probabilities, truth), interval, len(rows))


def _mean_dice(predicted: np.ndarray, true: np.ndarray, labels: Any) -> float:
    found: list[float] = []
    for value in labels.values():
        frames = []
        for one, other in zip(predicted, true, strict=True):
            known = other != UNLABELLED
            if known.any():
                frames.append(dice((one == value) & known, other == value))
        defined = [d for d in frames if not np.isnan(d)]
        if defined:
            found.append(float(np.mean(defined)))
    return float(np.mean(found)) if found else float("nan")
