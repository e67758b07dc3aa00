"""At the end of a training: what its own cases say about how its results are to be judged.

From the training cases come plausible ranges and what their features look like; from the validation cases
come the temperature of class probabilities and how far masks, heads and mirror images may be apart.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medmtl.data.prepare import PreparedCase
from medmtl.inference.measure.calibrate import FEWEST as FEWEST_FOR_TEMPERATURE
from medmtl.inference.measure.calibrate import fit_temperature
from medmtl.inference.measure.curves import volume_curves
from medmtl.inference.measure.likeness import fit_likeness, pooled_features, stacked
from medmtl.inference.measure.quality import WHOLE, Quality
from medmtl.inference.measure.shape import shapes_of, stack_last
from medmtl.inference.measure.subject import add_values, disagreements, ring_of
from medmtl.inference.model import Model
from medmtl.inference.predictor import Context, predict_prepared
from medmtl.inference.quantities import find_phases
from medmtl.metrics import expected_calibration_error
from medmtl.tasks import CaseResult, Task
from medmtl.tasks.classification import Classification
from medmtl.tasks.regression import Regression, value_name

LOG = logging.getLogger("medmtl.train")
MOST_CASES = 200
"""Training cases that are looked at, spread evenly over all."""
FEWEST_VALIDATION = 5
"""Validation cases below which no limit is learned from them, and the standard deviation of the training
cases is the limit; it is so too where a network's masks and heads are further apart than that."""
DISAGREEMENT_PERCENTILE = 95.0
SHAPE_PERCENTILE = 1.0
VOLUME_MARGIN = 1.5
"""A volume may be this many times larger or smaller than any in training."""
VALUE_MARGIN = 0.25
"""A value may lie this share of the training cases' range outside of it."""
SLACK = 0.9
"""A predicted shape may be this many times less good than the labels'."""
SPREAD_OF_SD = 0.25
"""Spread of a value among members that is still certain, in standard deviations of the training cases."""


def learn_quality(
    model: Model, train: Sequence[PreparedCase], val: Sequence[PreparedCase], context: Context
) -> None:
    """Put temperatures into the classification tasks, and ranges and thresholds into ``model.quality``.

    Args:
        model: trained.
        train: prepared training cases.
        val: prepared validation cases; may be empty.
        context: its network on a device, as validation ran it.
    """
    context.network.eval()
    chosen = np.linspace(0, len(train) - 1, min(len(train), MOST_CASES)).round().astype(int)
    some = [train[i] for i in chosen]
    labels = _labels(model, some)
    heads = [task for task in model.tasks.values() if isinstance(task, Regression)]
    calibrated, apart = _from_validation(model, val, context)
    spread = {
        f"{task.name}.{value_name(target, unit)}": SPREAD_OF_SD * std
        for task in heads
        for target, unit, std in zip(task.targets, task.units, task.std, strict=True)
    }
    features = stacked([pooled_features(context, case, _frames(case)) for case in some])
    unseen = stacked([pooled_features(context, case, _frames(case)) for case in val])
    assert features is not None, "a training has cases"
    model.quality = Quality(
        volumes={name: _with_margin(found) for name, found in labels.volumes.items()},
        values=_value_ranges(model, train),
        parts=_lowest(labels.parts, at_most=WHOLE),
        enclosed=_lowest(labels.enclosed, at_most=1.0),
        disagreement=_disagreement(heads, apart),
        spread=spread,
        calibrated=calibrated,
        likeness=fit_likeness(features, unseen),
    )


@dataclass
class _Labels:
    """What the training cases' labels measure, by ``task.structure``."""

    volumes: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    enclosed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def _labels(model: Model, cases: Sequence[PreparedCase]) -> _Labels:
    found = _Labels()
    for case in cases:
        for task in model.tasks.values():
            if task.structures and any(case.labelled.get(task.targets[0], ())):
                _measure_labels(task, case, found)
    return found


def _measure_labels(task: Task, case: PreparedCase, found: _Labels) -> None:
    column = task.columns[task.targets[0]]
    frames = [t for t in _frames(case) if case.labelled[column.name][t]]
    if not frames:
        return
    mask = case.crop(frames).masks[column.name].cpu().numpy()
    voxel_ml = float(np.prod(case.spacing_mm)) / 1000.0
    for name, curve in volume_curves(mask, column.labels, voxel_ml).items():
        found.volumes[f"{task.name}.{name}"] += curve.tolist()
    standing = stack_last(mask, case.spacing_mm)
    for kind, name, share in shapes_of(standing, column.labels, range(len(frames)), ring_of(task)):
        getattr(found, kind)[f"{task.name}.{name}"].append(share)


def _from_validation(
    model: Model, val: Sequence[PreparedCase], context: Context
) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    """Calibrates classification tasks; gives their names, and |masks - head| by value column."""
    for task in model.tasks.values():
        if isinstance(task, Classification):
            task.temperature = 1.0
    apart: dict[str, list[float]] = defaultdict(list)
    results = []
    for case in val:
        result = predict_prepared(context, case, tuple(model.tasks), on_source_grid=False)
        results.append(result)
        phases = find_phases(model.tasks, result.dense, model.cycle, (case.frame_ed, case.frame_es))
        add_values(model, case, result, phases, None, float(np.prod(case.spacing_mm)) / 1000.0)
        for column, _, difference in disagreements(model, result):
            apart[column.name].append(abs(difference))
        result.dense.clear()
    calibrated = [
        task.name
        for task in model.tasks.values()
        if isinstance(task, Classification) and _calibrate(task, results, val)
    ]
    return tuple(calibrated), apart


def _calibrate(task: Classification, results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> bool:
    pairs = [
        ([float(result.values[task.name][f"probability.{name}"]) for name in task.classes],
         int(case.values[task.target]))
        for result, case in zip(results, cases, strict=True)
        if task.target in case.values
    ]  # fmt: skip
    if len(pairs) < FEWEST_FOR_TEMPERATURE:
        return False
    probabilities, truth = np.array([p for p, _ in pairs]), np.array([c for _, c in pairs])
    task.temperature = round(fit_temperature(probabilities, truth), 4)
    before = expected_calibration_error(probabilities, truth, range(len(task.classes)))
    LOG.info(
        "%s: temperature %.3g on %d validation cases, whose calibration error was %.3f",
        task.name, task.temperature, len(pairs), before,
    )  # fmt: skip
    return True


def _value_ranges(model: Model, cases: Sequence[PreparedCase]) -> dict[str, tuple[float, float]]:
    ranges = {}
    for name, column in model.columns.items():
        known = [case.values[name] for case in cases if name in case.values]
        if column.kind == "value" and name not in model.covariates and len(known) > 1:
            low, high = min(known), max(known)
            margin = VALUE_MARGIN * (high - low)
            floor = 0.0 if low >= 0 else -np.inf
            ranges[name] = (max(low - margin, floor), high + margin)
    return ranges


def _with_margin(volumes: Sequence[float]) -> tuple[float, float]:
    return min(volumes) / VOLUME_MARGIN, max(volumes) * VOLUME_MARGIN


def _lowest(found: Mapping[str, Sequence[float]], *, at_most: float) -> dict[str, float]:
    return {
        name: min(SLACK * float(np.percentile(shares, SHAPE_PERCENTILE)), at_most)
        for name, shares in found.items()
    }


def _disagreement(heads: Sequence[Regression], apart: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """How far masks and head may be apart, by value column: as in validation, at most as people differ."""
    limits = {}
    for task in heads:
        for target, std in zip(task.targets, task.std, strict=True):
            found = apart.get(target, ())
            if task.columns[target].derived is not None:
                high = float(np.percentile(found, DISAGREEMENT_PERCENTILE)) if len(found) else std
                limits[target] = min(high, std) if len(found) >= FEWEST_VALIDATION else std
    return limits


def _frames(case: PreparedCase) -> list[int]:
    """Frames of ED and ES where they are known, else the first labelled one, or the first."""
    known = sorted({frame for frame in (case.frame_ed, case.frame_es) if frame is not None})
    labelled = [t for flags in case.labelled.values() for t, flag in enumerate(flags) if flag]
    return known or ([min(labelled), max(labelled)] if labelled else [0])
