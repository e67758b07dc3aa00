"""How every method weighs the tasks while it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medmtl.report.blocks import Figure, Section
from medmtl.report.canvas import INK, dress, new_figure, plain, series_style, to_svg
from medmtl.report.comparison.material import ComparisonMaterial
from medmtl.report.comparison.styles import short
from medmtl.report.read import read_table
from medmtl.report.weights import (
    COLLAPSE,
    in_digits,
    last_shares,
    shares_of,
    smoothed,
    to_number,
    weight_shares,
)

if TYPE_CHECKING:
    from pandas import DataFrame

_COLUMNS = 3


def trajectories_section(material: ComparisonMaterial) -> Section:
    """Shares of the weight, and of the weighted loss, of every method."""
    section = Section("weights", "Task weights over time")
    drawn = [name for name in material.best_first() if material.done(name)]
    if not drawn:
        section.missing = "No method was trained to the end, so there are no weights to show."
        return section
    section.blocks.append(
        _figure(
            material, drawn, weight_shares, "trajectories",
            "Each method's weights: every task's share of their sum, per training step.",
            "Thick lines are smoothed and of the first seed, thin ones of the others. A method that divides "
            "by losses undoes their units, so a task with small losses may hold most of the weight and still "
            "not rule the training; the next figure tells. Of methods that combine gradients these are the "
            "factors of the tasks' gradients.",
        )
    )  # fmt: skip
    section.blocks.append(
        _figure(
            material, drawn, loss_shares, "loss-shares",
            "What the weights make of the losses: every task's share of the weighted sum.",
            f"A line that stays above {COLLAPSE} (dotted) has the training for itself; a line at 0 teaches "
            "the shared network nothing.",
        )
    )  # fmt: skip
    return section


def loss_shares(table: DataFrame) -> DataFrame | None:
    """Each task's weight times loss over their sum, (steps, tasks); NaN where a task was absent."""
    import pandas as pd

    names = [name.removesuffix(".weight") for name in table.columns if name.endswith(".weight")]
    return shares_of(
        pd.DataFrame(
            {
                name: to_number(table[f"{name}.weight"]) * to_number(table[f"{name}.loss"])
                for name in names
                if f"{name}.loss" in table.columns
            }
        ).abs()
    )


def _figure(
    material: ComparisonMaterial,
    names: Sequence[str],
    share: Callable[[DataFrame], DataFrame | None],
    slug: str,
    caption: str,
    reading: str,
) -> Figure:
    tasks = list(material.description["config"]["tasks"])
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(10.5, 0.5 + 2.1 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    said = []
    for axis, name in zip(axes, names, strict=False):
        lowest, leftmost = axis in axes[-columns:], axis in axes[::columns]
        dress(axis, short(name), "step" if lowest else "", "share" if leftmost else "")
        axis.set_ylim(-0.02, 1.04)
        axis.axhline(COLLAPSE, color=INK, linewidth=0.7, linestyle=":")
        ends = ""
        for number, seed in enumerate(material.done(name)):
            table = read_table(material.run(name, seed) / "weights.csv")
            shares = None if table is None else share(table)
            if table is None or shares is None:
                continue
            steps = table["step"].to_numpy(dtype=np.float64)
            for task in shares.columns:
                values = shares[task].to_numpy(dtype=np.float64)
                known = np.isfinite(values)
                x, y = smoothed(steps[known], values[known])
                style = series_style(tasks.index(str(task)))
                thick = {"linewidth": 2.0, "label": plain(str(task))} if number == 0 else {"linewidth": 0.6}
                axis.plot(x, y, **style, **thick)
            if number == 0:
                ends = in_digits(last_shares(shares))
        if not ends:
            axis.text(0.5, 0.5, "no weights", transform=axis.transAxes, ha="center", color=INK, fontsize=9)
        said.append(f"{name}: {ends or 'no weights'}")
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=len(labels) or 1, fontsize=9, frameon=False,
        labelcolor=INK,
    )  # fmt: skip
    alternative = (
        f"Line charts of every task's share over time, a panel per method. At the end: {'; '.join(said)}."
    )
    return Figure(to_svg(figure, slug, alternative), caption, reading)
