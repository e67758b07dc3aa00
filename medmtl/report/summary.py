"""Headline numbers, and one table per task of every metric with its interval and number of cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medmtl.report.blocks import BLANK, Block, Cell, KeyNumber, KeyNumbers, Prose, Section, Table
from medmtl.report.material import Material
from medmtl.report.numbers import as_float, count, interval, shown, with_unit

Metrics = Mapping[str, Mapping[str, Any]]
AGREEMENT = ("mae", "bias", "sd", "loa_low", "loa_high", "r", "icc")
_NAMES = {
    "dice": "Dice",
    "surface_dice": "Surface Dice",
    "hd": "Hausdorff distance",
    "hd95": "HD95",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auc": "AUC",
    "ece": "Calibration error",
    "mae": "Mean absolute error",
    "bias": "Bias",
    "sd": "SD of differences",
    "loa_low": "Lower limit",
    "loa_high": "Upper limit",
    "r": "Pearson r",
    "icc": "ICC",
}
_HEADLINES = ("dice", "accuracy", "mae")
_READING = (
    "Small type: 95 % confidence interval over cases, and n where it differs from the row's. Bias is "
    "prediction minus truth; "
    "the limits of agreement hold 95 % of the differences."
)


def name_of(metric: str) -> str:
    """A metric's name for a reader."""
    return _NAMES.get(metric, metric.replace("_", " "))


def summary_section(material: Material) -> Section:
    """Headline numbers and the tables of metrics.json."""
    section = Section("summary", "Summary")
    if not material.metrics:
        section.missing = (
            "No metrics.json here: medmtl evaluate writes it when it compares predictions with a labelled "
            "dataset."
        )
        return section
    numbers = [number for task, metrics in material.metrics.items() if (number := _headline(task, metrics))]
    section.blocks.append(KeyNumbers(numbers))
    for task, metrics in material.metrics.items():
        section.blocks.extend(_task_tables(task, metrics))
    notes = material.evaluation.get("notes")
    if isinstance(notes, list):
        section.blocks.extend(Prose(f"Note: {note}") for note in notes)
    return section


def _headline(task: str, metrics: Metrics) -> KeyNumber | None:
    """The one number that a task is known by; an ejection fraction stands for the values of a task."""
    for base in _HEADLINES:
        names = [name for name in metrics if name == base or name.startswith(f"{base}.")]
        if not names:
            continue
        name = base if base in metrics else next((n for n in names if n.endswith("_EF")), names[0])
        entry = metrics[name]
        unit, subject = str(entry.get("unit") or ""), name.removeprefix(base).lstrip(".")
        label = f"{task}: {name_of(base)}{' ' + subject if subject else ''}"
        if count(entry) == 0:
            return KeyNumber(label, "no labels")
        spread = f"95 % CI {interval(entry)}, " if interval(entry) else ""
        return KeyNumber(label, with_unit(entry.get("value"), unit), f"{spread}n = {count(entry)}")
    return None


def _task_tables(task: str, metrics: Metrics) -> list[Block]:
    parts = {name: tuple(name.split(".")) for name in metrics}
    agreement = {name for name, part in parts.items() if part[0] in AGREEMENT}
    overlap = [name for name in metrics if name not in agreement]
    blocks: list[Block] = []
    if overlap:
        blocks.append(_pivot(f"{task}", metrics, overlap))
    if agreement:
        title = f"{task}: agreement of values" if overlap else task
        blocks.append(_pivot(title, metrics, [name for name in metrics if name in agreement]))
    return blocks


def _pivot(title: str, metrics: Metrics, names: Sequence[str]) -> Table:
    """Rows are structures or quantities, columns metrics: `dice.LV.ED` is row LV, column Dice ED."""
    grid: dict[str, dict[str, Mapping[str, Any]]] = {}
    columns: dict[str, str] = {}
    for name in names:
        base, *rest = name.split(".")
        row = rest[0] if rest else "overall"
        column = " ".join([name_of(base), *rest[1:]])
        columns[column] = base
        grid.setdefault(row, {})[column] = metrics[name]
    order = sorted(
        columns, key=lambda column: AGREEMENT.index(columns[column]) if columns[column] in AGREEMENT else -1
    )
    units = {column: _common(row[column] for row in grid.values() if column in row) for column in order}
    rows = [_row(label, entries, order, units) for label, entries in grid.items()]
    heads = [f"{column} [{units[column]}]" if units[column] not in ("", "1") else column for column in order]
    return Table(title, ["", "n", *heads], rows, reading=_READING, compact=True)


def _common(entries: Iterable[Mapping[str, Any]]) -> str:
    """The unit that all entries share, or nothing."""
    units = {str(entry.get("unit") or "") for entry in entries}
    return units.pop() if len(units) == 1 else ""


def _row(
    label: str, entries: Mapping[str, Mapping[str, Any]], order: Sequence[str], units: Mapping[str, str]
) -> list[Cell]:
    largest = max(count(entry) for entry in entries.values())
    if largest == 0:
        return [Cell(label, header=True), Cell("0", sort=0.0), Cell("no labels", span=len(order))]
    cells = [Cell(label, header=True), Cell(str(largest), sort=float(largest))]
    for column in order:
        if column not in entries:
            cells.append(Cell(BLANK))
            continue
        entry = entries[column]
        unit = str(entry.get("unit") or "")
        text = shown(entry.get("value"), unit) if units[column] else with_unit(entry.get("value"), unit)
        note = interval(entry)
        if count(entry) == 0:
            text, note = "no labels", ""
        elif count(entry) != largest:
            note = f"{note}; n = {count(entry)}".lstrip("; ")
        cells.append(Cell(text, note=note, sort=as_float(entry.get("value"))))
    return cells
