"""What a run that was killed left behind: finished folders are taken over, halves are removed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from medmtl.inference.items import Item
from medmtl.inference.outcome import Outcome
from medmtl.inference.write import RECORD, SENT


def adopted(output: Path, item: Item, run: str, *, sent: bool = False) -> Outcome | None:
    """The outcome of a study whose folder is finished, made by this run from the same files; else None.

    Args:
        output: the PREDICTIONS folder.
        item: the study.
        run: id of the run; empty where nothing is to be taken over.
        sent: its results must have been sent as well.
    """
    if not run or (sent and not (output / item.case_id / SENT).exists()):
        return None
    try:
        record = json.loads((output / item.case_id / RECORD).read_text(encoding="utf-8"))
        work = record["work"]
        if (work["run"], work["key"], work["fingerprint"]) != (run, item.key, item.fingerprint):
            return None
        return Outcome(item.key, "ok", work["row"], item.fingerprint, record["stages"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sweep(output: Path) -> None:
    """Remove what was half written when a run was killed."""
    for ending in (".part", ".old"):
        for path in output.glob(f".*{ending}"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
