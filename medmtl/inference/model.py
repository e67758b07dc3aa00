"""A trained model in a folder: safetensors for numbers, YAML for the rest, nothing that runs when read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from medmtl.data.dataset import Column, Cycle, Derived
from medmtl.data.prepare import Preparation
from medmtl.data.schema import column_section
from medmtl.inference.context import Context
from medmtl.inference.ensemble import as_ensemble, find_folds
from medmtl.models import MultiTaskNetwork
from medmtl.registry import nearest
from medmtl.tasks import Task, build_network, build_task
from medmtl.types import ConfigError

if TYPE_CHECKING:
    from medmtl.inference.prediction import Prediction

FORMAT = 1


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
        weights = {
            name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()
        }
        save_file(weights, folder / "model.safetensors")
        (folder / "metadata.json").write_text(json.dumps(self.metadata, indent=2) + "\n")
        (folder / "model.yaml").write_text(yaml.safe_dump(self._description(), sort_keys=False))

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
        }

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

        run = predict_source(self, Path(source), output, tasks=tasks, device=device)
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
    network = build_network(
        found["backbone"],
        tasks,
        in_channels=len(found["channels"]),
        n_covariates=len(covariates),
        cycle=cycle,
    )
    for name, task in tasks.items():
        task.load_state(found["tasks"][name].get("state") or {})
    _load_weights(network, folder / "model.safetensors")
    metadata = folder / "metadata.json"
    return Model(
        network=network.eval(),
        tasks=tasks,
        task_sections=sections,
        backbone=found["backbone"],
        preparation=Preparation.from_plain(found["preparation"]),
        channels=tuple(found["channels"]),
        columns=columns,
        covariates=covariates,
        cycle=cycle,
        metadata=json.loads(metadata.read_text()) if metadata.is_file() else {},
        folder=folder,
    )


def _load_weights(network: torch.nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"{path}: is missing; the model folder is not complete")
    try:
        weights, own = load_file(path), network.state_dict()
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: is not a whole weights file ({error}); copy the model again") from error
    wrong = sorted(
        name
        for name in {*weights, *own}
        if name not in weights or name not in own or weights[name].shape != own[name].shape
    )
    if wrong:
        raise ConfigError(
            f"{path}: does not fit its model.yaml ({len(wrong)} tensors differ, the first is {wrong[0]!r})"
        )
    network.load_state_dict(weights)


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
