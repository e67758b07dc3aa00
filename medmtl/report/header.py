"""The top of the report: what it is about, when and with what it was made, and which cases are not in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medmtl.report.blocks import Table
from medmtl.report.cases import refused_cases
from medmtl.report.material import Material
from medmtl.report.numbers import plural
from medmtl.report.ranking import Ranking
from medmtl.report.read import read_mapping

_TITLES = {"evaluation": "Evaluation", "predictions": "Predictions", "training": "Training run"}
_WORDS = {"error": "incomplete"}
_FILES = {"evaluation": "metrics.json", "predictions": "predictions.csv", "training": "metrics.csv"}


@dataclass(frozen=True)
class Header:
    """Title, facts as name and value, environment as name and value, and the cases left out."""

    title: str
    facts: Mapping[str, str]
    environment: Mapping[str, str]
    refused: Table | None


def build_header(material: Material, ranking: Ranking | None) -> Header:
    """What the reader needs to know before any number; without a ranking, the page counts cases itself."""
    rows = refused_cases(material) if ranking is not None else []
    statuses = [status for _, status in dict.fromkeys((row[0].text, row[1].text) for row in rows)]
    name = material.folder.resolve().name
    facts = {"Folder": name}
    if material.dataset is not None:
        facts["Dataset"] = f"{material.dataset.name} ({material.dataset.modality})"
    elif material.evaluation.get("dataset"):
        facts["Dataset"] = f"{Path(str(material.evaluation['dataset'])).name} (not found)"
    if material.evaluation.get("split"):
        facts["Split"] = str(material.evaluation["split"])
    if material.kind != "training" and ranking is not None:
        left_out = [f"{statuses.count(word)} {_WORDS.get(word, word)}" for word in dict.fromkeys(statuses)]
        facts["Cases"] = ", ".join([plural(len(ranking.order), "case"), *left_out])
    if material.run is not None:
        facts["Training run"] = material.run.resolve().name
    if material.evaluation.get("seed") is not None:
        facts["Seed"] = str(material.evaluation["seed"])
    if (made := _made(material)) is not None:
        facts["Results from"] = made
    facts["Report drawn"] = _moment(datetime.now(UTC))
    table = Table("Left out, or scored in part", ["case", "status", "code", "why"], rows) if rows else None
    title = f"{_TITLES[material.kind]}: {name}"
    if material.kind == "evaluation" and material.dataset is not None:
        title = f"Evaluation on {material.dataset.name}"
    return Header(title, facts, _environment(material), table)


def _made(material: Material) -> str | None:
    names = (_FILES[material.kind], "evaluation.yaml", "weights.csv")
    file = next((material.folder / name for name in names if (material.folder / name).is_file()), None)
    return None if file is None else _moment(datetime.fromtimestamp(file.stat().st_mtime, UTC))


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")


def _environment(material: Material) -> Mapping[str, str]:
    return environment_of([material.folder, *([material.run] if material.run is not None else [])])


def environment_of(places: Sequence[Path]) -> Mapping[str, str]:
    """The first environment.json among folders, as flat names and values."""
    for place in places:
        if content := read_mapping(place / "environment.json"):
            return dict(_flat(content))
    return {}


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            pairs.extend(_flat(value, f"{prefix}{name} "))
        elif isinstance(value, list):
            pairs.append((f"{prefix}{name}", ", ".join(str(item) for item in value)))
        else:
            pairs.append((f"{prefix}{name}", "unknown" if value is None else str(value)))
    return pairs
