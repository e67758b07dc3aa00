"""Volume over the cardiac cycle, for cases with more frames than ED and ES."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.evaluation.tasks import MASK_KINDS
from medmtl.report.blocks import Figure, Prose, Section
from medmtl.report.canvas import INK, dress, legend, new_figure, plain, series_style, to_svg
from medmtl.report.material import Material
from medmtl.report.ranking import Ranking
from medmtl.report.volumes import Volume, load_volume
from medmtl.types import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from medmtl.evaluation import PredictedTask

_CASES = 6
_FRAMES = 3


def cine_section(material: Material, ranking: Ranking) -> Section:
    """Predicted volume curves of the worst cases with a cine, and the truth where frames are labelled."""
    section = Section("cine", "Volume over the cardiac cycle")
    output = next(
        (output for output in material.outputs.values() if output.kind in MASK_KINDS and output.file), None
    )
    if material.predictions_folder is None or output is None or not output.labels:
        section.missing = (
            "No predicted masks belong to this folder, so there are no volumes to follow over time."
        )
        return section
    curves = []
    for case_id in ranking.order:
        file = material.predictions_folder / case_id / output.file
        if not file.is_file() or _frame_count(file) < _FRAMES:
            continue
        try:
            curves.append(_curve_of(material, output, case_id, file))
        except OutputError as error:
            section.blocks.append(Prose(f"{case_id}: {error}.", warning=True))
        if len(curves) == _CASES:
            break
    if curves:
        section.blocks.append(_figure(curves, output))
    elif not section.blocks:
        section.missing = f"No predicted case has {_FRAMES} frames or more, so there is no curve to draw."
    return section


def _frame_count(file: Path) -> int:
    """Number of frames, read from the header alone; 0 where it cannot be read."""
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nib.load(file)
    except (ImageFileError, OSError, EOFError):
        return 0
    return int(image.shape[3]) if len(image.shape) == 4 else 1


@dataclass(frozen=True)
class _Curve:
    """What is drawn for one case: masks, and the voxel value of every structure in each."""

    case_id: str
    prediction: Volume
    labels: Mapping[str, int]
    truth: Volume | None
    truth_labels: Mapping[str, int]


def _curve_of(material: Material, task: PredictedTask, case_id: str, file: Path) -> _Curve:
    case = material.dataset_cases.get(case_id)
    truth_file = case.files.get(task.target) if case is not None else None
    truth = load_volume(truth_file, mask=True) if truth_file is not None else None
    columns = material.dataset.columns if material.dataset is not None else {}
    codes = columns[task.target].labels if truth is not None else {}
    return _Curve(case_id, load_volume(file, mask=True), task.labels, truth, codes)


def _figure(curves: Sequence[_Curve], output: PredictedTask) -> Figure:
    columns = min(3, len(curves))
    lines = -(-len(curves) // columns)
    figure = new_figure(3.5 * columns if columns > 1 else 5.2, 2.5 * lines)
    axes = figure.subplots(lines, columns, squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index >= len(curves):
            axis.set_axis_off()
            continue
        _draw(axis, curves[index])
        if index == 0:
            legend(axis)
    names = ", ".join(curve.case_id for curve in curves)
    return Figure(
        to_svg(
            figure, "cine", f"Predicted volumes of {', '.join(output.labels)} over the frames of {names}."
        ),
        f"{output.name}: predicted volume of every structure over the frames, worst case first.",
        "Lines: predicted volume; circles: true volume in the frames that are labelled. A chamber's curve "
        "falls once to end-systole and rises again; a jagged curve is a segmentation that flickers between "
        "frames, and myocardium should stay nearly level.",
    )


def _draw(axes: Axes, curve: _Curve) -> None:
    prediction, truth = curve.prediction, curve.truth
    timed = prediction.frame_ms > 0
    x = np.arange(prediction.frames) * (prediction.frame_ms if timed else 1.0)
    dress(axes, curve.case_id, "time [ms]" if timed else "frame", "volume [mL]")
    for index, (structure, code) in enumerate(curve.labels.items()):
        style = series_style(index)
        axes.plot(x, prediction.structure_ml(code), linewidth=1.6, label=plain(structure), **style)
        if truth is None or structure not in curve.truth_labels or truth.frames != prediction.frames:
            continue
        known = truth.structure_ml(curve.truth_labels[structure])
        axes.plot(
            x, known, "o", color=style["color"], markersize=4.5, markeredgecolor=INK, markeredgewidth=0.5
        )
    axes.set_ylim(bottom=0.0)
