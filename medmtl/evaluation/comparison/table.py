"""`compare.csv`: a row per method and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medmtl.evaluation.comparison.delta import delta_m_percent
from medmtl.evaluation.comparison.design import Design
from medmtl.evaluation.comparison.methods import SINGLE
from medmtl.evaluation.comparison.record import Record
from medmtl.evaluation.comparison.runs import Results
from medmtl.evaluation.comparison.search import Found
from medmtl.files import write_text

FILE = "compare.csv"
LEADING = ("method", "seed", "status", "message", "delta_m_percent")
COSTS = (
    "seconds_per_step", "peak_memory_mib", "seconds", "steps", "learning_rate", "weight_decay",
    "search_seconds", "search_steps",
)  # fmt: skip


def compare_table(design: Design, results: Results) -> pd.DataFrame:
    """What is known so far, single-task networks first.

    A row of single-task networks stands for all of them together: each task's metrics come from its own
    network, seconds and steps are sums, and the memory is that of the largest.
    """
    rows = [_single_row(design, results, seed) for seed in design.seeds]
    single = {row["seed"]: row for row in rows}
    for method in design.methods:
        for seed, record in results.methods.get(method.name, {}).items():
            rows.append(_method_row(design, results, method.name, seed, record, single[seed]))
    found = list(dict.fromkeys(key for row in rows for key in row))
    metrics = [key for task in design.base.tasks for key in found if key.startswith(f"{task}.")]
    table = pd.DataFrame(rows, columns=[*LEADING, *dict.fromkeys(metrics), *COSTS])
    return table[table["status"] != ""].reset_index(drop=True)


def write_table(output: Path, table: pd.DataFrame) -> None:
    """Write it as CSV; what is not known is blank."""
    write_text(output / FILE, table.to_csv(index=False, float_format="%.9g", lineterminator="\n"))


def metrics_of(row: Mapping[str, Any], metrics: Mapping[str, str]) -> dict[str, float]:
    """The one metric of each task in a row."""
    return {task: float(row.get(f"{task}.{name}", math.nan)) for task, name in metrics.items()}


def _single_row(design: Design, results: Results, seed: int) -> dict[str, Any]:
    records = {task: found[seed] for task, found in results.singles.items() if seed in found}
    row: dict[str, Any] = {"method": SINGLE, "seed": seed, "status": "", "message": ""}
    if not records:
        return row
    failed = [f"{task}: {record.message}" for task, record in records.items() if not record.ok]
    row |= {"status": "failed" if failed else "ok", "message": "; ".join(failed)}
    for task, record in records.items():
        row |= {name: value for name, value in record.values.items() if name.startswith(f"{task}.")}
    whole = not failed and set(design.metrics) <= set(records)
    row["delta_m_percent"] = 0.0 if whole else math.nan
    ok = [record for record in records.values() if record.ok]
    searches = [found for name, found in results.searches.items() if name.startswith(f"{SINGLE}/")]
    row |= {
        "seconds_per_step": sum(record.seconds_per_step for record in ok) if ok else math.nan,
        "peak_memory_mib": max((record.peak_memory_mib for record in ok), default=math.nan),
        "seconds": sum(record.seconds for record in ok),
        "steps": sum(record.steps for record in ok),
        "learning_rate": math.nan if searches else design.base.training.learning_rate,
        "weight_decay": math.nan if searches else design.base.training.weight_decay,
    }
    return row | _search_cost(searches)


def _method_row(
    design: Design, results: Results, name: str, seed: int, record: Record, single: Mapping[str, Any]
) -> dict[str, Any]:
    row: dict[str, Any] = {"method": name, "seed": seed, "status": record.status, "message": record.message}
    row |= record.values
    metrics = design.metrics
    row["delta_m_percent"] = delta_m_percent(metrics_of(row, metrics), metrics_of(single, metrics), metrics)
    found = results.searches.get(name)
    used = design.base.training if found is None else found.point
    row |= {
        "seconds_per_step": record.seconds_per_step,
        "peak_memory_mib": record.peak_memory_mib,
        "seconds": record.seconds,
        "steps": record.steps,
        "learning_rate": used.learning_rate,
        "weight_decay": used.weight_decay,
    }
    return row | _search_cost([] if found is None else [found])


def _search_cost(searches: list[Found]) -> dict[str, Any]:
    return {
        "search_seconds": sum(found.seconds for found in searches),
        "search_steps": sum(found.steps for found in searches),
    }
