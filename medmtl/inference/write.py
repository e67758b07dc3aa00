"""One case's results on disk: whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medmtl.data.nifti import Volume, write_volume
from medmtl.data.prepare import PreparedCase
from medmtl.files import replaced_folder
from medmtl.tasks import CaseResult


def write_case(
    output: Path,
    case: PreparedCase,
    result: CaseResult,
    outputs: Mapping[str, Mapping[str, Any]],
    phases: tuple[int | None, int | None],
) -> Path:
    """Write ``OUT/<case_id>/`` with a NIfTI file per dense task and ``prediction.json``.

    Args:
        output: the PREDICTIONS folder.
        case: names the case and the grid that the files lie on.
        result: dense tasks on the source grid, values of all tasks.
        outputs: file name of each dense task.
        phases: 0-based ED and ES frames that volumes and EF were measured at.

    Returns:
        the case's folder.
    """
    frame_ed, frame_es = phases
    record = {
        "case_id": case.case_id,
        "frames": case.n_frames,
        "frame_ed": frame_ed,
        "frame_es": frame_es,
        "tasks": result.values,
    }
    final = output / case.case_id
    with replaced_folder(final) as folder:
        for task, volume in result.dense.items():
            array = np.ascontiguousarray(np.moveaxis(volume, 0, -1) if case.is_4d else volume[0])
            write_volume(folder / outputs[task]["file"], Volume(array, case.source, case.time_step_ms))
        (folder / "prediction.json").write_text(json.dumps(record, indent=2) + "\n")
    return final
