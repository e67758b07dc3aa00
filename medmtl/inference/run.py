"""Studies through one model in this process, into a PREDICTIONS folder that nobody will continue."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from medmtl.data.dataset import Case, Dataset
from medmtl.files import is_free
from medmtl.inference.feed import Feed
from medmtl.inference.find import find_items
from medmtl.inference.folder import write_outputs
from medmtl.inference.items import Item
from medmtl.inference.journal import FILE as JOURNAL
from medmtl.inference.journal import Journal
from medmtl.inference.loop import Progress, run_studies
from medmtl.inference.model import Model
from medmtl.inference.options import Options
from medmtl.inference.results import PredictionRun
from medmtl.inference.worker import Worker
from medmtl.inference.workers import Threads
from medmtl.types import OutputError


def predict_source(
    model: Model,
    source: Path | str,
    output: Path | None,
    *,
    tasks: Sequence[str] | None = None,
    split: str = "all",
    device: str = "auto",
    mirror: bool = False,
    progress: Progress | None = None,
) -> PredictionRun:
    """Find the studies of a source and predict them; see `predict_cases`."""
    items = list(find_items([source], model, split=split))
    folder = output if output is not None else Path(tempfile.mkdtemp(prefix="medmtl-"))
    options = Options(tuple(tasks or ()), device=device, mirror=mirror)
    return predict_items(model, items, folder, options, progress=progress)


def predict_cases(
    model: Model,
    cases: Sequence[Case],
    output: Path,
    *,
    dataset: Dataset | None = None,
    tasks: Sequence[str] | None = None,
    device: str = "auto",
    mirror: bool = False,
    progress: Progress | None = None,
) -> PredictionRun:
    """Predict cases in this process and write ``predictions.csv``, ``outputs.yaml`` and a folder per case.

    Args:
        model: the model.
        cases: what to predict; their labels are not looked at.
        output: folder for the results; new, empty, or of an earlier prediction of this kind.
        dataset: where the cases come from; its headers were checked, those of plain files are not.
        tasks: tasks wanted, all by default.
        device: ``auto``, ``cpu`` or ``cuda``.
        mirror: average dense tasks over in-plane mirror images.
        progress: called after every case.

    Raises:
        ConfigError: unknown task or device.
        OutputError: the output folder holds something else.
    """
    options = Options(tuple(tasks or ()), device=device, mirror=mirror, preview=False)
    items = [item_of_case(case, dataset) for case in cases]
    return predict_items(model, items, output, options, progress=progress)


def predict_items(
    model: Model,
    items: Sequence[Item],
    output: Path,
    options: Options,
    *,
    progress: Progress | None = None,
) -> PredictionRun:
    """Predict in this process; nothing is noted for a later call, and what stands in the folder is replaced.

    Raises:
        ConfigError: unknown task or device.
        OutputError: the output folder holds something else.
    """
    worker = Worker(model, options, output, run="")
    if (output / JOURNAL).exists() or not (is_free(output) or (output / "outputs.yaml").is_file()):
        raise OutputError(
            f"{output}: exists and holds something other than predictions; choose another folder"
        )
    output.mkdir(parents=True, exist_ok=True)
    (output / "predictions.csv").unlink(missing_ok=True)
    write_outputs(output, worker.outputs)
    with Journal(None, "", {}) as journal, Feed(list(items)) as feed, Threads(worker) as workers:
        return run_studies(journal, feed, workers, output, worker.outputs, progress=progress)


def item_of_case(case: Case, dataset: Dataset | None = None) -> Item:
    """A case of a dataset, or of plain files, as a unit of work."""
    origin = "nifti" if dataset is None else "dataset"
    values = {**case.values, "frame_ed": case.frame_ed, "frame_es": case.frame_es}
    paths = tuple(str(path.absolute()) for path in case.images)
    return Item(f"{origin}:{case.case_id}", case.case_id, "nifti", paths, values=values)
