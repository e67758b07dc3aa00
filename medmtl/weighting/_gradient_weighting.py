"""What every gradient-based weighting is: gradients of the tasks on shared weights in, weights out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from medmtl.registry import nearest
from medmtl.types import ConfigError
from medmtl.weighting._base import Weighed, Weighting, share_of
from medmtl.weighting._weighed import finite
from medmtl.weighting.gradients import Gradients

On = Literal["last_layers", "features", "shared_parameters"]
"""Where the tasks' gradients are compared, see `medmtl.engine.cut`."""


class GradientWeighting(Weighting):
    """Weighs tasks by their gradients; the encoder gets sum_i w_i g_i.

    A member implements :meth:`balance`. What lies between a task's loss and the cut (its head, its decoder)
    gets the gradient of the plain loss, as in the papers' algorithms, unless ``weighs_heads`` is set: the
    conflict is about shared weights, and a head should not stop because its task got no say in them.

    Args:
        tasks: names of the K tasks.
        on: where gradients are compared: on the weights of the ``last_layers`` before each pyramid level;
            on the ``features`` themselves, allowed only while all tasks label the same samples; or on all
            ``shared_parameters``, exact, which costs a backward pass through the encoder for each task.
        sketch: on ``last_layers``, compare each filter's gradient by so many random projections of it, which
            is cheaper and nearly as good from 8 on; 0 compares the gradients themselves. None takes 8 where
            the backbone opens its last convolutions, and 0 elsewhere.

    Attributes:
        weighs_heads: heads and decoders are weighted like the encoder.

    Raises:
        ConfigError: tasks that cannot be used, an unknown ``on``, or a ``sketch`` that is negative or not on
            ``last_layers``.
    """

    weighs_heads = False

    def __init__(self, tasks: Sequence[str], *, on: On = "last_layers", sketch: int | None = None) -> None:
        super().__init__(tasks)
        if on not in get_args(On):
            raise ConfigError(f"unknown on {on!r}{nearest(str(on), list(get_args(On)))}")
        if sketch is not None and (sketch < 0 or (sketch and on != "last_layers")):
            raise ConfigError(f"sketch is a number of projections on last_layers; found {sketch!r} on {on}")
        self.on, self.sketch = on, sketch
        self._gradients: Gradients | None = None
        self._push: Callable[[Mapping[str, Tensor]], None] | None = None

    @abstractmethod
    def balance(self, losses: Tensor, gradients: Gradients, present: tuple[int, ...]) -> Tensor:
        """Decides the weights ``(P,)`` of one step.

        Args:
            losses: ``(P,)`` detached float32 losses; NaN where a task cannot be used.
            gradients: of the same P tasks; rows of tasks that cannot be used hold anything.
            present: positions in ``tasks`` of the P tasks, ascending.
        """

    def __call__(
        self,
        losses: Mapping[str, Tensor],
        *,
        observed: Mapping[str, Tensor] | None = None,
        gradients: Gradients | None = None,
        push: Callable[[Mapping[str, Tensor]], None] | None = None,
    ) -> Tensor:
        """The total ``()`` of one step: sum_i w_i L_i, for the log. The update is made of the weights.

        Args:
            losses: ``()`` loss of each task that has labels here.
            observed: losses averaged over all ranks; ``losses`` when None.
            gradients: of every task in ``observed``, over all ranks.
            push: called with the weights as soon as they are known, so that a device has work while the step
                is kept account of; not where no task takes part.

        Raises:
            ConfigError: no gradients, or none of a task that has a loss; otherwise as `Weighting`.
        """
        seen = losses if observed is None else observed
        if gradients is None:
            if self.due(seen):
                raise ConfigError(
                    f"{type(self).__name__} weighs tasks by their gradients, which losses do not carry; "
                    "train with medmtl.engine.train_step, or give `gradients`"
                )
            return super().__call__(losses, observed=observed)
        for name in self.due(seen):
            if name in self.tasks and name not in gradients.tasks:
                raise ConfigError(f"gradients has no row for {name!r}, which has a loss")
        self._gradients, self._push = gradients, push
        try:
            return super().__call__(losses, observed=self._usable(seen, gradients))
        finally:
            self._gradients = self._push = None

    def decided(self) -> None:
        """Pushes."""
        if self._push is not None:
            self._push(self.weights)

    @staticmethod
    def _usable(losses: Mapping[str, Tensor], gradients: Gradients) -> dict[str, Tensor]:
        """A task whose gradient is not finite has no loss that can be used; the policy deals with both."""
        finite = dict(zip(gradients.tasks, gradients.finite().unbind(), strict=True))
        return {
            name: torch.where(finite[name], loss, torch.nan) if name in finite else loss
            for name, loss in losses.items()
        }

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """The weights from the gradients; a task's share is that of its weighted gradient's norm."""
        assert self._gradients is not None
        gradients = self._gradients.select([self.tasks[position] for position in present])
        usable, norms = finite(losses), gradients.norms().to(losses)
        weights = torch.where(usable, self.balance(losses, gradients, present).to(losses), 0.0)
        return Weighed(weights, weights, lambda: share_of(weights.abs() * norms, usable))


class GramianWeighting(GradientWeighting):
    """Weights that follow from the inner products of the tasks' gradients alone, without any state.

    The ``(P, P)`` Gramian goes to the CPU in float64, scaled to a mean diagonal of 1, with the tasks in the
    order of their names, so that the order in which they were declared decides nothing. This waits for the
    device once per step.
    """

    @abstractmethod
    def solve(self, gramian: Tensor) -> Tensor:
        """Weights ``(P,)`` from a Gramian ``(P, P)`` float64 on the CPU with a mean diagonal of 1."""

    def unscaled(self, weights: Tensor, scale: float) -> Tensor:
        """Weights for gradients whose squared norms are ``scale`` times as large; the same by default."""
        return weights

    def balance(self, losses: Tensor, gradients: Gradients, present: tuple[int, ...]) -> Tensor:
        """The solution for the tasks that can be used; 1 for a task whose gradient is 0, which has no row."""
        names = [self.tasks[position] for position in present]
        known = torch.cat([gradients.gramian.detach().double(), losses.double()[None]]).cpu()  # one wait
        gramian = known[:-1]
        usable: list[bool] = (finite(known[-1]) & (gramian.diagonal() > 0)).tolist()
        rows = sorted((i for i in range(len(names)) if usable[i]), key=names.__getitem__)
        weights = torch.ones(len(names), dtype=torch.float64)
        if rows:
            index = torch.tensor(rows)
            part = gramian[index][:, index]
            scale = part.diagonal().mean().item()
            weights[index] = self.unscaled(self.solve(part / scale), scale)
        return weights.to(losses)
