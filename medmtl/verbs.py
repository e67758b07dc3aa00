"""One function per verb of the command line; notebooks and pipelines call the same ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from medmtl.config import (
    ExperimentConfig,
    job_of,
    load_config,
    parse_config,
    with_values,
    with_weightings,
)
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.data.export import export
from medmtl.data.ingest import ingest
from medmtl.engine import Job, Run, process_group
from medmtl.engine import train as run_training
from medmtl.engine.planning import plan_for_people
from medmtl.evaluation import Evaluation, evaluate_predictions
from medmtl.evaluation.comparison import Comparison, design_comparison, parse_methods
from medmtl.evaluation.comparison import compare as run_comparison
from medmtl.files import is_free, write_text
from medmtl.inference import Model, PredictionRun, load_model, predict_cases, predict_studies
from medmtl.inference.nnunet import plan_of, read_nnunet
from medmtl.inference.options import USUAL, Options, read_key
from medmtl.report import build_report
from medmtl.types import ConfigError, OutputError

if TYPE_CHECKING:
    from medmtl.search import Search

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

__all__ = [
    "Demo",
    "build_report",
    "compare",
    "demo",
    "demo_config",
    "evaluate",
    "export",
    "import_nnunet",
    "ingest",
    "load_model",
    "plan",
    "predict",
    "search",
    "train",
    "train_folds",
]


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
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    text = plan_for_people(opened, slices, memory_gib, device, _named(progress, "plan"))
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
    parsed = config if isinstance(config, ExperimentConfig) else load_config(config, overrides)
    opened = _opened(parsed, dataset)
    job = job_of(parsed, opened, Path(output), device=device)
    try:
        return run_training(job, resume=resume, progress=progress)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the GPU ran out of memory ({str(error).splitlines()[0]:.120}); {job.output / 'plan.yaml'} has "
            "what was planned: take a smaller training.batch_size or preparation.patch, plan for less with "
            "preparation.memory_gib, or set backbone.checkpointing to true"
        ) from error


def _opened(config: ExperimentConfig, dataset: Dataset | Path | str | None) -> Dataset:
    """The dataset that was given, or that the config names, with the config's fold held out."""
    wanted = dataset if dataset is not None else config.dataset
    if wanted is None:
        raise ConfigError("no dataset: name it in the config or on the command line (dataset=FOLDER)")
    opened = wanted if isinstance(wanted, Dataset) else open_dataset(wanted)
    return opened if config.fold is None else opened.with_fold(config.fold, config.folds)


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
    parsed = config if isinstance(config, ExperimentConfig) else load_config(config, overrides)
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


def predict(
    model: Model | Path | str,
    source: Path | str | Sequence[Path | str],
    *,
    output: Path | str,
    tasks: Sequence[str] | None = None,
    write: Sequence[str] = USUAL,
    send: str = "",
    split: str = "all",
    select: str = "",
    pseudonymize: Path | str | None = None,
    timeout: float | None = None,
    device: str = "auto",
    mirror: bool = False,
    workers: int | None = None,
    dask: str | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> PredictionRun:
    """Predict studies and write a PREDICTIONS folder with a journal and a report.

    The same call goes on where one that was ended, in whatever way, stopped: nothing is done twice.

    Args:
        model: a model, its folder, or a RUN folder.
        source: where to find studies, one or several: folders, files, archives, datasets, addresses.
        output: PREDICTIONS folder; new, empty, or of an earlier call with the same model and options.
        tasks: tasks wanted, all by default; only what they need is computed.
        write: what to write, of ``nifti``, ``seg``, ``labelmap``, ``sr`` and ``csv``; the DICOM ones where
            the source is DICOM.
        send: DICOMweb address of a PACS that takes the DICOM results; ``source``: where a study came from.
        split: of a dataset: ``train``, ``val``, ``test`` or ``all``.
        select: rule that overrides the model's choice of series.
        pseudonymize: file with a key; identifiers become keyed hashes.
        timeout: seconds that one study may take.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        mirror: average dense tasks over in-plane mirror images.
        workers: processes on this machine, 0 for none; chosen by the number of studies by default.
        dask: address of a dask scheduler whose workers compute.
        retry_failed: do studies once more that failed in an earlier call.
        progress: called as work goes on.

    Raises:
        ConfigError: a model, source or option that cannot be used; nothing was written.
        OutputError: the folder holds something else, belongs to another model or other options, or another
            process has it.
        StoppedError: the disk is full, or no worker can be kept alive; what is done stays.
    """
    sources = [source] if isinstance(source, Path | str) else list(source)
    options = Options(
        tasks=tuple(tasks or ()),
        write=tuple(write),
        send=send,
        mirror=mirror,
        select=select,
        key=None if pseudonymize is None else read_key(Path(pseudonymize)),
        timeout=timeout,
        device=device,
    )
    run = predict_studies(
        model,
        sources,
        Path(output),
        options,
        split=split,
        workers=workers,
        dask=dask,
        retry_failed=retry_failed,
        progress=_named(progress, "predict"),
    )
    datasets = [Path(given) for given in sources if (Path(given) / "dataset.yaml").is_file()]
    if "csv" in options.write:  # the report is drawn from the table
        build_report(run.folder, dataset=open_dataset(datasets[0]) if len(datasets) == 1 else None)
    return run


def evaluate(
    model: Model | Path | str,
    dataset: Dataset | Path | str,
    *,
    split: str = "test",
    output: Path | str | None = None,
    device: str = "auto",
    mirror: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare a model, or a folder of predictions made elsewhere, with a dataset's labels.

    Args:
        model: a model, its folder, a RUN folder, or a PREDICTIONS folder.
        dataset: the truth.
        split: ``train``, ``val``, ``test`` or ``all``.
        output: EVALUATION folder; a temporary one by default.
        device: for the predictions.
        mirror: average dense tasks over in-plane mirror images.
        seed: of the bootstrap intervals.
        progress: called as work goes on.
    """
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    folder = Path(output) if output is not None else Path(tempfile.mkdtemp(prefix="medmtl-"))
    check_evaluation_folder(folder)
    if not isinstance(model, Model) and (Path(model) / "predictions.csv").is_file():
        predictions, run = Path(model), None
    else:
        loaded = model if isinstance(model, Model) else load_model(model)
        cases = opened.select(split)
        if not cases:
            raise ConfigError(
                f"{opened.root / 'cases.csv'}: no case has split = {split}; choose another --split"
            )
        predictions = folder / "predictions"
        predict_cases(
            loaded,
            cases,
            predictions,
            dataset=opened,
            device=device,
            mirror=mirror,
            progress=_named(progress, "predict"),
        )
        run = (
            loaded.folder.parent
            if loaded.folder and (loaded.folder.parent / "weights.csv").is_file()
            else None
        )
    found = evaluate_predictions(
        predictions, opened, folder, split=split, run=run, seed=seed, progress=_named(progress, "evaluate")
    )
    build_report(folder, dataset=opened)
    return found


def compare(
    config: Path | str | ExperimentConfig,
    dataset: Dataset | Path | str | None = None,
    *,
    weightings: str | Sequence[str | Mapping[str, Any]],
    output: Path | str,
    seeds: int = 3,
    overrides: Sequence[str] = (),
    split: str = "test",
    metrics: Sequence[str] | Mapping[str, str] = (),
    reference: str | None = None,
    search_lr: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train a network per task and one per weighting, over seeds, and say what the weightings gain.

    Args:
        config: YAML file, or a config that is already parsed; its weighting lends options to its name.
        dataset: dataset, its folder, or None for the one that the config names.
        weightings: such as ``ew,uw,uw-so(temperature=5)``, or ``all``; or names and mappings one by one.
        output: folder to make, or to continue; methods and seeds may be added to what it holds.
        seeds: trainings of each method, with the config's seed and those after it.
        overrides: ``key=value`` on top of the config file.
        split: cases to compare on, ``test`` or ``val``.
        metrics: ``task=metric`` where delta-m is not to be made of the task's usual metric.
        reference: method that the others are tested against; ``ew`` by default.
        search_lr: learning rates and weight decays to try per method; 0 takes the config's.
        device: ``auto``, ``cpu`` or ``cuda``; the config's by default.
        progress: called as work goes on.

    Raises:
        ConfigError: what cannot be compared; nothing was written.
        DatasetError: the dataset contradicts itself.
        OutputError: the output folder holds something else.
    """
    parsed = config if isinstance(config, ExperimentConfig) else load_config(config, overrides)
    opened = _opened(parsed, dataset)
    methods = parse_methods(weightings, tuple(parsed.tasks), parsed.weighting)
    configs = with_weightings(parsed, {method.name: method.section for method in methods})
    design = design_comparison(
        job_of(configs[0], opened, Path(output), device=device),
        methods,
        seeds=seeds,
        split=split,
        metrics=metrics,
        reference=reference,
        trials=search_lr,
    )
    found = run_comparison(design, Path(output), progress)
    build_report(found.folder)
    return found


def search(
    config: Path | str | ExperimentConfig,
    dataset: Dataset | Path | str | None = None,
    *,
    method: str,
    output: Path | str,
    overrides: Sequence[str] = (),
    storage: str | None = None,
    trials: int | None = None,
    metrics: Sequence[str] = (),
    prune: bool = False,
    device: str | None = None,
    announce: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Search:
    """Search task weights, a temperature or other values by training with them; joins a search that runs.

    Args:
        config: YAML file, or a config that is already parsed.
        dataset: dataset, its folder, or None for the one that the config names.
        method: ``line``, ``grid`` or ``evolution``.
        output: folder to make, or of a search to continue or to join; the same for all processes.
        overrides: ``key=value`` on top of the config file.
        storage: address of a database, or path of a journal file; a journal in ``output`` by default.
        trials: trainings in all; what the method has by default.
        metrics: ``task=metric`` of the objective, whose direction is known; validation scores by default.
        prune: stop trainings that stay below the median of the others.
        device: ``auto``, ``cpu`` or ``cuda``; the config's by default.
        announce: told what will be done before anything is.
        progress: called as work goes on.
        options: of the method, see `medmtl.search.build_method`.

    Raises:
        ConfigError: what cannot be searched, or another search in ``output``; nothing was written.
        DatasetError: the dataset contradicts itself.
        OutputError: the output folder holds something else.
    """
    from medmtl.search import build_method, run_search

    parsed = config if isinstance(config, ExperimentConfig) else load_config(config, overrides)
    opened = _opened(parsed, dataset)

    def make_job(changes: Mapping[str, Any], folder: Path) -> Job:
        return job_of(with_values(parsed, changes), opened, folder, device=device)

    return run_search(
        make_job,
        build_method(method, make_job, **options),
        output=Path(output),
        storage=storage,
        trials=trials,
        metrics=metrics,
        prune=prune,
        announce=announce,
        progress=progress,
    )


def check_evaluation_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier evaluation.

    Raises:
        OutputError: it does.
    """
    ours = ("evaluation.yaml", "predictions/outputs.yaml")
    if not is_free(folder) and not any((folder / name).is_file() for name in ours):
        raise OutputError(
            f"{folder}: exists and holds something other than an evaluation; choose another folder"
        )


@dataclass(frozen=True)
class Demo:
    """What the demo made, each in a folder of its own below ``folder``."""

    folder: Path
    dataset: Dataset
    run: Run
    evaluation: Evaluation
    predictions: PredictionRun
    report: Path


def demo_config() -> ExperimentConfig:
    """The config that the demo trains, which comes with the package."""
    return parse_config(yaml.safe_load(files("medmtl").joinpath("demo.yaml").read_text()), where="demo.yaml")


def demo(
    output: Path | str,
    *,
    cases: int = 80,
    seed: int = 0,
    config: ExperimentConfig | None = None,
    progress: Progress | None = None,
) -> Demo:
    """The whole way on phantoms: generate, ingest, train, evaluate, report, and predict DICOM studies.

    Args:
        output: folder to make; new or empty.
        cases: phantoms, of which about a fifth is held out.
        seed: of the cohort and the training.
        config: what to train; `demo_config` by default.
        progress: called as work goes on.

    Raises:
        OutputError: the folder is not empty.
    """
    from medmtl.data.phantom import generate_cohort

    folder = Path(output)
    if not is_free(folder):
        raise OutputError(f"{folder}: is not empty; remove it or choose another folder with -o")
    source = generate_cohort(
        folder / "phantoms", cases=cases, seed=seed, progress=_named(progress, "phantoms")
    )
    ingest(source, folder / "dataset", progress=_named(progress, "ingest"))
    dataset = open_dataset(folder / "dataset")
    used = (config or demo_config()).model_copy(update={"seed": seed})
    run = train(used, dataset, output=folder / "run", progress=progress)
    evaluation = evaluate(run.model, dataset, output=folder / "evaluation", progress=progress)
    incoming = _incoming(dataset, folder / "incoming")
    predictions = predict(run.model, incoming, output=folder / "predictions", progress=progress)
    return Demo(folder, dataset, run, evaluation, predictions, folder / "evaluation" / "report.html")


def _incoming(dataset: Dataset, folder: Path) -> Path:
    """Two held-out cines as a scanner sends them: DICOM, no labels, and nobody said where ED and ES are."""
    from medmtl.data.nifti import frames_first, read_volume
    from medmtl.data.phantom.dicom import write_dicom

    for number, case in enumerate(dataset.select("test")[:2], start=1):
        height, weight = (case.values.get(name) for name in ("height", "weight"))
        for channel, image in zip(dataset.channels, case.images, strict=True):
            volume = read_volume(image)
            write_dicom(
                folder / f"study{number}" / channel,
                frames_first(volume.array),
                spacing_mm=volume.geometry.spacing_mm,
                time_step_ms=volume.time_step_ms or 1.0,
                series_per_slice=number == 2,
                description=f"short-axis {channel}",
                study=case.case_id,
                first_series=1 + 100 * dataset.channels.index(channel),
                height_cm=None if height is None else float(height),
                weight_kg=None if weight is None else float(weight),
            )
    return folder


def _named(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    """The same progress with its name filled in."""
    if progress is None:
        return None

    def call(done: int, total: int) -> None:
        progress(what, done, total)

    return call
