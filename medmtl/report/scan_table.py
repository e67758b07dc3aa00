"""What a scan found, as tables for people: series and volumes, then each finding with what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from medmtl.report.inspection import all_findings, findings_of, plain
from medmtl.report.remedies import REMEDIES
from medmtl.types import Finding

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from medmtl.data.dicom.model import Scan, Series, VolumePlan

COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
SIGNS = {"error": "✗", "warning": "!", "info": "·"}
_SHOWN = 3
_TOLD_ELSEWHERE = ("orientation", "grid", "JoinedSeries")


def tables(scan: Scan) -> list[RenderableType]:
    """A table of series and volumes, then every code that was found with what to do about it."""
    from rich.text import Text

    parts: list[RenderableType] = []
    if scan.series:
        parts.append(_overview(scan.series))
    found = list(all_findings(scan))
    if found:
        parts += [Text(), *_advice(found)]
    volumes = sum(len(series.volumes) for series in scan.series)
    without = sum(1 for series in scan.series if not series.volumes)
    told = f"{_count(len(scan.series), 'series', 'series')}, {_count(volumes, 'volume')}"
    parts.append(Text(f"\n{told}" + (f", {without} series without one" if without else ""), style="bold"))
    return parts


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _overview(series: Sequence[Series]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("#", "series", "files", "volume", "voxels", "mm", "time", "findings"):
        table.add_column(title, justify="right" if title in ("#", "files") else "left", overflow="fold")
    study = ""
    for number, entry in enumerate(series, start=1):
        if study and entry.study_uid != study:
            table.add_section()
        study = entry.study_uid
        for line in _lines(number, entry):
            table.add_row(*line)
    return table


def _lines(number: int, series: Series) -> Iterator[tuple[Text | str, ...]]:
    """One line per volume, or one that says there is none."""
    from rich.text import Text

    files = str(series.instances)
    if series.usable != series.instances:
        files = f"{series.usable} of {series.instances}"
    head = (str(number), Text(f"{series.modality} {series.description}".strip()), files)
    codes = _codes(findings_of(series))
    if not series.volumes:
        none = "part of another" if series.usable else "none"
        yield (*head, Text(none, style="dim"), "", "", "", codes)
    for place, plan in enumerate(series.volumes):
        own = (*head, codes) if place == 0 else ("", "", "", Text())
        told = Text(plan.name)
        for name, value in plan.attributes.items():
            if name not in _TOLD_ELSEWHERE:
                told.append(f"\n{name} {plain(value)}", style="dim")
        voxels = "×".join(map(str, plan.shape))
        sizes = "×".join(f"{size:.4g}" for size in plan.spacing_mm)
        yield (*own[:3], told, voxels, sizes, _time(plan), own[3])


def _time(plan: VolumePlan) -> Text:
    from rich.text import Text

    if plan.time is None:
        return Text()
    step = plan.time.step_ms
    known = step is not None and math.isfinite(step)
    told = Text(f"{step:.4g} ms a frame" if known else "order only")
    source = plan.time.how.split(" ")[0].rpartition(".")[2]
    told.append(f"\n{source}, {plan.time.sure}", style="dim")
    if plan.frame_ed is not None and plan.frame_es is not None:
        told.append(f"\nED {plan.frame_ed}, ES {plan.frame_es}", style="dim")
    return told


def _codes(findings: Sequence[Finding]) -> Text:
    """The codes, worst first, each once and in its colour."""
    from rich.text import Text

    worst = {f.code: f.severity for f in sorted(findings, key=_rank, reverse=True)}
    text = Text()
    for code in sorted(worst, key=lambda code: list(COLOURS).index(worst[code])):
        text.append("\n" if text else "")
        text.append(f"{SIGNS[worst[code]]} {code}", style=COLOURS[worst[code]])
    return text


def _rank(finding: Finding) -> int:
    return list(COLOURS).index(finding.severity)


def _advice(found: Sequence[tuple[str, Finding]]) -> Iterator[RenderableType]:
    """Each code with its remedy, worst first, and the first few messages."""
    from rich.padding import Padding
    from rich.text import Text

    by_code: dict[tuple[int, str], list[tuple[str, Finding]]] = {}
    for number, finding in found:
        by_code.setdefault((_rank(finding), finding.code), []).append((number, finding))
    for (_, code), cases in sorted(by_code.items()):
        severity = cases[0][1].severity
        head = Text(f"{SIGNS[severity]} {code}", style=f"bold {COLOURS[severity]}")
        remedy = REMEDIES.get(code)
        if remedy is not None:
            calm = severity == "info" and not remedy.do.startswith(("Nothing", "Read"))
            head.append(f"  {'Nothing needs to be done.' if calm else remedy.do}", style="not bold default")
        yield head
        for number, finding in cases[:_SHOWN]:
            where = ": ".join(part for part in (f"series {number}" if number else "", finding.where) if part)
            told = f"{where}: {finding.message}" if where else finding.message
            yield Padding(Text(told, style="dim"), (0, 0, 0, 4), expand=False)
        if len(cases) > _SHOWN:
            more = f"and {len(cases) - _SHOWN} more; --json lists all"
            yield Padding(Text(more, style="dim"), (0, 0, 0, 4), expand=False)
