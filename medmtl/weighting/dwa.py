"""Dynamic weight average: tasks whose loss falls slowly get more.

Formula: w_i(t) = K softmax(r_i / T) with r_i = L_i(t - 1) / L_i(t - 2), epoch means; r_i = 1 for two epochs.
Source: Liu, Johns, Davison, "End-to-end multi-task learning with attention", CVPR 2019, equation 7, T = 2.
When: losses have like sizes and only their speed should matter. It is scale-free.
Costs: a sum per task and step.
Fails: ratios of neighbouring epochs are near 1, so weights stay nearly equal; noisy epochs move them at
random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from medmtl.weighting._bad_losses import Domain
from medmtl.weighting._checks import check_tasks
from medmtl.weighting._epoch_means import EpochMeans
from medmtl.weighting._normalizers import TemperatureSoftmax
from medmtl.weighting._raw import RawWeights, ratio_where_known
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._slots import pick


class DescentRate(RawWeights):
    """Mean loss of the last epoch over that of the one before, of the epochs in which a task appeared.

    Args:
        n_tasks: number of tasks K.
    """

    domain: Domain = "non-negative"

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.means = EpochMeans(n_tasks)

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The rates, taking the losses into this epoch's means; 1 while there are fewer than two epochs."""
        self.means.add(losses, present)
        last, before = pick(self.means.last, present), pick(self.means.before, present)
        return ratio_where_known(last, before)

    def end_epoch(self) -> None:
        """Closes the epoch's means."""
        self.means.close()


class SoftmaxTimesK(TemperatureSoftmax):
    """K softmax(raw / T) with K the number of usable tasks present."""

    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        """Weights that sum to K."""
        return super().__call__(raw, usable) * usable.sum()


@WEIGHTINGS.register("dwa")
class DynamicWeightAverage(RawNormalized):
    """K softmax(descent rate / T); the trainer calls :meth:`~medmtl.weighting.Weighting.end_epoch`.

    Args:
        tasks: names of the K tasks.
        temperature: T > 0; the paper's is 2.
        importance: ``{task: factor of its rate}``; tasks not named have 1.
        imbalance: a second such factor, for priors that follow from label counts.

    Raises:
        ConfigError: a temperature that is not above 0, or a factor that cannot be used.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        temperature: float = 2.0,
        importance: Mapping[str, float] | None = None,
        imbalance: Mapping[str, float] | None = None,
    ) -> None:
        names = check_tasks(tasks)
        super().__init__(
            names,
            raw=DescentRate(len(names)),
            normalizer=SoftmaxTimesK(temperature=temperature),
            importance=importance,
            imbalance=imbalance,
        )
