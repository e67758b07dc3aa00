"""One training of a comparison, from job to record: train, predict, score, look into the encoder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch

from medmtl.engine import Job, Run, train
from medmtl.evaluation.comparison.alone import Alone
from medmtl.evaluation.comparison.conditions import clear_unstarted
from medmtl.evaluation.comparison.embedding import embed, write_embedding
from medmtl.evaluation.comparison.meter import Meter, Progress
from medmtl.evaluation.comparison.record import Place, Record, read_record, write_record
from medmtl.evaluation.comparison.tissue_alone import confine
from medmtl.evaluation.comparison.values import flat_values
from medmtl.evaluation.evaluate import evaluate_predictions
from medmtl.files import write_text
from medmtl.inference import predict_cases
from medmtl.inference.device import choose_device
from medmtl.weighting import UnusableLossError

LOG = logging.getLogger("medmtl.compare")
COSTS = "costs.csv"


@dataclass(frozen=True)
class Judge:
    """On which cases a training is judged, and how.

    Attributes:
        split: of the dataset.
        embeds: keep what the encoder makes of these cases.
    """

    split: str
    embeds: bool = False


def train_one(
    job: Job,
    place: Place,
    judge: Judge,
    *,
    alone: Alone | None = None,
    hosts: Mapping[str, Place] | None = None,
    progress: Progress | None = None,
) -> Record:
    """Train what a job asks for and judge it; a training that is finished is not repeated.

    An interrupted one continues at its last checkpoint. A method that cannot be trained here (its losses
    become unusable, or the GPU is too small for it) is a result like any other.

    Args:
        job: whose output is not looked at.
        place: where to.
        judge: on which cases.
        alone: how a single task is trained alone, where this is such a network.
        hosts: where the single-task networks of other tasks are.
        progress: called with what is done of the training.
    """
    found = read_record(place)
    if found is not None:
        return found
    clear_unstarted(place.run)
    place.folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(job.device)
    try:
        run = _train(job, place, device, progress)
        record = _judge(job, run, place, judge, device, alone, hosts or {})
    except UnusableLossError as error:
        record = Record("failed", str(error))
    except torch.OutOfMemoryError:
        record = Record("failed", "the GPU ran out of memory; compare with a smaller training.batch_size")
    if not record.ok:
        LOG.warning("%s: %s", place.folder.name, record.message)
    write_record(place, record)
    return record


def _train(job: Job, place: Place, device: torch.device, progress: Progress | None) -> Run:
    meter = Meter(device, job.training.steps_per_epoch, progress)
    run = train(replace(job, output=place.run), resume=True, progress=meter)
    if not (place.folder / COSTS).is_file():
        write_text(
            place.folder / COSTS,
            f"seconds_per_step,peak_memory_mib\n{meter.seconds_per_step},{meter.peak_memory_mib}\n",
        )
    return run


def _judge(
    job: Job,
    run: Run,
    place: Place,
    judge: Judge,
    device: torch.device,
    alone: Alone | None,
    hosts: Mapping[str, Place],
) -> Record:
    cases = job.dataset.select(judge.split)
    predict_cases(
        run.model, cases, place.predictions, dataset=job.dataset, device=job.device,
        mirror=job.training.mirror,
    )  # fmt: skip
    if alone is not None and alone.host:
        name = next(iter(alone.sections))
        confine(place.predictions, name, hosts[alone.host].predictions, alone.host, alone.structure)
    found = evaluate_predictions(
        place.predictions, job.dataset, place.evaluation, split=judge.split, run=run.folder, seed=job.seed
    )
    if judge.embeds:
        write_embedding(place.embedding, embed(run.model, job.dataset, cases, device))
    log = pd.read_csv(run.folder / "metrics.csv")
    costs = pd.read_csv(place.folder / COSTS)
    refused = {finding.case_id: finding.message for finding in run.refused}
    refused |= {one.case_id: one.message for one in found.missing if one.status != "error"}
    values = flat_values(found.metrics, place.cases(), run.model.tasks)
    return Record(
        "ok",
        seconds=float(log["seconds"].max()),
        seconds_per_step=float(costs.at[0, "seconds_per_step"]),
        peak_memory_mib=float(costs.at[0, "peak_memory_mib"]),
        steps=int(log["step"].max()),
        kept=str(run.model.metadata.get("kept", "")),
        values={name: value.value for name, value in values.items()},
        counts={name: value.n for name, value in values.items()},
        refused=refused,
    )
