"""What a scan found, as tables for people: series and volumes, then each finding with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from medmtl.report.inspection import all_findings, is_alone
from medmtl.report.numbers import plural
from medmtl.report.remedies import REMEDIES

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
SIGNS = {"error": "✗", "warning": "!", "info": "·"}
_SHOWN = 3
_TOLD_ELSEWHERE = ("orientation", "grid", "JoinedSeries")


def tables(document: Mapping[str, Any]) -> list[RenderableType]:
    """A table of series and volumes, then every code that was found with what to do about it.

    Args:
        document: as ``medmtl.report.inspection.look`` makes it.
    """
    from rich.text import Text

    parts: list[RenderableType] = []
    series = [entry for entry in document["series"] if not is_alone(entry)]
    if series:
        parts.append(_overview(series))
    found = list(all_findings(document))
    if found:
        parts += [Text(), *_advice(found)]
    volumes = sum(len(entry["volumes"]) for entry in series)
    without = sum(not entry["usable"] for entry in series)
    told = f"{plural(len(series), 'series', 'series')}, {plural(volumes, 'volume')}"
    parts.append(Text(f"\n{told}" + (f", {without} series without one" if without else ""), style="bold"))
    return parts


def _overview(series: Sequence[Mapping[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("#", "series", "files", "volume", "voxels", "mm", "time", "findings"):
        table.add_column(title, justify="right" if title in ("#", "files") else "left", overflow="fold")
    study = ""
    for number, entry in enumerate(series, start=1):
        if study and entry["study_uid"] != study:
            table.add_section()
        study = entry["study_uid"]
        for line in _lines(number, entry):
            table.add_row(*line)
    return table


def _lines(number: int, series: Mapping[str, Any]) -> Iterator[tuple[Text | str, ...]]:
    """One line per volume, or one that says there is none."""
    from rich.text import Text

    files = str(series["instances"])
    if series["usable"] != series["instances"]:
        files = f"{series['usable']} of {series['instances']}"
    head = (str(number), Text(f"{series['modality']} {series['description']}".strip()), files)
    codes = _codes(series["findings"])
    if not series["volumes"]:
        none = "part of another" if series["usable"] else "none"
        yield (*head, Text(none, style="dim"), "", "", "", codes)
    for place, volume in enumerate(series["volumes"]):
        own = (*head, codes) if place == 0 else ("", "", "", Text())
        told = Text(volume["name"])
        for name, value in volume["attributes"].items():
            if name not in _TOLD_ELSEWHERE:
                told.append(f"\n{name} {value}", style="dim")
        voxels = "×".join(map(str, volume["shape"]))
        sizes = "×".join(f"{size:.4g}" for size in volume["spacing_mm"])
        yield (*own[:3], told, voxels, sizes, _time(volume), own[3])


def _time(volume: Mapping[str, Any]) -> Text:
    from rich.text import Text

    if "time_from" not in volume:
        return Text()
    times = [time for time in volume["time_ms"] if time is not None]
    known = len(times) == volume["frames"] > 1
    steps = [later - time for time, later in pairwise(times)]
    told = Text(f"{median(steps):.4g} ms a frame" if known else "order only")
    source = volume["time_from"].split(" ")[0].rpartition(".")[2]
    told.append(f"\n{source}, {volume['time_sure']}", style="dim")
    ed, es = volume.get("frame_ed"), volume.get("frame_es")
    if ed is not None and es is not None:
        told.append(f"\nED {ed}, ES {es}", style="dim")
    return told


def _codes(findings: Sequence[Mapping[str, str]]) -> Text:
    """The codes, worst first, each once and in its colour."""
    from rich.text import Text

    worst = {f["code"]: f["severity"] for f in sorted(findings, key=_rank, reverse=True)}
    text = Text()
    for code in sorted(worst, key=lambda code: list(COLOURS).index(worst[code])):
        text.append("\n" if text else "")
        text.append(f"{SIGNS[worst[code]]} {code}", style=COLOURS[worst[code]])
    return text


def _rank(finding: Mapping[str, str]) -> int:
    return list(COLOURS).index(finding["severity"])


def _advice(found: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[RenderableType]:
    """Each code with its remedy, worst first, and the first few messages."""
    from rich.padding import Padding
    from rich.text import Text

    by_code: dict[tuple[int, str], list[tuple[str, Mapping[str, str]]]] = {}
    for number, finding in found:
        by_code.setdefault((_rank(finding), finding["code"]), []).append((number, finding))
    for (_, code), cases in sorted(by_code.items()):
        severity = cases[0][1]["severity"]
        head = Text(f"{SIGNS[severity]} {code}", style=f"bold {COLOURS[severity]}")
        remedy = REMEDIES.get(code)
        if remedy is not None:
            calm = severity == "info" and not remedy.do.startswith(("Nothing", "Read"))
            head.append(f"  {'Nothing needs to be done.' if calm else remedy.do}", style="not bold default")
        yield head
        for number, finding in cases[:_SHOWN]:
            where = ": ".join(
                part for part in (f"series {number}" if number else "", finding["where"]) if part
            )
            told = f"{where}: {finding['message']}" if where else finding["message"]
            yield Padding(Text(told, style="dim"), (0, 0, 0, 4), expand=False)
        if len(cases) > _SHOWN:
            more = f"and {len(cases) - _SHOWN} more; --json lists all"
            yield Padding(Text(more, style="dim"), (0, 0, 0, 4), expand=False)
