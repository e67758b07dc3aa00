"""A trained model in a folder: safetensors for numbers, YAML for the rest, nothing that runs when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save, save_file

from medmtl.data.dataset import Column, Cycle, Derived
from medmtl.data.prepare import Preparation
from medmtl.data.schema import column_section
from medmtl.inference.context import Context
from medmtl.inference.ensemble import as_ensemble, find_folds
from medmtl.inference.find.rule import Rule, parse_rule
from medmtl.inference.measure.quality import PREFIX, Quality
from medmtl.models import MultiTaskNetwork
from medmtl.registry import nearest
from medmtl.tasks import Task, build_network, build_task
from medmtl.types import ConfigError

if TYPE_CHECKING:
    from medmtl.inference.prediction import Prediction

FORMAT = 1
WEIGHTS = "model.safetensors"
PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of files that may hold pickled objects, which run code when they are read."""


@dataclass
class Model:
    """Network, tasks and everything needed to bring a new case onto the network's grid.

    Attributes:
        network: the weights.
        tasks: by name, with their scales.
        task_sections: the config section of each task.
        backbone: the config section of the backbone, complete.
        preparation: grid, patch, normalization.
        channels: names of the image channels, in order.
        columns: the dataset's columns that tasks and covariates use.
        covariates: value columns that heads read as input, in order.
        cycle: what finds ED and ES among frames.
        metadata: what is worth knowing about how it was made.
        folder: where it was loaded from.
        others: further members of an ensemble, such as the folds of a cross-validation; their outputs are
            averaged with this model's.
        select: which volumes of a DICOM study are its channels.
        codes: coded terms for DICOM objects; the built-in ones where empty.
        quality: ranges and thresholds by which its results are judged.
    """

    network: MultiTaskNetwork = field(repr=False)
    tasks: dict[str, Task]
    task_sections: dict[str, dict[str, Any]]
    backbone: dict[str, Any]
    preparation: Preparation
    channels: tuple[str, ...]
    columns: dict[str, Column]
    covariates: tuple[str, ...] = ()
    cycle: Cycle | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    others: tuple[Model, ...] = ()
    select: Rule = field(default_factory=Rule)
    codes: dict[str, Any] = field(default_factory=dict)
    quality: Quality = field(default_factory=Quality)

    def context(self, device: torch.device, *, mirror: bool = False) -> Context:
        """The networks on a device, ready to predict."""
        return Context(
            self.network.eval().to(device),
            self.tasks,
            self.preparation,
            device,
            mirror,
            tuple(other.context(device, mirror=mirror) for other in self.others),
        )

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors``, ``metadata.json`` and, last, ``model.yaml``, which makes it whole."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._weights(), folder / WEIGHTS)
        metadata = {**self.metadata, "sha256": {WEIGHTS: _sha256(folder / WEIGHTS)}}
        (folder / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
        (folder / "model.yaml").write_text(yaml.safe_dump(self._description(), sort_keys=False))

    def digest(self) -> str:
        """SHA-256 of all that predictions depend on: weights and description, of every member."""
        found = hashlib.sha256(save(self._weights()))
        found.update(yaml.safe_dump(self._description(), sort_keys=True).encode())
        for other in self.others:
            found.update(other.digest().encode())
        return found.hexdigest()

    def _weights(self) -> dict[str, torch.Tensor]:
        own = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        return own | self.quality.tensors()

    def _description(self) -> dict[str, Any]:
        return {
            "medmtl_model": FORMAT,
            "channels": list(self.channels),
            "covariates": list(self.covariates),
            "preparation": self.preparation.as_plain(),
            "backbone": self.backbone,
            "tasks": {n: {**self.task_sections[n], "state": t.state()} for n, t in self.tasks.items()},
            "columns": {name: column_section(column) for name, column in self.columns.items()},
            "cycle": asdict(self.cycle) if self.cycle else None,
            "select": parse_rule(self.select.as_plain(), self.channels).as_plain(),
            "quality": self.quality.as_plain(),
            "codes": self.codes or self._built_in_codes(),
        }

    def _built_in_codes(self) -> dict[str, Any]:
        """Terms of all structures and values by their names, to be read and changed in the file."""
        from medmtl.inference.dicom import plain_codes

        structures = {
            name: str(getattr(task, "structure", ""))
            for task in self.tasks.values()
            for name in task.structures
        }
        values = [name for name, column in self.columns.items() if column.kind == "value"]
        modality = next((m for rule in self.select.channels.values() for m in rule.modality), "")
        return plain_codes(structures, values, modality)

    def task_names(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """The asked tasks, all by default.

        Raises:
            ConfigError: the model has no such task.
        """
        for name in names or ():
            if name not in self.tasks:
                raise ConfigError(f"the model has no task {name!r}{nearest(name, list(self.tasks))}")
        return tuple(self.tasks) if names is None else tuple(names)

    def predict(
        self,
        source: Path | str,
        *,
        tasks: Sequence[str] | None = None,
        device: str = "auto",
        output: Path | None = None,
    ) -> Prediction:
        """Predict every case of a NIfTI file, a folder of them, or a dataset.

        Args:
            source: what to read.
            tasks: tasks wanted, all by default; only what they need is computed.
            device: ``auto``, ``cpu`` or ``cuda``.
            output: folder to keep the files in; a temporary one by default, until `Prediction.save`.
        """
        from medmtl.inference.prediction import Prediction
        from medmtl.inference.run import predict_source

        run = predict_source(self, source, output, tasks=tasks, device=device)
        return Prediction(run)


def load_model(folder: Path | str, *, allow: Sequence[str] = ()) -> Model:
    """Read a model folder; nothing in it is executed.

    Args:
        folder: with ``model.yaml`` and ``model.safetensors``, a RUN folder that holds ``model/``, or the
            folder of a cross-validation, whose folds become one ensemble.
        allow: third-party members, as ``module:Class``, that may be imported when the model names them.

    Raises:
        ConfigError: no model there, another format, a member not allowed, or weights that do not fit.
    """
    folder = Path(folder)
    if (folder / "model" / "model.yaml").is_file():
        folder = folder / "model"
    elif folds := find_folds(folder):
        return as_ensemble([load_model(fold, allow=allow) for fold in folds])
    if not (folder / "model.yaml").is_file():
        raise ConfigError(
            f"{folder}: no model.yaml here; give the model folder of a finished run (RUN/model)"
        )
    _refuse_pickles(folder)
    try:
        found = yaml.safe_load((folder / "model.yaml").read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder / 'model.yaml'}: is damaged; copy the model again") from error
    if not isinstance(found, dict) or found.get("medmtl_model") != FORMAT:
        raise ConfigError(f"{folder / 'model.yaml'}: is not a medmtl model of format {FORMAT}")
    try:
        return _assemble(folder, found, allow)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder / 'model.yaml'}: is damaged ({error!r}); copy the model again") from error


def _assemble(folder: Path, found: Mapping[str, Any], allow: Sequence[str]) -> Model:
    for section in (found["backbone"], *found["tasks"].values()):
        if ":" in str(section["type"]) and section["type"] not in allow:
            raise ConfigError(
                f"{folder / 'model.yaml'}: names {section['type']!r}, which is not part of medmtl; "
                f"if you trust it, call load_model(..., allow=[{section['type']!r}])"
            )
    columns = {name: _column(name, section) for name, section in found["columns"].items()}
    sections = {name: {k: v for k, v in s.items() if k != "state"} for name, s in found["tasks"].items()}
    tasks = {name: build_task(name, section, columns) for name, section in sections.items()}
    cycle = Cycle(**found["cycle"]) if found["cycle"] else None
    covariates = tuple(found["covariates"])
    preparation = Preparation.from_plain(found["preparation"])
    network = build_network(
        found["backbone"],
        tasks,
        in_channels=len(found["channels"]),
        n_covariates=len(covariates),
        cycle=cycle,
        overview=preparation.overview is not None,
    )
    for name, task in tasks.items():
        task.load_state(found["tasks"][name].get("state") or {})
    metadata = _read_metadata(folder / "metadata.json")
    sums = metadata.pop("sha256", {})
    tensors = _load_weights(network, folder / WEIGHTS, sums.get(WEIGHTS))
    return Model(
        network=network.eval(),
        tasks=tasks,
        task_sections=sections,
        backbone=found["backbone"],
        preparation=preparation,
        channels=tuple(found["channels"]),
        columns=columns,
        covariates=covariates,
        cycle=cycle,
        metadata=metadata,
        folder=folder,
        codes=found.get("codes") or {},
        select=parse_rule(found.get("select"), found["channels"], where=f"{folder / 'model.yaml'}: "),
        quality=Quality.from_plain(found.get("quality"), tensors, f"{folder / 'model.yaml'}: "),
    )


def _refuse_pickles(folder: Path) -> None:
    """Nothing of medmtl reads a pickle; one among its files was put there by somebody else."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICKLES:
            raise ConfigError(
                f"{path}: may hold a pickle, which runs code when it is read, and is no part of a medmtl "
                "model; remove it, if you know where the model comes from"
            )


def _read_metadata(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: is missing; the model folder is not complete")
    try:
        found = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is damaged; copy the model again") from error
    if not isinstance(found, dict) or not isinstance(found.get("sha256", {}), dict):
        raise ConfigError(f"{path}: is damaged; copy the model again")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load_weights(network: torch.nn.Module, path: Path, expected: str | None) -> dict[str, torch.Tensor]:
    """Fill the network; gives the tensors that are not the network's but belong to the quality section."""
    if not path.is_file():
        raise ConfigError(f"{path}: is missing; the model folder is not complete")
    try:
        found, own = load_file(path), network.state_dict()
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: is not a whole weights file ({error}); copy the model again") from error
    others = {name: tensor for name, tensor in found.items() if name.startswith(PREFIX)}
    weights = {name: tensor for name, tensor in found.items() if name not in others}
    wrong = sorted(
        name
        for name in {*weights, *own}
        if name not in weights or name not in own or weights[name].shape != own[name].shape
    )
    if wrong:
        raise ConfigError(
            f"{path}: does not fit its model.yaml ({len(wrong)} tensors differ, the first is {wrong[0]!r})"
        )
    if expected is not None and _sha256(path) != expected:
        raise ConfigError(
            f"{path}: is not the file that was saved with this model (its SHA-256 differs from the one in "
            "metadata.json); copy the model again from where it was trained"
        )
    network.load_state_dict(weights)
    return others


def _column(name: str, section: Mapping[str, Any]) -> Column:
    derived = section.get("derived")
    return Column(
        name=name,
        kind=section["kind"],
        labels=section.get("labels", {}),
        classes=tuple(section.get("classes", ())),
        unit=section.get("unit", ""),
        derived=Derived(**derived) if derived else None,
    )
