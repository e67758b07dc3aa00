"""Every training of a comparison, in order: single-task networks first, then each method, over all seeds."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medmtl.engine import Job, TrainingSettings
from medmtl.evaluation.comparison.alone import Alone, alone
from medmtl.evaluation.comparison.delta import delta_m_percent
from medmtl.evaluation.comparison.design import Design
from medmtl.evaluation.comparison.directions import default_metric, higher_is_better
from medmtl.evaluation.comparison.methods import SINGLE, Method
from medmtl.evaluation.comparison.record import Place, Record
from medmtl.evaluation.comparison.search import Found, Point, points, search, with_early_stopping
from medmtl.evaluation.comparison.train_one import Judge, train_one
from medmtl.tasks import build_task

LOG = logging.getLogger("medmtl.compare")
RUNS = "runs"
Progress = Callable[[str, int, int], None]


@dataclass
class Results:
    """What all trainings gave.

    Attributes:
        singles: by task and seed.
        methods: by method and seed.
        searches: by method or ``single-task/<task>``, where learning rates were searched.
    """

    singles: dict[str, dict[int, Record]] = field(default_factory=dict)
    methods: dict[str, dict[int, Record]] = field(default_factory=dict)
    searches: dict[str, Found] = field(default_factory=dict)


def single_place(output: Path, task: str, seed: int) -> Place:
    """Where the single-task network of a task and seed is."""
    return Place(output / RUNS / SINGLE / task / f"seed{seed}")


def method_place(output: Path, method: Method, seed: int) -> Place:
    """Where a method's network of a seed is."""
    return Place(output / RUNS / method.folder / f"seed{seed}")


class Runner:
    """Trains what a design asks for and what its folder does not hold yet.

    Args:
        design: what to compare.
        output: the comparison's folder.
        progress: called with ("runs", done, all) and with what is done of each training.
        finished: called after every training, with all results so far.
    """

    def __init__(
        self,
        design: Design,
        output: Path,
        progress: Progress | None = None,
        finished: Callable[[Results], None] | None = None,
    ) -> None:
        self.design, self.output = design, output
        self.results = Results()
        self._progress, self._finished = progress, finished
        self._alone = _networks(design)
        trainings = len(design.seeds) + design.trials
        self._total = trainings * (len(self._alone) + len(design.methods))
        self._done = 0

    def notes(self) -> list[str]:
        """What is special about single-task networks; each note once, with the tasks that it is about."""
        tasks: dict[str, list[str]] = {}
        for task, one in self._alone.items():
            tasks.setdefault(one.note, []).append(task)
        return [f"{' and '.join(names)}: {note}" for note, names in tasks.items() if note]

    def run(self) -> Results:
        """All trainings."""
        for task in self._alone:
            point = self._search_single(task) if self.design.trials else None
            for seed in self.design.seeds:
                place = single_place(self.output, task, seed)
                hosts = {t: single_place(self.output, t, seed) for t in self._alone}
                record = self._single(task, seed, place, Judge(self.design.split), hosts, point)
                self.results.singles.setdefault(task, {})[seed] = record
                self._tell()
        for method in self.design.methods:
            point = self._search_method(method) if self.design.trials else None
            for seed in self.design.seeds:
                place = method_place(self.output, method, seed)
                record = self._method(method, seed, place, Judge(self.design.split, embeds=True), point)
                self.results.methods.setdefault(method.name, {})[seed] = record
                self._tell()
        return self.results

    def _single(
        self,
        task: str,
        seed: int,
        place: Place,
        judge: Judge,
        hosts: Mapping[str, Place],
        point: Point | None,
        *,
        trial: bool = False,
    ) -> Record:
        one = self._alone[task]
        if one.host and not (hosts[one.host].predictions / "predictions.csv").is_file():
            return Record("failed", f"its host, {one.host}, could not be trained alone")
        job = varied(self.design.base, one.sections, {"type": "ew"}, seed, self._settings(point, trial))
        LOG.info("%s: %s, seed %d", SINGLE, task, seed)
        return train_one(job, place, judge, alone=one, hosts=hosts, progress=self._training)

    def _method(
        self,
        method: Method,
        seed: int,
        place: Place,
        judge: Judge,
        point: Point | None,
        *,
        trial: bool = False,
    ) -> Record:
        base = self.design.base
        job = varied(base, base.tasks, method.section, seed, self._settings(point, trial))
        LOG.info("%s, seed %d", method.name, seed)
        return train_one(job, place, judge, progress=self._training)

    def _settings(self, point: Point | None, trial: bool) -> TrainingSettings:
        settings = self.design.base.training.model_copy(update={"validation_losses": True})
        settings = settings if point is None else point.applied(settings)
        return with_early_stopping(settings) if trial else settings

    def _search_single(self, task: str) -> Point:
        base = self.design.base
        metric = self.design.metrics.get(task) or default_metric(
            build_task(task, base.tasks[task], base.dataset.columns)
        )
        hosts = {key.removeprefix(f"{SINGLE}/"): found.place for key, found in self.results.searches.items()}

        def try_one(point: Point, place: Place) -> Record:
            seed = self.design.seeds[0]
            record = self._single(task, seed, place, Judge("val"), hosts, point, trial=True)
            self._tell()
            return record

        def score(record: Record) -> float:
            value = record.values.get(f"{task}.{metric}", math.nan)
            return -value if higher_is_better(metric) else value

        return self._search(f"{SINGLE}/{task}", Path(SINGLE) / task, try_one, score)

    def _search_method(self, method: Method) -> Point:
        metrics = self.design.metrics
        single = {
            task: self.results.searches[f"{SINGLE}/{task}"].record.values.get(f"{task}.{metric}", math.nan)
            for task, metric in metrics.items()
        }

        def try_one(point: Point, place: Place) -> Record:
            record = self._method(method, self.design.seeds[0], place, Judge("val"), point, trial=True)
            self._tell()
            return record

        def score(record: Record) -> float:
            return delta_m_percent(record.of_tasks(metrics), single, metrics)

        return self._search(method.name, Path(method.folder), try_one, score)

    def _search(
        self,
        name: str,
        folder: Path,
        try_one: Callable[[Point, Place], Record],
        score: Callable[[Record], float],
    ) -> Point:
        candidates = points(self.design.base.training, self.design.trials)
        found = search(self.output / RUNS / folder / "search", candidates, try_one, score)
        self.results.searches[name] = found
        point = found.point
        LOG.info("%s: learning rate %g, weight decay %g", name, point.learning_rate, point.weight_decay)
        return point

    def _training(self, what: str, done: int, total: int) -> None:
        if self._progress is not None and what == "train":
            self._progress(what, done, total)

    def _tell(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress("runs", self._done, self._total)
        if self._finished is not None:
            self._finished(self.results)


def _networks(design: Design) -> dict[str, Alone]:
    """Tasks that take part in delta-m and the hosts that these need, hosts first."""
    wanted = {task: alone(design.base, task) for task in design.metrics}
    hosts = [one.host for one in wanted.values() if one.host and one.host not in wanted]
    networks = {host: alone(design.base, host) for host in hosts} | wanted
    return dict(sorted(networks.items(), key=lambda network: bool(network[1].host)))


def varied(
    base: Job,
    tasks: Mapping[str, Mapping[str, Any]],
    weighting: Mapping[str, Any],
    seed: int,
    training: TrainingSettings,
) -> Job:
    """The same job with other tasks, weighting, seed and settings, in its resolved config too.

    A network of some of the tasks only has nothing of how all of them share its backbone.
    """
    backbone = dict(base.backbone)
    if list(tasks) != list(base.tasks):
        backbone.pop("sharing", None)
    resolved = {
        **base.resolved,
        "backbone": backbone,
        "tasks": {name: dict(section) for name, section in tasks.items()},
        "weighting": dict(weighting),
        "seed": seed,
        "training": training.model_dump(mode="json"),
    }
    return replace(
        base,
        tasks=tasks,
        weighting=weighting,
        backbone=backbone,
        seed=seed,
        training=training,
        resolved=resolved,
    )
