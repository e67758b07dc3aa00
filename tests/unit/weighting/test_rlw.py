"""Random loss weighting: the distribution of its paper, the same draw for everybody, resumable."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medmtl.types import ConfigError
from medmtl.weighting import Weighting, build_weighting
from medmtl.weighting._normalizers import SumTo1
from tests.helpers.losses import weigh

TASKS = ("anatomy", "disease", "function")
LOSSES = {"anatomy": 0.4, "disease": 0.8, "function": 0.02}


def drawn_by(weighting: Weighting, losses: dict[str, float] = LOSSES) -> list[float]:
    return list(weigh(weighting, losses).values())


@pytest.mark.parametrize("seed", [-1, 0.5, True, "7"])
def test_a_seed_that_is_no_whole_number_of_at_least_0_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigError, match="seed must be a whole number of at least 0"):
        build_weighting("rlw", TASKS, seed=seed)


def test_the_weights_sum_to_1_and_are_one_over_the_number_of_tasks_on_average() -> None:
    weighting = build_weighting("rlw", TASKS)
    drawn = torch.tensor([drawn_by(weighting) for _ in range(2000)])
    torch.testing.assert_close(drawn.sum(1), torch.ones(2000))
    assert drawn.mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.015)


def test_raw_weights_are_exponentials_of_standard_normal_draws() -> None:
    weighting = build_weighting("rlw", TASKS)
    draws = []
    for _ in range(2000):
        drawn_by(weighting)
        draws.append([raw.log().item() for raw in weighting.raw_weights.values()])
    z = torch.tensor(draws)
    assert z.mean().item() == pytest.approx(0, abs=0.05)
    assert z.std().item() == pytest.approx(1, abs=0.05)
    assert torch.corrcoef(z.T).fill_diagonal_(0).abs().max().item() < 0.08
    assert torch.corrcoef(torch.stack([z[:-1, 0], z[1:, 0]]))[0, 1].abs().item() < 0.08


def test_given_the_draws_the_total_is_that_of_torchjd() -> None:
    """TorchJD 0.18 Random: softmax of torch.randn, which medmtl writes as exp, then sum to 1."""
    scalarization = pytest.importorskip("torchjd.scalarization", reason="torchjd is not installed: no oracle")
    values = torch.tensor([0.4, 0.8, 0.02])
    torch.manual_seed(5)
    weights = SumTo1()(torch.randn(3).exp(), torch.ones(3, dtype=torch.bool))
    torch.manual_seed(5)
    torch.testing.assert_close((weights * values).sum(), scalarization.Random()(values))


def test_two_ranks_draw_the_same_and_other_seeds_draw_otherwise() -> None:
    one, same, other = (build_weighting("rlw", TASKS, seed=seed) for seed in (3, 3, 4))
    for _ in range(3):
        drawn = drawn_by(one)
        assert drawn == drawn_by(same)
        assert drawn != drawn_by(other)


def test_neither_the_global_generators_nor_the_losses_have_a_say() -> None:
    one, other = build_weighting("rlw", TASKS), build_weighting("rlw", TASKS)
    torch.manual_seed(0)
    drawn = drawn_by(one)
    torch.manual_seed(1)
    assert drawn_by(other, dict.fromkeys(TASKS, 7.0)) == drawn


def test_importance_multiplies_the_odds() -> None:
    plain, raised = build_weighting("rlw", TASKS), build_weighting("rlw", TASKS, importance={"disease": 3.0})
    a, b, _ = drawn_by(plain)
    c, d, _ = drawn_by(raised)
    assert d / c == pytest.approx(3 * b / a, rel=1e-5)
