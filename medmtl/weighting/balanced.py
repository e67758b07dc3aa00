"""medmtl's default: losses over their start, weighed by the root of what is left; no units, nothing to tune.

Formula, for the P tasks present, with stop-gradient on everything but L_i:

S_i = mean of the task's first 20 losses                  its scale
r_i = (running mean of L_i over about 50 steps) / S_i     how much of the loss is left, 1 at the start
p   = softmax(-power log(r) / T), power = 1/2             T = 1, or the T > 1 with perplexity(p) = 0.8 P
u_i = floor / P + (1 - floor) p_i, floor = 0.1            so that every task keeps a share
total = P sum_i u_i L_i / S_i

Source: medmtl's own. Its parts: inverse losses (Kirchdorfer et al., GCPR 2024), losses over their start
(GradNorm, Chen et al., ICML 2018), perplexity as an effective number (Hill, Ecology 1973).

Why 1/2: near its optimum a squared error has a gradient that falls like the root of the loss, so that
L / sqrt(r) keeps a task's pull on the shared weights level while it learns. Power 1 (UW-O) lets that pull
grow as a loss nears 0, so that whoever learns first may win for good; power 0, where all tasks count alike,
lets it fade: better on three of five small problems, worse for the masks of hearts, which are learned first
and still matter (docs/explanation/task-weighting.md). T and floor bound what a power does.

When: by default; nothing to tune, units do not matter, and no mix of tasks collapses.
Costs: three numbers per task and a fixed, small number of operations per step, no wait for the device.
Fails: its bounds cost something where none are needed: where every task learns readily and has little noise,
UW-O gets the low-noise tasks lower. A task whose first 20 losses are not typical (a warm start on one task
only) is scaled wrongly for good. A loss that cannot fall is not told apart from one that has not fallen yet.
Masks beside many other tasks are learned later than with equal weights, which suit medmtl's own losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmtl.types import ConfigError
from medmtl.weighting._bad_losses import Domain
from medmtl.weighting._base import Weighting
from medmtl.weighting._checks import number, per_task
from medmtl.weighting._effective import spread_softmax
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._slots import pick, put
from medmtl.weighting._weighed import TINY, Weighed, finite, share_of

START = 20
"""Losses of a task whose mean is its scale."""

MEMORY = 0.98
"""Decay of the running mean, per appearance of the task."""


@WEIGHTINGS.register("balanced")
class BalancedWeights(Weighting):
    """Losses over their start, weighed by the root of what is left of them, within bounds.

    Args:
        tasks: names of the K tasks.
        power: how much smaller relative losses are preferred: 0 not at all, 1 as UW-O does; in 0..1.
        effective_share: least effective number of tasks, as a share of those present; above 0, at most 1.
        floor: part of the weight that is spread evenly whatever happens; in 0..1.
        importance: ``{task: factor of its share}``, applied last; tasks not named have 1.

    Raises:
        ConfigError: a value out of its range.
    """

    domain: Domain = "non-negative"

    importance: Tensor
    seen: Tensor
    start: Tensor
    recent: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        power: float = 0.5,
        effective_share: float = 0.8,
        floor: float = 0.1,
        importance: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(tasks)
        self.power = _within("power", power)
        self.floor = _within("floor", floor)
        self.effective_share = _within("effective_share", effective_share)
        if self.effective_share == 0:
            raise ConfigError("effective_share must be greater than 0")
        factors = per_task("importance", importance, self.tasks, default=1.0)
        self.register_buffer("importance", torch.tensor(factors, dtype=torch.float32))
        self.mute = frozenset(task for task, factor in zip(self.tasks, factors, strict=True) if factor == 0)
        for state in ("seen", "start", "recent"):
            self.register_buffer(state, torch.zeros(len(self.tasks)))

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """Shares from what is left of each loss; a loss never above 0 has no scale and gets weight 0."""
        usable = finite(losses) & ((losses > TINY) | (pick(self.seen, present) > 0))
        left, scale = self._remember(losses, present, usable)
        raw = torch.where(usable, left.pow(-self.power), 0.0)
        even = torch.where(usable, 1.0, 0.0) / usable.sum().clamp_min(1)
        spread = even  # where nothing is preferred there is no temperature to look for
        if self.power > 0:
            logits = torch.where(usable, -self.power * left.log(), 0.0)
            spread = spread_softmax(logits, usable, self.effective_share * usable.sum(), at_least=True)
        share = share_of(
            (self.floor * even + (1 - self.floor) * spread) * pick(self.importance, present), usable
        )
        return Weighed(raw, usable.sum() * share / scale, share)

    def _remember(self, losses: Tensor, present: tuple[int, ...], usable: Tensor) -> tuple[Tensor, Tensor]:
        """Takes the losses into the running means; what is left ``(P,)`` and the scales ``(P,)``."""
        seen, start, recent = (pick(state, present) for state in (self.seen, self.start, self.recent))
        seen = seen + usable
        start = torch.where(usable & (seen <= START), start + (losses - start) / seen, start)
        recent = torch.where(usable, MEMORY * recent + (1 - MEMORY) * losses, recent)
        for state, values in ((self.seen, seen), (self.start, start), (self.recent, recent)):
            put(state, present, values)
        scale = torch.where(usable, start, 1.0)
        mean = recent / (1 - MEMORY**seen)
        return torch.where(usable, mean / scale, 1.0).clamp_min(TINY), scale


def _within(option: str, value: object) -> float:
    result = number(option, value)
    if not 0 <= result <= 1:
        raise ConfigError(f"{option} must lie between 0 and 1; found {value!r}")
    return result
