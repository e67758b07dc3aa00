"""What the shared encoder makes of the cases, under the best method and the worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.report.blocks import Figure, Section
from medmtl.report.canvas import INK, SERIES, dress, new_figure, plain, to_svg
from medmtl.report.comparison.material import ComparisonMaterial
from medmtl.report.comparison.styles import short
from medmtl.report.read import read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

_MARKERS = "osD^vP*X<>"
_FEWEST = 3
_MOST = 3
"""Columns of labels that one figure colours by."""


def embedding_section(material: ComparisonMaterial) -> Section:
    """Principal components of the bottleneck, coloured by what the tasks have to tell."""
    section = Section("embedding", "Shared embedding")
    names = material.ranked()
    chosen = names if len(names) < 2 else [names[0], names[-1]]
    tables = {name: table for name in chosen if (table := _table(material, name)) is not None}
    if not tables:
        section.missing = "No method kept what its encoder makes of the cases."
        return section
    first = next(iter(tables.values()))
    if len(first) < _FEWEST:
        section.missing = f"{len(first)} cases are too few to show how they lie to each other."
        return section
    section.blocks.append(_figure(tables, _labels(first)))
    return section


def _table(material: ComparisonMaterial, method: str) -> DataFrame | None:
    seeds = material.done(method)
    return read_table(material.place(method, seeds[0]) / "embedding.csv") if seeds else None


def _labels(table: DataFrame) -> list[str]:
    """Columns to colour by: classes first, then values; one blank name where there is nothing to tell."""
    known = [c for c in table.columns if c != "case_id" and not c.startswith("feature.")]
    known = [c for c in known if table[c].notna().sum() >= _FEWEST]
    known.sort(key=lambda c: table[c].dtype.kind == "f")
    return known[:_MOST] or [""]


def components(table: DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First two principal components ``(N, 2)``, and the share of the variance that each has ``(2,)``."""
    features = table[[c for c in table.columns if c.startswith("feature.")]].to_numpy(dtype=np.float64)
    centred = features - features.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(table), 2))
    kept = min(2, len(sizes))
    points[:, :kept] = left[:, :kept] * sizes[:kept]
    total = float((sizes**2).sum()) or 1.0
    share = np.zeros(2)
    share[:kept] = sizes[:kept] ** 2 / total
    return points, share


def _figure(tables: dict[str, DataFrame], labels: Sequence[str]) -> Figure:
    figure = new_figure(3.5 * max(2, len(labels)), 3.2 * len(tables))
    axes = figure.subplots(len(tables), len(labels), squeeze=False)
    for row, (name, table) in zip(axes, tables.items(), strict=True):
        points, share = components(table)
        for axis, label in zip(row, labels, strict=True):
            dress(
                axis,
                f"{short(name)}: {label}" if label else short(name),
                f"component 1 ({share[0]:.0%})",
                f"component 2 ({share[1]:.0%})",
            )
            _scatter(figure, axis, points, None if not label else table[label])
    number = len(next(iter(tables.values())))
    which = " and the worst" if len(tables) > 1 else ""
    return Figure(
        to_svg(
            figure,
            "embedding",
            f"Scatter plots of the first two principal components of {number} cases' bottleneck features "
            f"under {' and '.join(tables)}, coloured by {', '.join(filter(None, labels)) or 'nothing'}.",
        ),
        f"The encoder's coarsest features of {number} cases, under the best method{which} by delta-m.",
        "Every point is a case: features averaged over space, of ED and ES, in the plane of their first two "
        "principal components (the share of the variance in brackets). Each row has components of its own: "
        "only how points lie to each other can be compared. Classes that lie apart, and values that change "
        "along a direction, are there for a head to read. First seed only.",
    )


def _scatter(figure: Any, axis: Axes, points: NDArray[np.float64], values: Any) -> None:
    if values is None:
        axis.plot(points[:, 0], points[:, 1], "o", color=SERIES[0], markersize=5)
        return
    known = values.notna().to_numpy()
    axis.plot(points[~known, 0], points[~known, 1], "x", color=INK, alpha=0.4, markersize=4)
    if values.dtype.kind == "f":
        drawn = axis.scatter(points[known, 0], points[known, 1], c=values[known], cmap="viridis", s=26)
        bar = figure.colorbar(drawn, ax=axis)
        bar.ax.tick_params(labelsize=8, colors=INK, width=0.6)
        bar.outline.set_visible(False)
        return
    for number, name in enumerate(sorted(values[known].unique())):
        here = known & (values == name).to_numpy()
        axis.plot(
            points[here, 0], points[here, 1], _MARKERS[number % len(_MARKERS)], linestyle="",
            color=SERIES[number % len(SERIES)], markersize=5, alpha=0.85, label=plain(str(name)),
        )  # fmt: skip
    axis.legend(fontsize=7, frameon=False, labelcolor=INK, handletextpad=0.2, borderpad=0.2)
