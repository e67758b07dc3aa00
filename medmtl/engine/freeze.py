"""Parts of a network that keep their weights: your segmentation as it is, and further tasks on its features.

``encoder`` is all that the pyramid is computed with, ``decoder`` the one that tasks share, and the name of a
task its head, with its own decoder where it has one. Of groups with branches of their own, ``encoder`` and
``decoder`` are those of all branches. What is frozen is run as in prediction (no dropout, no
running statistics), and a task all of whose weights are frozen takes no part in training.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from medmtl.engine.comparison import reached_parameters
from medmtl.models import Backbone, MultiTaskNetwork
from medmtl.registry import nearest
from medmtl.tasks import Task
from medmtl.types import ConfigError
from medmtl.weighting import GradientWeighting, Weighting

KEY = "training.freeze"
ENCODER, DECODER = "encoder", "decoder"


def check_freeze(
    parts: Sequence[str], tasks: Sequence[str], weighting: Weighting, diagnostics: int = 0
) -> None:
    """Refuse parts that there are not, and methods that compare gradients of weights that do not change.

    Raises:
        ConfigError: so.
    """
    known = [ENCODER, DECODER, *tasks]
    for part in parts:
        if part not in known:
            raise ConfigError(
                f"{KEY}: {part!r} is no part of the network; name {', '.join(known)}{nearest(part, known)}"
            )
    if ENCODER not in parts:
        return
    if isinstance(weighting, GradientWeighting):
        raise ConfigError(
            f"weighting: {type(weighting).__name__} compares the tasks' gradients on the encoder, which "
            f"{KEY} keeps as it is; take a weighting of losses, such as balanced, or train the encoder"
        )
    if diagnostics:
        raise ConfigError(
            f"training.gradient_diagnostics: compares gradients on the encoder, which {KEY} keeps as it is; "
            "leave out one of the two"
        )


def freeze(network: MultiTaskNetwork, parts: Sequence[str], channels: int) -> None:
    """Let some parts of a network keep their weights.

    Args:
        network: whose parameters stop to require gradients.
        parts: which.
        channels: of the image.

    Raises:
        ConfigError: there is no such part, or nothing is left to be trained.
    """
    for part in parts:
        for parameter in _parameters(network, part, channels):
            parameter.requires_grad_(False)
    if parts and not any(parameter.requires_grad for parameter in network.parameters()):
        raise ConfigError(f"{KEY}: leaves nothing to be trained; leave out a part")


def _parameters(network: MultiTaskNetwork, part: str, channels: int) -> list[nn.Parameter]:
    backbone = network.backbone
    if part == ENCODER:
        return [backbone.get_parameter(name) for name in encoder_names(backbone, channels)]
    if part == DECODER:
        if backbone.separate_decoders:
            raise ConfigError(
                f"{KEY}: every dense task has a decoder of its own, which is frozen with the task; name the "
                "tasks instead of the decoder"
            )
        encoder = encoder_names(backbone, channels)
        return [parameter for name, parameter in backbone.named_parameters() if name not in encoder]
    return _own_parameters(network, part)


def _own_parameters(network: MultiTaskNetwork, task: str) -> list[nn.Parameter]:
    """Those of a task's head, and of the decoder that it has for itself."""
    own = [network.heads[task], *([network.decoders[task]] if task in network.decoders else [])]
    return [parameter for module in own for parameter in module.parameters()]


def encoder_names(backbone: Backbone, channels: int) -> set[str]:
    """Names of the parameters that the pyramid depends on, from its graph on PyTorch's meta device."""
    twin: Any = copy.deepcopy(backbone).to("meta").requires_grad_(True)
    twin.checkpointing = False
    names = {parameter: name for name, parameter in twin.named_parameters()}
    image = torch.empty(1, channels, *(2 * n for n in backbone.divisor), device="meta")
    with torch.enable_grad():
        return {names[parameter] for parameter in reached_parameters(twin.encode(image))}


def trained(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def train_mode(network: MultiTaskNetwork) -> None:
    """Training mode, but for modules all of whose weights are frozen."""
    network.train()
    _hold(network)


def _hold(module: nn.Module) -> None:
    flags = [parameter.requires_grad for parameter in module.parameters()]
    if flags and not any(flags):
        module.eval()
        return
    for child in module.children():
        _hold(child)


def learning(network: MultiTaskNetwork, tasks: Mapping[str, Task], channels: int) -> dict[str, Task]:
    """The tasks that have something to learn with."""
    if all(parameter.requires_grad for parameter in network.parameters()):
        return dict(tasks)
    encoder = encoder_names(network.backbone, channels)
    moves = {name: p.requires_grad for name, p in network.backbone.named_parameters()}
    if any(moves[name] for name in encoder):
        return dict(tasks)
    shared = any(flag for name, flag in moves.items() if name not in encoder)
    dense = network.dense_tasks(tasks)
    found = {}
    for task in tasks:
        if any(p.requires_grad for p in _own_parameters(network, task)) or (task in dense and shared):
            found[task] = tasks[task]
    return found


@torch.no_grad()
def copy_frozen(network: nn.Module, averaged: nn.Module) -> None:
    """Give the moving average the frozen weights themselves: their average with themselves may be rounded."""
    pairs = zip(network.parameters(), averaged.parameters(), strict=True)
    for parameter, average in pairs:
        if not parameter.requires_grad and average is not parameter:
            average.copy_(parameter)
