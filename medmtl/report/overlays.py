"""True and predicted contours on the image, for the worst, the median and the best case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.evaluation.tasks import MASK_KINDS
from medmtl.report.blocks import Block, Figure, Prose, Section
from medmtl.report.canvas import to_png
from medmtl.report.contours import draw_contours, prediction_outline, truth_outline
from medmtl.report.frames import key_frames
from medmtl.report.material import Material
from medmtl.report.numbers import shown
from medmtl.report.ranking import Ranking
from medmtl.report.volumes import load_volume
from medmtl.types import OutputError

if TYPE_CHECKING:
    from medmtl.data.dataset import Case, Dataset
    from medmtl.evaluation import PredictedTask

_READING = (
    "Blue solid line: truth. Orange dashed line: prediction. Where the two colours lie on each other, they "
    "agree; a line alone is what the other one lacks. One row per frame, with slices at 10, 35, 65 and 90 "
    "% of "
    "the labelled part of the stack. Grey window from the 1st to the 99th percentile, pixels in their true "
    "proportion, patient's left on the right."
)


def overlays_section(material: Material, ranking: Ranking) -> Section:
    """Contours of every mask task for the chosen cases, worst first."""
    section = Section("overlays", "Contours on the image")
    tasks = [output for output in material.outputs.values() if output.kind in MASK_KINDS and output.file]
    if material.predictions_folder is None or not tasks:
        section.missing = "No predicted masks belong to this folder, so there are no contours to draw."
        return section
    if material.dataset is None:
        section.missing = f"Contours need the images, and {material.no_dataset}"
        return section
    for output in tasks:
        for case_id, place in chosen_cases(ranking):
            section.blocks.append(_block(material, material.dataset, output, case_id, place, ranking))
    if not section.blocks:
        section.missing = "No case was predicted, so there are no contours to draw."
    return section


def chosen_cases(ranking: Ranking) -> Sequence[tuple[str, str]]:
    """Worst, median and best case with their place in words; the first three where nothing ranks them."""
    scored = ranking.scored
    if not scored:
        return [(case, "not ranked") for case in ranking.order[:3]]
    places = {len(scored) - 1: "best", len(scored) // 2: "median", 0: "worst"}
    return [(scored[index], places[index]) for index in sorted(places)]


def _block(
    material: Material, dataset: Dataset, output: PredictedTask, case_id: str, place: str, ranking: Ranking
) -> Block:
    case = material.dataset_cases.get(case_id)
    if case is None:
        return Prose(
            f"{case_id} ({place}) is not in the dataset, so its image cannot be shown.", warning=True
        )
    assert material.predictions_folder is not None
    try:
        return _figure(
            dataset, case, material.predictions_folder / case_id / output.file, output, place, ranking
        )
    except OutputError as error:
        return Prose(f"{case_id} ({place}): {error}.", warning=True)


def _figure(
    dataset: Dataset, case: Case, file: Path, output: PredictedTask, place: str, ranking: Ranking
) -> Figure:
    image = load_volume(case.images[0])
    outlines = [prediction_outline(load_volume(file, mask=True), output.labels)]
    has_truth = output.target in case.files
    if has_truth:
        truth = load_volume(case.files[output.target], mask=True)
        outlines.insert(0, truth_outline(truth, dataset.columns[output.target].labels))
    shapes = [outline.mask.data.shape for outline in outlines]
    if any(shape != image.data.shape for shape in shapes):
        raise OutputError(
            f"the image has shape {image.data.shape} and its masks {', '.join(map(str, shapes))}; predict "
            "on the "
            "image's own grid"
        )
    frames = key_frames(dataset, case, outlines)
    picture = draw_contours(image, outlines, frames)
    score = (
        f", {ranking.meaning} {shown(ranking.score[case.case_id])}" if case.case_id in ranking.score else ""
    )
    truth_note = "" if has_truth else " This case has no true mask: the prediction is shown alone."
    names = " and ".join(frames) if "" not in frames else "its only frame"
    alternative = (
        f"Contours of {', '.join(output.labels)} for case {case.case_id}, the {place} case{score}, at "
        f"{names}."
    )
    caption = f"{place.capitalize()} case: {case.case_id}{score} ({output.name}).{truth_note}"
    return Figure(to_png(picture, alternative), caption, _READING)
