"""The verbs that lead to a model: plan, train, and take over what nnU-Net trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from medmtl.config import ExperimentConfig, job_of
from medmtl.data.dataset import Dataset
from medmtl.engine import Run, process_group
from medmtl.engine import train as run_training
from medmtl.engine.planning import plan_for_people
from medmtl.files import is_free, write_text
from medmtl.inference import Model
from medmtl.inference.nnunet import plan_of, read_nnunet
from medmtl.types import ConfigError, OutputError
from medmtl.verbs.shared import Progress, dataset_of, named, opened_dataset, parsed_config


def plan(
    dataset: Dataset | Path | str,
    output: Path | str,
    *,
    slices: str = "keep",
    memory_gib: float | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> str:
    """Plan for a dataset and write the plan, with a reason for each choice.

    Args:
        dataset: dataset or its folder.
        output: file to make.
        slices: ``keep`` thick slices, or ``resample`` them by nnU-Net's rule.
        memory_gib: memory to plan for; what the device has by default, at most 8.
        device: where the training will run; ``cuda`` may be planned for where there is none.
        progress: called while volumes are read.

    Returns:
        the text of the file.

    Raises:
        ConfigError: an unknown device or rule, or nothing fits the memory; nothing was written.
        OutputError: the file exists.
    """
    path = Path(output)
    if path.exists():
        raise OutputError(f"{path}: exists; remove it or choose another file")
    opened = opened_dataset(dataset)
    text = plan_for_people(opened, slices, memory_gib, device, named(progress, "plan"))
    write_text(path, text)
    return text


def train(
    config: Path | str | ExperimentConfig,
    dataset: Dataset | Path | str | None = None,
    *,
    output: Path | str,
    overrides: Sequence[str] = (),
    resume: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train what a config asks for.

    Args:
        config: YAML file, or a config that is already parsed.
        dataset: dataset, its folder, or None for the one that the config names.
        output: RUN folder to make.
        overrides: ``key=value`` on top of the config file.
        resume: continue the run in ``output``, if there is one.
        device: ``auto``, ``cpu`` or ``cuda``; the config's by default.
        progress: called as work goes on.

    Raises:
        ConfigError: config, dataset and device do not fit together, and nothing was written; or the GPU ran
            out of memory.
        DatasetError: the dataset contradicts itself.
        OutputError: the output folder holds something else.
    """
    parsed = parsed_config(config, overrides)
    opened = dataset_of(parsed, dataset)
    job = job_of(parsed, opened, Path(output), device=device)
    try:
        return run_training(job, resume=resume, progress=progress)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the GPU ran out of memory ({str(error).splitlines()[0]:.120}); {job.output / 'plan.yaml'} has "
            "what was planned: take a smaller training.batch_size or preparation.patch, plan for less with "
            "preparation.memory_gib, or set backbone.checkpointing to true"
        ) from error


def train_folds(
    config: Path | str | ExperimentConfig,
    dataset: Dataset | Path | str | None = None,
    *,
    output: Path | str,
    overrides: Sequence[str] = (),
    resume: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> list[Run]:
    """Train every fold of a cross-validation, into ``fold0``, ``fold1``, ... of a folder.

    `load_model` takes that folder as one ensemble. Arguments and errors are those of `train`.
    """
    parsed = parsed_config(config, overrides)
    folder = Path(output)
    if not is_free(folder) and not (folder / "fold0").is_dir():
        raise OutputError(f"{folder}: exists and is not a cross-validation; choose another folder")
    with process_group(device or parsed.device):  # one for all folds: a process cannot join a second
        return [
            train(
                parsed.model_copy(update={"fold": fold}),
                dataset,
                output=folder / f"fold{fold}",
                resume=resume,
                device=device,
                progress=_of_fold(progress, fold),
            )
            for fold in range(parsed.folds)
        ]


def _of_fold(progress: Progress | None, fold: int) -> Progress | None:
    """The same progress that says which fold it is of."""
    if progress is None:
        return None

    def call(what: str, done: int, total: int) -> None:
        progress(f"{what} fold {fold}", done, total)

    return call


def import_nnunet(
    results: Path | str, *, output: Path | str, fold: int | str = 0, checkpoint: str = "final"
) -> Model:
    """Take over a network that nnU-Net v2 trained, as a model folder; see `medmtl.inference.nnunet`.

    ``plan.yaml`` in it is what further tasks are trained by, with `training.start_from`.

    Raises:
        ConfigError: it is none that medmtl can continue.
        OutputError: the output folder is not empty.
    """
    folder = Path(output)
    if not is_free(folder):
        raise OutputError(f"{folder}: is not empty; choose another folder with -o")
    model = read_nnunet(results, fold=fold, checkpoint=checkpoint)
    model.save(folder)
    write_text(folder / "plan.yaml", plan_of(model))
    return model
