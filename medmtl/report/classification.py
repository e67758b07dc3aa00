"""Classification: the confusion matrix as a table, and a receiver operating curve per class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmtl.report.blocks import BLANK, Block, Cell, Figure, Prose, Section, Table
from medmtl.report.canvas import INK, dress, new_figure, series_style, to_svg
from medmtl.report.material import Material

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

    from medmtl.evaluation import PredictedTask


def classification_section(material: Material) -> Section:
    """Every classification task with known truth."""
    section = Section("classification", "Classes")
    tasks = [output for output in material.outputs.values() if output.kind == "classification"]
    if material.predictions is None or not tasks:
        section.missing = "No predicted classes belong to this folder."
        return section
    if material.truth is None:
        section.missing = f"A confusion matrix needs the true classes, and {material.no_dataset}"
        return section
    for output in tasks:
        pairs = paired_classes(material, output)
        if pairs is None or pairs.empty:
            section.blocks.append(Prose(f"{output.name}: no labels among the predicted cases."))
            continue
        section.blocks.extend(_blocks(output, pairs))
    return section


def paired_classes(material: Material, output: PredictedTask) -> DataFrame | None:
    """Predictions of the cases with a true class, put in column `truth`; None without the columns."""
    if material.predictions is None or material.truth is None:
        return None
    column = f"{output.name}.class"
    if column not in material.predictions.columns or output.target not in material.truth.columns:
        return None
    table = material.by_case
    table = table.assign(truth=material.truth[output.target].reindex(table.index))
    return table[table["truth"].notna() & table[column].notna()]


def _blocks(output: PredictedTask, pairs: DataFrame) -> list[Block]:
    truth, predicted = pairs["truth"].astype(str), pairs[f"{output.name}.class"].astype(str)
    classes = list(output.classes) or sorted(set(truth) | set(predicted))
    classes += sorted((set(truth) | set(predicted)) - set(classes))
    blocks: list[Block] = [_matrix(output.name, list(truth), list(predicted), classes)]
    columns = [f"{output.name}.probability.{name}" for name in classes]
    if all(column in pairs.columns for column in columns):
        probability = pairs[columns].to_numpy(dtype=np.float64)
        known = np.isfinite(probability).all(axis=1)
        if (curves := _curves(output.name, truth.to_numpy()[known], probability[known], classes)) is not None:
            blocks.append(curves)
    return blocks


def _matrix(task: str, truth: list[str], predicted: list[str], classes: list[str]) -> Table:
    from medmtl.metrics import confusion_matrix

    counts = confusion_matrix(predicted, truth, classes)
    rows = []
    for index, name in enumerate(classes):
        total = int(counts[index].sum())
        cells = [Cell(name, header=True)]
        for other in range(len(classes)):
            share = counts[index, other] / total if total else 0.0
            note = f"{share:.0%}" if total else ""
            cells.append(
                Cell(str(counts[index, other]), note=note, shade=round(share, 3), flag=other == index)
            )
        recall = f"{counts[index, index] / total:.0%}" if total else BLANK
        rows.append([*cells, Cell(str(total)), Cell(recall)])
    right = int(np.trace(counts))
    return Table(
        f"{task}: confusion matrix, {right} of {len(truth)} cases right",
        ["true ↓  predicted →", *classes, "cases", "sensitivity"],
        rows,
        reading=(
            "Each row is a true class: how many of its cases were called what, in numbers and per cent. "
            "The outlined diagonal is right."
        ),
        compact=True,
    )


def _curves(
    task: str, truth: NDArray[np.str_], probability: NDArray[np.float64], classes: list[str]
) -> Figure | None:
    from sklearn.metrics import roc_curve

    from medmtl.metrics import one_vs_rest_auc

    drawable = [name for name in classes if 0 < int((truth == name).sum()) < len(truth)]
    if not drawable:
        return None
    aucs = one_vs_rest_auc(probability, truth, classes)
    columns = min(len(drawable), 5)
    lines = -(-len(drawable) // columns)
    figure = new_figure(2.1 * columns if columns > 2 else 5.0, 2.3 * lines)
    axes = figure.subplots(lines, columns, squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index >= len(drawable):
            axis.set_axis_off()
            continue
        name = drawable[index]
        false, true, _ = roc_curve(truth == name, probability[:, classes.index(name)])
        _roc(axis, false, true, f"{name}: AUC {float(aucs[name]):.2f}", labelled=index % columns == 0)
    words = ", ".join(f"{name} {float(aucs[name]):.2f}" for name in drawable)
    return Figure(
        to_svg(
            figure,
            f"roc-{task}",
            f"Receiver operating curves of {task}, one class against the rest. Area under the curve: "
            f"{words}.",
        ),
        f"{task}: receiver operating curve of each class against the rest.",
        "The closer a curve comes to the upper left corner, the better the predicted probability separates "
        "the class; the diagonal is chance. "
        "Few cases make coarse steps.",
    )


def _roc(
    axes: Axes, false: NDArray[np.float64], true: NDArray[np.float64], title: str, labelled: bool
) -> None:
    dress(axes, title, "1 − specificity", "sensitivity" if labelled else "")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
    axes.plot(false, true, linewidth=1.8, drawstyle="default", **series_style(0))
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_aspect("equal")
