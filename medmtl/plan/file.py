"""`plan.yaml`: written for a person to read and edit, read again strictly."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from medmtl._version import __version__
from medmtl.data.normalize import parse_normalization
from medmtl.plan.describe import describe
from medmtl.plan.fingerprint import Fingerprint
from medmtl.plan.plan import Plan
from medmtl.strict import load_yaml, parse_options, yaml_problem
from medmtl.types import ConfigError

FORMAT = 1
WIDTH = 110
GIVEN = "As asked for."
NO_OVERVIEW = "Nothing looks at whole volumes apart from patches."


class PlanFile(BaseModel):
    """What a `plan.yaml` may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    medmtl_plan: int
    channels: tuple[str, ...] = Field(min_length=1)
    spacing_mm: tuple[float | None, float | None, float | None]
    patch: tuple[int, int, int]
    overview: Literal["none"] | tuple[PositiveInt, PositiveInt, PositiveInt] = "none"
    normalization: Any
    backbone: dict[str, Any]
    batch_size: int = Field(ge=1)


def plan_text(plan: Plan, found: Fingerprint, dataset: str) -> str:
    """The file: what was found as comments, then every choice below the reason for it.

    Args:
        plan: what was decided.
        found: what it was decided on.
        dataset: its name.
    """
    cases = f"{len(found.case_ids)} cases (all outside the test split)"
    facts = [
        f"medmtl plan of {dataset}: {cases}, medmtl {__version__}",
        "Edit what you like, then: medmtl train CONFIG plan=plan.yaml dataset=DATASET -o RUN",
        "",
        *describe(found, plan),
    ]
    return _text(facts, found.channels, plan)


def plan_text_of_network(plan: Plan, channels: Sequence[str], source: str) -> str:
    """The plan of a network that was trained elsewhere, so that further tasks can be trained on it.

    Args:
        plan: how its images are prepared, and its backbone.
        channels: of its images.
        source: where it comes from.
    """
    call = "medmtl train CONFIG plan=MODEL/plan.yaml training.start_from=MODEL dataset=DATASET -o RUN"
    facts = [f"The plan of {source}, medmtl {__version__}", f"Further tasks are trained on it by: {call}"]
    return _text(facts, channels, plan)


def _text(facts: Sequence[str], channels: Sequence[str], plan: Plan) -> str:
    values = {"medmtl_plan": FORMAT, "channels": list(channels), **plan.as_dict()}
    lines = [_comment(fact) for fact in facts]
    for key, value in values.items():
        known = NO_OVERVIEW if key == "overview" and value == "none" else GIVEN
        why = plan.reasons.get(key, [] if key in ("medmtl_plan", "channels") else [known])
        lines += ["", *(_comment(sentence) for sentence in why)] if why or key == "medmtl_plan" else []
        lines.append(_entry(key, value))
    return "\n".join(lines) + "\n"


def read_plan(path: Path | str) -> PlanFile:
    """Read a plan.

    Raises:
        ConfigError: the file cannot be read, is no plan or of another version, or a key or value is wrong;
        every
            problem is one line.
    """
    path = Path(path)
    try:
        found = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such plan; make one with `medmtl plan DATASET -o {path}`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {yaml_problem(error)}") from error
    if not isinstance(found, dict) or "medmtl_plan" not in found:
        raise ConfigError(f"{path}: is no plan of medmtl (its first key is `medmtl_plan: {FORMAT}`)")
    if found["medmtl_plan"] != FORMAT:
        raise ConfigError(
            f"{path}: is a plan of version {found['medmtl_plan']!r}, this medmtl reads version {FORMAT}; "
            "make it anew with `medmtl plan`"
        )
    read = parse_options(PlanFile, found, f"{path}: ")
    parse_normalization(read.normalization, where=f"{path}: normalization")
    for name, values in (("spacing_mm", read.spacing_mm), ("patch", read.patch)):
        for value in values:
            if value is not None and value <= 0:
                raise ConfigError(f"{path}: {name}: must be above 0, found {value:g}")
    return read


def _comment(sentence: str) -> str:
    if not sentence:
        return "#"
    indent = "#   " if sentence.startswith("  ") else "# "
    return textwrap.fill(
        sentence.strip(),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + ("  " if len(indent) > 2 else ""),
    )


def _entry(key: str, value: Any) -> str:
    """One key in block style, its lists of numbers on one line each."""
    if isinstance(value, dict):
        return "\n".join([f"{key}:", *(f"  {_entry(name, entry)}" for name, entry in value.items())])
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"{key}: {text.removesuffix('...').strip()}"


def same_channels(plan: PlanFile, channels: Sequence[str], path: Path | str) -> None:
    """Refuse a plan that was made for other channels.

    Raises:
        ConfigError: so.
    """
    if len(plan.channels) != len(channels):
        raise ConfigError(
            f"{path}: was made for {len(plan.channels)} channels ({', '.join(plan.channels)}), the dataset "
            f"has {len(channels)} ({', '.join(channels)}); make a plan of this dataset with `medmtl plan`"
        )
