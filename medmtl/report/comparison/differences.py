"""What can be said of differences from the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medmtl.report.blocks import BLANK, Cell, Prose, Section, Table
from medmtl.report.comparison.material import ComparisonMaterial
from medmtl.report.comparison.ranking import signed

_READING = (
    "Differences of a task are those of each case's score, its mean over seeds, by Wilcoxon's signed-rank "
    "test: all seeds see the same cases, and to count each would make differences look surer than they are. "
    "Scores are better when higher: Dice, negative error, 1 for a right class. Differences of delta-m are "
    "those of seeds, by Student's paired t-test, and better when negative; they tell whether another "
    "training would show the same, not whether other patients would. p is corrected after Holm, over cases "
    "and over seeds; a dash means that so few could not have shown a difference."
)


def tests_section(material: ComparisonMaterial) -> Section:
    """Every paired test with its corrected p, a row per method."""
    section = Section("tests", f"Differences from {material.summary['reference']}")
    tests = {(test["method"], test["task"]): test for test in material.summary["tests"]}
    if not tests:
        section.missing = "One method only, so there is nothing to test it against."
        return section
    places = [*material.metrics, ""]
    names = [name for name in material.best_first() if (name, "") in tests]
    rows = [[Cell(name, header=True), *(_cell(tests.get((name, p))) for p in places)] for name in names]
    heads = [f"{task} (cases)" if task else "delta-m [%] (seeds)" for task in places]
    section.blocks.append(
        Table("Method minus reference", ["method", *heads], rows, reading=_READING, compact=True)
    )
    if all(test["p"] is None for test in tests.values()):
        section.blocks.append(
            Prose("No test could be made: with so few cases and seeds, nothing can be said.", warning=True)
        )
    return section


def _cell(test: Mapping[str, Any] | None) -> Cell:
    if test is None or test["difference"] is None:
        return Cell(BLANK)
    surely = test["holm"] is not None and test["holm"] < 0.05
    return Cell(
        signed(test["difference"], 3 if test["task"] else 1),
        note=f"p {_p(test['holm'])}, n = {test['n']}",
        sort=float(test["difference"]),
        flag=surely,
    )


def _p(value: float | None) -> str:
    if value is None:
        return BLANK
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
