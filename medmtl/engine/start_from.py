"""Training that starts from what others learned: what is taken over, and what does not fit.

A model of medmtl brings its backbone, and the heads of tasks that have the same name here; tasks that it does
not have begin anew. A file of weights or a MONAI bundle brings its encoder, see `medmtl.engine.foreign`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from medmtl.engine.foreign import foreign_weights, weights_file
from medmtl.engine.job import Job
from medmtl.inference.model import Model, load_model
from medmtl.models import CaseHead, MultiTaskNetwork
from medmtl.tasks import Task
from medmtl.types import ConfigError

KEY = "training.start_from"
_SHOWN = 3


@dataclass(frozen=True)
class Start:
    """What a training starts from.

    Attributes:
        weights: by name; the network keeps its own where there are none.
        says: in words, what is taken over and what begins anew.
        states: of the tasks whose heads are taken over: their scales belong to the weights.
        whole_encoder: whether all of the encoder is among the weights.
        whole_decoder: and all of the decoder that tasks share.
    """

    weights: dict[str, Tensor]
    says: str
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    whole_encoder: bool = True
    whole_decoder: bool = True


def starting_weights(
    origin: str,
    network: MultiTaskNetwork,
    tasks: Mapping[str, Task],
    job: Job,
    *,
    allow: Sequence[str] = (),
) -> Start:
    """Weights that a new network starts from.

    Args:
        origin: model folder, the RUN folder that holds it, a MONAI bundle, or a file of weights.
        network: the one that shall start from them; it is left as it is.
        tasks: that it is to learn.
        job: what the network is to be trained on.
        allow: third-party members that the job's own config names.

    Raises:
        ConfigError: there is no single model, or it has other channels, covariates, label codes or tensors;
            the first that differ are named with their shapes.
    """
    file = weights_file(Path(origin))
    if file is not None:
        weights, says, whole = foreign_weights(file, network.backbone, len(job.dataset.channels), where=KEY)
        named = {f"backbone.{name}": tensor for name, tensor in weights.items()}
        decoder = len(weights) == len(network.backbone.state_dict())
        return Start(named, f"{says}; all heads begin anew", whole_encoder=whole, whole_decoder=decoder)
    try:
        model = load_model(origin, allow=allow)
    except ConfigError as error:
        raise ConfigError(f"{KEY}: {error}") from error
    if model.others:
        raise ConfigError(f"{KEY}: {origin} is an ensemble of {1 + len(model.others)} models; name one")
    taken = [task for task in tasks if task in model.tasks]
    there = _parts(model.network.state_dict(), taken)
    here = _parts(network.state_dict(), taken)
    differ = _meanings(model, tasks, job, taken) + differences(there, here)
    if differ:
        more = f"; and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
        raise ConfigError(
            f"{KEY}: {origin} does not fit what is to be trained: {'; '.join(differ[:_SHOWN])}{more}. Start "
            "from a model of the same backbone, give tasks of the same name the same options or another "
            "name, or leave the key out"
        )
    states = {task: model.tasks[task].state() for task in taken}
    return Start(there, _said(taken, tasks, model.tasks), states)


def check_start(start: Start | None, frozen: Sequence[str]) -> None:
    """Refuse to freeze what begins anew.

    Raises:
        ConfigError: so. A run that is resumed has nothing to start from, and is not looked at.
    """
    if start is None:
        return
    heads = {name.split(".")[1] for name in start.weights if not name.startswith("backbone.")}
    whole = {"encoder": start.whole_encoder, "decoder": start.whole_decoder}
    for part in frozen:
        if not whole.get(part, part in heads):
            raise ConfigError(
                f"training.freeze: {part} is not among the weights that training starts from "
                f"({start.says}), and would keep random ones; leave it out"
            )


def _parts(state: Mapping[str, Tensor], tasks: Sequence[str]) -> dict[str, Tensor]:
    """The backbone, and the heads and decoders of some tasks."""
    prefixes = ("backbone.", *(f"{part}.{task}." for part in ("heads", "decoders") for task in tasks))
    return {name: tensor for name, tensor in state.items() if name.startswith(prefixes)}


def _said(taken: Sequence[str], here: Iterable[str], there: Iterable[str]) -> str:
    new = [task for task in here if task not in taken]
    left = [task for task in there if task not in taken]
    said = f"the backbone{' and ' if taken else ''}{', '.join(taken)}"
    said += f"; {', '.join(new)} begin anew" if new else ""
    return said + (f"; {', '.join(left)} of the model are left out" if left else "")


def _meanings(model: Model, tasks: Mapping[str, Task], job: Job, taken: Sequence[str]) -> list[str]:
    """What the same tensor would mean something else for."""
    pairs: list[tuple[str, object, object]] = []
    if max(len(model.channels), len(job.dataset.channels)) > 1:  # a single one may have another name
        pairs.append(("channels", model.channels, job.dataset.channels))
    if any(isinstance(model.network.head(task), CaseHead) for task in taken):
        pairs.append(("covariates", model.covariates, tuple(job.covariates)))
    for name in dict.fromkeys(target for task in taken for target in model.tasks[task].targets):
        there, here = model.columns[name], job.dataset.columns.get(name)
        if here is not None:
            pairs += [
                (f"labels of {name}", dict(there.labels), dict(here.labels)),
                (f"classes of {name}", tuple(there.classes), tuple(here.classes)),
                (f"unit of {name}", there.unit, here.unit),
            ]
    for task in taken:
        pairs.append((f"targets of {task}", model.tasks[task].targets, tasks[task].targets))
    return [f"{what} are {there!r} there and {here!r} here" for what, there, here in pairs if there != here]


def differences(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> list[str]:
    """Tensors whose shapes differ, a clause each."""
    return [
        f"{name} has shape {_shape(there.get(name))} there and {_shape(here.get(name))} here"
        for name in dict.fromkeys([*here, *there])
        if _shape(there.get(name)) != _shape(here.get(name))
    ]


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(tuple(tensor.shape))
