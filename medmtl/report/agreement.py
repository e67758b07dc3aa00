"""Agreement of predicted values with the truth: scatter and Bland-Altman, head and masks side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medmtl.report.blocks import Figure, Prose, Section
from medmtl.report.canvas import INK, dress, new_figure, plain, series_style, to_svg
from medmtl.report.material import Material
from medmtl.report.numbers import shown, with_unit
from medmtl.report.outputs import ValueColumn, value_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator
    from numpy.typing import NDArray

    from medmtl.metrics import BlandAltman

_NAMED = 3
_READING = (
    "Left of each pair: predicted against true value; on the dotted line they are equal. Right: difference "
    "against the mean of both; "
    "solid line is the bias, dashed lines the limits of agreement (bias ± 1.96 SD) with their 95 % "
    "confidence bands. The cases that lie "
    "furthest outside the limits are named. A slope in the cloud means that large values are under- or "
    "overestimated."
)


@dataclass(frozen=True)
class Pairs:
    """Predicted and true values, each ``(N,)`` in the column's unit, of the cases that have both."""

    column: ValueColumn
    case_ids: Sequence[str]
    predicted: NDArray[np.float64]
    truth: NDArray[np.float64]


def agreement_section(material: Material) -> Section:
    """One row of panels per quantity."""
    section = Section("agreement", "Agreement of measured values")
    if material.predictions is None or not (columns := value_columns(_headers(material), material.outputs)):
        section.missing = "No predicted values belong to this folder."
        return section
    if material.truth is None:
        section.missing = f"Agreement needs the true values, and {material.no_dataset}"
        return section
    names = dict.fromkeys(column.name for column in columns)
    for number, name in enumerate(names):
        pairs = [paired_values(material, column) for column in columns if column.name == name]
        usable = [pair for pair in pairs if pair is not None and len(pair.truth) > 0]
        if usable:
            section.blocks.append(_figure(usable, f"agreement-{number}"))
        elif name in material.truth.columns:
            section.blocks.append(Prose(f"{name}: no labels among the predicted cases."))
    if not section.blocks:
        section.missing = (
            "None of the predicted values is a column of the dataset, so there is nothing to compare them "
            "with."
        )
    return section


def paired_values(material: Material, column: ValueColumn) -> Pairs | None:
    """Predicted and true values of one column; None where the dataset has no such column."""
    import pandas as pd

    if material.predictions is None or material.truth is None or column.name not in material.truth.columns:
        return None
    table = material.by_case
    predicted = pd.to_numeric(table[column.header], errors="coerce").to_numpy(dtype=np.float64)
    truth = pd.to_numeric(material.truth[column.name].reindex(table.index), errors="coerce").to_numpy(
        dtype=np.float64
    )
    known = np.isfinite(predicted) & np.isfinite(truth)
    cases = [str(case) for case, keep in zip(table.index, known, strict=True) if keep]
    return Pairs(column, cases, predicted[known], truth[known])


def _headers(material: Material) -> list[str]:
    return [] if material.predictions is None else [str(name) for name in material.predictions.columns]


def _figure(pairs: Sequence[Pairs], slug: str) -> Figure:
    from medmtl.metrics import bland_altman

    column = pairs[0].column
    figure = new_figure(max(5.8, 5.4 * len(pairs)), 2.9)
    axes = figure.subplots(1, 2 * len(pairs), squeeze=False)[0]
    words = []
    for number, pair in enumerate(pairs):
        _scatter(axes[2 * number], pair, number)
        result = bland_altman(pair.predicted, pair.truth)
        _bland_altman(axes[2 * number + 1], pair, result, number)
        unit = column.unit
        words.append(
            f"{pair.column.source}: bias {with_unit(result.bias, unit)}, limits {shown(result.lower, unit)} "
            "to "
            f"{with_unit(result.upper, unit)}, n = {result.n}"
        )
    _share_limits([axes[index] for index in range(0, len(axes), 2)], equal=True)
    _share_limits([axes[index] for index in range(1, len(axes), 2)], equal=False)
    summary = "; ".join(words)
    return Figure(
        to_svg(figure, slug, f"Scatter and Bland-Altman plots of {column.name}. {summary}."),
        f"{column.name}. {summary}.",
        _READING,
    )


def _unit(column: ValueColumn) -> str:
    return f" [{column.unit}]" if column.unit else ""


def _scatter(axes: Axes, pair: Pairs, number: int) -> None:
    unit = _unit(pair.column)
    dress(axes, f"{pair.column.name}, {pair.column.source}", f"true{unit}", f"predicted{unit}")
    low, high = (
        float(min(pair.truth.min(), pair.predicted.min())),
        float(max(pair.truth.max(), pair.predicted.max())),
    )
    pad = 0.05 * (high - low) or 1.0
    axes.axline((low, low), slope=1.0, color=INK, linewidth=0.7, linestyle=":")
    axes.scatter(
        pair.truth, pair.predicted, s=16, alpha=0.75, linewidths=0, color=series_style(number)["color"]
    )
    axes.set_xlim(low - pad, high + pad)
    axes.set_ylim(low - pad, high + pad)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(_few_ticks())
    axes.yaxis.set_major_locator(_few_ticks())


def _bland_altman(axes: Axes, pair: Pairs, result: BlandAltman, number: int) -> None:
    unit = _unit(pair.column)
    color = series_style(number)["color"]
    mean, difference = (pair.predicted + pair.truth) / 2, pair.predicted - pair.truth
    dress(axes, "", f"mean of both{unit}", f"predicted − true{unit}")
    axes.axhline(0.0, color=INK, linewidth=0.6, linestyle=":")
    axes.axhline(result.bias, color=color, linewidth=1.4)
    for limit, ends in ((result.lower, result.lower_ci), (result.upper, result.upper_ci)):
        if np.isfinite(limit):
            axes.axhline(limit, color=color, linewidth=1.1, linestyle="--")
        if np.isfinite(ends.low):
            axes.axhspan(ends.low, ends.high, color=color, alpha=0.10, linewidth=0)
    axes.scatter(mean, difference, s=16, alpha=0.75, linewidths=0, color=color)
    axes.margins(x=0.12, y=0.12)
    axes.xaxis.set_major_locator(_few_ticks())
    outside = np.flatnonzero((difference < result.lower) | (difference > result.upper))
    middle = float(mean.min() + mean.max()) / 2
    for index in sorted(outside.tolist(), key=lambda i: -abs(difference[i] - result.bias))[:_NAMED]:
        side = "right" if mean[index] > middle else "left"
        offset = (-4, 3) if side == "right" else (4, 3)
        axes.annotate(
            plain(pair.case_ids[index]),
            (mean[index], difference[index]),
            offset,
            textcoords="offset points",
            ha=side,
            fontsize=7,
            color=INK,
        )


def _few_ticks() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def _share_limits(axes: Sequence[Axes], equal: bool) -> None:
    """The same limits for all panels of a kind, so that head and masks compare by eye."""
    for get, put in (("get_xlim", "set_xlim"), ("get_ylim", "set_ylim")):
        limits = [getattr(axis, get)() for axis in axes]
        low, high = min(limit[0] for limit in limits), max(limit[1] for limit in limits)
        for axis in axes:
            getattr(axis, put)(low, high)
    if equal:
        for axis in axes:
            axis.set_aspect("equal")
