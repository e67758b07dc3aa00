"""Compare task weightings with each other and with networks that learn one task each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from medmtl.data import Case, Dataset
from medmtl.engine import Job
from medmtl.engine.launch import launched
from medmtl.engine.run_folder import log_file
from medmtl.evaluation.comparison.design import Design, open_folder
from medmtl.evaluation.comparison.directions import choose_metrics
from medmtl.evaluation.comparison.methods import SINGLE, USUAL, Method, check_tasks, options_of
from medmtl.evaluation.comparison.runs import Progress, Results, Runner
from medmtl.evaluation.comparison.summary import finite, summarise, write_summary
from medmtl.evaluation.comparison.table import compare_table, write_table
from medmtl.registry import nearest
from medmtl.tasks import Task, build_task
from medmtl.types import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame

SPLITS = ("test", "val")


@dataclass(frozen=True, eq=False)
class Comparison:
    """A finished comparison.

    Attributes:
        folder: where it is.
        table: a row per method and seed, as in `compare.csv`.
        summary: per method means, spreads, wins, ranks and costs; tests; notes.
        failed: trainings that could not be done, and why, by method and seed.
        refused: cases that could not be used, and why.
    """

    folder: Path
    table: DataFrame
    summary: Mapping[str, Any]
    failed: Mapping[str, str]
    refused: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Summary and table for programs; what is not a number is None."""
        plain: dict[str, Any] = finite(
            {
                **self.summary,
                "folder": str(self.folder),
                "rows": self.table.to_dict(orient="records"),
                "failed": dict(self.failed),
                "refused": dict(self.refused),
            }
        )
        return plain


def design_comparison(
    base: Job,
    methods: Sequence[Method],
    *,
    seeds: int = 3,
    split: str = "test",
    metrics: Sequence[str] | Mapping[str, str] = (),
    reference: str | None = None,
    trials: int = 0,
) -> Design:
    """Everything that a comparison needs to know, checked before anything is trained.

    Args:
        base: tasks, network, data and budget that all runs share. Its seed is the first.
        methods: the weightings.
        seeds: how many.
        split: cases to compare on, ``test`` or ``val``.
        metrics: ``task=metric`` for tasks that are not compared by their usual one.
        reference: method that the others are tested against; ``ew`` where it is compared, or the first.
        trials: learning rates and weight decays to try per method.

    Raises:
        ConfigError: one task only, no label of a task in a split that needs it, or a wrong argument.
    """
    check_tasks(tuple(base.tasks))
    if split not in SPLITS:
        raise ConfigError(f"--split: {split!r} is not known{nearest(split, list(SPLITS))}")
    if seeds < 1 or trials < 0:
        raise ConfigError(f"need at least one seed and no negative number of trials; found {seeds}, {trials}")
    names = [method.name for method in methods]
    if reference is None:
        reference = "ew" if "ew" in names else names[0]
    elif reference not in names:
        raise ConfigError(f"--reference: {reference!r} is not compared{nearest(reference, names)}")
    tasks = {name: build_task(name, section, base.dataset.columns) for name, section in base.tasks.items()}
    chosen = choose_metrics(tasks, base.dataset, metrics)
    check_labels(base.dataset, tasks, "train")
    for needed in dict.fromkeys([*(["val"] if trials else []), split]):
        check_labels(base.dataset, {name: tasks[name] for name in chosen}, needed, chosen)
    return Design(
        base=base,
        methods=tuple(methods),
        seeds=tuple(range(base.seed, base.seed + seeds)),
        split=split,
        metrics=chosen,
        reference=reference,
        trials=trials,
        notes=tuple(_notes(methods)),
    )


def check_labels(
    dataset: Dataset, tasks: Mapping[str, Task], split: str, metrics: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuse to start what could not be learned, or not be judged at the end.

    Raises:
        ConfigError: the split has no case, or none with a label of one of the tasks.
    """
    cases = dataset.select(split)
    where = f"{dataset.root / 'cases.csv'}, split {split}"
    if not cases:
        other = "; compare on another with --split val" if split == "test" else ""
        raise ConfigError(f"{where}: has no case, so nothing can be compared on it{other}")
    for name, task in tasks.items():
        targets = [t for t in task.targets if metrics.get(name, "").endswith(f".{t}")] or list(task.targets)
        if not any(_has_label(dataset, case, target) for case in cases for target in targets):
            raise ConfigError(
                f"{where}: none of the {len(cases)} cases has a label of task {name!r} "
                f"({', '.join(targets)}); label some, choose another --split, or leave the task out of "
                f"delta-m with --metric {name}=none"
            )


def _has_label(dataset: Dataset, case: Case, target: str) -> bool:
    if target in dataset.targets.columns:
        value = dataset.targets.at[case.case_id, target]
        return isinstance(value, str) or (value is not None and math.isfinite(value))
    return target in case.files


def _notes(methods: Sequence[Method]) -> list[str]:
    """Options that a method was given because its name alone is not enough."""
    return [
        f"{method.name} was given no options: "
        + ", ".join(f"{key} = {value:g}" for key, value in options_of(method.section).items())
        for method in methods
        if method.name in USUAL and options_of(method.section) == dict(USUAL[method.name])
    ]


def compare(design: Design, output: Path, progress: Progress | None = None) -> Comparison:
    """Train and judge all that a design asks for; what the folder holds already is not repeated.

    May be stopped at any time, and killed; the next call goes on where it was.

    Args:
        design: what `design_comparison` gave.
        output: the comparison's folder; new, empty, or of the same comparison with fewer methods or seeds.
        progress: called with ("runs", done, all) and ("train", done, all).

    Raises:
        OutputError: the folder holds something else.
        ConfigError: it holds another comparison, or a task cannot be trained alone.
    """
    if launched():
        raise ConfigError(
            "compare runs in one process: call it without torchrun; several machines can each compare some "
            "of the methods, into folders of their own"
        )
    Runner(design, output)  # what cannot be trained alone is said before anything is written
    design = open_folder(output, design)
    with log_file(output / "log.txt"):
        runner = Runner(
            design,
            output,
            progress,
            finished=lambda results: write_table(output, compare_table(design, results)),
        )
        results = runner.run()
        table = compare_table(design, results)
        summary = summarise(design, table, output, runner.notes())
        write_summary(output, summary)
    return Comparison(output, table, summary, _failed(results), _refused(results))


def _failed(results: Results) -> dict[str, str]:
    found = {f"{SINGLE}/{task}": records for task, records in results.singles.items()} | results.methods
    return {
        f"{name}, seed {seed}": record.message
        for name, records in found.items()
        for seed, record in records.items()
        if not record.ok
    }


def _refused(results: Results) -> dict[str, str]:
    records = [r for found in (*results.singles.values(), *results.methods.values()) for r in found.values()]
    return {case: message for record in records for case, message in record.refused.items()}
