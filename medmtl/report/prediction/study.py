"""What the page of one study shows, read from its folder."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from medmtl.evaluation.tasks import MASK_KINDS
from medmtl.inference.preview import PREVIEW, Preview, read_preview
from medmtl.report.blocks import Cell, Table
from medmtl.report.canvas import SERIES
from medmtl.report.numbers import as_float
from medmtl.report.prediction.curve import Curves, draw_curves
from medmtl.report.prediction.values import Spread, class_tables, values_table
from medmtl.report.read import read_mapping
from medmtl.report.remedies import REMEDIES

if TYPE_CHECKING:
    from medmtl.evaluation import PredictedTask

BRIGHT = ("#56b4e9", "#ff8c42", "#00d39b", "#f0a6d2", "#ffd24d", "#b8e2ff")
"""The report's series colours as they show on a grey image."""


@dataclass(frozen=True)
class StudyPage:
    """What the template draws.

    Attributes:
        title: name of the study.
        facts: name and value.
        flags, notices: what is to be looked at.
        notes: sentences about how it was computed, and which series were left.
        viewer: what the script needs, as JSON; "" where there are no pictures.
        image, masks: data of the sheets in base64.
        structures: name, voxel value, task and colours of everything that is outlined.
        n_slices, n_frames: shown.
        curve: volume over time.
        tables: classes and values.
        missing: why there are no pictures.
    """

    title: str
    facts: Mapping[str, str]
    flags: Table | None
    notices: Table | None
    notes: Sequence[str]
    viewer: Markup
    image: str
    masks: Mapping[str, str]
    structures: Sequence[Mapping[str, Any]]
    n_slices: int
    n_frames: int
    curve: Markup | None
    tables: Sequence[Table]
    missing: str = ""


def read_study(
    folder: Path,
    row: Mapping[str, Any],
    tasks: Mapping[str, PredictedTask],
    spreads: Mapping[str, Spread],
    *,
    is_mr: bool = True,
) -> StudyPage:
    """Read one study.

    Args:
        folder: ``OUT/<case_id>``.
        row: of predictions.csv.
        tasks: what the outputs mean.
        spreads: how each column is spread over the cohort.
        is_mr: healthy adults' values are known for MRI only.

    Raises:
        OutputError: a file is damaged.
    """
    record = read_mapping(folder / "prediction.json") or {}
    preview = read_preview(folder / PREVIEW) if (folder / PREVIEW).is_file() else None
    structures = _structures(preview, tasks)
    curve = None if preview is None else _curve(preview, structures, record)
    about = {} if preview is None else preview.about
    return StudyPage(
        title=str(row["case_id"]),
        facts=_facts(record, row, about),
        flags=_notices("Quality flags", record.get("flags")),
        notices=_notices("Findings while reading", record.get("findings")),
        notes=[str(note) for name in ("notes", "left") for note in _list(record.get(name))],
        viewer=_script(about, structures),
        image="" if preview is None else _base64(preview.image),
        masks={} if preview is None else {name: _base64(png) for name, png in preview.masks.items()},
        structures=structures,
        n_slices=len(about.get("slices", ())),
        n_frames=len(about.get("frames", ())),
        curve=curve,
        tables=[*class_tables(row, tasks), *values_table(row, tasks, spreads, is_mr=is_mr)],
        missing="" if preview is not None else "No pictures of this study were kept.",
    )


def _facts(record: Mapping[str, Any], row: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, str]:
    facts = {"Status": str(row.get("status") or "ok")}
    if about:
        facts["Slices"], facts["Frames"] = str(about["n_slices"]), str(about["n_frames"])
    for name, key in (("ED frame", "frame_ed"), ("ES frame", "frame_es")):
        if isinstance(record.get(key), int):
            facts[name] = str(record[key] + 1)
    measured = record.get("measured")
    rate = as_float(measured.get("heart_rate_bpm") if isinstance(measured, Mapping) else None)
    if rate == rate:
        facts["Heart rate"] = f"{rate:.0f} /min"
    seconds = as_float(row.get("seconds"))
    if seconds == seconds:
        facts["Took"] = f"{seconds:.1f} s"
    return facts


def _structures(preview: Preview | None, tasks: Mapping[str, PredictedTask]) -> list[Mapping[str, Any]]:
    if preview is None:
        return []
    found: list[Mapping[str, Any]] = []
    for name in preview.masks:
        task = tasks.get(name)
        if task is not None and task.kind in MASK_KINDS:
            for structure, code in task.labels.items():
                place = len(found) % len(BRIGHT)
                colors = {"color": BRIGHT[place], "line": SERIES[place]}
                found.append({"name": structure, "task": name, "code": int(code), **colors})
    return found


def _curve(
    preview: Preview, structures: Sequence[Mapping[str, Any]], record: Mapping[str, Any]
) -> Markup | None:
    about = preview.about
    if about["n_frames"] < 2 or not structures:
        return None
    first = structures[0]["task"]
    known = about["curves"].get(first, {})
    empty = [0.0] * about["n_frames"]
    mine = [entry for entry in structures if entry["task"] == first]
    times, unit = about["time_ms"], "time [ms]"
    if not times or any(b <= a for a, b in pairwise(times)):
        times, unit = list(range(1, about["n_frames"] + 1)), "frame"
    marks = {
        name: record[key]
        for name, key in (("ED", "frame_ed"), ("ES", "frame_es"))
        if isinstance(record.get(key), int) and record[key] < about["n_frames"]
    }
    volumes = {entry["name"]: known.get(str(entry["code"]), empty) for entry in mine}
    colors = {entry["name"]: entry["line"] for entry in mine}
    return draw_curves(Curves(times, unit, volumes, colors, marks))


def _notices(title: str, entries: Any) -> Table | None:
    rows = []
    for entry in _list(entries):
        if isinstance(entry, Mapping):
            code = str(entry.get("code", ""))
            remedy = REMEDIES.get(code)
            message = str(entry.get("message", ""))
            cells = [Cell(code, header=True), Cell(str(entry.get("severity", ""))), Cell(message)]
            rows.append([*cells, Cell(remedy.do if remedy is not None else "")])
    if not rows:
        return None
    heads = ["code", "is", "says", "what to do"]
    if not any(row[-1].text for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return Table(title, heads, rows, words=True)


def _script(about: Mapping[str, Any], structures: Sequence[Mapping[str, Any]]) -> Markup:
    """JSON that cannot end the element that it stands in."""
    if not about:
        return Markup("")
    kept = {name: value for name, value in about.items() if name != "curves"}
    text = json.dumps({**kept, "structures": list(structures)}, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
