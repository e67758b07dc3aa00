"""A network for one task alone: what delta-m compares with.

A task that needs nothing of another is simply trained alone, with the network and the budget of all. Others:

- The head of a case-level task reads the masks of other tasks where there are any. Alone there are none: it
  reads features and covariates.
- Tissue is learned alone too, since its loss looks only at voxels that have a tissue. Where the structure
  is that the tissue lies in, the single-task network of its host says, trained with the same seed.
- A kind of task from outside medmtl that reads masks has the tasks that it reads along, with equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medmtl.engine import Job
from medmtl.evaluation.comparison.tissue_alone import TYPE as TISSUE_ALONE
from medmtl.registry import nearest
from medmtl.tasks import TASKS, Tissue, build_task
from medmtl.tasks.case_level import CaseTaskOptions
from medmtl.types import ConfigError


@dataclass(frozen=True)
class Alone:
    """How a task is trained alone.

    Attributes:
        sections: config sections of the tasks that the network has; one, but where a task of a kind from
            outside medmtl reads others.
        host: task whose single-task network says where this one applies, or "".
        structure: structure of the host that it lies in.
        note: what is special about it, after the task's name.
    """

    sections: dict[str, dict[str, Any]]
    host: str = ""
    structure: str = ""
    note: str = ""


def alone(base: Job, name: str) -> Alone:
    """The single-task network of a task.

    Raises:
        ConfigError: alone the task would have nothing to read.
    """
    section = dict(base.tasks[name])
    kind = TASKS.get(str(section["type"]))
    if kind is Tissue:
        host, _, structure = str(section["inside"]).partition(".")
        note = f"alone learns nothing else; where {structure} is, the single-task network of {host} says"
        return Alone({name: {**section, "type": TISSUE_ALONE}}, host, structure, note)
    if issubclass(kind.Options, CaseTaskOptions):
        return _case_level(base, name, section)
    needed = _readers(base, name)
    along = ", ".join(task for task in needed if task != name)
    note = f"alone still reads {along}, which is trained along with equal weights" if along else ""
    return Alone({task: dict(base.tasks[task]) for task in needed}, note=note)


def _case_level(base: Job, name: str, section: dict[str, Any]) -> Alone:
    """Without masks to read; beside other tasks it reads all that there are, unless told not to."""
    columns = base.dataset.columns
    others = [build_task(task, base.tasks[task], columns) for task in base.tasks if task != name]
    masked = any(other.structures for other in others) and section.get("masks") != []
    section.pop("masks", None)
    if section.get("pooling") == "mask":
        section["pooling"] = "attention"
    covariates = section.get("covariates", True) and base.covariates
    if not (section.get("features", True) or covariates):
        raise ConfigError(
            f"task {name!r} reads nothing but other tasks' masks, so there is no network for it alone; "
            f"leave it out of delta-m with --metric {name}=none, or let it read features"
        )
    note = "alone has no masks to read, so its head reads features and covariates"
    return Alone({name: section}, note=note if masked else "")


def _readers(base: Job, name: str) -> list[str]:
    """A task and all that it reads, directly or not, in the config's order."""
    columns, wanted, waiting = base.dataset.columns, {name}, [name]
    while waiting:
        task = waiting.pop()
        for other in build_task(task, base.tasks[task], columns).reads:
            if other not in base.tasks:
                known = nearest(other, list(base.tasks))
                raise ConfigError(f"task {task!r} reads {other!r}, which is no task{known}")
            if other not in wanted:
                wanted.add(other)
                waiting.append(other)
    return [task for task in base.tasks if task in wanted]
