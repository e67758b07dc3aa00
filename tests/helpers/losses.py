"""Losses by task, as a training's step hands them to a weighting."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medmtl.weighting import Weighting


def tensors(losses: Mapping[str, float]) -> dict[str, Tensor]:
    """The losses as leaves that take a gradient."""
    return {task: torch.tensor(loss, requires_grad=True) for task, loss in losses.items()}


def weigh(weighting: Weighting, losses: Mapping[str, float]) -> dict[str, float]:
    """The weights of a step with these losses."""
    weighting(tensors(losses))
    return {task: weight.item() for task, weight in weighting.weights.items()}
