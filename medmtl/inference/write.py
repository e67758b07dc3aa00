"""One study's results on disk: whole or not at all."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.data.nifti import Volume, write_volume
from medmtl.files import replaced_folder
from medmtl.inference.items import Item
from medmtl.inference.measure import Measured
from medmtl.inference.preview import write_preview
from medmtl.inference.read import Subject
from medmtl.tasks import CaseResult

if TYPE_CHECKING:
    from medmtl.inference.worker import Worker

OBJECTS = {"seg", "labelmap", "sr"}
"""What needs a DICOM source."""
RECORD = "prediction.json"
SENT = ".sent"
"""File in a study's folder whose DICOM results a PACS has."""


@dataclass(frozen=True)
class Written:
    """What there is to write of a study.

    Attributes:
        item: the study.
        subject: its image and where it came from.
        result: dense tasks on the source grid, values of all tasks.
        row: of ``predictions.csv``.
        measured: what follows from the masks, flags, and the frames of ED and ES.
        notes: sentences about how it was computed.
    """

    item: Item
    subject: Subject
    result: CaseResult
    row: Mapping[str, Any]
    measured: Measured
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> tuple[int | None, int | None]:
        """0-based ED and ES frames that volumes and EF were measured at."""
        return self.measured.frame_ed, self.measured.frame_es


def write_study(worker: Worker, written: Written, stages: Mapping[str, float]) -> Path:
    """Write ``OUT/<case_id>/``: a file per dense task and format, and ``prediction.json``.

    The record is written last and holds the row and what it was made from: a run that was killed before it
    noted the study finds it there.

    Returns:
        the study's folder.
    """
    final = worker.output / written.item.case_id
    with replaced_folder(final, tag=f".{os.getpid()}-{threading.get_ident()}") as folder:
        if "nifti" in worker.options.write:
            _write_nifti(folder, written, worker.outputs)
        if written.subject.plans and OBJECTS & set(worker.options.write):
            from medmtl.inference.objects import write_objects

            write_objects(folder, worker, written)
        if worker.options.preview:
            write_preview(folder, written.subject, written.result, frames=written.frames)
        record = _record(worker, written, stages, sorted(p.name for p in folder.iterdir()))
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return final


def _write_nifti(folder: Path, written: Written, outputs: Mapping[str, Mapping[str, Any]]) -> None:
    case = written.subject.case
    for task, volume in written.result.dense.items():
        array = np.ascontiguousarray(np.moveaxis(volume, 0, -1) if case.is_4d else volume[0])
        write_volume(folder / outputs[task]["file"], Volume(array, case.source, case.time_step_ms))


def _record(
    worker: Worker, written: Written, stages: Mapping[str, float], files: list[str]
) -> dict[str, Any]:
    item, subject = written.item, written.subject
    return {
        "case_id": item.case_id,
        "study_uid": item.study_uid,
        "series_uid": item.series_uid,
        "frames": subject.case.n_frames,
        "frame_ed": written.measured.frame_ed,
        "frame_es": written.measured.frame_es,
        "tasks": written.result.values,
        "findings": [asdict(finding) for finding in subject.findings],
        "flags": [asdict(flag) for flag in written.measured.flags],
        "measured": written.measured.record,
        "notes": list(written.notes),
        "left": list(item.left),
        "files": files,
        "stages": {name: round(seconds, 4) for name, seconds in stages.items()},
        "work": {
            "run": worker.run,
            "key": item.key,
            "fingerprint": item.fingerprint,
            "row": dict(written.row),
        },
    }
