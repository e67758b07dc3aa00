"""What a comparison compares, and whether a folder holds the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from medmtl.data import Dataset
from medmtl.engine import Job
from medmtl.evaluation.comparison.conditions import (
    dataset_facts,
    differences,
    plain,
    planned_text,
    read_description,
    refuse_other,
    under_plan,
)
from medmtl.evaluation.comparison.methods import Method
from medmtl.files import is_free, write_text
from medmtl.types import OutputError

FILE = "comparison.yaml"
PLAN = "plan.yaml"
FORMAT = 1
COMPARED = ("tasks", "backbone", "covariates", "preparation", "training")
"""Parts of a config that all runs of a comparison share."""
MAY_CHANGE = ("config.training.threads",)


@dataclass(frozen=True)
class Design:
    """A comparison, with everything that was left to defaults filled in.

    Attributes:
        base: tasks, network, data and budget that all runs share; its weighting, seed and output are not
            looked at.
        methods: the weightings.
        seeds: every method is trained once with each.
        split: on which cases the trained networks are compared.
        metrics: by task, the metric that delta-m is made of.
        reference: name of the method that the others are tested against.
        trials: learning rates and weight decays tried per method; 0 takes the config's.
        notes: what a reader should know of the choices.
    """

    base: Job
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    split: str
    metrics: Mapping[str, str]
    reference: str
    trials: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def dataset(self) -> Dataset:
        """Where cases come from."""
        return self.base.dataset

    def as_dict(self) -> dict[str, Any]:
        """What `comparison.yaml` holds."""
        return {
            "medmtl_comparison": FORMAT,
            "dataset": dataset_facts(self.dataset),
            "split": self.split,
            "search_trials": self.trials,
            "metrics": dict(self.metrics),
            "reference": self.reference,
            "seeds": list(self.seeds),
            "methods": {method.name: dict(method.section) for method in self.methods},
            "folders": {method.name: method.folder for method in self.methods},
            "config": {key: self.base.resolved[key] for key in COMPARED if key in self.base.resolved},
            "notes": list(self.notes),
        }


def open_folder(output: Path, design: Design) -> Design:
    """Begin a comparison in a folder, or continue the one that it holds; methods and seeds may be added.

    What the config leaves to the plan is planned once, for all tasks together, so that every network has the
    same grid, trunk and batches.

    Returns:
        The design with that plan, and with the methods and seeds that the folder had already.

    Raises:
        OutputError: the folder holds something else.
        ConfigError: it holds another comparison, and the message says what differs; or nothing fits the
            memory.
    """
    if not is_free(output):
        found = _read(output)
        _check_same(output, found, design.as_dict())
        earlier = tuple(Method(name, section) for name, section in found["methods"].items())
        known = {method.name for method in earlier}
        design = replace(
            design,
            methods=(*earlier, *(method for method in design.methods if method.name not in known)),
            seeds=tuple(sorted({*found["seeds"], *design.seeds})),
        )
    plan = output / PLAN
    planned = None if plan.is_file() else planned_text(design.base)
    output.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(plain(design.as_dict()), sort_keys=False, allow_unicode=True)
    write_text(output / FILE, text)
    if planned is not None:
        write_text(plan, planned)
    return replace(design, base=under_plan(design.base, plan))


def _read(output: Path) -> dict[str, Any]:
    """What `comparison.yaml` of a folder says.

    Raises:
        OutputError: the folder holds no comparison, or one that cannot be read.
    """
    path = output / FILE
    if not path.is_file():
        raise OutputError(f"{output}: exists and is not a comparison; choose another folder")
    return read_description(path, "comparison", FORMAT)


def _check_same(output: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to add to a comparison of other networks, data or budgets.

    Raises:
        ConfigError: with the keys that differ.
    """
    parts = ["dataset", "split", "search_trials", "config"]
    parts += ["metrics"] if wanted["search_trials"] else []
    lines = differences(
        {part: found.get(part) for part in parts}, {part: wanted[part] for part in parts}, MAY_CHANGE
    )
    for name in sorted(set(found["methods"]) & set(wanted["methods"])):
        was, now = found["methods"][name], plain(wanted["methods"][name])
        if was != now:
            lines.append(f"the options of {name} were {was!r} and are now {now!r}")
    refuse_other(output, "comparison", lines, "Compare under the same conditions")
