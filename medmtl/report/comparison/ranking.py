"""The table of methods, best first, and its picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medmtl.report.blocks import BLANK, Cell, Figure, KeyNumber, KeyNumbers, Prose, Section, Table
from medmtl.report.canvas import INK, dress, new_figure, plain, to_svg
from medmtl.report.comparison.material import SINGLE, ComparisonMaterial
from medmtl.report.comparison.styles import short, style_of
from medmtl.report.numbers import as_float
from medmtl.report.summary import name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_READING = (
    "Delta-m is the mean relative change of the tasks' metrics against networks that learn one task each: "
    "negative is better. Small type: 95 % interval over seeds (Student), or standard deviation over seeds "
    "and change against the task alone. Wins count the seeds in which a method was the best of all methods, "
    "below them task by task; the rank is its mean over tasks and seeds. Single-task networks take part in "
    "neither. Below the seconds: peak memory."
)


def ordered(summary: Mapping[str, Any]) -> list[str]:
    """Methods and single-task networks by mean delta-m, best first; those without one last."""
    means = {name: as_float(found["delta_m_percent"]["mean"]) for name, found in summary["methods"].items()}
    return sorted(means, key=lambda name: (math.isnan(means[name]), means[name], name != SINGLE))


def ranking_section(material: ComparisonMaterial) -> Section:
    """Which weighting gained most, and how surely."""
    section = Section("ranking", "Methods, best first")
    section.blocks.append(KeyNumbers(_headlines(material)))
    failed = material.table[material.table["status"] != "ok"]
    section.blocks.extend(
        Prose(f"{row['method']}, seed {row['seed']} could not be trained: {row['message']}", warning=True)
        for _, row in failed.iterrows()
    )
    section.blocks.append(_table(material))
    if material.ranked():
        section.blocks.append(_picture(material))
    section.blocks.extend(Prose(f"Note: {note}") for note in material.summary["notes"])
    return section


def _headlines(material: ComparisonMaterial) -> list[KeyNumber]:
    numbers = [KeyNumber("Methods", str(len(material.methods)), f"seeds: {len(material.seeds)}")]
    if best := material.ranked()[:1]:
        spread = material.summary["methods"][best[0]]["delta_m_percent"]
        numbers.insert(
            0, KeyNumber(f"Lowest delta-m: {best[0]}", f"{signed(spread['mean'])} %", _interval(spread))
        )
    tests = [test for test in material.summary["tests"] if test["holm"] is not None]
    surely = sum(test["holm"] < 0.05 for test in tests)
    numbers.append(
        KeyNumber(
            f"Differ from {material.summary['reference']}",
            f"{surely} of {len(tests)} tests",
            "corrected p < 0.05",
        )
    )
    return numbers


def signed(value: object, digits: int = 1) -> str:
    """A change with its sign, such as ``−3.2``."""
    number = as_float(value)
    if math.isnan(number):
        return BLANK
    text = f"{number:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")


def _interval(spread: Mapping[str, Any]) -> str:
    if spread["n"] < 2:
        return "one seed" if spread["n"] else ""
    return f"{signed(spread['low'])} to {signed(spread['high'])}"


def _table(material: ComparisonMaterial) -> Table:
    tasks = material.metrics
    heads = [f"{task}: {_metric(metric)}" for task, metric in tasks.items()]
    searched = bool(material.description.get("search_trials"))
    columns = ["", "method", "delta-m [%]", *heads, "wins", "rank"]
    columns += ["s / step", *(["search"] if searched else [])]
    rows = [
        _row(material, name, number, searched) for number, name in enumerate(ordered(material.summary), 1)
    ]
    return Table("Weightings by delta-m", columns, rows, reading=_READING, sortable=True, compact=True)


def _metric(metric: str) -> str:
    base, *rest = metric.split(".")
    return " ".join(["MAE / SD" if base == "nmae" else name_of(base), *rest])


def _row(material: ComparisonMaterial, name: str, number: int, searched: bool) -> list[Cell]:
    found = material.summary["methods"][name]
    spread, costs = found["delta_m_percent"], found["costs"]
    cells = [Cell(str(number), sort=float(number)), Cell(name, header=True)]
    interval = "" if name == SINGLE else _interval(spread)
    cells.append(Cell(signed(spread["mean"]), note=interval, sort=_sort(spread["mean"])))
    for task, metric in material.metrics.items():
        cells.append(_value(found["values"].get(f"{task}.{metric}"), found["change_percent"].get(task), name))
    wins: Mapping[str, int] = found.get("wins", {})
    each = " · ".join(str(wins[task]) for task in material.metrics if task in wins)
    total = sum(wins.values())
    cells.append(Cell(str(total), note=each, sort=float(total)) if wins else Cell(BLANK))
    rank = found.get("mean_rank")
    cells.append(Cell(BLANK) if rank is None else Cell(f"{rank:.2f}", sort=rank))
    step, memory = costs["seconds_per_step"], costs["peak_memory_mib"]
    taken = "" if memory is None else f"{memory:.0f} MiB"
    cells.append(Cell(BLANK if step is None else f"{step:.3g}", note=taken, sort=_sort(step)))
    if searched:
        cells.append(_search(costs))
    return cells


def _sort(value: object) -> float | None:
    number = as_float(value)
    return None if math.isnan(number) else number


def _value(value: Mapping[str, Any] | None, change: Mapping[str, Any] | None, name: str) -> Cell:
    if value is None or not value["n"]:
        return Cell(BLANK)
    notes = [f"± {value['sd']:.2g}"] if value["n"] > 1 else []
    if name != SINGLE and change is not None and change["n"]:
        notes.append(f"{signed(change['mean'], 1 if abs(change['mean']) < 10 else 0)} %")
    return Cell(f"{value['mean']:.3g}", note=", ".join(notes), sort=float(value["mean"]))


def _search(costs: Mapping[str, Any]) -> Cell:
    """What was spent on finding a learning rate, in trainings."""
    steps, searched = as_float(costs["steps"]), as_float(costs["search_steps"])
    if not steps > 0 or math.isnan(searched):
        return Cell(BLANK)
    note = "" if costs["search_seconds"] is None else f"{costs['search_seconds']:.0f} s"
    return Cell(f"{searched / steps:.1f} trainings", note=note, sort=searched / steps)


def _picture(material: ComparisonMaterial) -> Figure:
    names = material.ranked()
    panels = ["", *material.metrics]
    figure = new_figure(10.5, 1.3 + 0.3 * len(names))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, task in zip(axes, panels, strict=True):
        dress(axis, task or "delta-m", "change [%]")
        _panel(axis, material, names, task)
        axis.set_yticks(range(len(names)), [plain(short(name)) for name in names] if axis is axes[0] else [])
        axis.set_ylim(len(names) - 0.5, -0.5)
    ends = "; ".join(f"{name} {signed(material.mean(name))} %" for name in names)
    return Figure(
        to_svg(figure, "delta-m", f"Dot plots of the relative change against single-task networks: {ends}."),
        "Gain and loss against networks that learn one task each, over all tasks and task by task.",
        "Left of the line is better. Small dots are seeds, large ones their mean, bars the 95 % interval of "
        "the mean; a bar that ends at the frame goes on.",
    )


def _panel(axis: Axes, material: ComparisonMaterial, names: Sequence[str], task: str) -> None:
    axis.axvline(0, color=INK, linewidth=0.9)
    reached = [0.0]
    for place, name in enumerate(names):
        found, colour = material.summary["methods"][name], style_of(material, name)["color"]
        spread = found["change_percent"][task] if task else found["delta_m_percent"]
        if not spread["n"]:
            continue
        points = changes(material, name, task)
        axis.plot(points, [place] * len(points), "o", color=colour, markersize=3, alpha=0.55)
        axis.plot([spread["mean"]], [place], "o", color=colour, markersize=7)
        reached += [*points, spread["mean"]]
        if spread["low"] is not None:
            axis.plot([spread["low"], spread["high"]], [place, place], color=colour, linewidth=1.6)
    room = 0.25 * (max(reached) - min(reached)) or 1.0
    axis.set_xlim(min(reached) - room, max(reached) + room)


def changes(material: ComparisonMaterial, method: str, task: str = "") -> list[float]:
    """Delta-m of every seed, or the change of one task's metric against the task alone, in percent."""
    table = material.table[material.table["status"] == "ok"]
    rows = table[table["method"] == method].set_index("seed")
    if not task:
        return [float(value) for value in rows["delta_m_percent"].dropna()]
    from medmtl.evaluation.comparison import change_percent, higher_is_better

    metric = material.metrics[task]
    column = f"{task}.{metric}"
    single = table[table["method"] == SINGLE].set_index("seed")[column]
    found = [
        change_percent(
            float(rows.at[seed, column]), float(single[seed]), higher_is_better=higher_is_better(metric)
        )
        for seed in rows.index
        if seed in single.index
    ]
    return [value for value in found if math.isfinite(value)]
