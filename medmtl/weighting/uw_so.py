"""Soft optimal uncertainty weights: a temperature softmax of inverse losses.

Formula: w_i = exp(1 / (T L_i)) / sum_j exp(1 / (T L_j)), stop-gradient. Source: Kirchdorfer et al.,
"Analytical uncertainty-based loss weighting in multi-task learning", GCPR 2024 (UW-SO).
When: losses have like sizes, and T can be searched (5 to 20 values in 1..100, ``medmtl search --method
line``).
Costs: K exponentials; with ``effective_tasks`` a search of fixed length, no wait for the device.
Fails: it is not scale-free. A task with a small loss takes all the weight (on ACDC at T = 5 a regression
loss of 0.02 took 1.00 of 1 from a segmentation loss of 0.4). ``normalize_losses``, ``floor`` and
``effective_tasks`` each mend a part of that; :mod:`medmtl.weighting.balanced` is built from the start so
that it cannot happen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medmtl.types import ConfigError
from medmtl.weighting._checks import check_tasks, number
from medmtl.weighting._normalizers import EffectiveSoftmax, Normalizer, TemperatureSoftmax
from medmtl.weighting._raw import Inverse, gamma_of
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._scales import build_scale


@WEIGHTINGS.register("uw-so")
class SoftOptimalUncertaintyWeights(RawNormalized):
    """softmax(1 / (T L)) over the tasks present; with a temperature alone that and nothing more.

    Args:
        tasks: names of the K tasks.
        temperature: T > 0. Either this or ``effective_tasks``.
        effective_tasks: find T on each step so that the perplexity of the weights is this many tasks (1 to K;
            where fewer are present, at most their number).
        normalize_losses: ``none``; ``first`` (by each task's first loss); ``trivial`` (by
            ``trivial_losses``). The normalized losses take the losses' place everywhere, in the total too.
        trivial_losses: ``{task: loss of a predictor that has learned nothing}``.
        floor: least share of the weight, at least 0 and less than 1 / K.
        criteria: ``{task: "l1" | "l2" | "cross-entropy"}`` puts gamma = 1, 1/2, 1/2 over L; tasks not named
            have 1.
        importance: ``{task: factor of 1 / L}``; tasks not named have 1.
        imbalance: a second such factor, for priors that follow from label counts.

    Raises:
        ConfigError: neither or both of temperature and effective_tasks, or a value that cannot be used.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        temperature: float | None = None,
        effective_tasks: float | None = None,
        normalize_losses: str = "none",
        trivial_losses: Mapping[str, float] | None = None,
        floor: float = 0.0,
        criteria: Mapping[str, str] | None = None,
        importance: Mapping[str, float] | None = None,
        imbalance: Mapping[str, float] | None = None,
    ) -> None:
        names = check_tasks(tasks)
        super().__init__(
            names,
            raw=Inverse(gamma_of(criteria, names)),
            normalizer=_softmax(temperature, effective_tasks, len(names)),
            scale=build_scale(normalize_losses, names, trivial_losses),
            importance=importance,
            imbalance=imbalance,
            floor=floor,
        )


def _softmax(temperature: float | None, effective_tasks: float | None, n_tasks: int) -> Normalizer:
    if temperature is not None and effective_tasks is not None:
        raise ConfigError(
            "uw-so takes a temperature or effective_tasks, not both: the second one sets the first"
        )
    if temperature is not None:
        return TemperatureSoftmax(temperature=temperature)
    if effective_tasks is None:
        raise ConfigError(
            "uw-so needs a temperature (its paper searches 1 to 100), or effective_tasks to set it by"
        )
    if not 1 <= number("effective_tasks", effective_tasks) <= n_tasks:
        raise ConfigError(
            f"effective_tasks must lie in 1..{n_tasks}, the number of tasks; found {effective_tasks!r}"
        )
    return EffectiveSoftmax(effective_tasks=effective_tasks)
