"""The whole of `medmtl predict`: find studies, spread them over workers, keep the journal."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from medmtl.inference.device import choose_device
from medmtl.inference.feed import Feed
from medmtl.inference.find import find_items
from medmtl.inference.folder import opened_folder
from medmtl.inference.loop import Progress, run_studies
from medmtl.inference.model import Model, load_model
from medmtl.inference.options import FEWEST_THREADS, Options
from medmtl.inference.results import PredictionRun
from medmtl.inference.worker import Job, Worker
from medmtl.inference.workers import Processes, Threads, Workers
from medmtl.types import ConfigError

LOG = logging.getLogger("medmtl.predict")
FEW = 8
"""So many studies are done before other processes would have loaded the model."""
MOST_THREADS = 6
"""Studies in the memory of one worker."""
MOST = 8
"""Processes on a CPU that nobody asked for by number."""


def predict_studies(
    model: Model | Path | str,
    sources: Sequence[Path | str],
    output: Path,
    options: Options,
    *,
    split: str = "all",
    workers: int | None = None,
    dask: str | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> PredictionRun:
    """Predict all studies of some sources; the same call goes on where one that was ended stopped.

    Args:
        model: the model, or its folder, which processes need.
        sources: folders, files, archives, datasets, addresses.
        output: PREDICTIONS folder; new, empty, or of an earlier call with the same model and options.
        options: what to do with every study.
        split: of a dataset.
        workers: processes on this machine; 0 computes in this one. By default as many as there are GPUs, or
            as the CPU feeds, where the model is given by its folder and there are more than a few studies.
        dask: address of a dask scheduler whose workers compute.
        retry_failed: do studies once more that failed in an earlier call.
        progress: called with how many of how many studies are done.

    Raises:
        ConfigError: sources or options that cannot be used; nothing was written.
        OutputError: the folder holds something else, or another process has it.
        StoppedError: the disk is full, or no worker can be kept alive.
    """
    if workers is not None and workers < 0:
        raise ConfigError(f"--workers: {workers} is no number of processes")
    if workers and dask:
        raise ConfigError("--workers and --dask exclude each other: dask's workers are the processes")
    loaded = model if isinstance(model, Model) else load_model(model)
    home = _home(model)
    choose_device(options.device)
    items = find_items(sources, loaded, split=split, select=options.select, key=options.key)
    with Feed(items) as feed:
        few = feed.is_short(FEW)
        with opened_folder(loaded, output, options) as folder, _logged(output):
            if dask is None and workers is None:
                workers = 0 if few or isinstance(model, Model) else usual_workers(options.device)
            options = replace(options, threads=options.threads or usual_threads(workers or 1))
            job = Job(home, loaded.digest(), options, str(output.absolute()), folder.journal.run)
            with start_workers(loaded, job, workers or 0, dask) as found:
                return run_studies(
                    folder.journal,
                    feed,
                    found,
                    output,
                    folder.outputs,
                    retry_failed=retry_failed,
                    table="csv" in options.write,
                    progress=progress,
                )


def _home(model: Model | Path | str) -> str:
    """The folder that another process can load the model from; empty where there is none."""
    if not isinstance(model, Model):
        return str(Path(model).absolute())
    return str(model.folder.absolute()) if model.folder is not None and not model.others else ""


def usual_workers(device: str) -> int:
    """A process for every GPU; on a CPU one for every core, as long as each has memory for a study."""
    where = choose_device(device)
    if where.type == "cuda":
        return torch.cuda.device_count() if device in ("auto", "cuda") else 1
    return min(len(os.sched_getaffinity(0)), MOST)


def usual_threads(workers: int) -> int:
    """Studies at hand in each of so many workers: as many as it has cores to read with, within bounds."""
    return max(FEWEST_THREADS, min(MOST_THREADS, len(os.sched_getaffinity(0)) // workers))


def start_workers(model: Model, job: Job, workers: int, dask: str | None) -> Workers:
    """Workers in this process, in others, or on a cluster.

    Raises:
        ConfigError: others cannot load the model, which is not in a folder, or the cluster is not there.
    """
    if not workers and not dask:
        return Threads(Worker(model, job.options, Path(job.output), job.run, digest=job.digest))
    if not job.model:
        raise ConfigError("other processes load the model from its folder; save it, and give the folder")
    if dask:
        from medmtl.inference.workers.cluster import Cluster

        return Cluster(job, dask)
    return Processes(job, workers)


@contextmanager
def _logged(output: Path) -> Iterator[None]:
    """Keep what is said of studies in ``OUT/log.txt``."""
    handler = logging.FileHandler(output / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    level = LOG.level
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.setLevel(level)
        LOG.removeHandler(handler)
        handler.close()
