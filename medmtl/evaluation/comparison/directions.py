"""Which metric stands for a task, and whether more of it is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from medmtl.data import Dataset
from medmtl.evaluation.masks import PHASES
from medmtl.evaluation.tasks import MASK_KINDS
from medmtl.registry import nearest
from medmtl.tasks import Task
from medmtl.types import ConfigError

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "dice": True,
    "accuracy": True,
    "balanced_accuracy": True,
    "auc": True,
    "r": True,
    "icc": True,
    "hd95": False,
    "mae": False,
    "nmae": False,
    "sd": False,
    "ece": False,
}
"""Direction of every metric by the first part of its name. ``bias`` and the limits of agreement have none:
they are best at 0, and a relative change of them says nothing."""

NMAE = "nmae"
"""Mean over a task's values of the mean absolute error in standard deviations of the truth."""
NONE = "none"
"""Given as a task's metric: the task is trained and reported, and takes no part in delta-m."""


def higher_is_better(metric: str) -> bool:
    """The direction of a metric such as ``dice.LV``.

    Raises:
        ConfigError: it has none.
    """
    base = metric.split(".")[0]
    if base not in HIGHER_IS_BETTER:
        raise ConfigError(
            f"metric {metric!r} has no direction in which it gets better{nearest(base, [*HIGHER_IS_BETTER])}"
        )
    return HIGHER_IS_BETTER[base]


def default_metric(task: Task) -> str:
    """Dice for masks, MAE for maps, balanced accuracy for classes; of values their MAE, together if several.

    Raises:
        ConfigError: a kind of task that is not built in.
    """
    if task.kind in MASK_KINDS:
        return "dice"
    if task.kind == "dense_regression":
        return "mae"
    if task.kind == "classification":
        return "balanced_accuracy"
    if task.kind == "regression":
        return f"mae.{task.targets[0]}" if len(task.targets) == 1 else NMAE
    raise ConfigError(f"task {task.name!r} is of a kind without a metric of its own; name one with --metric")


def metric_names(task: Task, dataset: Dataset) -> list[str]:
    """Every metric of a task that has a direction."""
    values = list(task.targets) if task.kind == "regression" else []
    found: list[str] = []
    if task.kind in MASK_KINDS:
        structures = list(dataset.columns[task.targets[0]].labels)
        ends = ["", *(f".{s}" for s in structures), *(f".{s}.{p}" for s in structures for p in PHASES)]
        found += [f"{score}{end}" for score in ("dice", "hd95") for end in ends]
        columns = dataset.columns.values()
        values += [c.name for c in columns if c.derived is not None and c.derived.mask == task.targets[0]]
    elif task.kind == "dense_regression":
        found += ["mae", "r"]
    elif task.kind == "classification":
        found += ["accuracy", "balanced_accuracy", "auc", "ece"]
    elif task.kind == "regression":
        found.append(NMAE)
    return found + [f"{base}.{name}" for name in values for base in ("mae", "sd", "r", "icc")]


def choose_metrics(
    tasks: Mapping[str, Task], dataset: Dataset, asked: Sequence[str] | Mapping[str, str] = ()
) -> dict[str, str]:
    """The one metric of each task that delta-m is made of, in the order of the tasks.

    Args:
        tasks: by name.
        dataset: whose columns name structures and values.
        asked: ``task=metric``, or a mapping; ``none`` leaves a task out of delta-m.

    Raises:
        ConfigError: an unknown task or metric, or no task is left.
    """
    pairs = dict(asked) if isinstance(asked, Mapping) else dict(_pairs(asked))
    for name in pairs:
        if name not in tasks:
            raise ConfigError(f"--metric: there is no task {name!r}{nearest(name, list(tasks))}")
    chosen = {}
    for name, task in tasks.items():
        metric = pairs.get(name)
        if metric == NONE:
            continue
        if metric is None:
            metric = default_metric(task)
        elif metric not in (known := metric_names(task, dataset)):
            higher_is_better(metric)
            raise ConfigError(f"--metric: task {name!r} has no metric {metric!r}{nearest(metric, known)}")
        chosen[name] = metric
    if not chosen:
        raise ConfigError("--metric: no task is left to compare by; give at least one a metric")
    return chosen


def _pairs(asked: Iterable[str]) -> Iterable[tuple[str, str]]:
    seen: set[str] = set()
    for text in asked:
        task, separator, metric = text.partition("=")
        if not (separator and task and metric):
            raise ConfigError(f"--metric {text}: write task=metric, such as anatomy=dice.LV")
        if task in seen:
            raise ConfigError(f"--metric: task {task!r} is given twice; delta-m takes one metric per task")
        seen.add(task)
        yield task, metric
