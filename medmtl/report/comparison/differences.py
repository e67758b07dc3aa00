"""What can be said of differences from the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medmtl.report.blocks import BLANK, Cell, Prose, Section, Table
from medmtl.report.comparison.material import ComparisonMaterial
from medmtl.report.comparison.ranking import signed

_OVER_CASES = (
    "Wilcoxon's signed-rank test of each case's score, its mean over seeds: all seeds see the same cases, "
    "and to count each would make differences look surer than they are. Scores are better when higher: Dice, "
    "negative error, 1 for a right class. Corrected after Holm for all tests of the table."
)
_OVER_SEEDS = (
    "Student's paired t-test of delta-m, each seed against the same seed; negative is better than the "
    "reference. It tells whether another training would show the same, not whether other patients would."
)


def tests_section(material: ComparisonMaterial) -> Section:
    """Every paired test, with its correction or why there is none."""
    section = Section("tests", f"Differences from {material.summary['reference']}")
    tests = material.summary["tests"]
    if not tests:
        section.missing = "One method only, so there is nothing to test it against."
        return section
    of_cases = [test for test in tests if test["task"]]
    of_seeds = [test for test in tests if not test["task"]]
    section.blocks.append(
        Table(
            "Task by task, over cases",
            ["method", "task", "cases", "mean difference", "p", "p corrected", ""],
            [_row(test, 3) for test in of_cases],
            _OVER_CASES,
            compact=True,
        )
    )
    section.blocks.append(
        Table(
            "Delta-m, over seeds",
            ["method", "", "seeds", "mean difference", "p", "p corrected", ""],
            [_row(test, 1) for test in of_seeds],
            _OVER_SEEDS,
            compact=True,
        )
    )
    if all(test["p"] is None for test in tests):
        section.blocks.append(
            Prose("No test could be made: with so few cases and seeds, nothing can be said.", warning=True)
        )
    return section


def _row(test: Mapping[str, Any], digits: int) -> list[Cell]:
    surely = test["holm"] is not None and test["holm"] < 0.05
    return [
        Cell(test["method"], header=True),
        Cell(test["task"]),
        Cell(str(test["n"]), sort=float(test["n"])),
        Cell(signed(test["difference"], digits), flag=surely),
        Cell(_p(test["p"])),
        Cell(_p(test["holm"])),
        Cell(test["remark"]),
    ]


def _p(value: float | None) -> str:
    if value is None:
        return BLANK
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
