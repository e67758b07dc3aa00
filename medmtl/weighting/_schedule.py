"""When a task takes part in a step: asynchronous backpropagation, and equal weights at the start.

Source: Leang et al., "Dynamic task weighting methods for multi-task networks in autonomous driving systems",
ITSC 2020 (task-wise asynchronous backpropagation, task k every nu_k iterations or epochs).

All of it is known on the host, so that nothing waits for the device: the clock counts Python integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from medmtl.registry import nearest
from medmtl.types import ConfigError
from medmtl.weighting._checks import whole

Clock = Literal["iteration", "epoch"]
NEVER = -1


class Schedule(nn.Module):
    """Which tasks are due, and whether the weights are still equal.

    A task with a period of n is due when at least n iterations (epochs) have begun since it last took part,
    so that a task whose labels come seldom is not missed because they fall between its turns. Per epoch, a
    task that took part in an epoch is due for the whole of it.

    Args:
        tasks: names of the K tasks.
        every: ``{task: n}``, n at least 1; tasks not named have 1.
        per: what ``every`` counts, ``iteration`` or ``epoch``.
        warmup_steps: steps with equal weights (1, as ``ew``) before the method's own.
        warmup_epochs: the same, in epochs; one of the two.

    Raises:
        ConfigError: an unknown task or clock, a number that is out of range, or both kinds of warm-up.
    """

    def __init__(
        self,
        tasks: tuple[str, ...],
        *,
        every: Mapping[str, int] | None = None,
        per: Clock = "iteration",
        warmup_steps: int = 0,
        warmup_epochs: int = 0,
    ) -> None:
        super().__init__()
        self.tasks = tasks
        self.every = _periods(every, tasks)
        if per not in ("iteration", "epoch"):
            raise ConfigError(f"unknown per {per!r}{nearest(str(per), ['iteration', 'epoch'])}")
        if per == "epoch" and every is None:
            raise ConfigError("per says what `every` counts; give every: {task: n}, or leave per out")
        self.per = per
        self.warmup_steps = whole("warmup_steps", warmup_steps, at_least=0)
        self.warmup_epochs = whole("warmup_epochs", warmup_epochs, at_least=0)
        if self.warmup_steps and self.warmup_epochs:
            raise ConfigError("give warmup_steps or warmup_epochs, not both")
        self.step = 0
        self.epoch = 0
        self.last = dict.fromkeys(tasks, NEVER)

    @property
    def now(self) -> int:
        """Number of the present iteration or epoch."""
        return self.step if self.per == "iteration" else self.epoch

    @property
    def warming_up(self) -> bool:
        """Whether the weights of the present step are equal."""
        return self.step < self.warmup_steps or self.epoch < self.warmup_epochs

    def due(self, names: Iterable[str]) -> list[str]:
        """Those of the tasks that may take part in the present step."""
        return [name for name in names if self._is_due(name)]

    def _is_due(self, task: str) -> bool:
        last = self.last[task]
        waited = self.now - last
        in_its_epoch = self.per == "epoch" and waited == 0
        return last == NEVER or in_its_epoch or waited >= self.every[task]

    def advance(self, took_part: Iterable[str]) -> None:
        """Closes a step."""
        for name in took_part:
            self.last[name] = self.now
        self.step += 1

    def end_epoch(self) -> None:
        """Closes an epoch."""
        self.epoch += 1

    def get_extra_state(self) -> Tensor:
        """The clock as ``(2 + K,)`` int64: step, epoch, and when each task last took part."""
        return torch.tensor([self.step, self.epoch, *self.last.values()], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Sets the clock."""
        self.step, self.epoch, *last = (int(number) for number in state.tolist())
        self.last = dict(zip(self.tasks, last, strict=True))


def _periods(every: object, tasks: tuple[str, ...]) -> dict[str, int]:
    if every is None:
        return dict.fromkeys(tasks, 1)
    if not isinstance(every, Mapping):
        raise ConfigError(f"every must be {{task: n}}, such as {{{tasks[0]}: 3}}; found {every!r}")
    for name in every:
        if name not in tasks:
            raise ConfigError(f"every has an unknown task {name!r}{nearest(str(name), list(tasks))}")
    return {task: whole(f"every[{task!r}]", every.get(task, 1), at_least=1) for task in tasks}
