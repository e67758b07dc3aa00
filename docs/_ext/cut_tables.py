"""What gradient methods cost and how good cheap comparisons are, from the results of benchmarks/cut*.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def cost_tables() -> str:
    """A table per result file: step time (and memory on a GPU) over that of equal weights' joint backward."""
    parts = []
    for path in sorted(RESULTS.glob("cut-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if "steps" in found:
            parts.append(_costs(found))
    return "\n\n".join(parts) + "\n" if parts else "No results yet: run `python benchmarks/cut.py`.\n"


def _costs(found: dict[str, Any]) -> str:
    networks = {title: rows for title, rows in found["steps"].items() if isinstance(rows, dict)}
    settings = found["settings"]
    ways = dict.fromkeys(way for rows in networks.values() for way in rows)
    made = f"`{found['command']}` at commit {found['commit']}, {found['machine']}"
    busy = any("busy x" in row for rows in networks.values() for row in rows.values())
    kernels = ", and that of the kernels alone" if busy else ""
    lines = [
        f"{made}, {settings['device']}, {settings['precision']}: step time over equal weights'{kernels}.",
        "",
        f"| | {' | '.join(networks)} |",
        f"|---|{'---|' * len(networks)}",
    ]
    for way in ways:
        cells = [_cell(rows, way) for rows in networks.values()]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rows: dict[str, Any], way: str) -> str:
    if "x" not in rows.get(way, {}):
        return "fails" if way in rows else ""
    row, reference = rows[way], next(iter(rows.values()))
    if "peak MiB" not in row:
        return f"{row['x']:.2f}"
    busy = f", kernels {row['busy x']:.3f}" if "busy x" in row else ""
    return f"{row['x']:.3f}{busy}, memory {row['peak MiB'] / reference['peak MiB']:.2f}"


def agreement_table() -> str:
    """How well each way to compare stands for the exact one."""
    path = RESULTS / "cut-cosines.json"
    if not path.is_file():
        return "No results yet: run `python benchmarks/cut_cosines.py`.\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    ways = found["against exact"]
    columns = list(next(iter(ways.values())))
    settings = found["settings"]
    made = f"`{found['command']}` at commit {found['commit']}"
    data = f"{len(settings['tasks'])} tasks on {settings['cases']} phantoms"
    lines = [
        f"{made}: {data}, {settings['compared']} comparisons over {settings['steps']} steps.",
        "",
        f"| compared on | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    lines += [f"| {way} | {' | '.join(f'{v:.2f}' for v in row.values())} |" for way, row in ways.items()]
    return "\n".join(lines) + "\n"
