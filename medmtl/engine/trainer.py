"""The training clock: Ignite's engine around `train_step`, with every handler in one visible list."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping, EMAHandler
from ignite.handlers.tensorboard_logger import TensorboardLogger

from medmtl.data.batch import TrainingBatches, to_device
from medmtl.data.prepare import PreparedCase
from medmtl.engine.checkpoint import random_state, restore_random_state, save_tree
from medmtl.engine.evaluator import overall_score, validate
from medmtl.engine.freeze import copy_frozen, train_mode
from medmtl.engine.logs import EpochLog, StepLog
from medmtl.engine.ranks import average_statistics, leads, rank
from medmtl.engine.settings import TrainingSettings
from medmtl.engine.start_from import differences
from medmtl.engine.step import train_step
from medmtl.engine.validation_loss import validation_losses
from medmtl.inference.device import fast_dtype
from medmtl.inference.model import Model
from medmtl.inference.predictor import Context
from medmtl.models import MultiTaskNetwork
from medmtl.tasks import Task
from medmtl.types import ConfigError, StepOutput
from medmtl.weighting import Weighting

LOG = logging.getLogger("medmtl.train")
FLUSH_EVERY = 25
"""Steps between looks at the losses; a NaN is noticed within so many steps."""
LAST = Path("checkpoints") / "last.safetensors"
"""Where the newest checkpoint of a RUN folder is."""


@dataclass
class Training:
    """Everything that changes while a model trains.

    Attributes:
        model: its network is what the optimizer updates.
        tasks: those of its tasks that learn; the others are frozen whole.
        ema: keeps the exponential moving average of the network, unless that is off.
        weighting: task weighting.
        optimizer: over network and weighting.
        scaler: of float16 gradients, where that is the precision.
        batches: training batches by step.
        val: prepared validation cases.
        settings: how long, how fast.
        device: where.
        output: the RUN folder.
        best_score: best validation score so far.
        best_epoch: the epoch it came from, 0 for none.
        step_log: `weights.csv`.
        epoch_log: `metrics.csv`.
        progress: called after every step with (done, all).
        stopping: counts epochs without improvement, where a patience is set.
        started: clock time at which the first step would have begun.
    """

    model: Model
    tasks: Mapping[str, Task]
    ema: EMAHandler | None
    weighting: Weighting
    optimizer: torch.optim.Optimizer
    batches: TrainingBatches
    val: list[PreparedCase]
    settings: TrainingSettings
    device: torch.device
    output: Path
    step_log: StepLog
    epoch_log: EpochLog
    best_score: float = -math.inf
    best_epoch: int = 0
    progress: Callable[[int, int], None] | None = None
    stopping: EarlyStopping | None = None
    scaler: torch.amp.GradScaler | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def averaged(self) -> MultiTaskNetwork:
        """The weights that are judged and kept: the moving average, or the network's when it is off."""
        network = self.model.network if self.ema is None else self.ema.ema_model
        assert isinstance(network, MultiTaskNetwork)
        return network

    @property
    def last_checkpoint(self) -> Path:
        """Where the newest checkpoint is."""
        return self.output / LAST

    @property
    def best_checkpoint(self) -> Path:
        """Where the best weights so far are."""
        return self.output / "checkpoints" / "best.safetensors"


def build_trainer(training: Training) -> Engine:
    """Ignite engine that trains; an epoch is ``steps_per_epoch`` steps."""
    s = training.settings
    trainer = Engine(lambda engine, _: _step(training, engine.state.iteration - 1))
    handlers: list[tuple[Any, Callable[[Engine], Any]]] = [
        (Events.ITERATION_STARTED, lambda e: set_learning_rate(training, e.state.iteration - 1)),
        (Events.ITERATION_COMPLETED, lambda e: _log_step(training, e)),
        (Events.ITERATION_COMPLETED, lambda e: _show_progress(training, e)),
        (Events.EPOCH_COMPLETED, lambda e: training.weighting.end_epoch()),
        (Events.EPOCH_COMPLETED, lambda e: copy_frozen(training.model.network, training.averaged)),
        (Events.EPOCH_COMPLETED, lambda e: _validate(training, e)),
        (Events.EPOCH_COMPLETED, lambda e: _report_collapse(training, e)),
        (Events.EPOCH_COMPLETED, lambda e: _report_bad_losses(training, e)),
        (Events.EPOCH_COMPLETED(once=1), lambda e: _report_unlabelled(training, e)),
        (Events.EPOCH_COMPLETED, lambda e: _keep_best(training, e)),
    ]
    if training.ema is not None:
        handlers.insert(1, (Events.ITERATION_STARTED, lambda e: _set_momentum(training, e)))
        training.ema.attach(trainer)
    if s.patience:
        training.stopping = EarlyStopping(s.patience, _score_or_epoch, trainer)
        handlers.append((Events.EPOCH_COMPLETED, training.stopping))
    if leads():
        handlers.append((Events.EPOCH_COMPLETED, lambda e: _save(training, e)))
    for event, handler in handlers:
        trainer.add_event_handler(event, handler)
    if leads():
        _attach_tensorboard(training, trainer)
    return trainer


def _set_momentum(training: Training, engine: Engine) -> None:
    """Share of the newest weights in the average: large at first, so that the start is soon forgotten."""
    engine.state.ema_momentum = max(1 - training.settings.ema, 10 / (9 + engine.state.iteration))  # type: ignore[attr-defined]


def _step(training: Training, step: int) -> StepOutput:
    train_mode(training.model.network)
    s = training.settings
    _seed_strangers(training, step)
    batches = [training.batches.batch(s.accumulate * step + part) for part in range(s.accumulate)]
    return train_step(
        training.model.network,
        [to_device(batch, training.device) for batch in batches],
        training.tasks,
        training.weighting,
        training.optimizer,
        autocast=autocast_dtype(s.precision, training.device),
        max_gradient_norm=s.max_gradient_norm,
        scaler=training.scaler,
        compare=s.gradient_diagnostics > 0 and step % s.gradient_diagnostics == 0,
    )


def _seed_strangers(training: Training, step: int) -> None:
    """Let a third party's network, which draws from torch's global state, draw by step and rank.

    Ranks then differ from each other, and a resumed run goes on alike.
    """
    torch.manual_seed(training.batches.seed * 1_000_000_007 + step * 1_000_003 + rank())


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype of mixed precision that `training.precision` means on a device, or None for float32.

    Raises:
        ConfigError: bfloat16 asked for on a CPU without the instructions, where it can be 35 times slower, or
            float16 on any CPU.
    """
    fast = fast_dtype(device)
    if precision == "float16":
        if device.type == "cpu":
            raise ConfigError("training.precision: float16 is for GPUs; use auto or float32")
        return torch.float16
    if precision == "bfloat16" and fast is None:
        raise ConfigError("training.precision: this CPU has no fast bfloat16 (AMX); use auto or float32")
    return None if precision == "float32" else fast


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_learning_rate(training: Training, step: int) -> None:
    """The rate is a function of the step alone, so there is no scheduler state to resume."""
    s = training.settings
    for group in training.optimizer.param_groups:
        group["lr"] = s.learning_rate * learning_rate_factor(step, s.warmup_steps, s.steps)


def _log_step(training: Training, engine: Engine) -> None:
    step, s = engine.state.iteration, training.settings
    weights, raw = training.weighting.weights, training.weighting.raw_weights
    output: Any = engine.state.output
    training.step_log.add(step - 1, step / s.steps_per_epoch, output, weights, raw)
    if step % FLUSH_EVERY == 0 or step % s.steps_per_epoch == 0:
        training.step_log.flush()


def _show_progress(training: Training, engine: Engine) -> None:
    if training.progress is not None:
        training.progress(engine.state.iteration, training.settings.steps)


def _validate(training: Training, engine: Engine) -> None:
    """Judge the averaged weights on the validation cases and append a row to `metrics.csv`."""
    means = training.step_log.means()
    s = training.settings
    average_statistics(training.model.network)
    average_statistics(training.averaged)
    context = Context(
        training.averaged.eval(),
        training.model.tasks,
        training.model.preparation,
        training.device,
        s.mirror,
    )
    metrics = validate(context, training.val)
    score = overall_score(metrics)
    engine.state.score = score  # type: ignore[attr-defined]
    row: dict[str, Any] = {
        "epoch": engine.state.epoch,
        "step": engine.state.iteration,
        "seconds": time.perf_counter() - training.started,
        "learning_rate": training.optimizer.param_groups[0]["lr"],
    }
    row.update({f"train.{name}": value for name, value in means.items()})
    for task, found in metrics.items():
        row.update({f"val.{task}.{name}": value for name, value in found.items()})
    if s.validation_losses and leads():
        losses = validation_losses(context, training.val, training.batches.columns)
        row.update({f"val.loss.{task}": value for task, value in losses.items()})
    row["val.score"] = score
    training.epoch_log.add(row)
    engine.state.metrics = {k: v for k, v in row.items() if isinstance(v, float) and math.isfinite(v)}
    told = ", ".join(
        f"{key.removeprefix('val.')} {value:.3g}"
        for key, value in row.items()
        if key.startswith("val.") and (key == "val.score" or not key.endswith(".score"))
    )
    LOG.info(
        "epoch %d, step %d: %s", engine.state.epoch, engine.state.iteration, told or "no validation labels"
    )


def _report_collapse(training: Training, engine: Engine) -> None:
    task = training.weighting.collapsed()
    if task is not None:
        LOG.warning(
            "task %r has held more than 99 %% of the total for 100 steps or more: the other tasks learn "
            "nothing. Use weighting type balanced, or normalize_losses, a floor or effective_tasks",
            task,
        )


def _report_bad_losses(training: Training, engine: Engine) -> None:
    """What the policy `skip-step` or `drop-task` kept out so far; `stop` has ended the run before."""
    for task, steps in training.weighting.bad_loss_steps().items():
        LOG.warning("task %r had a loss that cannot be used on %d steps so far", task, steps)


def _report_unlabelled(training: Training, engine: Engine) -> None:
    for task in [task for task in training.weighting.never_seen() if task in training.tasks]:
        LOG.warning("task %r has had no label in the first epoch, and has learned nothing", task)


def _keep_best(training: Training, engine: Engine) -> None:
    score = float(engine.state.score)  # type: ignore[attr-defined]
    if score > training.best_score:
        training.best_score, training.best_epoch = score, engine.state.epoch
        if leads():
            weights = training.averaged.state_dict()
            save_tree(training.best_checkpoint, {"network": weights, "epoch": engine.state.epoch})


def _score_or_epoch(engine: Engine) -> float:
    """What early stopping looks at; without validation labels every epoch counts as better than the last."""
    score: float = engine.state.score  # type: ignore[attr-defined]
    return score if math.isfinite(score) else float(engine.state.epoch)


def _save(training: Training, engine: Engine) -> None:
    """Everything that a resumed run needs, in one file."""
    save_tree(
        training.last_checkpoint,
        {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "network": training.model.network.state_dict(),
            "averaged": training.averaged.state_dict(),
            "tasks": {name: task.state() for name, task in training.model.tasks.items()},
            "weighting": dict(training.weighting.state_dict()),
            "optimizer": training.optimizer.state_dict(),
            "scaler": training.scaler.state_dict() if training.scaler else {},
            "best": {"score": training.best_score, "epoch": training.best_epoch},
            "stopping": dict(training.stopping.state_dict()) if training.stopping else {},
            "seconds": time.perf_counter() - training.started,
            "random": random_state(),
        },
    )


def restore(training: Training, trainer: Engine, found: dict[str, Any]) -> None:
    """Continue from a checkpoint as if the run had never stopped.

    Raises:
        ConfigError: the checkpoint is of another network, weighting or optimizer.
    """
    differ = differences(found["network"], training.model.network.state_dict())
    if differ:
        raise ConfigError(
            f"{training.last_checkpoint}: is of another network than config and dataset ask for now: "
            f"{'; '.join(differ[:3])}{f'; and {len(differ) - 3} more' if len(differ) > 3 else ''}. Continue "
            "with the same dataset, or use another output folder"
        )
    try:
        training.model.network.load_state_dict(found["network"])
        training.averaged.load_state_dict(found["averaged"])
        for name, state in found.get("tasks", {}).items():
            training.model.tasks[name].load_state(state)
        training.weighting.load_state_dict(found["weighting"])
        training.optimizer.load_state_dict(found["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{training.last_checkpoint}: does not fit the weighting and optimizer that the config asks for "
            f"now ({str(error).splitlines()[0]}); use another output folder"
        ) from error
    training.best_score, training.best_epoch = found["best"]["score"], found["best"]["epoch"]
    if training.scaler is not None and found.get("scaler"):
        training.scaler.load_state_dict(found["scaler"])
    if training.stopping is not None and found["stopping"]:
        training.stopping.load_state_dict(found["stopping"])
    training.started = time.perf_counter() - found["seconds"]
    s = training.settings
    trainer.load_state_dict(
        {"epoch": found["epoch"], "max_epochs": s.epochs, "epoch_length": s.steps_per_epoch}
    )
    restore_random_state(found["random"])


def _attach_tensorboard(training: Training, trainer: Engine) -> None:
    logger = TensorboardLogger(log_dir=str(training.output / "tensorboard"))
    logger.attach_output_handler(
        trainer,
        Events.EPOCH_COMPLETED,
        tag="",
        metric_names="all",
        global_step_transform=lambda e, _: e.state.iteration,
    )
    trainer.add_event_handler(Events.COMPLETED, lambda e: logger.close())
    trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda e, error: _close_and_raise(logger, error))


def _close_and_raise(logger: TensorboardLogger, error: BaseException) -> None:
    """Pass an error on; Ignite takes one that somebody handles for dealt with, and would go on."""
    logger.close()
    raise error
