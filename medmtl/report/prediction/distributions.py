"""How values and classes are spread over the cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medmtl.report.blocks import Cell, Figure, Section, Table
from medmtl.report.canvas import INK, dress, legend, new_figure, series_style, to_svg
from medmtl.report.numbers import shown
from medmtl.report.prediction.cells import Quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_PANELS = 12
_ACROSS = 3
_BINS = 24
_READING = (
    "Bars: from the masks; line: from a head, where both say it. Dotted: the median of the bars. A second "
    "hump, or a few studies far out, is worth a look at those studies."
)


def distributions(table: DataFrame, found: Sequence[Quantity], classes: Mapping[str, str]) -> Section:
    """A histogram per quantity and a count per class, over the studies that have them."""
    section = Section("values", "Values")
    for task, column in classes.items():
        if (counts := table[column].dropna().value_counts()).size:
            section.blocks.append(_classes(table, task, {str(k): int(v) for k, v in counts.items()}))
    drawn = [
        quantity for quantity in found if any(_values(table, c.header).size > 1 for c in quantity.columns)
    ]
    if drawn:
        section.blocks.append(_figure(table, drawn[:_PANELS]))
    if not section.blocks:
        section.missing = "Fewer than two studies have values, so there is nothing to compare."
    return section


def _classes(table: DataFrame, task: str, counts: Mapping[str, int]) -> Table:
    total = sum(counts.values())
    rows = []
    for name, count in counts.items():
        chances = _values(table[table[f"{task}.class"] == name], f"{task}.probability.{name}")
        median = shown(float(np.median(chances))) if chances.size else shown(None)
        share = f"{100 * count / total:.0f} %"
        rows.append(
            [Cell(name, header=True), Cell(str(count)), Cell(share, shade=count / total), Cell(median)]
        )
    return Table(f"{task}: predicted classes", ["class", "studies", "share", "median probability"], rows)


def _values(table: DataFrame, column: str) -> np.ndarray:
    import pandas as pd

    if column not in table.columns:
        return np.empty(0)
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
    return values[np.isfinite(values)]


def _figure(table: DataFrame, drawn: Sequence[Quantity]) -> Figure:
    columns = min(_ACROSS, len(drawn))
    lines = -(-len(drawn) // columns)
    figure = new_figure(3.4 * columns if columns > 1 else 5.0, 2.3 * lines)
    axes = figure.subplots(lines, columns, squeeze=False)
    labelled = False
    for axis, quantity in zip(axes.flat, [*drawn, *[None] * (lines * columns - len(drawn))], strict=True):
        if quantity is None:
            axis.set_axis_off()
            continue
        both = _draw(table, axis, quantity)
        if both and not labelled:
            legend(axis)
            labelled = True
    names = ", ".join(quantity.name for quantity in drawn)
    svg = to_svg(figure, "spread", f"Histograms of {names} over the studies with a result.")
    return Figure(svg, "How the values are spread over the studies.", _READING)


def _draw(table: DataFrame, axes: Axes, quantity: Quantity) -> bool:
    from matplotlib.ticker import MaxNLocator

    parts = sorted(quantity.columns, key=lambda column: not column.from_masks)
    values = {column: found for column in parts if (found := _values(table, column.header)).size}
    pooled = np.concatenate(list(values.values()))
    low, high = (float(end) for end in (pooled.min(), pooled.max()))
    edges = np.linspace(low, high if high > low else low + 1.0, min(_BINS, max(6, pooled.size // 2)) + 1)
    dress(axes, quantity.name, quantity.unit, "studies")
    for number, (column, found) in enumerate(values.items()):
        color = series_style(number)["color"]
        counts, _ = np.histogram(found, edges)
        if number == 0:
            axes.bar(
                edges[:-1], counts, np.diff(edges), align="edge", color=color, alpha=0.75, label=column.source
            )
            axes.axvline(float(np.median(found)), color=INK, linewidth=1.0, linestyle=":")
        else:
            axes.stairs(counts, edges, color=color, linewidth=1.6, label=column.source)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    return len(values) > 1
