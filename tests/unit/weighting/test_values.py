"""Golden values, each with its origin."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medmtl.weighting import Weighting, build_weighting

TASKS = ("anatomy", "disease", "function")


def losses(*values: float) -> dict[str, Tensor]:
    return {task: torch.tensor(value, requires_grad=True) for task, value in zip(TASKS, values, strict=True)}


def weights_of(weighting: Weighting) -> list[float]:
    return [weight.item() for weight in weighting.weights.values()]


def minimize(weighting: Weighting, loss: float) -> None:
    """Brings the learned weights to their optimum for a loss that stays."""
    optimizer = torch.optim.LBFGS(weighting.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = weighting({"task": torch.tensor(loss)})
        total.backward()
        return total

    optimizer.step(closure)
    weighting({"task": torch.tensor(loss)})


@pytest.mark.parametrize(("temperature", "first"), [(2.0, 0.997), (5.0, 0.88), (20.0, 0.49)])
def test_uw_so_weights_are_the_published_ones(temperature: float, first: float) -> None:
    """softmax(1 / (T L)) at L = (.07, .7, 2.1), worked out when the methods were surveyed."""
    weighting = build_weighting("uw-so", TASKS, temperature=temperature)
    weighting(losses(0.07, 0.7, 2.1))
    assert weighting.weights["anatomy"].item() == pytest.approx(first, abs=0.006)


def test_uw_so_is_exactly_a_softmax_of_inverse_losses() -> None:
    """Kirchdorfer et al., GCPR 2024: where exp(1 / (T L)) is 5, 3 and 2, the weights are their shares."""
    weighting = build_weighting("uw-so", TASKS, temperature=20.0)
    five, three, two = (1 / (20 * math.log(part)) for part in (5, 3, 2))
    total = weighting(losses(five, three, two))
    assert weights_of(weighting) == pytest.approx([0.5, 0.3, 0.2])
    assert total.item() == pytest.approx(0.5 * five + 0.3 * three + 0.2 * two)


def test_uw_so_collapses_on_the_losses_of_acdc_as_measured() -> None:
    """A training run on ACDC: segmentation 0.4, disease 0.8, function 0.02 gave 0.000, 0.000, 1.000."""
    weighting = build_weighting("uw-so", TASKS, temperature=5.0)
    weighting(losses(0.4, 0.8, 0.02))
    assert weights_of(weighting) == pytest.approx([0.0, 0.0, 1.0], abs=5e-4)


def test_ew_is_the_sum_of_the_losses() -> None:
    weighting = build_weighting("ew", TASKS)
    assert weighting(losses(0.07, 0.7, 2.1)).item() == pytest.approx(2.87)
    assert weights_of(weighting) == [1.0, 1.0, 1.0]


def test_scalarization_weights_are_the_given_ones_also_when_a_task_is_absent() -> None:
    given = {"anatomy": 0.7, "disease": 0.2, "function": 0.1}
    weighting = build_weighting("scalarization", TASKS, weights=given)
    weighting(losses(0.07, 0.7, 2.1))
    assert weights_of(weighting) == pytest.approx([0.7, 0.2, 0.1])
    weighting({"function": torch.tensor(3.0)})
    assert weights_of(weighting) == pytest.approx([0.1])


def test_uw_o_gives_every_task_the_same_part_of_the_total() -> None:
    """w_i L_i is constant."""
    weighting = build_weighting("uw-o", TASKS)
    assert weighting(losses(0.07, 0.7, 2.1)).item() == pytest.approx(3.0)
    assert weights_of(weighting) == pytest.approx([1 / 0.07, 1 / 0.7, 1 / 2.1])


def test_uw_o_has_gamma_by_criterion_where_one_is_named() -> None:
    """w L at the optimum of Kendall's total: L1 1, L2 and cross-entropy 1/2."""
    weighting = build_weighting("uw-o", TASKS, criteria={"disease": "cross-entropy", "function": "l2"})
    weighting(losses(2.0, 2.0, 2.0))
    assert weights_of(weighting) == pytest.approx([0.5, 0.25, 0.25])


def test_uw_o_keeps_the_gradient_direction_when_a_loss_is_rescaled() -> None:
    trunk = torch.tensor([0.3, -0.2], requires_grad=True)

    def gradient(scale: float) -> Tensor:
        one = (trunk * torch.tensor([1.0, 2.0])).sum().square() + 0.1
        two = (trunk - 1).square().sum() * scale
        total = build_weighting("uw-o", ("one", "two"))({"one": one, "two": two})
        return torch.autograd.grad(total, trunk)[0]

    torch.testing.assert_close(gradient(1.0), gradient(1000.0))


@pytest.mark.parametrize(
    ("criterion", "variance", "part"), [("l1", 0.09, 1.0), ("l2", 0.3, 0.5), ("cross-entropy", 0.6, 0.5)]
)
def test_uw_settles_at_the_optimum_of_its_criterion(criterion: str, variance: float, part: float) -> None:
    """Kendall et al. 2018, L = 0.3: sigma = L, w L = 1; sigma^2 = L, w L = 1/2; sigma^2 = 2 L, w L = 1/2."""
    weighting = build_weighting("uw", ["task"], criteria={"task": criterion})
    minimize(weighting, 0.3)
    (log_variance,) = weighting.parameters()
    assert log_variance.exp().item() == pytest.approx(variance, rel=1e-3)
    assert weighting.weights["task"].item() * 0.3 == pytest.approx(part, rel=1e-3)


def test_uw_total_may_be_negative() -> None:
    """Kendall et al. 2018: L / (2 sigma^2) + log sigma at L = 0.001 and log sigma^2 = log 0.001."""
    weighting = build_weighting("uw", ["task"])
    with torch.no_grad():
        next(weighting.parameters()).fill_(-6.907755)
    assert weighting({"task": torch.tensor(0.001)}).item() == pytest.approx(0.5 - 6.907755 / 2, rel=1e-5)


def test_uw_agrees_with_torchjd() -> None:
    """TorchJD 0.18 UW: sum exp(-s) L / 2 + s / 2."""
    scalarization = pytest.importorskip("torchjd.scalarization", reason="torchjd is not installed: no oracle")
    oracle = scalarization.UW(3)
    weighting = build_weighting("uw", TASKS)
    start = torch.tensor([0.4, -1.3, 2.0])
    with torch.no_grad():
        oracle.log_var.copy_(start)
        for parameter, value in zip(weighting.parameters(), start, strict=True):
            parameter.copy_(value)
    expected, total = oracle(torch.tensor([0.07, 0.7, 2.1])), weighting(losses(0.07, 0.7, 2.1))
    expected.backward()
    total.backward()
    torch.testing.assert_close(total, expected)
    gradients = [parameter.grad for parameter in weighting.parameters()]
    torch.testing.assert_close(torch.stack([g for g in gradients if g is not None]), oracle.log_var.grad)


def test_uw_revised_settles_at_its_optimum_and_is_never_negative() -> None:
    """Liebel and Koerner 2018: c* = (L + sqrt(L^2 + 8 L)) / 4."""
    weighting = build_weighting("uw-revised", ["task"])
    minimize(weighting, 0.3)
    (log_variance,) = weighting.parameters()
    assert log_variance.exp().item() == pytest.approx((0.3 + math.sqrt(0.09 + 2.4)) / 4, rel=1e-3)
    with torch.no_grad():
        log_variance.fill_(-30.0)
    assert weighting({"task": torch.tensor(0.0)}).item() >= 0


def test_imtl_l_brings_every_loss_to_one_and_agrees_with_torchjd() -> None:
    """Liu et al. 2021: at the optimum exp(s) L = 1."""
    weighting = build_weighting("imtl-l", ["task"])
    minimize(weighting, 0.3)
    assert weighting.weights["task"].item() * 0.3 == pytest.approx(1.0, rel=1e-3)
    scalarization = pytest.importorskip("torchjd.scalarization", reason="torchjd is not installed: no oracle")
    total = build_weighting("imtl-l", TASKS)(losses(0.07, 0.7, 2.1))
    torch.testing.assert_close(total, scalarization.IMTLL(3)(torch.tensor([0.07, 0.7, 2.1])))


def test_gls_is_the_geometric_mean_and_has_its_gradient() -> None:
    """Chennupati et al. 2019: d/dL_i = GLS / (K L_i)."""
    values = losses(0.07, 0.7, 2.1)
    total = build_weighting("gls", TASKS)(values)
    total.backward()
    mean = (0.07 * 0.7 * 2.1) ** (1 / 3)
    assert total.item() == pytest.approx(mean)
    for loss in values.values():
        assert loss.grad is not None
        assert loss.grad.item() == pytest.approx(mean / (3 * loss.item()))


def test_gls_has_the_gradient_direction_of_uw_o() -> None:
    one, other = build_weighting("gls", TASKS), build_weighting("uw-o", TASKS)
    one(losses(0.07, 0.7, 2.1))
    other(losses(0.07, 0.7, 2.1))
    ratios = [a / b for a, b in zip(weights_of(one), weights_of(other), strict=True)]
    assert ratios == pytest.approx([ratios[0]] * 3)


def test_dwa_is_uniform_for_two_epochs_then_follows_the_descent_rates() -> None:
    """Liu et al. 2019, equation 7, T = 2; the sum is K."""
    weighting = build_weighting("dwa", TASKS)
    epochs = [((1.0, 2.0, 4.0), (3.0, 2.0, 4.0)), ((1.0, 1.0, 4.0),)]
    for epoch in epochs:
        for values in epoch:
            weighting(losses(*values))
            assert weights_of(weighting) == pytest.approx([1.0, 1.0, 1.0])
        weighting.end_epoch()
    weighting(losses(9.0, 9.0, 9.0))
    slow = math.exp(1 / 4)  # rates 1/2, 1/2 and 1, so the third exponent is 1/4 above the others
    expected = [3 / (2 + slow), 3 / (2 + slow), 3 * slow / (2 + slow)]
    assert weights_of(weighting) == pytest.approx(expected)


def test_dwa_does_not_depend_on_the_scale_of_a_loss() -> None:
    weights = []
    for scale in (1.0, 1000.0):
        weighting = build_weighting("dwa", TASKS)
        for values in ((1.0, 2.0, 4.0), (0.5, 1.8, 3.0), (0.4, 1.0, 2.0)):
            weighting(losses(values[0] * scale, *values[1:]))
            weighting.end_epoch()
        weights.append(weights_of(weighting))
    assert weights[0] == pytest.approx(weights[1], rel=1e-5)


def test_dwa_keeps_the_means_of_a_task_that_did_not_appear_in_an_epoch() -> None:
    weighting = build_weighting("dwa", ("a", "b"))
    for epoch in ({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 1.0}, {"a": 1.0}):
        weighting({task: torch.tensor(loss) for task, loss in epoch.items()})
        weighting.end_epoch()
    weighting({"a": torch.tensor(1.0), "b": torch.tensor(1.0)})
    fast = math.exp(-1 / 4)  # rates 1 and 1/2
    assert weights_of(weighting) == pytest.approx([2 / (1 + fast), 2 * fast / (1 + fast)])
