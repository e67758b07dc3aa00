"""Options that every weighting takes beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from medmtl.weighting._bad_losses import Policy, check_policy
from medmtl.weighting._schedule import Clock, Schedule

if TYPE_CHECKING:
    from medmtl.weighting._base import Weighting


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """A schedule on top of a method, and what to do with a loss that cannot be trained on.

    Attributes:
        every: ``{task: n}``: the task takes part in every n-th step only; on the others it is absent.
        per: what ``every`` counts, ``iteration`` or ``epoch``.
        warmup_steps: steps with equal weights at the start, while the method already watches the losses.
        warmup_epochs: the same, in epochs; one of the two.
        on_bad_loss: for a loss that is NaN, infinite, negative, or 0 where the method divides by it:
            ``stop`` the run, ``skip-step`` or ``drop-task`` on that step.
    """

    every: Mapping[str, int] | None = None
    per: Clock = "iteration"
    warmup_steps: int = 0
    warmup_epochs: int = 0
    on_bad_loss: Policy = "stop"

    def apply(self, weighting: Weighting) -> None:
        """Gives a freshly built weighting its schedule and policy.

        Raises:
            ConfigError: a value that cannot be used.
        """
        schedule = Schedule(
            weighting.tasks,
            every=self.every,
            per=self.per,
            warmup_steps=self.warmup_steps,
            warmup_epochs=self.warmup_epochs,
        )
        if self.every or self.warmup_steps or self.warmup_epochs:
            weighting.schedule = schedule
        weighting.bad_losses.policy = check_policy(self.on_bad_loss)


COMMON: tuple[str, ...] = tuple(field.name for field in fields(CommonOptions))
"""Names of the options that every weighting takes."""
