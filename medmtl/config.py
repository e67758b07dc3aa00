"""The config of an experiment: YAML, data only, strict; an unknown key is an error that names the nearest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medmtl.engine.job import Job
from medmtl.engine.settings import TrainingSettings
from medmtl.registry import nearest
from medmtl.types import ConfigError

DEFAULT_WIDTHS = (32, 64, 128, 256, 320)


class PreparationSettings(BaseModel):
    """Onto which grid cases are brought; what is left out, the data decides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacing_mm: tuple[float | None, float | None, float | None] | None = Field(
        default=None,
        description="target voxel size in mm, the stack's axis last; null in a place keeps the case's own",
    )
    patch: tuple[int, int, int] | None = Field(
        default=None, description="voxels that the network sees at once"
    )
    normalization: str = Field(default="zscore", pattern="^(zscore|none)$", description="zscore or none")


class ExperimentConfig(BaseModel):
    """One experiment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str | None = Field(
        default=None, description="dataset folder; a relative path starts where you are"
    )
    seed: int = Field(default=0, ge=0, description="of weights, batches and augmentation")
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    preparation: PreparationSettings = Field(default_factory=PreparationSettings)
    covariates: tuple[str, ...] = Field(
        default=(), description="value columns that case-level heads read as input"
    )
    backbone: dict[str, Any] = Field(
        default_factory=lambda: {"type": "unet", "widths": list(DEFAULT_WIDTHS)},
        description="`type` and arguments of the shared trunk",
    )
    tasks: dict[str, dict[str, Any]] = Field(
        min_length=1, description="by name: `type` and options of each task"
    )
    weighting: dict[str, Any] = Field(
        default_factory=lambda: {"type": "balanced"}, description="`type` and options of the task weighting"
    )
    training: TrainingSettings = Field(default_factory=TrainingSettings)


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read a config file and apply ``key=value`` overrides.

    Args:
        path: YAML file.
        overrides: such as ``training.epochs=5`` or ``weighting.type=uw``; values are read as YAML.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong; every problem is one line.
    """
    path = Path(path)
    try:
        found = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, found {type(found).__name__}")
    return parse_config(apply_overrides(found, overrides), where=str(path))


def apply_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of a config with ``key=value`` applied; a new ``type`` drops the old one's options.

    Raises:
        ConfigError: an override without ``=``, or one that goes below something that is no mapping.
    """
    result: dict[str, Any] = json.loads(json.dumps(config))
    for override in overrides:
        key, separator, text = override.partition("=")
        parts = key.split(".")
        if not separator or not all(parts):
            raise ConfigError(f"{override!r}: write overrides as key=value, such as training.epochs=5")
        node = result
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{override!r}: {part!r} is a value, nothing lies below it")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{override!r}: the value is not valid YAML") from error
        if parts[-1] == "type" and node.get("type") != value:
            node.clear()
        node[parts[-1]] = value
    return result


def parse_config(found: Mapping[str, Any], *, where: str = "config") -> ExperimentConfig:
    """Validate plain data as a config.

    Raises:
        ConfigError: one line per problem.
    """
    try:
        config = ExperimentConfig.model_validate(found)
    except ValidationError as error:
        raise ConfigError("\n".join(_line(where, problem) for problem in error.errors())) from error
    for section in ("backbone", "weighting"):
        if "type" not in getattr(config, section):
            raise ConfigError(f"{where}: {section}: needs `type`")
    return config


def _line(where: str, problem: Mapping[str, Any]) -> str:
    path = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        known = list(_fields(path[:-1]))
        return f"{where}: {'.'.join(path)}: unknown key{nearest(path[-1], known)}"
    if problem["type"] == "missing":
        return f"{where}: {'.'.join(path)}: is missing"
    return f"{where}: {'.'.join(path)}: {problem['msg'][0].lower()}{problem['msg'][1:]}, found {problem['input']!r}"


def _fields(path: Sequence[str]) -> Mapping[str, Any]:
    """Known keys at a place in the config."""
    model: Any = ExperimentConfig
    for part in path:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return {}
        model = annotation
    return dict(model.model_fields)


def job_of(config: ExperimentConfig, dataset: Any, output: Path, *, device: str | None = None) -> Job:
    """The training that a config asks for on an opened dataset."""
    used = config if device is None else config.model_copy(update={"device": device})
    resolved = used.model_dump(mode="json")
    resolved["dataset"] = str(dataset.root)
    return Job(
        dataset=dataset,
        output=Path(output),
        tasks=used.tasks,
        weighting=used.weighting,
        backbone=used.backbone,
        covariates=used.covariates,
        spacing_mm=used.preparation.spacing_mm,
        patch=used.preparation.patch,
        normalization=used.preparation.normalization,
        training=used.training,
        device=used.device,
        seed=used.seed,
        resolved=resolved,
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema of a config, for editors; task options are those of every registered kind."""
    from medmtl.tasks import TASKS
    from medmtl.weighting import WEIGHTINGS

    schema = ExperimentConfig.model_json_schema()
    kinds = []
    for name in TASKS:
        kind = TASKS.get(name).Options.model_json_schema()
        kind["properties"] = {"type": {"const": name}, **kind["properties"]}
        kind["required"] = ["type", *kind.get("required", [])]
        kinds.append(kind)
    own = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string", "pattern": ":"}}}
    schema["properties"]["tasks"]["additionalProperties"] = {"anyOf": [*kinds, own]}
    names = {"anyOf": [{"enum": list(WEIGHTINGS)}, {"type": "string", "pattern": ":"}]}
    schema["properties"]["weighting"] = {
        **schema["properties"]["weighting"],
        "required": ["type"],
        "properties": {"type": names},
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "medmtl experiment"
    return schema
