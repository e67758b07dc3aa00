"""The report of a RUN, EVALUATION, PREDICTIONS or comparison folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medmtl.data.dataset import Dataset
    from medmtl.report.blocks import Block, Section


def build_report(folder: Path, *, dataset: Dataset | Path | None = None) -> Path:
    """Write `folder/report.html`, one self-contained file that opens anywhere without a network.

    Args:
        folder: what `medmtl train`, `evaluate`, `predict` or `compare` wrote. Sections appear where their
            files exist; the others say
            in one sentence why they do not.
        dataset: labelled cases that the predictions belong to; by default the folder that
            evaluation.yaml names.

    Returns:
        The path of the report.

    Raises:
        ConfigError: the folder does not exist or holds nothing to report.
        DatasetError: the given dataset is not one.
        OutputError: a file in the folder cannot be read, or the report cannot be written.
    """
    from medmtl.files import write_text
    from medmtl.report.agreement import agreement_section
    from medmtl.report.cases import cases_section
    from medmtl.report.cine import cine_section
    from medmtl.report.classification import classification_section
    from medmtl.report.comparison import build_comparison_report, is_comparison
    from medmtl.report.header import build_header
    from medmtl.report.html import render
    from medmtl.report.material import gather
    from medmtl.report.overlays import overlays_section
    from medmtl.report.prediction import cohort_sections, draw_pages
    from medmtl.report.ranking import rank
    from medmtl.report.summary import summary_section
    from medmtl.report.training import training_section
    from medmtl.report.weights import weights_section

    if is_comparison(Path(folder)):
        return build_comparison_report(Path(folder))
    material = gather(Path(folder), dataset)
    path = Path(folder) / "report.html"
    if material.kind == "predictions":
        draw_pages(material)
    if material.kind == "predictions" and material.dataset is None:
        write_text(path, render(build_header(material, None), cohort_sections(material)))
        return path
    ranking = rank(material)
    sections = [
        *(cohort_sections(material) if material.kind == "predictions" else ()),
        summary_section(material),
        overlays_section(material, ranking),
        classification_section(material),
        agreement_section(material),
        cine_section(material, ranking),
        cases_section(material, ranking),
        training_section(material),
        weights_section(material),
    ]
    if material.kind == "training":
        sections = sections[-2:] + sections[:-2]
    write_text(path, render(build_header(material, ranking), [_read_once(section) for section in sections]))
    return path


def _read_once(section: Section) -> Section:
    """The section with every explanation under the first block that needs it, and not again below."""
    from medmtl.report.blocks import Figure, Table

    seen: set[str] = set()
    blocks: list[Block] = []
    for block in section.blocks:
        if isinstance(block, Figure | Table):
            blocks.append(replace(block, reading="") if block.reading in seen else block)
            seen.add(block.reading)
        else:
            blocks.append(block)
    return replace(section, blocks=blocks)
