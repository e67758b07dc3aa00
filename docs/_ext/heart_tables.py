"""Tables of the papers' claims on hearts, as the scripts wrote them beside their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
STUDIES = {"Phantoms": "papers-patent", "ACDC": "papers-patent-acdc"}


def heart_tables() -> dict[str, str]:
    """By file name of what the pages include."""
    patent = []
    for title, name in STUDIES.items():
        found = _read(name)
        if found is None:
            patent.append(f"### {title}\n\nNo results yet: run `python benchmarks/papers/patent.py`.")
            continue
        studies = [part["tables"] for part in found.values() if isinstance(part, dict) and "tables" in part]
        patent.append(f"### {title}\n\n{_made(found)}\n\n" + "\n\n".join(studies))
    leang = _read("papers-leang")
    nothing = "No results yet: run `python benchmarks/papers/leang.py`."
    said = nothing if leang is None else f"{_made(leang)}\n\n{leang['table']}"
    return {"_papers_patent.txt": "\n\n".join(patent) + "\n", "_papers_leang.txt": f"{said}\n"}


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _made(found: dict[str, Any]) -> str:
    settings = found["settings"]
    how = f"{settings['steps']} steps per training, up to {settings['seeds']} seeds"
    return f"`{found['command']}` at commit {found['commit']}, {found['machine']}: {how}."
