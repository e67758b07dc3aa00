"""Any raw weights with any normalizer.

Formula: w = n(priors * r(L)), stop-gradient, with raw weights r and normalizer n by name. Source: the named
methods are points of this table (``uw-o`` = inverse x none, ``uw-so`` = inverse x temperature softmax);
soft-margin and Taylor softmax follow Liang et al., "Soft-margin softmax for deep classification", ICONIP
2017, and de Brebisson and Vincent, "An exploration of softmax alternatives", ICLR 2016.
When: a comparison of normalizers, or inverse weights that must sum to K (``sum-to-k``: UW-O's direction, a
bounded step).
Costs: a few operations on K numbers.
Fails: as its parts do; every softmax of inverse losses depends on their scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medmtl.registry import nearest
from medmtl.types import ConfigError
from medmtl.weighting._checks import check_tasks
from medmtl.weighting._normalizers import build_normalizer
from medmtl.weighting._raw import Constant, Inverse, RawWeights, gamma_of
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._scales import build_scale

RAW = ("constant", "inverse")


@WEIGHTINGS.register("normalized")
class NormalizedWeights(RawNormalized):
    """Raw weights and a normalizer chosen by name.

    Args:
        tasks: names of the K tasks.
        raw: ``constant`` (1 for every task; give ``importance``) or ``inverse`` (gamma / L).
        normalizer: ``none``, ``sum-to-k``, ``sum-to-1``, ``softmax``, ``temperature-softmax``,
            ``effective-softmax``, ``soft-margin-softmax`` or ``taylor-softmax``.
        temperature: T > 0 of the last two and of ``temperature-softmax``.
        margin: m of ``soft-margin-softmax``.
        effective_tasks: perplexity that ``effective-softmax`` aims at, at least 1.
        normalize_losses: ``none``, ``first`` or ``trivial``.
        trivial_losses: ``{task: loss of a predictor that has learned nothing}``.
        floor: least share of the weight, where the weights sum to a fixed number.
        criteria: ``{task: "l1" | "l2" | "cross-entropy"}`` for gamma; tasks not named have 1.
        importance: ``{task: factor of its raw weight}``.
        imbalance: a second such factor, for priors that follow from label counts.

    Raises:
        ConfigError: a name or a value that cannot be used.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        raw: str,
        normalizer: str,
        temperature: float | None = None,
        margin: float | None = None,
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
            raw=_raw(raw, criteria, names),
            normalizer=build_normalizer(
                normalizer, temperature=temperature, margin=margin, effective_tasks=effective_tasks
            ),
            scale=build_scale(normalize_losses, names, trivial_losses),
            importance=importance,
            imbalance=imbalance,
            floor=floor,
        )


def _raw(name: str, criteria: Mapping[str, str] | None, tasks: tuple[str, ...]) -> RawWeights:
    if name == "inverse":
        return Inverse(gamma_of(criteria, tasks))
    if name != "constant":
        raise ConfigError(f"unknown raw weights {name!r}{nearest(str(name), list(RAW))}")
    if criteria is not None:
        raise ConfigError("criteria set the gamma of inverse weights; constant raw weights have none")
    return Constant([1.0] * len(tasks))
