"""`summary.json`: per method means and spreads, wins, ranks, costs, and what can be said of differences."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.evaluation.comparison.delta import changes_percent
from medmtl.evaluation.comparison.design import Design
from medmtl.evaluation.comparison.directions import higher_is_better
from medmtl.evaluation.comparison.methods import SINGLE
from medmtl.evaluation.comparison.record import read_record
from medmtl.evaluation.comparison.runs import method_place
from medmtl.evaluation.comparison.statistics import (
    PairedTest,
    corrected,
    mean_ranks,
    over_seeds,
    signed_rank,
    spread,
    wins,
)
from medmtl.evaluation.comparison.table import COSTS, LEADING, metrics_of
from medmtl.evaluation.comparison.values import case_scores
from medmtl.files import write_text
from medmtl.tasks import build_task

if TYPE_CHECKING:
    import pandas as pd

FILE = "summary.json"


def summarise(design: Design, table: pd.DataFrame, output: Path, notes: Sequence[str] = ()) -> dict[str, Any]:
    """What the table says.

    Args:
        design: what was compared.
        table: what `compare_table` gave.
        output: the comparison's folder, in which each run's cases lie.
        notes: what a reader should know.
    """
    ok = table[table["status"] == "ok"]
    names = [SINGLE, *(method.name for method in design.methods)]
    methods = {name: _method(design, ok[ok["method"] == name], _single(ok)) for name in names}
    best, ranks = _competition(design, ok)
    for name in names[1:]:
        methods[name] |= {"wins": {task: best[task][name] for task in best}, "mean_rank": ranks[name]}
    tests = [*_case_tests(design, ok, output), *_seed_tests(design, ok)]
    return {
        "split": design.split,
        "metrics": dict(design.metrics),
        "reference": design.reference,
        "seeds": list(design.seeds),
        "methods": methods,
        "tests": [asdict(test) for test in tests],
        "notes": [
            *design.notes,
            *notes,
            *_undefined(design, ok),
            *_fewer_cases(design, ok, output),
            *_too_few(design),
        ],
    }


def write_summary(output: Path, summary: Mapping[str, Any]) -> None:
    """Write it as JSON; what is not a number is null."""
    write_text(output / FILE, json.dumps(finite(summary), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _single(ok: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Rows of the single-task networks by seed."""
    rows = ok[ok["method"] == SINGLE]
    return {int(row["seed"]): row.to_dict() for _, row in rows.iterrows()}


def _method(design: Design, rows: pd.DataFrame, single: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    changes: dict[str, list[float]] = {task: [] for task in design.metrics}
    for _, row in rows.iterrows():
        of_seed = single.get(int(row["seed"]), {})
        found = changes_percent(
            metrics_of(row.to_dict(), design.metrics), metrics_of(of_seed, design.metrics), design.metrics
        )
        for task, change in found.items():
            changes[task].append(change)
    values = [c for c in rows.columns if c not in (*LEADING, *COSTS)]
    return {
        "seeds": [int(seed) for seed in rows["seed"]],
        "delta_m_percent": asdict(spread(rows["delta_m_percent"].tolist())),
        "change_percent": {task: asdict(spread(found)) for task, found in changes.items()},
        "values": {c: asdict(spread(rows[c].tolist())) for c in values if rows[c].notna().any()},
        "costs": {c: spread(rows[c].tolist()).mean for c in COSTS},
    }


def _competition(design: Design, ok: pd.DataFrame) -> tuple[dict[str, dict[str, int]], dict[str, float]]:
    """Wins by task, and mean ranks over all tasks and seeds, among the methods."""
    losses: dict[str, dict[str, list[float]]] = {}
    for task, metric in design.metrics.items():
        sign = -1.0 if higher_is_better(metric) else 1.0
        losses[task] = {}
        for method in design.methods:
            rows = ok[ok["method"] == method.name].set_index("seed")
            column = rows.get(f"{task}.{metric}")
            losses[task][method.name] = [
                sign * float(column[seed]) if column is not None and seed in column.index else math.nan
                for seed in design.seeds
            ]
    together = {
        method.name: [value for task in losses for value in losses[task][method.name]]
        for method in design.methods
    }
    return {task: wins(found) for task, found in losses.items()}, mean_ranks(together)


def _case_tests(design: Design, ok: pd.DataFrame, output: Path) -> list[PairedTest]:
    """Every method against the reference on every task, over cases."""
    others = [method for method in design.methods if method.name != design.reference]
    seeds = {method.name: set(ok.loc[ok["method"] == method.name, "seed"]) for method in design.methods}
    cases = {
        (method.name, seed): method_place(output, method, seed).cases()
        for method in design.methods
        for seed in seeds[method.name]
    }
    base = design.base
    family = len(others) * len(design.metrics)
    tests = []
    for task, metric in design.metrics.items():
        built = build_task(task, base.tasks[task], base.dataset.columns)
        scores: dict[tuple[str, int], pd.Series[float] | None] = {
            run: case_scores(found, built, metric) for run, found in cases.items()
        }
        for method in others:
            common = sorted(seeds[method.name] & seeds[design.reference])
            differences = []
            for seed in common:
                mine, theirs = scores[method.name, seed], scores[design.reference, seed]
                if mine is not None and theirs is not None:
                    differences.append((mine - theirs).dropna())
            tests.append(signed_rank(method.name, task, _mean_by_case(differences), family))
    return corrected(tests)


def _mean_by_case(differences: Sequence[pd.Series[float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean over seeds of each case's difference, of the cases that have one for every seed."""
    import pandas as pd

    if not differences:
        return np.empty(0)
    together = pd.concat(differences, axis=1).dropna()
    return together.mean(axis=1).to_numpy(dtype=np.float64)


def _seed_tests(design: Design, ok: pd.DataFrame) -> list[PairedTest]:
    """Delta-m of every method against the reference, over seeds."""
    values = {
        method.name: ok[ok["method"] == method.name].set_index("seed")["delta_m_percent"]
        for method in design.methods
    }
    return corrected(
        [
            over_seeds(name, (found - values[design.reference]).dropna().to_numpy(dtype=np.float64))
            for name, found in values.items()
            if name != design.reference
        ]
    )


def _undefined(design: Design, ok: pd.DataFrame) -> list[str]:
    """Tasks whose single-task metric is 0 or not there, so that a relative change has no meaning."""
    notes = []
    for seed, row in _single(ok).items():
        for task, value in metrics_of(row, design.metrics).items():
            if value == 0 or math.isnan(value):
                what = "is 0" if value == 0 else "is not defined"
                notes.append(
                    f"seed {seed}: {design.metrics[task]} of {task} alone {what}, so it has no delta-m; "
                    f"compare by another metric (--metric {task}=...)"
                )
    return notes


def _fewer_cases(design: Design, ok: pd.DataFrame, output: Path) -> list[str]:
    """Methods whose metric rests on fewer cases than another's, because some could not be scored."""
    counts: dict[str, dict[tuple[str, int], int]] = {task: {} for task in design.metrics}
    for method in design.methods:
        for seed in ok.loc[ok["method"] == method.name, "seed"]:
            record = read_record(method_place(output, method, seed))
            assert record is not None
            for task, metric in design.metrics.items():
                counts[task][method.name, seed] = record.counts.get(f"{task}.{metric}", 0)
    return [
        f"{name}, seed {seed}: {design.metrics[task]} of {task} rests on {n} of {max(found.values())} cases"
        for task, found in counts.items()
        for (name, seed), n in found.items()
        if n < max(found.values())
    ]


def _too_few(design: Design) -> list[str]:
    n = len(design.seeds)
    if n == 1:
        return ["one seed: nothing is known of how much results vary from run to run"]
    return [f"{n} seeds: intervals from so few runs are wide"] if n < 5 else []
