"""Tables of reproduced papers, from the results files of benchmarks/papers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PAPER_TABLE_1 = {
    "single": (97.54, 96.18),
    "ew": (97.50, 96.06),
    "dwa": (97.28, 95.71),
    "uw": (97.14, 94.90),
    "uw-revised": (97.40, 95.55),
}
"""Gong et al. 2019, table 1, all training pictures: accuracy in percent of the left and the right digit."""

FOLLOWED = ("uw", "uw-o", "uw-so, effective", "balanced", "gradnorm, alpha 0.12", "gradnorm, alpha 1.5")
MADE = "`{command}`, commit {commit}, {machine}, torch {torch}."


def paper_tables() -> dict[str, str]:
    """``{file name: Markdown}``."""
    makers = {"toy": toy, "static": static, "mnist": mnist}
    files = {"toy": "gradnorm-toy", "static": "gradnorm-static", "mnist": "multi-mnist"}
    made = {}
    for name, maker in makers.items():
        path = RESULTS / f"papers-{files[name]}.json"
        script = f"benchmarks/papers/{files[name].replace('-', '_')}.py"
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            where = MADE.format(**found, torch=found["versions"]["torch"])
            made[f"_papers_{name}.txt"] = f"{where}\n\n{maker(found)}\n"
        else:
            made[f"_papers_{name}.txt"] = f"No results yet: run `python {script}`.\n"
    return made


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "diverged" if value is None else f"{value:.{digits}f}"


def _spread(entry: dict[str, float | None], digits: int) -> str:
    return f"{_number(entry['mean'], digits)} ± {_number(entry['sd'], digits)}"


def toy(found: dict[str, Any]) -> str:
    """GradNorm's toy: risks, and weights over time."""
    parts = []
    for problem in ("2 tasks", "10 tasks"):
        if problem not in found:
            continue
        study = found[problem]
        rows = []
        for name, entry in study["arms"].items():
            if name.startswith("single") and len(study["tasks"]) > 2:
                continue
            change = entry.get("delta_m_percent")
            worst = [risk for risk in entry["risks"].values() if risk is not None]
            rows.append([
                f"`{name}`" if name == "balanced" else name,
                _spread(entry["mean risk"], 4),
                f"{max(worst):.4f}" if worst else "diverged",
                _spread(change, 1) if change else "",
                f"{entry['learning rate']:g}",
            ])  # fmt: skip
        parts.append(f"**{problem.capitalize()}**, {study['steps']} steps, {study['seeds']} seeds:")
        parts.append(_table(["", "mean risk", "worst task", "delta-m in %", "learning rate"], rows))
        parts.append(
            verdict({n: e["mean risk"]["mean"] for n, e in study["arms"].items() if "delta_m_percent" in e})
        )
    if "2 tasks" in found:
        parts.append(_course(found["2 tasks"]))
    return "\n\n".join(parts)


def verdict(scores: dict[str, float | None], *, higher: bool = False) -> str:
    """Where `balanced` stands among methods whose scores are given, in a sentence."""
    own = scores.get("balanced")
    if own is None:
        return ""
    sign = -1 if higher else 1
    known = {n: s for n, s in scores.items() if s is not None and not n.startswith(("balanced", "single"))}
    ahead = sorted((n for n, s in known.items() if sign * s < sign * own), key=lambda n: sign * known[n])
    names = ", ".join(f"{name}" for name in ahead) or "none"
    return f"`balanced` is behind {len(ahead)} of {len(known)} other rows: {names}."


def _course(study: dict[str, Any]) -> str:
    """Weights of two tasks over time."""
    steps = study["noted at steps"]
    chosen = sorted({0, *(round(i * (len(steps) - 1) / 5) for i in range(6))})
    rows = []
    for name in FOLLOWED:
        if name in study["arms"]:
            weights = study["arms"][name]["weights over time, sum 1"]
            rows.append([name, *(_number(weights[i][0], 4) for i in chosen)])
    head = [f"share of the task with {study['tasks'][0]}, at step", *(str(steps[i]) for i in chosen)]
    return f"Weights over time, of the two tasks:\n\n{_table(head, rows)}"


def static(found: dict[str, Any]) -> str:
    """Figure 4."""
    rows = []
    for name, entry in found.get("methods", {}).items():
        errors, weights = entry["test errors"].values(), entry["mean weights, sum 3"].values()
        rows.append([name, *(_number(v, 3) for v in errors), " / ".join(_number(v, 3) for v in weights)])
    head = ["", "1 - Dice", "T1 error, 100 ms", "area error, cm²", "mean weights: anatomy / T1 / areas"]
    parts = [_table(head, rows)]
    rows = []
    for name, entry in found.get("figure_4", {}).items():
        equal = entry["equal weights"]
        rows.append([
            name,
            " / ".join(_number(v, 3) for v in entry["weights, sum 3"]),
            f"{entry['rank correlation of distance and change']:+.2f}",
            f"{entry['static weights that did better']} of {len(entry['distance'])}",
            f"{equal['change_percent']:+.1f} % at {equal['distance']:.2f}",
        ])  # fmt: skip
    head = ["", "converged weights", "rank correlation", "random ones that did better", "equal weights"]
    parts.append(_table(head, rows))
    parts += [_bins(name, entry) for name, entry in found.get("figure_4", {}).items()]
    return "\n\n".join(parts)


def _bins(name: str, entry: dict[str, Any]) -> str:
    """The points of the figure in five groups of equal size by distance."""
    points = sorted(zip(entry["distance"], entry["change_percent"], strict=True), key=lambda p: p[0])
    size = max(1, len(points) // 5)
    rows = []
    for start in range(0, size * 5, size):
        group = points[start : start + size]
        if group:
            changes = sorted(c for _, c in group if c is not None)
            middle = f"{changes[len(changes) // 2]:+.1f}" if changes else "diverged"
            rows.append([f"{group[0][0]:.2f} to {group[-1][0]:.2f}", middle])
    head = [f"distance from {name}", "median change of the errors in %"]
    return _table(head, rows)


def mnist(found: dict[str, Any]) -> str:
    """Gong et al.'s tables, ours beside theirs."""
    parts = []
    for name in ("table 1", "table 2", "drawn shifts"):
        if name in found:
            parts.append(_mnist_table(name, found[name]))
    return "\n\n".join(parts)


def _mnist_table(name: str, study: dict[str, Any]) -> str:
    tasks = study["tasks"]
    shares = list(next(iter(study["arms"].values())))
    rows = []
    for method, by_share in study["arms"].items():
        row = [f"`{method}`" if method == "balanced" else method]
        if name == "table 1":
            row += [_of_paper(method, i) for i in range(2)]
        for share in shares:
            for task in tasks:
                entry = by_share[share].get(task)
                digits = 4 if task == "picture" else 2
                row.append(
                    f"{_spread(entry['best'], digits)} / {_number(entry['last']['mean'], digits)}"
                    if entry
                    else ""
                )
        rows.append(row)
    head = [""]
    if name == "table 1":
        head += ["paper, left, 100%", "paper, right, 100%"]
    head += [f"{task}, {share}" for share in shares for task in tasks]
    scored = [t for t in tasks if t != "picture"]
    ranks = []
    for share in shares:
        means = {
            method: sum(by_share[share][t]["best"]["mean"] for t in scored) / len(scored)
            for method, by_share in study["arms"].items()
            if not method.startswith("single")
            and all(by_share[share][t]["best"]["mean"] is not None for t in scored)
        }
        if "balanced" in means:
            ranks.append(f"At {share} of the pictures, {verdict(means, higher=True)}")
    planned = study["paper's epochs"]
    title = f"**{name.capitalize()}**, {study['epochs']:.1f} of the paper's {planned} epochs, "
    title += f"{study['seeds']} seeds, best / last test score (accuracy in %, squared error of the picture):"
    return "\n\n".join([title, _table(head, rows), *_shortfalls(study), *ranks])


def _shortfalls(study: dict[str, Any]) -> list[str]:
    """Where processes that shared the arms did not end alike."""
    notes = []
    if reached := study.get("epochs of each arm"):
        each = ", ".join(f"{arm} {epochs:.0f}" for arm, epochs in reached.items())
        notes.append(f"The minutes ended first; the scores are of the last epoch that all reached of {each}.")
    if left := study.get("left out"):
        notes.append("Left out: " + "; ".join(f"{arm} ({why})" for arm, why in left.items()) + ".")
    return notes


def _of_paper(method: str, task: int) -> str:
    if method.startswith("single"):
        own = 0 if method.endswith("left") else 1
        return f"{PAPER_TABLE_1['single'][task]:.2f}" if own == task else ""
    return f"{PAPER_TABLE_1[method][task]:.2f}" if method in PAPER_TABLE_1 else ""
