"""Training that starts from another model's weights: what has to fit, and what does not when it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from medmtl.engine.job import Job
from medmtl.inference.model import Model, load_model
from medmtl.models import MultiTaskNetwork
from medmtl.types import ConfigError

KEY = "training.start_from"
_SHOWN = 3


def starting_weights(
    folder: str, network: MultiTaskNetwork, job: Job, *, allow: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Weights of a finished model that fit a new network tensor by tensor.

    Args:
        folder: model folder, or the RUN folder that holds it.
        network: the one that shall start from them; it is left as it is.
        job: what the network is to be trained on.
        allow: third-party members that the job's own config names.

    Raises:
        ConfigError: there is no single model, or it has other channels, covariates, label codes or tensors;
            the first that differ are named with their shapes.
    """
    try:
        model = load_model(folder, allow=allow)
    except ConfigError as error:
        raise ConfigError(f"{KEY}: {error}") from error
    if model.others:
        raise ConfigError(f"{KEY}: {folder} is an ensemble of {1 + len(model.others)} models; name one")
    weights = model.network.state_dict()
    differ = _meanings(model, job) + _shapes(weights, network.state_dict())
    if differ:
        more = f"; and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
        raise ConfigError(
            f"{KEY}: {folder} does not fit what is to be trained: {'; '.join(differ[:_SHOWN])}{more}. Start "
            "from a model of the same network and tasks, or leave the key out"
        )
    return weights


def _meanings(model: Model, job: Job) -> list[str]:
    """What the same tensor would mean something else for."""
    pairs: list[tuple[str, object, object]] = [
        ("channels", model.channels, job.dataset.channels),
        ("covariates", model.covariates, tuple(job.covariates)),
    ]
    for name, column in model.columns.items():
        here = job.dataset.columns.get(name)
        if here is not None:
            pairs += [
                (f"labels of {name}", dict(column.labels), dict(here.labels)),
                (f"classes of {name}", tuple(column.classes), tuple(here.classes)),
            ]
    return [f"{what} are {there!r} there and {here!r} here" for what, there, here in pairs if there != here]


def _shapes(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> list[str]:
    names = list(dict.fromkeys([*here, *there]))
    return [
        f"{name} has shape {_shape(there.get(name))} there and {_shape(here.get(name))} here"
        for name in names
        if _shape(there.get(name)) != _shape(here.get(name))
    ]


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(tuple(tensor.shape))
