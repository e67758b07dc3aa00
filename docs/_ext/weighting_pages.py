"""A page per weighting, from the docstring of its module, its options and what it reached on the toys."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "weighting-toys.json"
WORST = "worst task's risk"
PARTS = {
    "Formula": "Formula",
    "Source": "Source",
    "When": "When to use it",
    "Costs": "What it costs",
    "Fails": "How it fails",
}
PAGE = """# `{name}`

{title}

{sections}

## Options

Beside those that [every weighting takes](../../weightings.md#options-of-every-weighting):

```{{eval-rst}}
.. autoclass:: medmtl.weighting.{class_name}
   :no-index:
   :no-members:
```
{toys}"""
TOYS = """
## On small problems

Test risk over that of a predictor that has learned nothing, averaged over tasks; mean and standard deviation
over the seeds of `benchmarks/weighting_toys.py`. Lower is better. See
[the comparison](../../../explanation/task-weighting.md#compared-on-small-problems).
"""


def weighting_pages() -> dict[str, str]:
    """``{short name: page}`` of every registered weighting."""
    weighting = importlib.import_module("medmtl.weighting")
    results = json.loads(RESULTS.read_text(encoding="utf-8"))["problems"] if RESULTS.is_file() else {}
    return {name: _page(name, weighting.WEIGHTINGS.get(name), results) for name in weighting.WEIGHTINGS}


def _page(name: str, member: type, results: dict[str, Any]) -> str:
    title, parts = split_docstring(importlib.import_module(member.__module__).__doc__ or "")
    sections = []
    for key, heading in PARTS.items():
        text = f"```text\n{parts[key]}\n```" if key == "Formula" else _markdown(parts[key])
        sections.append(f"## {heading}\n\n{text}")
    return PAGE.format(
        name=name,
        title=_markdown(title),
        sections="\n\n".join(sections),
        class_name=member.__name__,
        toys=_toys(name, results),
    )


def split_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The title and the five parts of a weighting's module docstring.

    A part begins with its word at the start of a line or of a sentence.
    """
    pieces = re.split(rf"(?m)(?:^|(?<=\. ))({'|'.join(PARTS)})\b[:,]?[ \n]*", text.strip())
    found: dict[str, str] = {}
    for key, part in zip(pieces[1::2], pieces[2::2], strict=True):
        found.setdefault(key, part.strip())
    missing = [key for key in PARTS if key not in found]
    if missing:
        raise ValueError(f"the docstring {pieces[0][:60]!r} has no part {', '.join(missing)}")
    return pieces[0].strip(), found


def _markdown(text: str) -> str:
    """reStructuredText's marks as Markdown's; a first letter that followed its word is raised."""
    linked = re.sub(r":(\w+):`(~?[\w.]+)`", r"{py:\1}`\2`", text.replace("``", "`"))
    linked = re.sub(r"\{py:(\w+)\}`(~?)(?!medmtl)(\w)", r"{py:\1}`\2medmtl.weighting.\3", linked)
    return linked[:1].upper() + linked[1:]


def toys_table() -> str:
    """Every method on every toy: mean risk, and in brackets that of the task that came off worst."""
    if not RESULTS.is_file():
        return "No results yet: run `python benchmarks/weighting_toys.py`.\n"
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    problems = found["problems"]
    made = f"By `{found['command']}` at commit {found['commit']}, {found['machine']}"
    settings = f"{found['settings']['steps']} steps, {found['settings']['seeds']} seeds"
    lines = [
        f"{made}, torch {found['versions']['torch']}: {settings}.",
        "",
        f"| method | {' | '.join(problems)} |",
        f"|---|{'---|' * len(problems)}",
    ]
    for method in next(iter(problems.values())):
        rows = [problem[method] for problem in problems.values()]
        if all("mean risk" in row for row in rows):
            cells = [
                f"{row['mean risk']:.3f} ± {row['sd over seeds']:.3f} ({row[WORST]:.2f})" for row in rows
            ]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def toys_lost() -> str:
    """Where the default is behind: per problem the rows with a lower mean risk, and by how much."""
    if not RESULTS.is_file():
        return ""
    lines = []
    for problem, found in json.loads(RESULTS.read_text(encoding="utf-8"))["problems"].items():
        risks = {name: row["mean risk"] for name, row in found.items() if row.get("mean risk") is not None}
        own = risks["balanced"]
        others = {name: risk for name, risk in risks.items() if not name.startswith("balanced")}
        ahead = sorted((name for name, risk in others.items() if risk < own), key=lambda name: others[name])
        named = ", ".join(f"{name} ({others[name]:.3f})" for name in ahead) or "none"
        lines.append(
            f"- **{problem}**: `balanced` {own:.3f}; lower: {named} ({len(ahead)} of {len(others)})."
        )
    return "\n".join(lines) + "\n"


def _toys(name: str, results: dict[str, Any]) -> str:
    """Mean test risk of this method's rows on the toys, beside equal weights and the default."""
    own = [row for row in next(iter(results.values()), {}) if row == name or row.startswith(f"{name},")]
    if not own:
        return ""
    rows = list(dict.fromkeys([*own, "ew", "balanced"]))
    lines = [
        TOYS,
        f"| problem | {' | '.join(f'`{row}`' if row in (name, 'ew', 'balanced') else row for row in rows)} |",
        f"|---|{'---|' * len(rows)}",
    ]
    for problem, found in results.items():
        cells = [f"{found[row]['mean risk']:.3f} ± {found[row]['sd over seeds']:.3f}" for row in rows]
        lines.append(f"| {problem} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
