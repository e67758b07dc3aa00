"""Short trainings on small hearts, many side by side: what patent.py and leang.py share.

Every worker process prepares the data once, keeps some hundred augmented batches per seed on the device, and
trains one arm after another with `medmtl.engine.train_step`. Case-level heads read the encoder's features
alone, no masks, so that a task has the same head alone and beside others, and sharing is all that differs.
"""

from __future__ import annotations

import copy
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import results  # noqa: F401 - finds medmtl in a checkout
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from medmtl.config import job_of, parse_config
from medmtl.data.augment import Augmentation
from medmtl.data.batch import TrainingBatches, to_device
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.data.ingest import ingest
from medmtl.data.load import prepare_cases
from medmtl.data.phantom import generate_cohort
from medmtl.data.prepare import PreparedCase
from medmtl.engine import train_step
from medmtl.engine.evaluator import judge
from medmtl.engine.setup import Ready, set_up
from medmtl.engine.trainer import learning_rate_factor
from medmtl.engine.validation_loss import validation_losses
from medmtl.inference.context import Context
from medmtl.inference.predictor import predict_prepared
from medmtl.tasks import Task, build_network
from medmtl.types import Batch
from medmtl.weighting import build_weighting

CASES = {"train": 64, "val": 16, "test": 40}
BATCHES = 300
"""Different batches of a seed; a longer training goes through them again."""
CURVE = 8
"""How often losses on training and test cases are looked at, where an arm asks for it."""
ALONE = {"masks": [], "hidden": 32}
VALUES = ("LV_EDV", "LV_ESV", "LV_EF", "RV_EDV", "RV_ESV", "RV_EF", "MYO_mass", "scar_mass")


@dataclass(frozen=True)
class Study:
    """Data and network of a set of arms; what a worker prepares.

    Attributes:
        dataset: folder.
        tasks: config sections.
        metrics: by task, what it is judged by.
        backbone: config section.
        spacing_mm: target voxel size.
        patch: voxels.
        device: where.
    """

    dataset: Path
    tasks: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, str]
    backbone: Mapping[str, Any]
    spacing_mm: tuple[float, float, float | None]
    patch: tuple[int, int, int]
    device: str


@dataclass(frozen=True)
class Arm:
    """One training.

    Attributes:
        name: of what it is, for tables.
        method: weighting.
        options: of the weighting.
        seed: of weights, batches and dropout.
        steps: how many.
        tasks: some of the study's; all when empty.
        factors: by task, what its loss is multiplied with.
        curve: look at losses on training and test cases while it trains.
        split: cases that it is judged on.
        start_from: weights to start from.
        save: file to keep the weights in.
    """

    name: str
    method: str = "ew"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    steps: int = 600
    tasks: tuple[str, ...] = ()
    factors: Mapping[str, float] = field(default_factory=dict)
    curve: bool = False
    split: str = "test"
    start_from: str = ""
    save: str = ""


# ----------------------------------------------------------------------------------------------------- data


def phantoms(folder: Path, cases: int) -> Path:
    """A dataset of phantoms, made where there is none yet."""
    target = folder / f"phantoms-{cases}"
    if not (target / "dataset.yaml").is_file():
        source = folder / f"phantoms-{cases}-source"
        shutil.rmtree(source, ignore_errors=True)
        total = sum(CASES.values())
        generate_cohort(
            source,
            cases=cases,
            frames=2,
            shape=(52, 52, 9),
            spacing_mm=(3.0, 3.0, 10.0),
            splits={name: n / total for name, n in CASES.items()},
            workers=os.cpu_count() or 1,
        )
        ingest(source, target)
        shutil.rmtree(source)
    return target


def three_tasks() -> tuple[dict[str, Any], dict[str, str]]:
    """Segmentation, disease and function, and what they are judged by."""
    tasks = {
        "anatomy": {"type": "segmentation", "target": "anatomy"},
        "disease": {"type": "classification", "target": "disease", **ALONE},
        "function": {"type": "regression", "targets": ["LV_EDV", "LV_EF", "RV_EDV", "MYO_mass"], **ALONE},
    }
    return tasks, {"anatomy": "dice", "disease": "balanced_accuracy", "function": "mae.LV_EF"}


def twelve_tasks() -> tuple[dict[str, Any], dict[str, str]]:
    """Two segmentations, a map, a diagnosis and eight values."""
    tasks, metrics = three_tasks()
    del tasks["function"], metrics["function"]
    tasks["scar"] = {"type": "segmentation", "target": "tissue"}
    tasks["t1"] = {"type": "dense_regression", "target": "t1"}
    metrics |= {"scar": "dice", "t1": "mae"}
    for value in VALUES:
        tasks[f"value_{value}"] = {"type": "regression", "targets": [value], **ALONE}
        metrics[f"value_{value}"] = f"mae.{value}"
    return tasks, metrics


# -------------------------------------------------------------------------------------------------- training


class Lab:
    """A study that is ready for arms, in one process."""

    def __init__(self, study: Study) -> None:
        torch.set_num_threads(1)
        self.study, self.device = study, torch.device(study.device)
        dataset = open_dataset(study.dataset)
        config = parse_config(
            {
                "tasks": {name: dict(section) for name, section in study.tasks.items()},
                "backbone": dict(study.backbone),
                "preparation": {"spacing_mm": list(study.spacing_mm), "patch": list(study.patch)},
                "training": {"batch_size": 4, "store": "memory", "threads": 1},
                "device": study.device,
            }
        )
        self.ready: Ready = set_up(job_of(config, dataset, Path("unused")), self.device)
        self.cases = {"train": self.ready.train, "val": self.ready.val, "test": self._prepared(dataset)}
        self.cycle = dataset.cycle
        self._batches: dict[int, list[Batch]] = {}

    def _prepared(self, dataset: Dataset) -> list[PreparedCase]:
        found, _ = prepare_cases(
            dataset,
            dataset.select("test"),
            self.ready.plan.preparation,
            wanted=tuple(self.ready.label_columns),
        )
        return found

    def batches(self, seed: int, count: int) -> list[Batch]:
        """The first batches of a seed, on the device; those of two seeds are kept."""
        made = self._batches.setdefault(seed, [])
        if len(self._batches) > 2:
            del self._batches[next(iter(self._batches))]
        source = TrainingBatches(
            self.ready.train,
            self.ready.label_columns,
            self.ready.plan.preparation.patch,
            batch_size=4,
            augmentation=Augmentation(probability=0.0, shift_voxels=3.0, rotation_degrees=30.0, mirror=False),
            seed=seed,
        )
        wanted = min(count, BATCHES)
        made += [to_device(source.batch(i), self.device) for i in range(len(made), wanted)]
        return made[:wanted]

    def train(self, arm: Arm) -> dict[str, Any]:
        """One arm, from the initial weights to its metrics."""
        began = time.perf_counter()
        names = arm.tasks or tuple(self.study.tasks)
        own = {name: scaled(self.ready.model.tasks[name], arm.factors.get(name, 1.0)) for name in names}
        network = build_network(
            self.ready.plan.backbone,
            own,
            in_channels=len(self.ready.model.channels),
            cycle=self.cycle,
            seed=arm.seed,
        ).to(self.device)
        if arm.start_from:
            network.load_state_dict(load_file(arm.start_from, device=str(self.device)))
        weighting = build_weighting(arm.method, names, **dict(arm.options)).to(self.device)
        groups = [{"params": list(network.parameters()), "weight_decay": 1e-2}]
        optimizer = torch.optim.AdamW(
            [*groups, *weighting.parameter_groups()], lr=1e-3, fused=self.device.type == "cuda"
        )
        context = Context(network, own, self.ready.plan.preparation, self.device)
        batches = self.batches(arm.seed, arm.steps)
        epoch = max(1, len(self.ready.train) // 4)
        logged: list[Tensor] = []
        curve: list[dict[str, Any]] = []
        for step in range(arm.steps):
            network.train()
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * learning_rate_factor(step, min(30, arm.steps // 4), arm.steps)
            batch = batches[step % len(batches)]
            output = train_step(network, batch, own, weighting, optimizer, max_gradient_norm=5.0)
            absent = torch.full((), math.nan, device=self.device)
            seen = [output.losses.get(name, absent) for name in names]
            logged.append(torch.stack([*seen, *(weighting.weights.get(name, absent) for name in names)]))
            if (step + 1) % epoch == 0:
                weighting.end_epoch()
            if arm.curve and (step + 1) % max(1, arm.steps // CURVE) == 0:
                curve.append({"step": step + 1, **self._losses(context)})
        if arm.save:
            save_file({k: v.contiguous() for k, v in network.state_dict().items()}, arm.save)
        history = torch.stack(logged).cpu()
        trained = time.perf_counter() - began
        return {
            **{key: getattr(arm, key) for key in ("name", "method", "seed", "steps", "split")},
            "options": dict(arm.options),
            "metrics": self._judged(context, names, arm.split),
            "test": self._judged(context, names, "test") if arm.split != "test" else None,
            "losses": thinned(history[:, : len(names)], names),
            "weights": thinned(history[:, len(names) :], names),
            "lag": lag(history, names) if arm.method in ("uw", "uw-o") else None,
            "curve": curve,
            "seconds": trained,
        }

    def _losses(self, context: Context) -> dict[str, Any]:
        context.network.eval()
        columns = self.ready.label_columns
        some = {"train": self.cases["train"][:24], "test": self.cases["test"]}
        return {split: validation_losses(context, cases, columns) for split, cases in some.items()}

    def _judged(self, context: Context, names: Sequence[str], split: str) -> dict[str, float]:
        context.network.eval()
        cases = self.cases[split]
        said = [predict_prepared(context, case, names, on_source_grid=False) for case in cases]
        found = judge(context.tasks, said, cases)
        return {
            name: found.get(name, {}).get(metric, math.nan)
            for name, metric in self.study.metrics.items()
            if name in names
        }


def scaled(task: Task, factor: float) -> Task:
    """The same task with another unit of its loss."""
    if factor == 1.0:
        return task
    other, plain = copy.copy(task), task.loss
    other.loss = lambda output, batch: factor * plain(output, batch)  # type: ignore[method-assign]
    return other


def thinned(values: Tensor, names: Sequence[str], points: int = 60) -> dict[str, list[float]]:
    """``(S, K)`` as means over ``points`` parts of the training, by task."""
    parts = values.tensor_split(min(points, len(values)))
    return {name: [float(part[:, i].mean()) for part in parts] for i, name in enumerate(names)}


def lag(history: Tensor, names: Sequence[str]) -> dict[str, float]:
    """How far learned weights are behind their optimum, weight x loss = 1/2, over a training.

    Returns:
        ``end``: mean over tasks of the factor between weight and optimum in the last tenth; ``late``: share
        of steps at which some task's weight is off by more than a factor of 1.25 (losses averaged over 50).
    """
    losses, weights = history[:, : len(names)], history[:, len(names) :]
    mean, smooth = losses[0].clone(), []
    for loss in losses:
        mean = 0.98 * mean + 0.02 * loss
        smooth.append(mean.clone())
    off = (weights * 2 * torch.stack(smooth)).log().abs()
    last = off[-max(1, len(off) // 10) :]
    return {"end": float(last.mean().exp()), "late": float((off.amax(1) > math.log(1.25)).float().mean())}


# ------------------------------------------------------------------------------------------- many processes

_STUDY: list[Study] = []
_LAB: list[Lab] = []


def _begin(study: Study) -> None:
    _STUDY[:], _LAB[:] = [study], []


def _train(arm: Arm) -> dict[str, Any]:
    if not _LAB:
        _LAB.append(Lab(_STUDY[0]))
    try:
        return _LAB[0].train(arm)
    except RuntimeError as error:  # such as memory: the other arms go on
        return {"name": arm.name, "seed": arm.seed, "failed": str(error).splitlines()[0]}


class Done:
    """A result that was not waited for."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result

    def ready(self) -> bool:
        """Always."""
        return True

    def get(self) -> dict[str, Any]:
        """The result."""
        return self.result


class Team:
    """Worker processes for one study.

    Args:
        study: what they prepare.
        parallel: how many; 0 works in this process.
    """

    def __init__(self, study: Study, parallel: int) -> None:
        self.size, self.pool = max(1, parallel), None
        if parallel:
            spawn = multiprocessing.get_context("spawn")
            self.pool = spawn.Pool(parallel, initializer=_begin, initargs=(study,))
        else:
            _begin(study)

    def submit(self, arm: Arm) -> Any:
        """A handle with ``ready`` and ``get``."""
        return Done(_train(arm)) if self.pool is None else self.pool.apply_async(_train, (arm,))

    def run(self, next_arm: Callable[[], Arm | None], over: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """Results as they come, until nothing is left or the time is over.

        Args:
            next_arm: the most urgent arm, or None where nothing can begin now.
            over: whether to stop, whatever still runs.
        """
        running: list[Any] = []
        while not over():
            while len(running) < self.size and (arm := next_arm()) is not None:
                running.append(self.submit(arm))
            if not running:
                return
            done = [job for job in running if job.ready()]
            running = [job for job in running if job not in done]
            yield from (job.get() for job in done)
            time.sleep(0.0 if done else 0.05)

    def close(self) -> None:
        """End the workers, whatever they do."""
        if self.pool is not None:
            self.pool.terminate()
            self.pool.join()


def study_of(
    tasks: tuple[dict[str, Any], dict[str, str]], dataset: Path, device: str, *, quick: bool, acdc: bool
) -> Study:
    """Phantoms or ACDC, on a network that a GPU trains in milliseconds."""
    sections, metrics = tasks
    widths = [4, 8] if quick else [16, 32, 64, 96]
    spacing, patch = ((2.0, 2.0, None), (80, 80, 16)) if acdc else ((3.0, 3.0, None), (48, 48, 10))
    backbone = {"type": "unet", "widths": widths, "residual": False}
    return Study(dataset, sections, metrics, backbone, spacing, patch, device)


def by_seeds(make: Callable[[int], list[Arm]], seeds: int) -> list[Arm]:
    """All arms of the first seed, then all of the second, so that a limit cuts seeds, not arms."""
    return [arm for seed in range(seeds) for arm in make(seed)]
