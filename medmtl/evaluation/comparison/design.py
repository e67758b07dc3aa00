"""What a comparison compares, and whether a folder holds the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from medmtl.data import Dataset
from medmtl.engine import Job
from medmtl.engine.planning import as_config, plan_job, with_plan
from medmtl.evaluation.comparison.methods import Method
from medmtl.files import is_free, write_text
from medmtl.inference.device import choose_device
from medmtl.plan import plan_text
from medmtl.tasks import build_task
from medmtl.types import ConfigError, OutputError

FILE = "comparison.yaml"
PLAN = "plan.yaml"
FORMAT = 1
COMPARED = ("tasks", "backbone", "covariates", "preparation", "training")
"""Parts of a config that all runs of a comparison share."""
MAY_CHANGE = ("training.threads",)


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
            "dataset": {"name": self.dataset.name, "sha256": _digest(self.dataset)},
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
        found = read_description(output)
        check_same(output, found, design.as_dict())
        earlier = tuple(Method(name, section) for name, section in found["methods"].items())
        known = {method.name for method in earlier}
        design = replace(
            design,
            methods=(*earlier, *(method for method in design.methods if method.name not in known)),
            seeds=tuple(sorted({*found["seeds"], *design.seeds})),
        )
    plan = output / PLAN
    planned = None if plan.is_file() else _plan(design)
    output.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(_plain(design.as_dict()), sort_keys=False, allow_unicode=True)
    write_text(output / FILE, text)
    if planned is not None:
        write_text(plan, planned)
    base = with_plan(design.base, plan)
    return replace(design, base=replace(base, resolved=as_config(base)))


def _plan(design: Design) -> str:
    base = design.base
    tasks = {name: build_task(name, section, base.dataset.columns) for name, section in base.tasks.items()}
    made = plan_job(base, tasks, choose_device(base.device))
    return plan_text(made.plan, made.found, base.dataset.name)


def read_description(output: Path) -> dict[str, Any]:
    """What `comparison.yaml` of a folder says.

    Raises:
        OutputError: the folder holds no comparison, or one that cannot be read.
    """
    path = output / FILE
    if not path.is_file():
        raise OutputError(f"{output}: exists and is not a comparison; choose another folder")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OutputError(f"{path}: cannot be read; start anew in another folder") from error
    if not isinstance(found, dict) or found.get("medmtl_comparison") != FORMAT:
        raise OutputError(f"{path}: is not a comparison of format {FORMAT}; start anew in another folder")
    return found


def check_same(output: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to add to a comparison of other networks, data or budgets.

    Raises:
        ConfigError: with the keys that differ.
    """
    parts = ["dataset", "split", "search_trials", "config"]
    parts += ["metrics"] if wanted["search_trials"] else []
    before = _flat({part: found.get(part) for part in parts})
    now = _flat(_plain({part: wanted[part] for part in parts}))
    lines = [
        f"{key.removeprefix('config.')} was {before.get(key)!r} and is now {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and key.removeprefix("config.") not in MAY_CHANGE
    ]
    for name in sorted(set(found["methods"]) & set(wanted["methods"])):
        if found["methods"][name] != _plain(wanted["methods"][name]):
            was, now_is = found["methods"][name], wanted["methods"][name]
            lines.append(f"the options of {name} were {was!r} and are now {now_is!r}")
    if lines:
        more = f"; and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise ConfigError(
            f"{output}: holds another comparison: {'; '.join(lines[:5])}{more}. Compare under the same "
            "conditions, or choose another output folder"
        )


def _flat(mapping: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{above}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return flat


def _plain(value: Any) -> Any:
    """What YAML gives back: mappings as dicts, tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _digest(dataset: Dataset) -> str:
    """Of the dataset's description and table, so that a dataset that changed is not taken for the same.

    The splits are taken from the opened dataset, where a fold may have changed them.
    """
    digest = hashlib.sha256()
    for name in ("dataset.yaml", "cases.csv"):
        digest.update((dataset.root / name).read_bytes())
    for case in dataset.cases:
        digest.update(f"{case.case_id}={case.split};".encode())
    return digest.hexdigest()[:16]
