"""Any raw weights with any normalizer.

Formula: w = n(priors * r(L)), stop-gradient, with raw weights r and normalizer n by name.
Source: the named methods are points of this table (``uw-o`` = inverse x none, ``uw-so`` = inverse x
temperature softmax); soft-margin and Taylor softmax follow Liang et al., "Soft-margin softmax for deep
classification", ICONIP 2017, and de Brebisson and Vincent, "An exploration of softmax alternatives belonging
to the spherical loss family", ICLR 2016.
When: a comparison of normalizers, or inverse weights that must sum to K (``sum-to-k``: UW-O's direction, a
bounded step).
Costs: a few operations on K numbers.
Fails: as its parts do; every softmax of inverse losses depends on their scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medmtl.registry import nearest
from medmtl.types import ConfigError
from medmtl.weighting._checks import check_tasks, position_of
from medmtl.weighting._normalizers import build_normalizer
from medmtl.weighting._raw import Constant, Inverse, RawWeights, gamma_of
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._scales import build_scale
from medmtl.weighting.dwa import DescentRate
from medmtl.weighting.dynamic_scaling import EpochLossRatio
from medmtl.weighting.handcrafted import FirstLossRatio
from medmtl.weighting.rlw import LogNormal

RAW: dict[str, str | None] = {
    "constant": None,
    "inverse": "criteria",
    "first-loss": "reference",
    "epoch-loss": "reference",
    "descent-rate": None,
    "random": "seed",
}
"""Raw weights by name, with the one option that each takes."""


@WEIGHTINGS.register("normalized")
class NormalizedWeights(RawNormalized):
    """Raw weights and a normalizer chosen by name.

    Args:
        tasks: names of the K tasks.
        raw: ``constant`` (1 for every task; give ``importance``), ``inverse`` (gamma / L), ``first-loss``
            (first loss of the reference over own, as ``handcrafted``), ``epoch-loss`` (last epoch's mean loss
            of the reference over own, as ``dynamic-scaling``), ``descent-rate`` (as ``dwa``) or ``random``
            (exp of a normal draw, as ``rlw``).
        normalizer: ``none``, ``sum-to-k``, ``sum-to-1``, ``softmax``, ``temperature-softmax``,
            ``effective-softmax``, ``soft-margin-softmax`` or ``taylor-softmax``.
        temperature: T > 0 of the last two and of ``temperature-softmax``.
        margin: m of ``soft-margin-softmax``.
        effective_tasks: perplexity that ``effective-softmax`` aims at, at least 1.
        normalize_losses: ``none``, ``first`` or ``trivial``.
        trivial_losses: ``{task: loss of a predictor that has learned nothing}``.
        floor: least share of the weight, where the weights sum to a fixed number.
        criteria: ``{task: "l1" | "l2" | "cross-entropy"}`` for the gamma of ``inverse``; otherwise 1.
        reference: reference task of ``first-loss`` and ``epoch-loss``.
        seed: of ``random``; 0 when None.
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
        reference: str | None = None,
        seed: int | None = None,
        importance: Mapping[str, float] | None = None,
        imbalance: Mapping[str, float] | None = None,
    ) -> None:
        names = check_tasks(tasks)
        super().__init__(
            names,
            raw=_raw(raw, names, criteria=criteria, reference=reference, seed=seed),
            normalizer=build_normalizer(
                normalizer, temperature=temperature, margin=margin, effective_tasks=effective_tasks
            ),
            scale=build_scale(normalize_losses, names, trivial_losses),
            importance=importance,
            imbalance=imbalance,
            floor=floor,
        )


def _raw(
    name: str,
    tasks: tuple[str, ...],
    *,
    criteria: Mapping[str, str] | None,
    reference: str | None,
    seed: int | None,
) -> RawWeights:
    if name not in RAW:
        raise ConfigError(f"unknown raw weights {name!r}{nearest(str(name), list(RAW))}")
    given = {"criteria": criteria, "reference": reference, "seed": seed}
    for option, value in given.items():
        if value is not None and option != RAW[name]:
            raise ConfigError(f"{name} raw weights take {RAW[name] or 'no option'}, not {option!r}")
    if name == "constant":
        return Constant([1.0] * len(tasks))
    if name == "inverse":
        return Inverse(gamma_of(criteria, tasks))
    if name == "descent-rate":
        return DescentRate(len(tasks))
    if name == "random":
        return LogNormal(tasks, 0 if seed is None else seed)
    if reference is None:
        raise ConfigError(f"{name} raw weights need the option 'reference', the name of a task")
    ratio = FirstLossRatio if name == "first-loss" else EpochLossRatio
    return ratio(len(tasks), position_of("reference", reference, tasks))
