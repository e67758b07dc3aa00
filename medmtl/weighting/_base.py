"""What every weighting is: losses of the tasks present in, one scalar total out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medmtl.types import ConfigError
from medmtl.weighting._alarm import CollapseAlarm
from medmtl.weighting._bad_losses import BadLosses, Domain, objection, within
from medmtl.weighting._checks import check_losses, check_tasks
from medmtl.weighting._schedule import Schedule
from medmtl.weighting._weighed import TINY, Weighed, share_of, weighted_sum

__all__ = ["TINY", "Weighed", "Weighting", "share_of"]


@dataclass(frozen=True)
class _Step:
    """The P tasks of one step: names, positions, ``(P,)`` detached float32 losses and which are usable."""

    names: list[str]
    present: tuple[int, ...]
    losses: Tensor
    usable: Tensor

    @classmethod
    def of(cls, weighting: Weighting, names: list[str], observed: Mapping[str, Tensor]) -> _Step:
        present = tuple(weighting.tasks.index(name) for name in names)
        losses = torch.empty(0)
        if names:
            losses = torch.stack([observed[name].detach().float() for name in names])
        return cls(names, present, losses, within(losses, weighting.domain))


class Weighting(nn.Module, ABC):
    """Turns the losses of the tasks present on a step into one scalar to minimize.

    A member implements :meth:`weigh`; learned methods add :meth:`penalty`, methods that need epoch means
    :meth:`end_epoch`. State lives in buffers and parameters, one entry per task, and the state of an absent
    task is never touched. Nothing in a step waits for the device.

    Args:
        tasks: names of the K tasks; their order carries no meaning.

    Attributes:
        domain: losses that the method can weigh, ``finite``, ``non-negative`` or ``positive``.
        schedule: which tasks are due and whether weights are still equal, or None; see :meth:`due`.
        bad_losses: what happens to losses outside the domain.
        mute: tasks that were given a weight of 0 for good.

    Raises:
        ConfigError: no task, or a task named twice.
    """

    domain: Domain = "finite"
    mute: frozenset[str] = frozenset()

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = check_tasks(tasks)
        self.alarm = CollapseAlarm(len(self.tasks))
        self.bad_losses = BadLosses(self.tasks)
        self.schedule: Schedule | None = None
        self._weights: dict[str, Tensor] = {}
        self._raw_weights: dict[str, Tensor] = {}
        self._seen: set[str] = set()

    @abstractmethod
    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """Decides the weights of one step and updates the method's state.

        Args:
            losses: ``(P,)`` detached float32 losses; NaN or inf where a loss cannot be used, which must
                change nothing for the rest.
            present: positions in ``tasks`` of the P present tasks, ascending.
        """

    def penalty(self, present: tuple[int, ...]) -> Tensor | None:
        """Scalar that a learned method adds to the total, or None."""
        return None

    def end_epoch(self) -> None:
        """Called by the trainer after each epoch; a method that needs epoch means extends it."""
        if self.schedule is not None:
            self.schedule.end_epoch()

    def __call__(
        self, losses: Mapping[str, Tensor], *, observed: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The total ``()`` of one step, at least float32.

        Where no task may take part (a schedule leaves out all that are present, a policy refuses them, or all
        were given a weight of 0), it is a 0 whose backward pass reaches nothing: every ``grad`` stays None,
        so that no optimizer moves.

        Args:
            losses: ``()`` loss of each task that has labels here; an absent task is simply not in the
                mapping.
            observed: losses averaged over all ranks, from which the weights follow; ``losses`` when None. A
                task that is present on another rank only appears here alone. See
                :func:`~medmtl.weighting.share_losses`.

        Raises:
            ConfigError: an unknown task, no task at all, or a loss that is not a scalar floating-point
                tensor.
            UnusableLossError: under ``skip-step`` or ``drop-task``, when no step can be taken any more.
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
        self._seen.update(observed)
        self._weights, self._raw_weights = {}, {}
        self._follow(next(iter(observed.values())).device)
        step = self._admit(observed)
        equal = self.schedule is not None and self.schedule.warming_up
        if self.schedule is not None:
            self.schedule.advance(step.names)
        if self.mute.issuperset(step.names):
            return torch.zeros((), device=self.alarm.steps.device, requires_grad=True)
        return self._total(losses, step, equal=equal)

    def _admit(self, observed: Mapping[str, Tensor]) -> _Step:
        """What takes part: the tasks that are due, without those that the policy refuses."""
        due = _Step.of(self, self.due(task for task in self.tasks if task in observed), observed)
        self.bad_losses.count(due.usable, due.present)
        kept = self.bad_losses.keep(due.names, due.usable)
        return due if kept == due.names else _Step.of(self, kept, observed)

    def _total(self, losses: Mapping[str, Tensor], step: _Step, *, equal: bool) -> Tensor:
        weighed = self.weigh(torch.where(step.usable, step.losses, torch.nan), step.present)
        if equal:
            even = torch.ones_like(step.losses)
            weighed = Weighed(weighed.raw, even, even / len(step.names))
        factors = torch.where(step.usable, weighed.weights, 0.0)
        self._weights = dict(zip(step.names, factors.detach().clone().unbind(), strict=True))
        self.decided()
        share = weighed.share() if callable(weighed.share) else weighed.share
        self.alarm.update(share.detach(), step.present, step.usable)
        self._raw_weights = dict(zip(step.names, weighed.raw.detach().clone().unbind(), strict=True))
        # A loss outside the domain makes the total NaN; a 0 does not, it only has nothing to teach.
        total = torch.where(step.usable | (step.losses == 0), 0.0, torch.nan).sum()
        here = [name for name in step.names if name in losses]
        if here:
            weights = dict(zip(step.names, factors.unbind(), strict=True))
            total = total + weighted_sum(weights, {name: losses[name] for name in here})
        else:
            total.requires_grad_()  # so that a rank without labels calls backward as the others do
        penalty = None if equal else self.penalty(step.present)
        return total if penalty is None else total + penalty

    def decided(self) -> None:
        """Called as soon as the weights of a step are known, before it is kept account of."""

    def due(self, names: Iterable[str]) -> list[str]:
        """Those of the tasks that the schedule lets take part in the coming step, on the host."""
        return list(names) if self.schedule is None else self.schedule.due(names)

    def objection(self, loss: float) -> str | None:
        """Why a loss must stop a run, such as "was not finite"; None if the policy is another, or it is fine.

        For logs, which see the losses later than the step that they belong to.
        """
        return objection(loss, self.domain) if self.bad_losses.policy == "stop" else None

    def bad_loss_steps(self) -> dict[str, int]:
        """Steps of this process on which a task's loss could not be used, by task. Waits for the device."""
        counts: list[int] = self.bad_losses.steps.tolist()
        return {task: count for task, count in zip(self.tasks, counts, strict=True) if count}

    def never_seen(self) -> tuple[str, ...]:
        """Tasks that have had no loss since this process began."""
        return tuple(task for task in self.tasks if task not in self._seen)

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
            gone = [task for task in saved if task not in self.tasks]
            new = [task for task in self.tasks if task not in saved]
            differ = [f"{', '.join(gone)} only there"] * bool(gone) + [f"{', '.join(new)} only here"] * bool(
                new
            )
            raise ConfigError(
                f"this weighting's state was saved for tasks {', '.join(saved)}, and cannot go on with "
                f"{', '.join(self.tasks)}: {'; '.join(differ) or 'the order differs'}"
            )

    def _follow(self, device: torch.device) -> None:
        """Moves the state to the losses' device on the first call there."""
        if self.alarm.steps.device != device:
            self.to(device)
