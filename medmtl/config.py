"""The config of an experiment: YAML, data only, strict; an unknown key is an error that names the nearest."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from medmtl.data.normalize import TYPES, parse_normalization
from medmtl.engine.freeze import check_freeze
from medmtl.engine.job import Job
from medmtl.engine.planning import as_config, with_plan
from medmtl.engine.settings import TrainingSettings
from medmtl.models import BACKBONES
from medmtl.strict import load_yaml, options_model, parse_options, yaml_problem
from medmtl.tasks import (
    TASK_NAME,
    TASKS,
    backbone_options,
    parse_backbone,
    parse_sharing,
    parse_task,
    refuse_comparison,
    shares_weights,
)
from medmtl.types import ConfigError
from medmtl.weighting import WEIGHTINGS, CommonOptions, GradientWeighting, Weighting, build_weighting

SCHEMA_TITLE = "medmtl config"

Millimetres = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Voxels = Annotated[int, Field(ge=1)]


_NORMALIZATION = {
    "anyOf": [
        {"enum": ["auto", *TYPES]},
        {"type": "array", "items": {"anyOf": [{"enum": list(TYPES)}, {"type": "object"}]}},
    ]
}


class PreparationSettings(BaseModel):
    """Onto which grid cases are brought; what is left out, the data decides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacing_mm: tuple[Millimetres | None, Millimetres | None, Millimetres | None] | None = Field(
        default=None,
        description="target voxel size in mm, the stack's axis last; null in a place keeps the case's own",
    )
    patch: tuple[Voxels, Voxels, Voxels] | None = Field(
        default=None, description="voxels that the network sees at once"
    )
    normalization: Annotated[Any, WithJsonSchema(_NORMALIZATION)] = Field(
        default="auto", description="of the intensities; auto: by the channels' names and the modality"
    )
    overview: Literal["auto", "none"] | tuple[Voxels, Voxels, Voxels] = Field(
        default="auto",
        description="voxels of the whole volume, made coarser, that case tasks see where volumes are larger "
        "than the patch; none: they see the patch; auto: where the patch is planned and too small",
    )
    slices: Literal["keep", "resample"] = Field(
        default="keep", description="thick slices where spacing_mm is left out; resample is nnU-Net's rule"
    )
    memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="to plan patch and batch for; null: what the device has, at most 8"
    )


class ExperimentConfig(BaseModel):
    """One experiment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str | None = Field(
        default=None, description="dataset folder; a relative path starts where you are"
    )
    plan: str | None = Field(
        default=None, description="file of `medmtl plan` to train by; a relative path starts where you are"
    )
    seed: int = Field(default=0, ge=0, description="of weights, batches and augmentation")
    fold: int | None = Field(
        default=None, ge=0, description="of a cross-validation, from 0: validates on it, trains on the others"
    )
    folds: int = Field(
        default=5, ge=2, description="how many folds the cases outside the test split are dealt in"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    preparation: PreparationSettings = Field(default_factory=PreparationSettings)
    select: dict[str, Any] = Field(
        default_factory=dict,
        description="which volumes of a DICOM study the model is for, for all channels or by channel; what "
        "is left out, the training cases decide",
    )
    covariates: tuple[str, ...] = Field(
        default=(), description="value columns that case-level heads read as input"
    )
    backbone: dict[str, Any] = Field(
        default_factory=lambda: {"type": "unet"},
        description="`type` and arguments of the shared trunk",
    )
    tasks: dict[str, dict[str, Any]] = Field(
        min_length=1, description="by name: `type` and options of each task"
    )
    weighting: dict[str, Any] = Field(
        default_factory=lambda: {"type": "balanced"},
        description="`type` and options of the task weighting",
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
        found = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: is a folder; name the config file in it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {yaml_problem(error)}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must be a mapping of `key: value` lines, found {found!r:.80}")
    return parse_config(apply_overrides(found, overrides), where=str(path))


def apply_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of a config with ``key=value`` applied; a new ``type`` drops the old one's options.

    Raises:
        ConfigError: an override without ``=``, or one that goes below something that is no mapping.
    """
    result: dict[str, Any] = copy.deepcopy(dict(config))
    for override in overrides:
        key, separator, text = override.partition("=")
        parts = key.split(".")
        if not separator or not all(parts):
            raise ConfigError(f"{override!r}: write overrides as key=value, such as training.epochs=5")
        node = result
        for part in parts[:-1]:
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
            if not isinstance(node, dict):
                raise ConfigError(f"{override!r}: {part!r} is a value, nothing lies below it")
        try:
            value = load_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{override!r}: the value is not valid YAML: {yaml_problem(error)}") from error
        if parts[-1] == "type" and len(parts) > 1 and node.get("type") != value:
            node.clear()
        node[parts[-1]] = value
    return result


def parse_config(found: Mapping[str, Any], *, where: str = "config") -> ExperimentConfig:
    """Validate plain data as a config, the options of every task, of the backbone and of the weighting too.

    Raises:
        ConfigError: one line per problem.
    """
    config = parse_options(ExperimentConfig, found, f"{where}: ")
    problems: list[str] = []

    def check(part: Callable[[], object]) -> None:
        try:
            part()
        except ConfigError as error:
            problems.extend(f"{where}: {line}" for line in str(error).splitlines())

    for name, section in config.tasks.items():
        check(partial(parse_task, name, section))
    check(partial(_check_names, config.tasks))
    check(partial(parse_backbone, config.backbone))
    normalization = config.preparation.normalization
    check(partial(parse_normalization, normalization, where="preparation.normalization"))
    check(partial(_check_weighting, config.weighting, tuple(config.tasks)))
    check(partial(parse_sharing, config.backbone.get("sharing"), tuple(config.tasks)))
    if not problems:
        check(partial(_check_sharing, config))
        check(partial(_check_comparison, config))
        check(partial(_check_frozen, config))
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _check_names(tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """The first segmentation is written as ``segmentation.nii.gz``, so no other task may have that name."""
    first = next((name for name, section in tasks.items() if section.get("type") == "segmentation"), None)
    if "segmentation" in tasks and first != "segmentation":
        raise ConfigError(
            "tasks.segmentation: its file would be segmentation.nii.gz, which is that of the first "
            f"segmentation ({first or 'none here'}); choose another name"
        )


def _check_weighting(section: Mapping[str, Any], tasks: tuple[str, ...]) -> None:
    if "type" not in section:
        raise ConfigError(f"weighting: needs `type`, one of {', '.join(WEIGHTINGS)}")
    name, options = str(section["type"]), {key: value for key, value in section.items() if key != "type"}
    parse_options(weighting_options(name), options, "weighting.")
    try:
        build_weighting(name, tasks, **options)
    except ConfigError as error:
        raise ConfigError(f"weighting: {error}") from error


def _check_sharing(config: ExperimentConfig) -> None:
    """Gradients are compared on shared weights, so there have to be some."""
    if shares_weights(parse_sharing(config.backbone.get("sharing"), tuple(config.tasks))):
        return
    if isinstance(_built(config.weighting, tuple(config.tasks)), GradientWeighting):
        raise refuse_comparison(f"weighting {config.weighting['type']}")
    if config.training.gradient_diagnostics:
        raise refuse_comparison("training.gradient_diagnostics")


def _check_comparison(config: ExperimentConfig) -> None:
    """A compiled trunk hides its last convolutions, unless the backbone opens them."""
    cls = BACKBONES.get(str(config.backbone["type"]))
    if cls.can_be_opened() or not config.training.compile:
        return
    weighting = _built(config.weighting, tuple(config.tasks))
    if isinstance(weighting, GradientWeighting) and weighting.on == "last_layers":
        raise ConfigError(
            f"weighting: {cls.__name__} does not open its last convolutions, and a compiled trunk hides "
            "them; set training.compile to false, or weighting.on to shared_parameters"
        )
    if config.training.gradient_diagnostics and not isinstance(weighting, GradientWeighting):
        raise ConfigError(
            f"training.gradient_diagnostics: {cls.__name__} does not open its last convolutions, and a "
            "compiled trunk hides them; set training.compile to false, or this to 0"
        )


def _check_frozen(config: ExperimentConfig) -> None:
    check_freeze(
        config.training.freeze,
        tuple(config.tasks),
        _built(config.weighting, tuple(config.tasks)),
        config.training.gradient_diagnostics,
    )


def _built(section: Mapping[str, Any], tasks: tuple[str, ...]) -> Weighting:
    return build_weighting(str(section["type"]), tasks, **{k: v for k, v in section.items() if k != "type"})


def complete_backbone(config: ExperimentConfig) -> dict[str, Any]:
    """The backbone's section; methods on gradients get a decoder per dense task, unless it says otherwise.

    A decoder that tasks share runs its backward once for each of them when their gradients are taken apart.
    Groups of tasks are named, so that the section says by itself how many backbones there are.
    """
    section = dict(config.backbone)
    sharing = parse_sharing(section.pop("sharing", None), tuple(config.tasks))
    if sharing is not None:
        section["sharing"] = sharing.model_dump(mode="json")
    takes = inspect.signature(BACKBONES.get(str(section["type"]))).parameters
    dense = [task for task in config.tasks.values() if TASKS.get(str(task["type"])).dense]
    if "decoders" in section or "decoders" not in takes or len(dense) < 2:
        return section
    if isinstance(_built(config.weighting, tuple(config.tasks)), GradientWeighting):
        section["decoders"] = "separate"
    return section


def with_weightings(
    config: ExperimentConfig, sections: Mapping[str, Mapping[str, Any]]
) -> list[ExperimentConfig]:
    """The config with each of several weightings, on one network that all of them can be trained on.

    Where one of them works on gradients, and the config leaves it open, all get a decoder per dense task.

    Args:
        config: whose own weighting is left out.
        sections: ``type`` and options, by the name that errors are to say.

    Raises:
        ConfigError: an option of a weighting is unknown or wrong.
    """
    plain = config.model_dump(mode="json")
    made = [
        parse_config({**plain, "weighting": dict(section)}, where=f"--weightings {name}")
        for name, section in sections.items()
    ]
    shared = max((complete_backbone(one) for one in made), key=len)  # one that names its decoders, if any
    return [one.model_copy(update={"backbone": shared}) for one in made]


def with_values(config: ExperimentConfig, values: Mapping[str, Any]) -> ExperimentConfig:
    """The config with some keys set to other values, such as ``{"training.learning_rate": 1e-3}``.

    Raises:
        ConfigError: a key is unknown, or a value cannot be used.
    """
    set_to = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    found = apply_overrides(config.model_dump(mode="json"), set_to)
    return parse_config(found, where=" ".join(set_to) or "config")


def weighting_options(name: str) -> type[BaseModel]:
    """Options of a weighting: those that all have, and its own, which win where the names are the same.

    Raises:
        ConfigError: the weighting is unknown.
    """
    own = options_model(WEIGHTINGS.get(name), leave_out=("tasks",))
    return create_model(own.__name__, __base__=(own, _common_unless(own)))


def _common_unless(own: type[BaseModel]) -> type[BaseModel]:
    """The common options, as open or closed to other keys as the method's own."""
    common = options_model(CommonOptions)
    common.model_config["extra"] = own.model_config["extra"]
    return common


def job_of(config: ExperimentConfig, dataset: Any, output: Path, *, device: str | None = None) -> Job:
    """The training that a config asks for on an opened dataset."""
    used = config if device is None else config.model_copy(update={"device": device})
    used = used.model_copy(update={"backbone": complete_backbone(used)})
    resolved = used.model_dump(mode="json")
    resolved["dataset"] = str(dataset.root)
    job = Job(
        dataset=dataset,
        output=Path(output),
        tasks=used.tasks,
        weighting=used.weighting,
        backbone=used.backbone,
        covariates=used.covariates,
        select=used.select,
        spacing_mm=used.preparation.spacing_mm,
        patch=used.preparation.patch,
        normalization=used.preparation.normalization,
        overview=used.preparation.overview,
        slices=used.preparation.slices,
        memory_gib=used.preparation.memory_gib,
        training=used.training,
        device=used.device,
        seed=used.seed,
        resolved=resolved,
    )
    if used.plan is None:
        return job
    job = with_plan(job, used.plan)
    return replace(job, resolved=as_config(job))


def json_schema() -> dict[str, Any]:
    """JSON Schema of a config, for editors: options of every registered task, backbone and weighting."""
    schema = ExperimentConfig.model_json_schema()
    tasks = {name: TASKS.get(name).Options for name in TASKS}
    trunks = {name: backbone_options(BACKBONES.get(name)) for name in BACKBONES}
    weightings = {name: weighting_options(name) for name in WEIGHTINGS}
    properties = schema["properties"]
    properties["tasks"]["additionalProperties"] = _one_of(tasks)
    properties["tasks"]["propertyNames"] = {"pattern": f"^{TASK_NAME.pattern}$"}
    for name, members in (("backbone", trunks), ("weighting", weightings)):
        properties[name] = {"description": properties[name]["description"], **_one_of(members)}
    for member in properties["backbone"]["anyOf"]:  # what they refer to is looked up from the top
        schema["$defs"] |= member.pop("$defs", {})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": SCHEMA_TITLE}


def _one_of(members: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """A section with a known ``type`` and its options, or with somebody's own type and any options."""
    known = []
    for name, options in members.items():
        found = options.model_json_schema()
        found["properties"] = {"type": {"const": name}, **found.get("properties", {})}
        found["required"] = ["type", *found.get("required", [])]
        known.append(found)
    own = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string", "pattern": ":"}}}
    return {"anyOf": [*known, own]}
