"""Arms of a comparison: the weightings that train side by side, and the two ways in which they act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gramians import SOLVERS, gramian_of
from side_by_side import SideBySide, builder
from torch import Tensor

Options = Mapping[str, Any]


@dataclass
class Decided:
    """What the arms decided on one step: weights ``(S, A, K)`` and penalties ``(S, A)``."""

    weights: Tensor
    penalty: Tensor


class LossArms:
    """Methods that see losses alone. An arm is a method's options, or fixed weights, one per task.

    Args:
        arms: ``{name: {"type": ..., **options} | [weight per task]}``. The option ``times`` multiplies the
            weights, which for SGD is a learning rate so many times as high; not for learned weights.
        tasks: names of the K tasks.
        slots: S, trainings of every arm.
        device: of the losses.
    """

    def __init__(
        self,
        arms: Mapping[str, Options | Sequence[float]],
        tasks: Sequence[str],
        slots: int,
        device: torch.device,
    ) -> None:
        self.names = list(arms)
        self.rules: list[SideBySide | Tensor] = []
        self.times: list[float] = []
        for arm in arms.values():
            if not isinstance(arm, Mapping):
                self.rules.append(torch.tensor(arm, device=device).expand(slots, -1))
                self.times.append(1.0)
                continue
            rest = {key: value for key, value in arm.items() if key != "times"}
            self.rules.append(SideBySide(builder(tasks, **rest), slots, device))
            self.times.append(float(arm.get("times", 1.0)))

    @property
    def learned(self) -> list[Tensor]:
        """Parameters of the learned methods, for the optimizer."""
        return [p for rule in self.rules if isinstance(rule, SideBySide) for p in rule.learned.values()]

    def decide(self, losses: Tensor) -> Decided:
        """From losses ``(S, A, K)``; learned weights carry a gradient."""
        weights, penalties = [], []
        for arm, rule in enumerate(self.rules):
            if isinstance(rule, Tensor):
                found, penalty = rule, losses.new_zeros(len(losses))
            else:
                found, penalty = rule(losses[:, arm])
            weights.append(found if self.times[arm] == 1 else self.times[arm] * found)
            penalties.append(penalty)
        return Decided(torch.stack(weights, 1), torch.stack(penalties, 1))

    def end_epoch(self, ended: Tensor) -> None:
        """Closes an epoch of the slots marked in ``(S,)`` bool."""
        for rule in self.rules:
            if isinstance(rule, SideBySide):
                rule.end_epoch(ended)


class GradientArms:
    """Methods that see the tasks' gradients: GradNorm in any form, or a Gramian method by name."""

    def __init__(
        self, arms: Mapping[str, Options], tasks: Sequence[str], slots: int, device: torch.device
    ) -> None:
        self.names = list(arms)
        self.rules: list[SideBySide | str] = [
            SideBySide(builder(tasks, **arm), slots, device)
            if arm["type"] == "gradnorm"
            else str(arm["type"])
            for arm in arms.values()
        ]
        self.weighs_heads = torch.tensor([isinstance(rule, SideBySide) for rule in self.rules], device=device)

    def decide(self, losses: Tensor, shared: list[list[Tensor]], last: list[Tensor]) -> Tensor:
        """Weights ``(S, A, K)``.

        Args:
            losses: ``(S, A, K)``.
            shared: per task the gradients of the shared parameters, ``(S * A, ...)`` each.
            last: per task the gradient of the last shared layer's matrix, where GradNorm takes norms.
        """
        slots, arms, tasks = losses.shape
        gramian = gramian_of(shared).view(slots, arms, tasks, tasks)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in last], 1).view(slots, arms, tasks, 1)
        weights = []
        for arm, rule in enumerate(self.rules):
            if isinstance(rule, SideBySide):
                weights.append(rule(losses[:, arm], gramian[:, arm].float(), norms[:, arm])[0])
            else:
                weights.append(_solved(rule, gramian[:, arm]))
        return torch.stack(weights, 1)


def _solved(method: str, gramian: Tensor) -> Tensor:
    """Weights ``(S, K)``: 1 where a gradient is 0, NaN in a training that diverged, which ends no other."""
    finite = torch.isfinite(gramian).all(-1).all(-1)
    known = finite & (gramian.diagonal(dim1=-2, dim2=-1) > 0).all(-1)
    eye = torch.eye(gramian.shape[-1], dtype=gramian.dtype, device=gramian.device)
    weights = SOLVERS[method](torch.where(known[:, None, None], gramian, eye)).float()
    weights = torch.where(known[:, None], weights, 1.0)
    return torch.where(finite[:, None], weights, torch.nan)


class Momentum:
    """SGD with momentum, as torch.optim.SGD has it, without its state's bookkeeping."""

    def __init__(self, parameters: Sequence[Tensor], rate: float, momentum: float = 0.9) -> None:
        self.parameters, self.rate, self.momentum = list(parameters), rate, momentum
        self.velocity = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        torch._foreach_mul_(self.velocity, self.momentum)
        torch._foreach_add_(self.velocity, list(gradients))
        torch._foreach_add_(self.parameters, self.velocity, alpha=-self.rate)
