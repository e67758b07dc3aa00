"""The table of a comparison for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medmtl.report.comparison.ranking import ordered
from medmtl.report.numbers import as_float

if TYPE_CHECKING:
    from rich.table import Table


def console_table(summary: Mapping[str, Any]) -> Table:
    """Methods by delta-m, best first; means and standard deviations over seeds."""
    from rich.table import Table

    metrics = summary["metrics"]
    heads = (f"{task} {metric}" for task, metric in metrics.items())
    table = Table("method", "delta-m %", *heads, "wins", "mean rank", "s/step")
    for name in ordered(summary):
        found = summary["methods"][name]
        values = [_spread(found["values"].get(f"{task}.{metric}")) for task, metric in metrics.items()]
        wins = " ".join(str(found["wins"][task]) for task in metrics) if "wins" in found else ""
        rank, step = as_float(found.get("mean_rank")), as_float(found["costs"]["seconds_per_step"])
        table.add_row(
            name, _spread(found["delta_m_percent"]), *values, wins, _number(rank, ".2f"), _number(step, ".3g")
        )
    return table


def _number(value: float, digits: str) -> str:
    return "" if value != value else f"{value:{digits}}"


def _spread(found: Mapping[str, Any] | None) -> str:
    if found is None or not found["n"]:
        return ""
    return f"{found['mean']:.3g}" + (f" ± {found['sd']:.2g}" if found["n"] > 1 else "")
