"""What every weighting is: losses of the tasks present in, one scalar total out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medmtl.types import ConfigError
from medmtl.weighting._alarm import CollapseAlarm
from medmtl.weighting._checks import check_losses, check_tasks

TINY = 1e-20
"""Losses are taken as at least this when one is divided by, so that a loss of 0 gives a number, not NaN."""


@dataclass(frozen=True)
class Weighed:
    """What a method decided for the P tasks present on one step.

    Attributes:
        raw: ``(P,)`` raw weights, before any normalizer.
        weights: ``(P,)`` factors of the losses; carry a gradient only if they are learned.
        share: ``(P,)`` share of each task in the total, summing to 1, for the collapse alarm. Of the weight
            where weights can be compared, of the weighted loss where a weight may only undo its loss's unit,
            which is no collapse.
    """

    raw: Tensor
    weights: Tensor
    share: Tensor


def share_of(parts: Tensor, usable: Tensor) -> Tensor:
    """Shares ``(P,)`` of parts >= 0 that sum to 1; tasks that are not usable hold nothing."""
    kept = torch.where(usable, parts, 0.0)
    largest = kept.max().clamp_min(TINY)
    return kept / largest / (kept / largest).sum().clamp_min(TINY)


def _weighted_sum(weights: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> Tensor:
    """sum_i w_i L_i, at least in float32."""
    widest = torch.float32
    for loss in losses.values():
        widest = torch.promote_types(widest, loss.dtype)
    factors = torch.stack([weights[name] for name in losses])
    return (factors * torch.stack([loss.to(widest) for loss in losses.values()])).sum()


class Weighting(nn.Module, ABC):
    """Turns the losses of the tasks present on a step into one scalar to minimize.

    A member implements :meth:`weigh`; learned methods add :meth:`penalty`, methods that need epoch means
    :meth:`end_epoch`. State lives in buffers and parameters, one entry per task, and the state of an absent
    task is never touched. Nothing in a step waits for the device.

    Args:
        tasks: names of the K tasks; their order carries no meaning.

    Raises:
        ConfigError: no task, or a task named twice.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = check_tasks(tasks)
        self.alarm = CollapseAlarm(len(self.tasks))
        self._weights: dict[str, Tensor] = {}
        self._raw_weights: dict[str, Tensor] = {}

    @abstractmethod
    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """Decides the weights of one step and updates the method's state.

        Args:
            losses: ``(P,)`` detached float32 losses; may hold NaN or inf, which must change nothing for the
                rest.
            present: positions in ``tasks`` of the P present tasks, ascending.
        """

    def penalty(self, present: tuple[int, ...]) -> Tensor | None:
        """Scalar that a learned method adds to the total, or None."""
        return None

    def end_epoch(self) -> None:
        """Called by the trainer after each epoch, for methods that need epoch means."""
        return

    def __call__(
        self, losses: Mapping[str, Tensor], *, observed: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The total ``()`` of one step, at least float32.

        Args:
            losses: ``()`` loss of each task that has labels here; an absent task is simply not in the
                mapping.
            observed: losses averaged over all ranks, from which the weights follow; ``losses`` when None. A
                task that is present on another rank only appears here alone.

        Raises:
            ConfigError: an unknown task, no task at all, or a loss that is not a scalar floating-point
                tensor.
        """
        return super().__call__(losses, observed=observed)

    def forward(
        self, losses: Mapping[str, Tensor], *, observed: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """See :meth:`__call__`."""
        check_losses(self.tasks, losses)
        if observed is None:
            observed = losses
        else:
            check_losses(self.tasks, observed, "observed")
            unseen = [task for task in losses if task not in observed]
            if unseen:
                raise ConfigError(
                    f"observed has no loss for {', '.join(map(repr, unseen))}, which losses has"
                )
        if not observed:
            raise ConfigError("no task has a loss on this step; skip the step instead of weighing nothing")
        present = tuple(position for position, task in enumerate(self.tasks) if task in observed)
        names = [self.tasks[position] for position in present]
        seen = torch.stack([observed[name].detach().float() for name in names])
        self._follow(seen.device)
        weighed = self.weigh(seen, present)
        self.alarm.update(weighed.share.detach(), present, torch.isfinite(seen))
        weights = dict(zip(names, weighed.weights.unbind(), strict=True))
        self._weights = dict(zip(names, weighed.weights.detach().clone().unbind(), strict=True))
        self._raw_weights = dict(zip(names, weighed.raw.detach().clone().unbind(), strict=True))
        total = _weighted_sum(weights, losses) if losses else torch.zeros((), device=seen.device)
        penalty = self.penalty(present)
        return total if penalty is None else total + penalty

    @property
    def weights(self) -> dict[str, Tensor]:
        """Factor ``()`` of each task's loss in the last total, detached float32; at first empty."""
        return dict(self._weights)

    @property
    def raw_weights(self) -> dict[str, Tensor]:
        """Raw weight ``()`` of each task in the last call, before any normalizer, detached float32."""
        return dict(self._raw_weights)

    def collapsed(self) -> str | None:
        """Name of the task that has held more than 99 % of the total for 100 steps or more, or None.

        Waits for the device: ask once per epoch, not per step.
        """
        position = self.alarm.position()
        return None if position is None else self.tasks[position]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups of the learned weights, without weight decay; empty where nothing is learned."""
        parameters = list(self.parameters())
        return [{"params": parameters, "weight_decay": 0.0}] if parameters else []

    def get_extra_state(self) -> Tensor:
        """The task names as UTF-8 bytes ``(n,)`` uint8, so that a state is only loaded for the same tasks."""
        return torch.tensor(list("\n".join(self.tasks).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Checks the task names of a saved state.

        Raises:
            ConfigError: the state was saved for other tasks, or for these in another order.
        """
        saved = tuple(bytes(state.tolist()).decode().split("\n"))
        if saved != self.tasks:
            raise ConfigError(
                f"this weighting's state was saved for tasks {saved}; it cannot go on with {self.tasks}"
            )

    def _follow(self, device: torch.device) -> None:
        """Moves the state to the losses' device on the first call there."""
        if self.alarm.steps.device != device:
            self.to(device)
