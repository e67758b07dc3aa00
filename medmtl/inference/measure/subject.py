"""Everything that is measured on one study's results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.data.columns import Column
from medmtl.data.prepare import PreparedCase
from medmtl.inference.context import Context
from medmtl.inference.measure import flags as raised
from medmtl.inference.measure.curves import volume_curves
from medmtl.inference.measure.flags import Flag
from medmtl.inference.measure.heart import head_values, heart_values
from medmtl.inference.measure.likeness import pooled_features
from medmtl.inference.measure.quality import WHOLE, Quality
from medmtl.inference.measure.shape import end_shares, shapes_of, stack_last
from medmtl.inference.measure.spread import mirror_spread
from medmtl.inference.quantities import find_phases, quantities_from_masks
from medmtl.tasks import CaseResult, Task
from medmtl.tasks.regression import value_name

if TYPE_CHECKING:
    from medmtl.inference.model import Model
    from medmtl.inference.read import Subject


@dataclass
class Measured:
    """What was measured besides the tasks' own outputs.

    Attributes:
        row: columns of ``predictions.csv``: ``quality.flags`` (codes, ``;`` between), and their numbers.
        flags: what to look at.
        record: for ``prediction.json``: curves, frames, heart rate, and what the flags follow from.
        frame_ed: 0-based frame of end diastole that volumes were measured at.
        frame_es: likewise of end systole.
    """

    row: dict[str, Any]
    flags: tuple[Flag, ...]
    record: dict[str, Any]
    frame_ed: int | None = None
    frame_es: int | None = None


@dataclass
class _Notes:
    """Flags and numbers as they are found."""

    flags: list[Flag] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, number: float, flags: Iterator[Flag]) -> None:
        self.numbers[name] = number
        self.flags += flags


def measure_subject(
    model: Model, subject: Subject, result: CaseResult, *, context: Context | None = None
) -> Measured:
    """Measure what follows from masks and heads, and judge it.

    Values go into ``result.values``: each derived column that the model knows, and for hearts ED and ES
    volumes, stroke volume, ejection fraction, cardiac output and mass, from masks and from heads.

    Args:
        model: its tasks, columns and what it learned of quality.
        subject: the case, with heart rate and findings.
        result: dense tasks on the grid of the files; its values are added to.
        context: where the network is; without it, what takes a further pass through the network is left out:
            likeness to the training data, and the spread of mirror images.
    """
    case, notes = subject.case, _Notes()
    phases = find_phases(model.tasks, result.dense, model.cycle, (case.frame_ed, case.frame_es))
    curves = add_values(model, case, result, phases, subject.heart_rate_bpm)
    frames = sorted({frame for frame in phases if frame is not None}) or [0]
    quality = model.quality
    for name, of_task in curves.items():
        _judge_masks(model.tasks[name], result.dense[name], case, of_task, frames, quality, notes)
    _judge_values(model, result, quality, notes)
    _judge_spread(context, case, result, frames, quality, notes)
    if context is not None and quality.likeness is not None:
        score = quality.likeness.score(pooled_features(context, case, frames))
        notes.add("unlike_training", score, raised.likeness_flags(score))
    notes.flags += raised.input_flags(subject.findings)
    found = tuple(dict.fromkeys(notes.flags))
    row: dict[str, Any] = {"quality.flags": ";".join(dict.fromkeys(flag.code for flag in found))}
    row |= {f"quality.{name}": round(number, 4) for name, number in notes.numbers.items()}
    return Measured(row, found, _record(subject, curves, notes), *phases)


def add_values(
    model: Model,
    case: PreparedCase,
    result: CaseResult,
    phases: tuple[int | None, int | None],
    heart_rate: float | None,
    voxel_ml: float | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Put what follows from masks and heads into ``result.values``; returns volumes over time by task.

    Args:
        model: tasks, columns, cycle.
        case: names the grid.
        result: dense tasks and what the heads say.
        phases: 0-based ED and ES frames.
        heart_rate: per minute.
        voxel_ml: of the masks; that of the files by default.
    """
    voxel_ml = case.source.voxel_ml if voxel_ml is None else voxel_ml
    curves: dict[str, dict[str, np.ndarray]] = {}
    for name, mask in result.dense.items():
        task = model.tasks[name]
        if not task.structures:
            continue
        target = task.targets[0]
        labels = task.columns[target].labels
        curves[name] = volume_curves(mask, labels, voxel_ml)
        values: dict[str, float] = quantities_from_masks(task, mask, model.columns, voxel_ml, phases)
        own = [c for c in model.columns.values() if c.derived is not None and c.derived.mask == target]
        cycle = model.cycle.structure if model.cycle is not None and model.cycle.mask == target else None
        values |= heart_values(curves[name], own, cycle, phases, heart_rate)
        result.values[name] = {key: value for key, value in values.items() if math.isfinite(value)}
    for name, values_of_head in list(result.values.items()):
        if model.tasks[name].kind == "regression":
            cycle = model.cycle.structure if model.cycle is not None else None
            more = head_values(values_of_head, model.tasks[name].columns, cycle, heart_rate)
            result.values[name] = {**values_of_head, **more}
    return curves


def disagreements(model: Model, result: CaseResult) -> Iterator[tuple[Column, str, float]]:
    """(column, regression task, masks minus head) of every value that both say."""
    from_masks: dict[str, float] = {}
    for name, values in result.values.items():
        if model.tasks[name].structures:
            from_masks |= {key: float(v) for key, v in values.items() if isinstance(v, int | float)}
    for name, values in result.values.items():
        task = model.tasks[name]
        if task.kind != "regression":
            continue
        for column in task.columns.values():
            header = value_name(column.name, column.unit)
            if header in from_masks and isinstance(values.get(header), float):
                yield column, name, from_masks[header] - float(values[header])


def _judge_masks(
    task: Task,
    mask: np.ndarray,
    case: PreparedCase,
    curves: Mapping[str, np.ndarray],
    frames: Sequence[int],
    quality: Quality,
    notes: _Notes,
) -> None:
    labels = task.columns[task.targets[0]].labels
    standing = stack_last(mask, case.source.spacing_mm)
    shapes = list(shapes_of(standing, labels, frames, ring_of(task)))
    notes.flags += raised.shape_flags(task.name, shapes, quality, None if task.reads else WHOLE)
    for kind, structure, share in shapes:
        notes.numbers[f"{kind}.{task.name}.{structure}"] = share
    for structure, curve in curves.items():
        name = f"{task.name}.{structure}"
        at = curve[list(frames)]
        notes.flags += raised.volume_flags(name, float(at.min()), float(at.max()), quality)
    ring = ring_of(task)
    if ring is not None:
        ends = end_shares(standing[frames[0]] == labels[ring[1]])
        notes.flags += raised.cut_flag(f"{task.name}.{ring[1]}", ends)


def _judge_values(model: Model, result: CaseResult, quality: Quality, notes: _Notes) -> None:
    for column, _, apart in disagreements(model, result):
        name = f"disagreement.{value_name(column.name, column.unit)}"
        notes.add(name, apart, raised.disagreement_flags(column.name, column.unit, apart, quality))
    for name, values in result.values.items():
        for column in model.columns.values():
            value = values.get(value_name(column.name, column.unit))
            if column.kind == "value" and isinstance(value, float):
                notes.flags += raised.value_flags(name, column.name, column.unit, value, quality)
        if "class" in values:
            probability = float(values[f"probability.{values['class']}"])
            notes.flags += raised.class_flags(name, probability, quality)


def _judge_spread(
    context: Context | None,
    case: PreparedCase,
    result: CaseResult,
    frames: Sequence[int],
    quality: Quality,
    notes: _Notes,
) -> None:
    spread = {f"{task}.{name}": s for task, found in result.spread.items() for name, s in found.items()}
    if not spread and context is not None and context.mirror:
        spread = mirror_spread(context, case, result, frames)
    for name, apart in spread.items():
        dense = name.partition(".")[0] in result.dense
        notes.add(f"spread.{name}", apart, raised.spread_flags(name, apart, quality, dense=dense))


def ring_of(task: Task) -> tuple[str, str] | None:
    """Names of the left ventricle's wall and cavity, where a task has both."""
    return ("MYO", "LV") if {"MYO", "LV"} <= set(task.structures) else None


def _record(
    subject: Subject, curves: Mapping[str, Mapping[str, np.ndarray]], notes: _Notes
) -> dict[str, Any]:
    return {
        "heart_rate_bpm": subject.heart_rate_bpm,
        "heart_rate_from": subject.heart_rate_from,
        "time_ms": None if subject.time_ms is None else [round(t, 3) for t in subject.time_ms],
        "volumes_ml": {
            task: {name: [round(float(v), 4) for v in curve] for name, curve in found.items()}
            for task, found in curves.items()
        },
        "quality": {name: round(number, 5) for name, number in notes.numbers.items()},
    }
