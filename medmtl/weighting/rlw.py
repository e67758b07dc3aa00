"""Random loss weighting: new weights are drawn on every step.

Formula: w = softmax(z), z_i drawn from N(0, 1) on every step; raw weight exp(z_i), then sum to 1.
Source: Lin et al., "Reasonable effectiveness of random weighting: a litmus test for multi-task learning",
TMLR 2022 (RLW, normal distribution).
When: as a litmus test: a method that does not beat it has not shown that its weights matter.
Costs: K draws on the host.
Fails: the average weight is 1/K, so units matter as they do for ``ew``, with noise on top: it wants a smaller
learning rate or more steps.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmtl.weighting._checks import check_tasks, whole
from medmtl.weighting._normalizers import SumTo1
from medmtl.weighting._raw import RawWeights
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS


class LogNormal(RawWeights):
    """exp(z) with z from N(0, 1), drawn anew on every step.

    A draw follows from the seed, the task's name and the number of the step, and from nothing else: every
    rank draws the same, the order of the tasks does not matter, an absent task changes nothing, and the
    state is one number. It is drawn on the host, so that every kind of device sees the same.

    Args:
        tasks: names of the K tasks.
        seed: of the draws.

    Raises:
        ConfigError: the seed is not a whole number of at least 0.
    """

    def __init__(self, tasks: tuple[str, ...], seed: int) -> None:
        super().__init__()
        self.tasks = tasks
        self.seed = whole("seed", seed, at_least=0)
        self.step = 0

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The next draws of the tasks present."""
        self.step += 1
        draws = torch.tensor([self._draw(self.tasks[position]) for position in present], dtype=torch.float32)
        return draws.to(losses.device, non_blocking=True).exp()

    def _draw(self, task: str) -> float:
        # A text as the seed is hashed (SHA-512), so that neighbouring seeds and steps share nothing.
        return random.Random(f"{self.seed} {self.step} {task}").gauss(0.0, 1.0)

    def get_extra_state(self) -> Tensor:
        """Steps drawn for so far, ``()`` int64."""
        return torch.tensor(self.step, dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Goes on after so many steps."""
        self.step = int(state)


@WEIGHTINGS.register("rlw")
class RandomWeights(RawNormalized):
    """softmax of normal draws over the tasks present.

    Args:
        tasks: names of the K tasks.
        seed: of the draws.
        importance: ``{task: factor of exp(z)}``; tasks not named have 1.
        imbalance: a second such factor, for priors that follow from label counts.

    Raises:
        ConfigError: the seed or a factor cannot be used.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        seed: int = 0,
        importance: Mapping[str, float] | None = None,
        imbalance: Mapping[str, float] | None = None,
    ) -> None:
        names = check_tasks(tasks)
        super().__init__(
            names,
            raw=LogNormal(names, seed),
            normalizer=SumTo1(),
            importance=importance,
            imbalance=imbalance,
        )
