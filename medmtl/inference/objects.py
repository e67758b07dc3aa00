"""One study's results as DICOM objects: which segments, which numbers, under which codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl._version import __version__
from medmtl.inference.dicom import (
    Algorithm,
    Codes,
    Evaluation,
    Measurement,
    Segment,
    write_seg,
    write_sr,
)
from medmtl.inference.dicom.codes import Kind
from medmtl.inference.model import Model

if TYPE_CHECKING:
    from medmtl.inference.worker import Worker
    from medmtl.inference.write import Written

FIRST = "segmentation.nii.gz"
REPORT = "measurements.dcm"
PHASE_OF = {"EDV": "ED", "ESV": "ES", "mass": "ED"}
"""Frame that a value without a column of its own is measured at."""


def write_objects(folder: Path, worker: Worker, written: Written) -> None:
    """Write a SEG per task with structures and an SR of all numbers, where they are asked for.

    The first segmentation is ``segmentation.dcm``, which the report refers to.

    Raises:
        CaseError: an object does not say the same when it is read again.
    """
    wanted, model = worker.options.write, worker.model
    codes = Codes.from_plain(model.codes)
    algorithm = Algorithm(str(model.metadata.get("name") or "medmtl"), __version__, worker.digest)
    hides = worker.names if worker.options.key is not None else None
    seg: Path | None = None
    segments: tuple[Segment, ...] = ()
    first = next((name for name, entry in worker.outputs.items() if entry.get("file") == FIRST), None)
    for name, labels in written.result.dense.items():
        task = model.tasks[name]
        if not task.structures or not {"seg", "labelmap"} & set(wanted):
            continue
        inside = str(getattr(task, "structure", ""))  # of a tissue task: what it lies in
        found = codes.segments(task.columns[task.targets[0]].labels, inside=inside)
        path = folder / str(worker.outputs[name]["file"]).replace(".nii.gz", ".dcm")
        kind: Kind = "labelmap" if "labelmap" in wanted else "binary"
        write_seg(path, written.subject, labels, found, algorithm=algorithm, kind=kind, hides=hides)
        if name == first:
            seg, segments = path, found
    if "sr" in wanted:
        write_sr(
            folder / REPORT,
            written.subject,
            list(_measurements(model, codes, written, first)),
            list(_evaluations(codes, written)),
            algorithm=algorithm,
            seg=seg,
            segments=segments,
            hides=hides,
        )


def _measurements(
    model: Model, codes: Codes, written: Written, segmented: str | None
) -> Iterator[Measurement]:
    frames = dict(zip(("ED", "ES"), written.frames, strict=True))
    modality = written.subject.plans[0].modality if written.subject.plans else ""
    for name, values in written.result.values.items():
        task = model.tasks[name]
        labels = task.columns[task.targets[0]].labels if task.structures else {}
        for header, value in values.items():
            if isinstance(value, str) or header.startswith("probability."):
                continue
            quantity, _, unit = header.removesuffix("]").partition(" [")
            column = model.columns.get(quantity)
            derived = column.derived if column is not None else None
            structure = derived.structure if derived is not None else quantity.rpartition("_")[0]
            phase = derived.frame if derived is not None else PHASE_OF.get(quantity.rpartition("_")[2])
            yield codes.measurement(
                quantity,
                float(value),
                unit,
                modality=modality,
                frame=frames.get(phase) if phase else None,
                segment=labels.get(structure) if name == segmented else None,
                group=name,
                from_masks=bool(task.structures),
            )


def _evaluations(codes: Codes, written: Written) -> Iterator[Evaluation]:
    for name, values in written.result.values.items():
        if "class" in values:
            yield codes.evaluation(name, str(values["class"]), _probabilities(values))


def _probabilities(values: dict[str, Any]) -> dict[str, float]:
    start = "probability."
    return {key.removeprefix(start): float(v) for key, v in values.items() if key.startswith(start)}
