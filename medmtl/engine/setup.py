"""From a job to everything that training needs: prepared cases, plan, tasks, network, statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from medmtl.data.dataset import Column
from medmtl.data.focus import Focus, choose_focus
from medmtl.data.prepare import PreparedCase
from medmtl.data.store import Store
from medmtl.engine.absent import absent_classes
from medmtl.engine.freeze import freeze, learning
from medmtl.engine.gather import gather, move
from medmtl.engine.job import Job
from medmtl.engine.planning import plan_job
from medmtl.engine.start_from import Start, check_start, starting_weights
from medmtl.engine.statistics import fit_case_heads
from medmtl.inference.find.derive import derive_rule
from medmtl.inference.find.rule import parse_rule
from medmtl.inference.model import Model
from medmtl.models import MultiTaskNetwork
from medmtl.plan import Plan, plan_text
from medmtl.registry import nearest
from medmtl.tasks import Task, build_network, build_task
from medmtl.types import ConfigError, DatasetError, Finding


@dataclass
class Ready:
    """What `set_up` made.

    Attributes:
        model: untrained, on the device.
        plan: how the data are prepared and the network is shaped.
        plan_text: the same for people, with reasons.
        train: prepared training cases.
        val: prepared validation cases.
        label_columns: columns that the tasks learn from.
        refused: training and validation cases that could not be used.
        remarks: what else a person should know, a sentence each.
        focus: what training patches are centred on.
        store: where the cases are, if not in memory.
        started: what is taken over from the weights that training starts from, in words.
        learning: tasks that are trained; the others are frozen whole.
    """

    model: Model
    plan: Plan
    plan_text: str
    train: list[PreparedCase]
    val: list[PreparedCase]
    label_columns: dict[str, Column]
    refused: list[Finding]
    remarks: list[str] = field(default_factory=list)
    focus: Focus = "organ"
    store: Store | None = None
    started: str = ""
    learning: dict[str, Task] = field(default_factory=dict)

    def close(self) -> None:
        """Let other runs have the store."""
        if self.store is not None:
            self.store.close()


def set_up(job: Job, device: torch.device, progress: Callable[[int, int], None] | None = None) -> Ready:
    """Build tasks and network first (config errors come before any work), then prepare the cases.

    Raises:
        ConfigError: the config does not fit the dataset, or the model to start from does not fit the config.
        DatasetError: no usable training case.
    """
    train, val = job.dataset.select("train"), job.dataset.select("val")
    if not train:
        raise DatasetError(
            f"{job.dataset.root / 'cases.csv'}: no case has split = train; fill the split column"
        )
    columns = job.dataset.columns
    tasks = _tasks(job)
    select = parse_rule(job.select, job.dataset.channels, derive_rule(job.dataset, train))
    planned = plan_job(job, tasks, device, progress)
    plan = planned.plan
    network, start = _network(job, plan, tasks)
    label_columns = {target: columns[target] for task in tasks.values() for target in task.targets}
    gathered = gather(job, plan.preparation, [*train, *val], label_columns, device, progress)
    ids = {case.case_id for case in train}
    ready_train = [case for case in gathered.cases if case.case_id in ids]
    ready_val = [case for case in gathered.cases if case.case_id not in ids]
    if not ready_train:
        raise DatasetError(
            f"{job.dataset.root}: no training case could be used; the first: {gathered.refused[0].message}"
        )
    remarks = _absent(job, label_columns, ready_train, ready_val)
    focus = _focus(job, tasks, ready_train, plan)
    for task in tasks.values():
        task.fit(ready_train)
    if gathered.store is None:
        ready_train = move(ready_train, device)
    network.to(device)
    fit_case_heads(network, tasks, ready_train)
    if start is not None:
        _begin_from(start, network, tasks)
    model = Model(
        network=network,
        tasks=tasks,
        task_sections={name: dict(section) for name, section in job.tasks.items()},
        backbone=plan.backbone,
        preparation=plan.preparation,
        channels=job.dataset.channels,
        columns=_model_columns(columns, label_columns, job.covariates),
        covariates=job.covariates,
        cycle=job.dataset.cycle,
        select=select,
    )
    return Ready(
        model=model,
        plan=plan,
        plan_text=plan_text(plan, planned.found, job.dataset.name),
        train=ready_train,
        val=ready_val,
        label_columns=label_columns,
        refused=gathered.refused,
        remarks=remarks,
        focus=focus,
        store=gathered.store,
        started="" if start is None else start.says,
        learning=learning(network, tasks, len(job.dataset.channels)),
    )


def _tasks(job: Job) -> dict[str, Task]:
    """The tasks, once the dataset is known to have the columns that they and the covariates name."""
    columns = job.dataset.columns
    tasks = {name: build_task(name, section, columns) for name, section in job.tasks.items()}
    if not tasks:
        raise ConfigError("tasks: is empty; name at least one task")
    for name in job.covariates:
        if name not in columns or columns[name].kind != "value":
            values = [c.name for c in columns.values() if c.kind == "value"]
            raise ConfigError(
                f"covariates: {name!r} is no value column of the dataset{nearest(name, values)}"
            )
    return tasks


def _network(job: Job, plan: Plan, tasks: Mapping[str, Task]) -> tuple[MultiTaskNetwork, Start | None]:
    """The network with its frozen parts, and the weights to load once its heads are fitted to the cases."""
    network = build_network(
        plan.backbone,
        tasks,
        in_channels=len(job.dataset.channels),
        n_covariates=len(job.covariates),
        cycle=job.dataset.cycle,
        seed=job.seed,
        overview=plan.preparation.overview is not None,
    )
    origin = job.training.start_from
    start = None if origin is None else starting_weights(origin, network, tasks, job, allow=job.third_party)
    freeze(network, job.training.freeze, len(job.dataset.channels))
    check_start(start, job.training.freeze)
    return network, start


def _begin_from(start: Start, network: MultiTaskNetwork, tasks: Mapping[str, Task]) -> None:
    """Load what is taken over, after the heads of new tasks were fitted to the cases."""
    network.load_state_dict({**network.state_dict(), **start.weights})
    for name, state in start.states.items():
        tasks[name].load_state(state)


def _absent(
    job: Job, columns: Mapping[str, Column], train: Sequence[PreparedCase], val: Sequence[PreparedCase]
) -> list[str]:
    """Sentences about classes that cannot be learned, or not be judged, in this fold."""
    fold = job.resolved.get("fold")
    of = "" if fold is None else f" of fold {fold}"
    unlearned = absent_classes(columns, train, f"training cases{of}")
    unjudged = absent_classes(columns, val, f"validation cases{of}")
    return [
        *(f"{sentence}, which cannot be learned" for sentence in unlearned),
        *(f"{sentence}, and how well that is learned is not seen" for sentence in unjudged),
    ]


def _focus(job: Job, tasks: Mapping[str, Task], train: Sequence[PreparedCase], plan: Plan) -> Focus:
    """What patches are centred on. Tasks of whole cases alone see the middle, as in prediction."""
    if job.training.patches != "auto":
        return job.training.patches
    if not any(task.dense for task in tasks.values()):
        return "organ"
    return choose_focus(train, plan.preparation.patch)


def _model_columns(
    columns: Mapping[str, Column], labels: Mapping[str, Column], covariates: Sequence[str]
) -> dict[str, Column]:
    """Columns that a model must know later: labels, covariates, and what follows from its masks."""
    masks = {name for name, column in labels.items() if column.kind == "mask"}
    return {
        name: column
        for name, column in columns.items()
        if name in labels
        or name in covariates
        or (column.derived is not None and column.derived.mask in masks)
    }
