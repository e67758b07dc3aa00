"""A weighting of medmtl's for each of S trainings that run side by side: its own code, under `torch.vmap`.

Every buffer and learned parameter of the weighting gets a leading axis of S. `weigh` (of a method on
losses) or `balance` (of GradNorm) then sees one training at a time, as it always does; no formula is
written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from medmtl.weighting import Gradients, GradientWeighting, Weighting, build_weighting

Build = Callable[[], Weighting]


class _Decide(nn.Module):
    """What one training asks of its weighting on one step, as a function of losses and state."""

    def __init__(self, weighting: Weighting) -> None:
        super().__init__()
        self.weighting = weighting
        self.present = tuple(range(len(weighting.tasks)))

    def forward(self, losses: Tensor, gramian: Tensor | None, norms: Tensor | None) -> tuple[Tensor, Tensor]:
        if isinstance(self.weighting, GradientWeighting):
            assert gramian is not None
            assert norms is not None
            gradients = Gradients(self.weighting.tasks, gramian, norms)
            weights = self.weighting.balance(losses, gradients, self.present)
        else:
            weights = self.weighting.weigh(losses, self.present).weights
        penalty = self.weighting.penalty(self.present)
        return weights, losses.new_zeros(()) if penalty is None else penalty


class SideBySide:
    """S equal weightings with states of their own.

    Args:
        build: makes one weighting; all are made by it.
        runs: S.
        device: of the losses.

    Attributes:
        learned: parameters of a learned method, each ``(S, ...)``, for the optimizer.
    """

    def __init__(self, build: Build, runs: int, device: torch.device | str = "cpu") -> None:
        self.runs = runs
        self._one = _Decide(build())
        self._state = {
            name: buffer.to(device).expand(runs, *buffer.shape).clone()
            for name, buffer in self._one.named_buffers()
        }
        self.learned = {
            name: parameter.detach().to(device).expand(runs, *parameter.shape).clone().requires_grad_()
            for name, parameter in self._one.named_parameters()
        }
        self._random = _is_random(self._one.weighting)
        self._generator: torch.Generator | None = None

    def __call__(
        self, losses: Tensor, gramian: Tensor | None = None, norms: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Weights ``(S, K)`` and penalties ``(S,)`` of one step.

        A task that is absent from a training's step has weight 0 there. Its learned parameter is still in the
        penalty: the optimizer has to leave it alone.

        Args:
            losses: ``(S, K)``, NaN where a task is absent.
            gramian: ``(S, K, K)`` inner products of the tasks' gradients, for GradNorm.
            norms: ``(S, K, F)`` norms by filter, for GradNorm.
        """
        losses = losses.detach().float()
        usable = torch.isfinite(losses)
        if self._random:
            return self._draw(losses, usable), losses.new_zeros(self.runs)

        def decide(
            state: dict[str, Tensor],
            learned: dict[str, Tensor],
            loss: Tensor,
            gram: Tensor | None,
            norm: Tensor | None,
        ) -> tuple[Tensor, Tensor]:
            return functional_call(self._one, {**state, **learned}, (loss, gram, norm))

        seen = None if gramian is None else 0
        mapped = torch.vmap(decide, in_dims=(0, 0, 0, seen, seen))
        weights, penalty = mapped(self._state, self.learned, losses, gramian, norms)
        return torch.where(usable, weights, 0.0), penalty

    def _draw(self, losses: Tensor, usable: Tensor) -> Tensor:
        """RLW draws on the host, the same for all; here on the device, anew for each training."""
        if self._generator is None:  # of its own, so that other arms change nothing
            self._generator = torch.Generator(losses.device).manual_seed(0)
        raw = torch.randn(losses.shape, generator=self._generator, device=losses.device).exp()
        normalizer: Any = self._one.weighting.normalizer
        return torch.vmap(normalizer)(raw, usable)

    def end_epoch(self, ended: Tensor) -> None:
        """Closes an epoch of the trainings marked in ``(S,)`` bool."""
        if not self._state:
            return

        def close(state: dict[str, Tensor]) -> dict[str, Tensor]:
            kept = {name: value.clone() for name, value in state.items()}
            functional_call(_Ending(self._one), {f"one.{name}": value for name, value in kept.items()}, ())
            return kept

        closed = torch.vmap(close)(self._state)
        for name, value in closed.items():
            mark = ended.view(-1, *[1] * (value.ndim - 1))
            self._state[name] = torch.where(mark, value, self._state[name])


class _Ending(nn.Module):
    def __init__(self, one: _Decide) -> None:
        super().__init__()
        self.one = one

    def forward(self) -> None:
        self.one.weighting.end_epoch()


def _is_random(weighting: Weighting) -> bool:
    return type(getattr(weighting, "raw", None)).__name__ == "LogNormal"


def builder(tasks: Sequence[str], type: str, **options: Any) -> Build:
    """What makes a weighting of these tasks."""
    return lambda: build_weighting(type, tuple(tasks), **options)
