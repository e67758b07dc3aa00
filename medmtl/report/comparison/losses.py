"""Training and validation loss of every task under every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.report.blocks import Figure, Section
from medmtl.report.canvas import INK, dress, log_scale, new_figure, plain, to_svg
from medmtl.report.comparison.material import SINGLE, ComparisonMaterial
from medmtl.report.comparison.styles import left_out, short, shown_methods, style_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from pandas import DataFrame

_PARTS = {"train.loss.": "training loss", "val.loss.": "validation loss"}


def losses_section(material: ComparisonMaterial) -> Section:
    """Curves of each run's metrics.csv, mean over seeds."""
    section = Section("losses", "Losses of every task")
    names = [name for name in shown_methods(material) if material.done(name)]
    if not names:
        section.missing = "No method was trained to the end, so there are no losses to show."
        return section
    tasks = list(material.description["config"]["tasks"])
    for first in range(0, len(tasks), 4):
        section.blocks.append(_figure(material, names, tasks[first : first + 4], first))
    return section


def _figure(material: ComparisonMaterial, names: Sequence[str], tasks: Sequence[str], number: int) -> Figure:
    figure = new_figure(10.5, 5.0)
    axes = figure.subplots(2, len(tasks), squeeze=False)
    for column, task in enumerate(tasks):
        for row, (part, label) in enumerate(_PARTS.items()):
            axis = axes[row, column]
            dress(axis, f"{task}: {label}", "step" if row else "", "loss" if column == 0 else "")
            _panel(axis, material, names, task, part)
        _same_range(axes[0, column], axes[1, column])
    found: dict[str, Artist] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        list(found.values()), list(found), loc="outside lower left", ncols=min(5, max(1, len(found))),
        fontsize=8, frameon=False, labelcolor=INK, handlelength=3,
    )  # fmt: skip
    return Figure(
        to_svg(
            figure,
            f"losses-{number}",
            f"Line charts of training loss (above) and validation loss (below) of {', '.join(tasks)} over "
            f"training steps, a line for each of {', '.join(names)} and for the task alone.",
        ),
        "Loss of every task, unweighted, on training (above) and validation cases (below).",
        "Means over seeds; logarithmic. A training loss that falls while the validation loss turns up is "
        "overfitting. The dotted line is the network that learns this task alone."
        + left_out(material, names),
    )


def _panel(axis: Axes, material: ComparisonMaterial, names: Sequence[str], task: str, part: str) -> None:
    column, positive = f"{part}{task}", True
    for name in [*names, SINGLE]:
        if name == SINGLE:
            folders = [material.single_run(task, seed) for seed in material.seeds]
        else:
            folders = [material.run(name, seed) for seed in material.done(name)]
        curve = _mean_curve([material.log(folder) for folder in folders], column)
        if curve is None:
            continue
        marker = "o" if len(curve) < 3 else ""
        axis.plot(
            curve.index, curve[column], label=plain(short(name)), linewidth=1.5, marker=marker, markersize=3,
            **style_of(material, name),
        )  # fmt: skip
        positive = positive and bool((curve[column] > 0).all())
    if positive and axis.lines:
        log_scale(axis)
    if not axis.lines:
        axis.text(0.5, 0.5, "not recorded", transform=axis.transAxes, ha="center", color=INK, fontsize=9)


def _mean_curve(logs: Sequence[DataFrame | None], column: str) -> DataFrame | None:
    """Mean over seeds by step."""
    import pandas as pd

    parts = [log[["step", column]].dropna() for log in logs if log is not None and column in log.columns]
    if not parts or all(part.empty for part in parts):
        return None
    return pd.concat(parts).groupby("step")[[column]].mean()


def _same_range(above: Axes, below: Axes) -> None:
    """Both panels of a task on one scale, so that the eye compares what it should."""
    if not (above.lines and below.lines):
        return
    ends = [*above.get_ylim(), *below.get_ylim()]
    for axis in (above, below):
        axis.set_ylim(min(ends), max(ends))
