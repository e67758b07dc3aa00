"""The verbs that use a model: predict studies, and evaluate on a dataset's labels."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from medmtl.data.dataset import Dataset, open_dataset
from medmtl.evaluation import Evaluation, evaluate_predictions
from medmtl.files import is_free
from medmtl.inference import Model, PredictionRun, load_model, predict_cases, predict_studies
from medmtl.inference.options import USUAL, Options, read_key
from medmtl.report import build_report
from medmtl.types import ConfigError, OutputError
from medmtl.verbs.shared import Progress, named, opened_dataset


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
        progress=named(progress, "predict"),
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
    opened = opened_dataset(dataset)
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
            progress=named(progress, "predict"),
        )
        run = (
            loaded.folder.parent
            if loaded.folder and (loaded.folder.parent / "weights.csv").is_file()
            else None
        )
    found = evaluate_predictions(
        predictions, opened, folder, split=split, run=run, seed=seed, progress=named(progress, "evaluate")
    )
    build_report(folder, dataset=opened)
    return found


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
