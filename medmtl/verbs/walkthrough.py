"""The verb that goes the whole way on phantoms, and what it made."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from medmtl.config import ExperimentConfig, parse_config
from medmtl.data.dataset import Dataset, open_dataset
from medmtl.data.ingest import ingest
from medmtl.engine import Run
from medmtl.evaluation import Evaluation
from medmtl.files import is_free
from medmtl.inference import PredictionRun
from medmtl.types import OutputError
from medmtl.verbs.prediction import evaluate, predict
from medmtl.verbs.shared import Progress, named
from medmtl.verbs.training import train


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
        folder / "phantoms", cases=cases, seed=seed, progress=named(progress, "phantoms")
    )
    ingest(source, folder / "dataset", progress=named(progress, "ingest"))
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
