"""One plan for all trainings of a search: the same grid, network and batches, on whichever machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmtl.engine import Job
from medmtl.evaluation.comparison.conditions import planned_text, under_plan
from medmtl.search.described import MakeJob
from medmtl.search.space import Space

PLAN = "plan.yaml"
_PLANNED = ("preparation.", "backbone.", "training.batch_size")
"""Keys that a plan decides, or decides by; where one is searched along, each training plans for itself."""


def plan_once(base: Job, folder: Path, space: Space) -> str | None:
    """What the config leaves to the plan; None where the folder has it, or trainings plan for themselves.

    Raises:
        ConfigError: nothing fits the memory.
    """
    if (folder / PLAN).is_file() or any(name.startswith(_PLANNED) for name in space):
        return None
    return planned_text(base)


def by_plan(make_job: MakeJob, folder: Path) -> MakeJob:
    """The same trainings with the folder's plan, where it has one."""
    plan = folder / PLAN
    if not plan.is_file():
        return make_job

    def make(changes: Mapping[str, Any], output: Path) -> Job:
        return under_plan(make_job(changes, output), plan)

    return make
