"""What happens to a loss that a method cannot weigh: NaN, infinite, negative, or zero where it is divided by.

``stop`` (the default) costs nothing: the loss is noticed and counted on the device, its task weighs 0, the
total becomes NaN, and whoever reads the losses later (medmtl's trainer every 25 steps) names the task and
stops. ``skip-step`` and ``drop-task`` have to know before the backward pass, so they wait for the device once
per step. Under ``drop-task`` the task is absent on that step, as if it had no label.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medmtl.registry import nearest
from medmtl.types import ConfigError, MedmtlError
from medmtl.weighting._slots import pick, put
from medmtl.weighting._weighed import finite

LOG = logging.getLogger("medmtl.weighting")

Domain = Literal["finite", "non-negative", "positive"]
"""Losses that a method can weigh."""

Policy = Literal["stop", "skip-step", "drop-task"]
POLICIES: tuple[Policy, ...] = ("stop", "skip-step", "drop-task")

PATIENCE = 100
"""Steps in a row without any update before a run that learns nothing is stopped."""


class UnusableLossError(MedmtlError):
    """A loss that cannot be trained on; the message names the task."""

    exit_code = 1


def within(losses: Tensor, domain: Domain) -> Tensor:
    """Which of the losses ``(P,)`` a method with this domain can weigh, ``(P,)`` bool."""
    known = finite(losses)
    if domain == "finite":
        return known
    return known & (losses >= 0 if domain == "non-negative" else losses > 0)


def objection(loss: float, domain: Domain) -> str | None:
    """What is wrong with a loss for a method with this domain, or None."""
    if not math.isfinite(loss):
        return "was not finite"
    if loss < 0 and domain != "finite":
        return f"was negative ({loss:.3g}), which this weighting cannot weigh"
    if loss == 0 and domain == "positive":
        return "was 0, which this weighting cannot divide by"
    return None


def check_policy(policy: object) -> Policy:
    """The policy.

    Raises:
        ConfigError: there is none of that name.
    """
    for known in POLICIES:
        if policy == known:
            return known
    raise ConfigError(f"unknown on_bad_loss {policy!r}{nearest(str(policy), list(POLICIES))}")


class BadLosses(nn.Module):
    """Counts bad losses by task, and keeps them out of a step where the policy says so.

    Args:
        tasks: names of the K tasks.
    """

    steps: Tensor

    def __init__(self, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.tasks = tasks
        self.policy: Policy = "stop"
        self.told = dict.fromkeys(tasks, 0)
        self.skipped = 0
        # A report on this process, not a part of the method's state.
        self.register_buffer("steps", torch.zeros(len(tasks), dtype=torch.int64), persistent=False)

    def count(self, usable: Tensor, present: tuple[int, ...]) -> None:
        """Counts one step on the device; ``usable`` is ``(P,)`` bool."""
        if present:
            put(self.steps, present, pick(self.steps, present) + ~usable)

    def keep(self, names: Sequence[str], usable: Tensor) -> list[str]:
        """The tasks that take part in this step. Waits for the device, unless the policy is ``stop``.

        Raises:
            UnusableLossError: no step in the last 100 could be taken.
        """
        if self.policy == "stop":
            return list(names)
        flags: list[bool] = usable.tolist()
        bad = [name for name, good in zip(names, flags, strict=True) if not good]
        skip = bool(bad) and (self.policy == "skip-step" or len(bad) == len(names))
        for name in bad:
            self._tell(name, "the step is skipped" if skip else "the step goes on without the task")
        self.skipped = self.skipped + 1 if skip else 0
        if self.skipped >= PATIENCE:
            raise UnusableLossError(
                f"no step in the last {PATIENCE} could be taken: {', '.join(map(repr, bad))} had no loss "
                "that can be trained on; look at the labels of that task, or lower training.learning_rate"
            )
        return [] if skip else [name for name in names if name not in bad]

    def _tell(self, task: str, what: str) -> None:
        """Logs the 1st, 2nd, 4th, 8th, ... bad loss of a task: never silent, and no flood."""
        self.told[task] += 1
        count = self.told[task]
        if count & (count - 1) == 0:
            LOG.warning("the loss of task %r cannot be used, for the %d. time: %s", task, count, what)
