"""Which cases went worst: one number per case, from evaluation's per-case table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.report.material import Material
from medmtl.report.numbers import as_float

if TYPE_CHECKING:
    from pandas import DataFrame

NOT_PREDICTED = ("refused", "failed", "missing")
"""Statuses of a case without any output."""


@dataclass(frozen=True)
class Ranking:
    """Evaluated cases from the worst to the best.

    Attributes:
        order: case ids, worst first; cases without a score come last.
        score: mean Dice (or another score) of the cases that have one.
        meaning: what the score is, in words.
    """

    order: Sequence[str]
    score: Mapping[str, float]
    meaning: str

    @property
    def scored(self) -> Sequence[str]:
        """Cases with a score, worst first."""
        return [case for case in self.order if case in self.score]


def per_case(cases: DataFrame) -> DataFrame:
    """One row per case, by case_id, in file order: the case-level cell, or else the mean over frames."""
    numbers = cases.drop(columns=["frame"], errors="ignore").set_index("case_id")
    numbers = numbers.select_dtypes("number")
    frames = cases["frame"] if "frame" in cases.columns else None
    means = numbers.groupby(level=0, sort=False).mean()
    if frames is None:
        return means
    whole = numbers[frames.isna().to_numpy()]
    return whole.groupby(level=0, sort=False).first().combine_first(means).reindex(means.index)


def rank(material: Material) -> Ranking:
    """Cases by mean Dice, or by the probability given to the true class where nothing is segmented."""
    if material.cases is not None:
        table = per_case(material.cases)
        overlaps = [name for name in table.columns if metric_of(name) == "dice"]
        overlaps = [name for name in overlaps if name.count(".") == 1] or overlaps
        if overlaps and table[overlaps].notna().any(axis=None):
            return _ranking(_evaluated(material), table[overlaps].mean(axis=1).to_dict(), "mean Dice")
    evaluated = _evaluated(material)
    if (score := _truth_probability(material)) is not None:
        return _ranking(evaluated, score, "probability given to the true class")
    return Ranking(evaluated, {}, "")


def metric_of(column: str) -> str:
    """`dice` of `anatomy.dice.LV`."""
    return column.split(".")[1] if "." in column else ""


def _evaluated(material: Material) -> list[str]:
    table = material.cases if material.cases is not None else material.predictions
    if table is None:
        return []
    left_out: set[str] = set()
    if "status" in table.columns:
        left_out = set(table["case_id"][table["status"].isin(NOT_PREDICTED)])
    return [case for case in dict.fromkeys(table["case_id"].astype(str)) if case not in left_out]


def _truth_probability(material: Material) -> dict[str, float] | None:
    if material.predictions is None or material.truth is None:
        return None
    table = material.by_case
    for output in material.outputs.values():
        if output.kind == "classification" and output.target in material.truth.columns:
            score = {}
            for case, true_class in material.truth[output.target].dropna().items():
                column = f"{output.name}.probability.{true_class}"
                if case in table.index and column in table.columns:
                    score[str(case)] = as_float(table.loc[case, column])
            return score
    return None


def _ranking(cases: Sequence[str], score: Mapping[str, float], meaning: str) -> Ranking:
    known = {str(case): float(value) for case, value in score.items() if not math.isnan(value)}
    order = sorted(cases, key=lambda case: known.get(case, math.inf))
    return Ranking(order, known, meaning)
