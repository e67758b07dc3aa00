"""The report of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from medmtl.files import write_text
from medmtl.report.blocks import Cell, Section, Table
from medmtl.report.comparison.differences import tests_section
from medmtl.report.comparison.embedding import embedding_section
from medmtl.report.comparison.losses import losses_section
from medmtl.report.comparison.material import MARK, ComparisonMaterial, gather_comparison
from medmtl.report.comparison.ranking import ranking_section
from medmtl.report.comparison.temperature import temperature_section
from medmtl.report.comparison.trajectories import trajectories_section
from medmtl.report.header import Header, environment_of
from medmtl.report.html import render
from medmtl.report.read import read_mapping


def is_comparison(folder: Path) -> bool:
    """Whether `medmtl compare` made a folder."""
    return (folder / MARK).is_file()


def build_comparison_report(folder: Path) -> Path:
    """Write `folder/report.html` of a comparison.

    Raises:
        OutputError: the comparison is not finished, one of its files cannot be read, or the report cannot be
            written.
    """
    material = gather_comparison(folder)
    sections = [
        ranking_section(material),
        tests_section(material),
        trajectories_section(material),
        losses_section(material),
        temperature_section(material),
        embedding_section(material),
        _search_section(material),
    ]
    path = folder / "report.html"
    write_text(path, render(_header(material), [section for section in sections if section is not None]))
    return path


def _header(material: ComparisonMaterial) -> Header:
    description = material.description
    training = description["config"]["training"]
    steps = training["epochs"] * training["steps_per_epoch"]
    facts = {
        "Dataset": str(description["dataset"]["name"]),
        "Compared on": f"{description['split']} cases",
        "Tasks": ", ".join(description["config"]["tasks"]),
        "Seeds": ", ".join(str(seed) for seed in material.seeds),
        "Budget of a training": f"{steps} steps of {_batch_size(material)} cases",
        "Reference": str(material.summary["reference"]),
        "Report drawn": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return Header(
        f"Comparison of task weightings on {description['dataset']['name']}",
        facts,
        _environment(material),
        None,
    )


def _batch_size(material: ComparisonMaterial) -> object:
    """Cases per step, which the config may have left to the plan."""
    return (read_mapping(material.folder / "plan.yaml") or {}).get("batch_size", "?")


def _environment(material: ComparisonMaterial) -> Mapping[str, str]:
    for method in material.methods:
        for seed in material.done(method):
            return environment_of([material.run(method, seed)])
    return {}


def _search_section(material: ComparisonMaterial) -> Section | None:
    """What was chosen for each method, where learning rates were searched."""
    if not material.description.get("search_trials"):
        return None
    rows = []
    for name in material.ranked():
        costs = material.summary["methods"][name]["costs"]
        rows.append(
            [
                Cell(name, header=True),
                Cell(f"{costs['learning_rate']:.3g}", sort=float(costs["learning_rate"])),
                Cell(f"{costs['weight_decay']:.3g}", sort=float(costs["weight_decay"])),
                Cell(f"{costs['search_steps']:.0f}", sort=float(costs["search_steps"])),
                Cell(f"{costs['search_seconds']:.0f}", sort=float(costs["search_seconds"])),
            ]
        )
    section = Section("search", "Learning rates")
    section.blocks.append(
        Table(
            f"Best of {material.description['search_trials']} for each method, by validation delta-m",
            ["method", "learning rate", "weight decay", "search: steps", "search: seconds"],
            rows,
            "The same points were tried for every method, with early stopping and the first seed, and for "
            "the single-task networks too. What is at the edge of the tried range may be better beyond it.",
            compact=True,
        )
    )
    return section
