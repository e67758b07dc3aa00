"""Every normalizer against its formula, written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from medmtl.types import ConfigError
from medmtl.weighting import build_weighting
from medmtl.weighting._normalizers import NORMALIZERS, build_normalizer

RAW = torch.tensor([0.5, 1.5, 3.0])
OPTIONS: dict[str, dict[str, float]] = {
    "temperature-softmax": {"temperature": 2.0},
    "effective-softmax": {"effective_tasks": 2.0},
    "soft-margin-softmax": {"margin": 0.5},
}


def apply(
    name: str, raw: torch.Tensor = RAW, usable: torch.Tensor | None = None, **options: float
) -> torch.Tensor:
    usable = torch.ones(len(raw), dtype=torch.bool) if usable is None else usable
    return build_normalizer(name, **(options or OPTIONS.get(name, {})))(raw, usable)


def test_none_is_the_raw_weights() -> None:
    assert torch.equal(apply("none"), RAW)


def test_sums_are_one_and_the_number_of_tasks() -> None:
    torch.testing.assert_close(apply("sum-to-1"), RAW / 5)
    torch.testing.assert_close(apply("sum-to-k"), RAW * 3 / 5)


def test_softmax_with_and_without_a_temperature() -> None:
    """Of logarithms of 1, 4 and 25 it is their share, and at T = 2 that of their roots."""
    raw = torch.tensor([1.0, 4.0, 25.0]).log()
    torch.testing.assert_close(apply("softmax", raw), torch.tensor([1.0, 4.0, 25.0]) / 30)
    torch.testing.assert_close(apply("temperature-softmax", raw), torch.tensor([1.0, 2.0, 5.0]) / 8)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_soft_margin_softmax_takes_the_margin_off_the_own_logit(temperature: float) -> None:
    """Liang et al. 2017: exp(z_i - m) / (exp(z_i - m) + sum of the others), then divided by their sum."""
    z = [value / temperature for value in RAW.tolist()]
    parts = []
    for i, own in enumerate(z):
        others = sum(math.exp(other) for j, other in enumerate(z) if j != i)
        parts.append(math.exp(own - 0.5) / (math.exp(own - 0.5) + others))
    expected = torch.tensor([part / sum(parts) for part in parts])
    torch.testing.assert_close(apply("soft-margin-softmax", margin=0.5, temperature=temperature), expected)


def test_soft_margin_softmax_without_a_margin_is_the_softmax() -> None:
    torch.testing.assert_close(apply("soft-margin-softmax", margin=0.0), torch.softmax(RAW, 0))


@pytest.mark.parametrize(
    ("temperature", "parts"), [(1.0, [1.625, 3.625, 8.5]), (2.0, [1.28125, 2.03125, 3.625])]
)
def test_taylor_softmax_cuts_the_exponential_after_its_second_term(
    temperature: float, parts: list[float]
) -> None:
    """de Brebisson and Vincent 2016: 1 + z + z^2 / 2, by hand for z = (0.5, 1.5, 3) over T."""
    expected = torch.tensor(parts) / sum(parts)
    torch.testing.assert_close(apply("taylor-softmax", temperature=temperature), expected)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_huge_raw_weights_give_no_nan(name: str) -> None:
    weights = apply(name, torch.tensor([1e20, 1e20, 1e-20]))
    assert torch.isfinite(weights).all()
    assert weights[0] == weights[1]


@pytest.mark.parametrize("name", NORMALIZERS)
def test_a_task_without_a_usable_loss_leaves_the_rest_as_if_it_were_absent(name: str) -> None:
    usable = torch.tensor([True, False, True])
    weights = apply(name, torch.tensor([0.5, torch.nan, 3.0]), usable)
    torch.testing.assert_close(weights[usable], apply(name, torch.tensor([0.5, 3.0])))
    assert weights[1] == 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("softmaks", {}, "unknown normalizer 'softmaks'; did you mean 'softmax'"),
        ("softmax", {"temperature": 2.0}, "normalizer 'softmax' has no option 'temperature'"),
        ("temperature-softmax", {}, "needs the option 'temperature'"),
        ("taylor-softmax", {"temperature": 0}, "temperature must be greater than 0"),
        ("soft-margin-softmax", {}, "needs the option 'margin'"),
        ("effective-softmax", {"effective_tasks": 0.9}, "effective_tasks must be at least 1"),
    ],
)
def test_a_normalizer_that_cannot_be_built_is_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_normalizer(name, **options)


def test_inverse_weights_that_sum_to_k_keep_the_direction_of_uw_o() -> None:
    weighting = build_weighting("normalized", ("a", "b"), raw="inverse", normalizer="sum-to-k")
    weighting({"a": torch.tensor(0.1), "b": torch.tensor(0.3)})
    assert [w.item() for w in weighting.weights.values()] == pytest.approx([1.5, 0.5])


def test_importance_and_imbalance_multiply_the_raw_weight() -> None:
    weighting = build_weighting(
        "normalized",
        ("a", "b"),
        raw="constant",
        normalizer="sum-to-1",
        importance={"a": 3.0},
        imbalance={"b": 2.0},
    )
    weighting({"a": torch.tensor(0.1), "b": torch.tensor(0.3)})
    assert [w.item() for w in weighting.weights.values()] == pytest.approx([0.6, 0.4])
    assert [w.item() for w in weighting.raw_weights.values()] == pytest.approx([3.0, 2.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"raw": "invers", "normalizer": "none"}, "unknown raw weights 'invers'; did you mean 'inverse'"),
        (
            {"raw": "constant", "normalizer": "none", "criteria": {}},
            "constant raw weights take no option, not 'criteria'",
        ),
        ({"raw": "inverse", "normalizer": "none", "floor": 0.1}, "a floor needs weights that sum"),
        ({"raw": "inverse"}, "needs the option 'normalizer'"),
        (
            {"raw": "constant", "normalizer": "none", "importance": {"a": 0}, "imbalance": {"b": 0}},
            "nothing would be learned",
        ),
    ],
)
def test_a_combination_that_cannot_be_used_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_weighting("normalized", ("a", "b"), **options)
