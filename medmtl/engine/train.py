"""A whole training, from a job to a model folder."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml
from ignite.handlers import EMAHandler

from medmtl.data.augment import Augmentation
from medmtl.data.batch import TrainingBatches, check_parts
from medmtl.engine.checkpoint import load_tree
from medmtl.engine.environment import describe_environment
from medmtl.engine.exchange import check_alike, from_first, share_weights
from medmtl.engine.freeze import trained
from medmtl.engine.job import Job
from medmtl.engine.launch import device_of_rank, process_group
from medmtl.engine.logs import EpochLog, StepLog
from medmtl.engine.planning import continued
from medmtl.engine.quality import learn_quality
from medmtl.engine.ranks import leads, rank, world_size
from medmtl.engine.run_folder import check_run_folder, check_same_config, log_file, silent_but_first
from medmtl.engine.settings import TrainingSettings
from medmtl.engine.setup import Ready, set_up
from medmtl.engine.threads import choose_threads
from medmtl.engine.trainer import LAST, Training, autocast_dtype, build_trainer, restore
from medmtl.files import replaced_folder, write_text
from medmtl.inference.model import Model, load_model
from medmtl.types import Finding
from medmtl.weighting import GradientWeighting, GradNorm, Weighting, build_weighting

LOG = logging.getLogger("medmtl.train")
Progress = Callable[[str, int, int], None]
STEPS_AHEAD = 2
"""Batches that are read from a store before they are asked for."""


@dataclass
class Run:
    """A finished training.

    Attributes:
        folder: the RUN folder.
        model: what was kept.
        best_score: its validation score, NaN without validation labels.
        best_epoch: the epoch it came from.
        refused: training and validation cases that could not be used.
    """

    folder: Path
    model: Model
    best_score: float
    best_epoch: int
    refused: list[Finding]


def train(job: Job, *, resume: bool = False, progress: Progress | None = None) -> Run:
    """Train what a job asks for.

    Args:
        job: what to do.
        resume: continue the run in the output folder, if there is one; bit-identical to a run that never
            stopped, on the same machine and thread count.
        progress: called with ("prepare" or "train", done, all).

    Raises:
        ConfigError: config, dataset and the model to start from do not fit together, or there is no such
            device.
        ConfigError: the run to continue was started with another config; see `MAY_CHANGE`.
        OutputError: the output folder holds something else, or a run and ``resume`` is not set.
        NotFiniteError: a loss became NaN.
        UnusableLossError: the weighting cannot weigh a loss (`on_bad_loss: stop`), or could take no step for
            100 steps (other policies).
    """
    with process_group(job.device), silent_but_first():
        return _train(job, resume=resume, progress=progress if leads() else None)


def _train(job: Job, *, resume: bool, progress: Progress | None) -> Run:
    """`train` on one of the ranks. Before `check_alike` nothing is written: all see the same folder."""
    device = device_of_rank(job.device)
    autocast_dtype(job.training.precision, device)
    weighting = _weighting(job)
    if job.training.batch_size is not None:
        check_parts(min(job.training.batch_size, len(job.dataset.select("train")) or 1), world_size())
    check_run_folder(job.output, resume=resume)
    check_same_config(job.output / "config.yaml", job.resolved)
    if resume and (job.output / LAST).is_file():
        job = replace(job, training=job.training.model_copy(update={"start_from": None}))
        job = continued(job, job.output / "plan.yaml")
    ready = set_up(job, device, None if progress is None else lambda done, n: progress("prepare", done, n))
    with closing(ready), ExitStack() as stack:
        check_alike(_facts(job, ready))
        if leads():
            job.output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(log_file(job.output / "log.txt"))
        if job.training.start_from is not None:
            LOG.info("training starts from the weights of %s: %s", job.training.start_from, ready.started)
        for finding in ready.refused:
            LOG.warning("%s is left out: %s", finding.case_id, finding.message)
        for remark in ready.remarks:
            LOG.warning("%s", remark)
        return _run(job, ready, weighting.to(device), device, resume=resume, progress=progress)


def _facts(job: Job, ready: Ready) -> dict[str, str]:
    """What all ranks must agree on before the first step."""
    return {
        "config": yaml.safe_dump(dict(job.resolved)),
        "plan": yaml.safe_dump(ready.plan.as_dict()),
        "training cases": " ".join(case.case_id for case in ready.train),
        "validation cases": " ".join(case.case_id for case in ready.val),
    }


def _weighting(job: Job) -> Weighting:
    options = dict(job.weighting)
    return build_weighting(str(options.pop("type")), tuple(job.tasks), **options)


def _run(
    job: Job,
    ready: Ready,
    weighting: Weighting,
    device: torch.device,
    *,
    resume: bool,
    progress: Progress | None,
) -> Run:
    s = job.training
    resumes = resume and (job.output / LAST).is_file()
    found = from_first(lambda: load_tree(job.output / LAST) if resumes else {}) or None
    share_weights(ready.model.network)
    first_step = 0 if found is None else int(found["iteration"])
    threads = _threads(s, ready, device)
    if leads():
        _write_setup(job, ready, describe_environment(device, threads, world_size()))
    training = _training(job, ready, weighting, device, first_step, progress)
    trainer = build_trainer(training)
    torch.manual_seed(job.seed)
    if found is not None:
        restore(training, trainer, found)
        LOG.info("resumed after step %d", first_step)
    _tell_size(training, len(ready.train), threads)
    _tell_cost(training)
    stopped = training.stopping is not None and training.stopping.counter >= s.patience
    if first_step < s.steps and not stopped:
        trainer.run(max_epochs=s.epochs, epoch_length=s.steps_per_epoch)
    _tell_converged(training)
    return _finish(job, ready, training)


def _threads(s: TrainingSettings, ready: Ready, device: torch.device) -> int:
    """Threads of a step; on a CPU those that are fastest for this network and patch."""
    if device.type != "cpu":
        return torch.get_num_threads()
    cases = 2 * min(ready.plan.batch_size, len(ready.train))
    volume = (cases, len(ready.model.channels), *ready.plan.preparation.patch)
    return choose_threads(ready.model.network, volume, s.threads)


def _write_setup(job: Job, ready: Ready, environment: Mapping[str, Any]) -> None:
    """What the run is made from: config, plan and machine."""
    _write_yaml(job.output / "config.yaml", dict(job.resolved))
    write_text(job.output / "plan.yaml", ready.plan_text)
    write_text(job.output / "environment.json", json.dumps(environment, indent=2) + "\n")


def _training(
    job: Job,
    ready: Ready,
    weighting: Weighting,
    device: torch.device,
    first_step: int,
    progress: Progress | None,
) -> Training:
    """Network, optimizer, batches and logs, before the first step of this process."""
    s, output, network = job.training, job.output, ready.model.network
    ema = EMAHandler(network, momentum=1 - s.ema) if s.ema else None
    compares = s.gradient_diagnostics > 0 or isinstance(weighting, GradientWeighting)
    if s.compile:
        network.compile_trunk(tasks_apart=compares)
    groups = [{"params": trained(network), "weight_decay": s.weight_decay}, *weighting.parameter_groups()]
    return Training(
        model=ready.model,
        tasks=ready.learning,
        ema=ema,
        weighting=weighting,
        optimizer=torch.optim.AdamW(groups, lr=s.learning_rate, fused=device.type == "cuda"),
        batches=_batches(job, ready),
        val=ready.val,
        settings=s,
        device=device,
        output=output,
        scaler=torch.amp.GradScaler(device.type) if s.precision == "float16" else None,
        step_log=StepLog(
            output / "weights.csv" if leads() else None,
            tuple(ready.model.tasks),
            first_step,
            objection=weighting.objection,
            compares=compares,
        ),
        epoch_log=EpochLog(output / "metrics.csv" if leads() else None, first_step),
        progress=None if progress is None else lambda done, n: progress("train", done, n),
    )


def _batches(job: Job, ready: Ready) -> TrainingBatches:
    """This rank's part of every batch."""
    s = job.training
    return TrainingBatches(
        ready.train,
        ready.label_columns,
        ready.plan.preparation.patch,
        batch_size=ready.plan.batch_size,
        random_frames=s.random_frames,
        augmentation=Augmentation(**s.augmentation.model_dump()),
        seed=job.seed,
        part=(rank(), world_size()),
        focus=ready.focus,
        ahead=0 if ready.store is None else STEPS_AHEAD,
        overview=ready.plan.preparation.overview,
        sampling=s.sampling,
    )


def _tell_size(training: Training, cases: int, threads: int) -> None:
    """How much there is to train with, and what."""
    network, size = training.model.network, training.batches.batch_size
    LOG.info(
        "%d training and %d validation cases, %d parameters, %d of them trained, %s, %d threads, %d ranks",
        cases, len(training.val), sum(p.numel() for p in network.parameters()),
        sum(p.numel() for p in trained(network)), training.device, threads, world_size(),
    )  # fmt: skip
    if size % world_size():
        LOG.warning(
            "the %d cases of a step on %d ranks: some wait for others; make training.batch_size a multiple",
            size,
            world_size(),
        )


def _tell_converged(training: Training) -> None:
    """What GradNorm's weights were on average: its paper's second use is to train again with these, fixed."""
    weighting = training.weighting
    if isinstance(weighting, GradNorm) and not weighting.never_seen():
        found = {task: round(weight, 4) for task, weight in weighting.converged_weights().items()}
        LOG.info("gradnorm's weights were %s on average; scalarization trains with them as they are", found)


def _tell_cost(training: Training) -> None:
    """What it costs that tasks which share a decoder have their gradients taken one by one."""
    network, weighting = training.model.network, training.weighting
    passes = network.shared_decoder_passes(training.model.tasks)
    if isinstance(weighting, GradientWeighting) and passes > 1:
        LOG.info(
            "%d dense tasks share one decoder, so its backward runs %d times per step; "
            "backbone.decoders: separate gives each a light one of its own",
            passes,
            passes,
        )


def _finish(job: Job, ready: Ready, training: Training) -> Run:
    """Put the weights that are kept into ``model/``, whole or not at all."""
    use_best = job.training.keep == "best" and bool(ready.val) and training.best_epoch > 0
    weights: dict[str, Any] = (
        from_first(lambda: load_tree(training.best_checkpoint))["network"]
        if use_best
        else training.averaged.state_dict()
    )
    ready.model.network.load_state_dict(weights)
    ready.model.metadata = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": job.dataset.name,
        "training_cases": len(ready.train),
        "validation_cases": len(ready.val),
        "steps": job.training.steps,
        "weighting": dict(job.weighting),
        "seed": job.seed,
        "kept": f"epoch {training.best_epoch}" if use_best else "last",
        "validation_score": training.best_score if use_best else None,
    }
    return Run(
        job.output,
        _save_model(job, ready, training.device) if leads() else ready.model,
        training.best_score if training.best_epoch else math.nan,
        training.best_epoch,
        ready.refused,
    )


def _save_model(job: Job, ready: Ready, device: torch.device) -> Model:
    context = ready.model.context(device, mirror=job.training.mirror)
    learn_quality(ready.model, ready.train, ready.val, context)
    final = job.output / "model"
    with replaced_folder(final) as folder:
        ready.model.save(folder)
    return load_model(final, allow=job.third_party)


def _write_yaml(path: Path, data: dict[str, Any]) -> None:
    write_text(path, yaml.safe_dump(data, sort_keys=False))
