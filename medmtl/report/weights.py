"""Task weights over time: each task's share and loss, and whether the weighting collapsed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.report.blocks import Block, Figure, Prose, Section
from medmtl.report.canvas import INK, dress, legend, log_scale, new_figure, plain, series_style, to_svg
from medmtl.report.material import Material
from medmtl.report.read import read_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame, Series

COLLAPSE = 0.99
"""Share above which one task has, in effect, all the weight (DESIGN section 2)."""
_POINTS = 400


def weights_section(material: Material) -> Section:
    """Weight shares and losses of RUN/weights.csv."""
    section = Section("weights", "Task weights")
    if material.run is None:
        section.missing = "No training run belongs to this folder, so there are no task weights to show."
        return section
    table = read_table(material.run / "weights.csv")
    shares = None if table is None else weight_shares(table)
    if table is None or shares is None:
        section.missing = (
            "The run recorded no task weights: weights.csv is absent or empty, or the method combines "
            "gradients without weights."
        )
        return section
    collapsed = _collapsed(shares)
    section.blocks.append(_figure(table, shares, collapsed))
    section.blocks.extend(_in_words(table, shares, collapsed))
    return section


def weight_shares(table: DataFrame) -> DataFrame | None:
    """Each task's weight over the sum of those present, (steps, tasks); NaN where a task was absent."""
    names = [name for name in table.columns if name.endswith(".weight")]
    return shares_of(table[names].rename(columns=lambda name: name.removesuffix(".weight")).apply(to_number))


def shares_of(parts: DataFrame) -> DataFrame | None:
    """Parts over the sum of each row, without columns that are nothing but NaN."""
    totals = parts.sum(axis=1, min_count=1)
    shares = parts.div(totals.where(totals > 0), axis=0).dropna(how="all", axis=1)
    return None if shares.empty else shares


def last_shares(shares: DataFrame) -> Series[float]:
    """Mean share of each task over the last tenth of the steps."""
    return _last_tenth(shares).mean()


def _last_tenth(shares: DataFrame) -> DataFrame:
    return shares.tail(max(1, len(shares) // 10))


def in_digits(shares: Series[float], digits: int = 2) -> str:
    """Each task with its share."""
    return ", ".join(f"{task} {share:.{digits}f}" for task, share in shares.items())


def effective_tasks(shares: DataFrame) -> NDArray[np.float64]:
    """Perplexity of the weights per step: 1 when one task has it all, K when K tasks have the same."""
    share_SK = shares.to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms_SK = np.where(share_SK > 0, share_SK * np.log(share_SK), 0.0)
    return np.asarray(np.exp(-terms_SK.sum(axis=1)))


def to_number(column: object) -> Any:
    """A column as numbers; NaN for words."""
    import pandas as pd

    return pd.to_numeric(column, errors="coerce")


def _figure(table: DataFrame, shares: DataFrame, collapsed: NDArray[np.bool_]) -> Figure:
    steps = (
        table["step"].to_numpy(dtype=np.float64)
        if "step" in table.columns
        else np.arange(len(table), dtype=np.float64)
    )
    figure = new_figure(10.5, 3.6)
    left, right = figure.subplots(1, 2)
    dress(left, "Share of the task weight", "step", "weight / sum of weights")
    dress(right, "Task losses", "step", "loss (unweighted)")
    positive = True
    for index, task in enumerate(shares.columns):
        style = series_style(index)
        _trace(left, steps, shares[task].to_numpy(dtype=np.float64), task, style)
        if f"{task}.loss" in table.columns:
            loss = np.asarray(to_number(table[f"{task}.loss"]), dtype=np.float64)
            _trace(right, steps, loss, task, style)
            positive = positive and bool(np.nanmin(loss, initial=np.inf) > 0)
    left.set_ylim(-0.02, 1.04)
    left.axhline(COLLAPSE, color=INK, linewidth=0.7, linestyle=":")
    _shade_collapse(left, steps, collapsed)
    if positive:
        log_scale(right)
    legend(left)
    ends = in_digits(last_shares(shares))
    return Figure(
        to_svg(
            figure,
            "task-weights",
            f"Line charts of weight share and loss per task over {len(table)} steps; at the end: {ends}.",
        ),
        "Who steers the shared encoder: each task's share of the weight (left) and its loss (right), per "
        "training step.",
        "Thick lines are smoothed, faint ones are the raw steps. Shares add up to 1 over the tasks that "
        "had labels in the step. A line "
        f"that stays above {COLLAPSE} (dotted; hatched where it happens) has taken the training for itself: "
        "the other losses then stop falling.",
    )


def _trace(
    axes: Axes, steps: NDArray[np.float64], values: NDArray[np.float64], task: str, style: dict[str, Any]
) -> None:
    """Raw values faint, or their range where there are too many to draw, and a smoothed line over them."""
    known = np.isfinite(values)
    x, y = steps[known], values[known]
    if len(x) == 0:
        return
    color = style["color"]
    if len(x) <= 2 * _POINTS:
        axes.plot(x, y, color=color, linewidth=0.7, alpha=0.3)
    else:
        bins = np.array_split(np.arange(len(x)), _POINTS)
        middle = [x[part].mean() for part in bins]
        low, high = [y[part].min() for part in bins], [y[part].max() for part in bins]
        axes.fill_between(middle, low, high, color=color, alpha=0.18, linewidth=0)
    smooth_x, smooth_y = smoothed(x, y)
    axes.plot(smooth_x, smooth_y, label=plain(task), linewidth=2.0, **style)


def smoothed(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A centred moving mean over 4 % of the points, thinned to what a page can show."""
    window = max(1, len(y) // 25)
    weight = np.ones(window)
    total = np.convolve(y, weight, mode="same")
    number = np.convolve(np.ones(len(y)), weight, mode="same")
    chosen = np.unique(np.linspace(0, len(y) - 1, min(len(y), _POINTS)).astype(int))
    return x[chosen], (total / number)[chosen]


def _shade_collapse(axes: Axes, steps: NDArray[np.float64], collapsed: NDArray[np.bool_]) -> None:
    if collapsed.any():
        axes.fill_between(
            steps,
            0,
            1,
            where=list(collapsed),
            transform=axes.get_xaxis_transform(),
            facecolor="none",
            edgecolor=INK,
            alpha=0.25,
            hatch="///",
            linewidth=0,
        )


def _collapsed(shares: DataFrame) -> NDArray[np.bool_]:
    """Steps in which, after smoothing, one of at least two tasks has nearly all the weight."""
    if shares.shape[1] < 2:
        return np.zeros(len(shares), dtype=bool)
    window = max(1, len(shares) // 25)
    smooth = shares.fillna(0.0).rolling(window, center=True, min_periods=1).mean()
    return np.asarray(smooth.max(axis=1).to_numpy() > COLLAPSE)


def _in_words(table: DataFrame, shares: DataFrame, collapsed: NDArray[np.bool_]) -> list[Block]:
    effective = float(np.mean(effective_tasks(_last_tenth(shares))))
    text = (
        f"Mean share over the last tenth of training: {in_digits(last_shares(shares), 3)}. "
        "Effective number of tasks (perplexity of the weights): "
        f"{effective:.1f} of {shares.shape[1]}."
    )
    blocks: list[Block] = [Prose(text)]
    if collapsed.any():
        winner = shares[collapsed].mean().idxmax()
        steps = table["step"] if "step" in table.columns else table.index.to_series()
        first = int(steps[collapsed].iloc[0])
        blocks.append(
            Prose(
                f"Collapse: {winner} held more than {COLLAPSE:.0%} of the weight in {collapsed.mean():.0%} "
                f"of the steps, first at step {first}. "
                "Normalize the losses, set a weight floor, or set the temperature by an effective number "
                "of tasks.",
                warning=True,
            )
        )
    return blocks
