"""GradNorm: weights that bring the tasks' gradients to one size, larger for tasks that learn slowly.

Formula, for the tasks present, on the shared weights that are compared:

G_i = mean over filters of |grad (w_i L_i)|               biases and scales of norms left out
l_i = phi^-1(L_i / L_i(0)), r_i = l_i / mean l            how slowly a task learns, 1 on average
L_grad = sum_i |G_i - sg(mean G) r_i^alpha|               sg: held constant

w takes one Adam step on L_grad, then the weights present are scaled back to the sum that they had, K in all.
L_grad moves only w. As w_i enters G_i linearly, its derivative is the plain norm times a sign: there is no
graph of second order, and nothing can leak into the network. phi^-1 undoes a transformed loss: L1 is the root
of a square, so its ratio is squared.
Source: Chen et al., "GradNorm: gradient normalization for adaptive loss balancing in deep multitask
networks", ICML 2018, equations 1 and 2 and algorithm 1.
When: gradients have unlike sizes. alpha about 0.1 for tasks alike, 1.5 for unlike ones. The paper's second
use is to train once more with the weights that it converged to: :meth:`GradNorm.converged_weights`.
Costs: K numbers and a handful of operations per step, no wait for the device.
Fails: weights move at most by about the learning rate per step, so it lags; a first loss that is not
typical misleads r for good; the layer on which norms are taken matters (in a U-Net the ratio of two tasks'
norms changes tenfold between layers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmtl.types import ConfigError
from medmtl.weighting._base import TINY
from medmtl.weighting._checks import criterion_of, number, positive
from medmtl.weighting._gradient_weighting import GradientWeighting, On
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._scales import FirstLoss
from medmtl.weighting._slots import pick, put
from medmtl.weighting._weighed import finite
from medmtl.weighting.gradients import Gradients

BETAS = (0.9, 0.999)
"""Adam's."""

LEAST = 1e-3
"""No weight falls below this: at 0 a task would never come back, below it would be unlearned."""

INVERSE = {"l1": 2.0, "l2": 1.0, "cross-entropy": 1.0}
"""By criterion the power that undoes the transformation of a loss."""

STATE = ("weight", "first_moment", "second_moment", "updates", "total")


@WEIGHTINGS.register("gradnorm")
class GradNorm(GradientWeighting):
    """Weights that learn to equalize gradient norms; heads are weighted too, as in the paper.

    Args:
        tasks: names of the K tasks.
        alpha: how much slower tasks are favoured; 0 equalizes the norms alone.
        learning_rate: of the weights.
        criteria: ``{task: "l1" | "l2" | "cross-entropy"}``; tasks not named are not transformed.
        on: where norms are taken: ``last_layers``, ``features`` or ``shared_parameters``.
        sketch: random projections per filter that stand for its gradient; 0 takes the gradient itself, and
            by default it is 8 where that is possible.

    Raises:
        ConfigError: a value out of its range, an unknown task or criterion, or an unknown ``on``.
    """

    weighs_heads = True
    domain = "non-negative"
    power: Tensor
    weight: Tensor
    first_moment: Tensor
    second_moment: Tensor
    updates: Tensor
    total: Tensor

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        alpha: float = 1.5,
        learning_rate: float = 0.025,
        criteria: Mapping[str, str] | None = None,
        on: On = "last_layers",
        sketch: int | None = None,
    ) -> None:
        super().__init__(tasks, on=on, sketch=sketch)
        self.alpha = number("alpha", alpha)
        if self.alpha < 0:
            raise ConfigError(f"alpha must not be negative; found {alpha!r}")
        self.learning_rate = positive("learning_rate", learning_rate)
        named = criterion_of(criteria, self.tasks, list(INVERSE))
        powers = [INVERSE[named.get(task, "l2")] for task in self.tasks]
        self.register_buffer("power", torch.tensor(powers), persistent=False)
        self.first_loss = FirstLoss(len(self.tasks))
        for name in STATE:
            self.register_buffer(name, torch.zeros(len(self.tasks)))
        self.weight.fill_(1.0)

    def balance(self, losses: Tensor, gradients: Gradients, present: tuple[int, ...]) -> Tensor:
        """The weights of this step; those of the next are learned from it."""
        scale = self.first_loss(losses, present)
        found = gradients.filter_norms.to(losses).mean(1)
        usable = finite(losses) & (scale > 0) & (found > 0)  # a gradient of 0 has nothing to balance
        norms = torch.where(usable, found, 0.0)
        ratio = torch.where(usable, losses.clamp_min(TINY) / scale, 0.0).pow(pick(self.power, present))
        ratio = torch.where(usable, ratio, 0.0)
        weights = pick(self.weight, present)
        learned = self._step(weights, self.pull(weights, norms, ratio, usable), present, usable)
        kept = torch.where(usable, weights, 0.0).sum() / torch.where(usable, learned, 0.0).sum()
        put(self.weight, present, torch.where(usable, learned * kept, weights))
        put(self.total, present, pick(self.total, present) + torch.where(usable, weights, 0.0))
        return weights

    def pull(self, weights: Tensor, norms: Tensor, ratio: Tensor, usable: Tensor) -> Tensor:
        """D L_grad / d w ``(P,)``, by hand.

        Args:
            weights: ``(P,)`` w.
            norms: ``(P,)`` mean norm of the plain loss's gradient over filters, so that G_i = w_i norms_i.
            ratio: ``(P,)`` l_i, loss over first loss, its transformation undone.
            usable: ``(P,)`` bool.
        """
        count = usable.sum().clamp_min(1)
        weighted = weights * norms
        slowness = ratio / (ratio.sum() / count).clamp_min(TINY)
        target = weighted.sum() / count * slowness.pow(self.alpha)
        return torch.where(usable, norms * torch.sign(weighted - target), 0.0)

    def _step(self, weights: Tensor, pull: Tensor, present: tuple[int, ...], usable: Tensor) -> Tensor:
        """One step of Adam (Kingma and Ba 2015) on the weights of the tasks that can be used."""
        one, two = BETAS
        updates = pick(self.updates, present) + usable
        first = pick(self.first_moment, present)
        second = pick(self.second_moment, present)
        first = torch.where(usable, one * first + (1 - one) * pull, first)
        second = torch.where(usable, two * second + (1 - two) * pull.square(), second)
        for buffer, values in (
            (self.updates, updates),
            (self.first_moment, first),
            (self.second_moment, second),
        ):
            put(buffer, present, values)
        done = updates.clamp_min(1)
        mean = first / (1 - one**done)
        spread = (second / (1 - two**done)).sqrt()
        step = torch.where(spread > 0, mean / spread.clamp_min(TINY), 0.0)
        return (weights - self.learning_rate * step).clamp_min(LEAST)

    def converged_weights(self) -> dict[str, float]:
        """Mean weight of each task over the steps in which it took part, scaled to a sum of K.

        For a second training with ``scalarization`` and these weights. Waits for the device.

        Raises:
            ConfigError: a task has not taken part in any step.
        """
        unseen = [task for task, n in zip(self.tasks, self.updates.tolist(), strict=True) if n == 0]
        if unseen:
            raise ConfigError(
                f"{', '.join(map(repr, unseen))} had no loss so far, so no weight has converged to anything"
            )
        mean = self.total / self.updates
        values: list[float] = (mean * len(self.tasks) / mean.sum()).tolist()
        return dict(zip(self.tasks, values, strict=True))
