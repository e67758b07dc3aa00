"""Training curves: loss of every task, validation metrics, learning rate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medmtl.report.blocks import Figure, Prose, Section
from medmtl.report.canvas import INK, dress, legend, log_scale, new_figure, plain, series_style, to_svg
from medmtl.report.material import Material
from medmtl.report.numbers import shown
from medmtl.report.read import read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_HIGHER_IS_BETTER = ("dice", "accuracy", "balanced_accuracy", "auc", "r", "surface_dice")
_LINES = 8
_LOSS = "train.loss."


def training_section(material: Material) -> Section:
    """Curves of RUN/metrics.csv."""
    section = Section("training", "Training curves")
    if material.run is None:
        section.missing = (
            "No training run belongs to this folder, or it is no longer where evaluation.yaml says."
        )
        return section
    table = read_table(material.run / "metrics.csv")
    if table is None or "epoch" not in table.columns:
        section.missing = (
            "The run has no metrics.csv with an epoch in it yet: training writes a row at the end of every "
            "epoch."
        )
        return section
    section.blocks.append(_figure(table))
    if (best := _best_epoch(table)) is not None:
        score = shown(table.set_index("epoch")["val.score"].max())
        section.blocks.append(
            Prose(f"Best validation score {score} at epoch {best} of {int(table['epoch'].max())}.")
        )
    return section


def _figure(table: DataFrame) -> Figure:
    losses = [name for name in table.columns if name.startswith(_LOSS)]
    scores, errors = _validation(table)
    figure = new_figure(10.5, 5.6)
    axes = figure.subplots(2, 2)
    _panel(axes[0, 0], table, losses, "Training loss per task", "loss", logarithmic=True)
    _panel(axes[0, 1], table, scores, "Validation: higher is better", "score")
    _panel(axes[1, 0], table, errors, "Validation: lower is better", "error", logarithmic=True)
    rate = [name for name in ("learning_rate",) if name in table.columns]
    _panel(axes[1, 1], table, rate, "Learning rate", "learning rate", logarithmic=True)
    if (best := _best_epoch(table)) is not None:
        for axis in axes.flat:
            axis.axvline(best, color=INK, linewidth=0.8, linestyle=":", alpha=0.7)
    alternative = (
        f"Four line charts over {len(table)} epochs: training losses, validation scores, validation errors, "
        "learning rate."
    )
    return Figure(
        to_svg(figure, "training-curves", alternative),
        "Losses, validation metrics and learning rate per epoch.",
        "Losses and errors are on logarithmic axes. A training loss that falls while its validation curve "
        "turns is overfitting; "
        "a flat loss beside falling ones is a task that the others drown. The dotted line is the epoch "
        "with the best "
        "validation score, whose weights were kept.",
    )


def _validation(table: DataFrame) -> tuple[Sequence[str], Sequence[str]]:
    """Validation columns to draw: overall scores where a task has them, and mean absolute errors."""
    columns = [name for name in table.columns if re.match(r"^val\.[^.]+\.", name)]
    overall = [
        name for name in columns if len(name.split(".")) == 3 and name.split(".")[2] in _HIGHER_IS_BETTER
    ]
    done = {name.split(".")[1] for name in overall}
    parts = [n for n in columns if n.split(".")[1] not in done and n.split(".")[2] in ("dice", "r")]
    errors = [name for name in columns if name.split(".")[2] == "mae"]
    return (overall + parts)[:_LINES], errors[:_LINES]


def _best_epoch(table: DataFrame) -> int | None:
    if "val.score" not in table.columns or table["val.score"].notna().sum() == 0:
        return None
    return int(table.loc[table["val.score"].idxmax(), "epoch"])


def _panel(
    axes: Axes, table: DataFrame, names: Sequence[str], title: str, unit: str, logarithmic: bool = False
) -> None:
    dress(axes, title, "epoch", unit)
    drawn = 0
    positive = True
    for name in names:
        known = table[["epoch", name]].dropna()
        if known.empty:
            continue
        style = series_style(drawn)
        marker = "o" if len(known) < 3 else ""
        axes.plot(
            known["epoch"],
            known[name],
            label=plain(_label(name)),
            linewidth=1.6,
            marker=marker,
            markersize=4,
            **style,
        )
        positive = positive and bool((known[name] > 0).all())
        drawn += 1
    if drawn == 0:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=INK, fontsize=9)
        return
    if logarithmic and positive:
        log_scale(axes)
    if names != ["learning_rate"]:
        legend(axes)


def _label(name: str) -> str:
    if name.startswith(_LOSS):
        return name.removeprefix(_LOSS)
    return " ".join(part for part in name.split(".")[1:] if part != "mae")
