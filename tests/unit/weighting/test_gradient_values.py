"""What each gradient method promises in its paper, golden values by hand, and TorchJD as an oracle."""

from __future__ import annotations

import importlib.util
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from medmtl.types import ConfigError
from medmtl.weighting import Gradients, GradientWeighting, GradNorm, build_weighting
from medmtl.weighting._cone import smallest_convex_combination, square_root
from medmtl.weighting.upgrad import project_onto_dual_cone

SIZE = 60


def jacobian(n_tasks: int, seed: int, spread: float = 0.5) -> Tensor:
    """Rows ``(n_tasks, SIZE)`` that partly agree and partly conflict, of unlike norms."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn((n_tasks, SIZE), generator=generator, dtype=torch.float64)
    rows += 0.3 * torch.randn(SIZE, generator=generator, dtype=torch.float64)
    return rows * torch.logspace(-spread, spread, n_tasks, dtype=torch.float64)[:, None]


def weights_of(method: str, rows: Tensor, losses: Sequence[float] | None = None, **options: Any) -> Tensor:
    """Weights ``(P,)`` float64 of a freshly built method."""
    tasks = [f"task{i:02d}" for i in range(len(rows))]
    weighting = build_weighting(method, tasks, **options)
    assert isinstance(weighting, GradientWeighting)
    return step(weighting, rows, losses)


def step(weighting: GradientWeighting, rows: Tensor, losses: Sequence[float] | None = None) -> Tensor:
    values = [1.0] * len(rows) if losses is None else losses
    gradients = Gradients.of(
        {t: [row.reshape(4, -1, 1)] for t, row in zip(weighting.tasks, rows, strict=True)}
    )
    weighting({t: torch.tensor(v) for t, v in zip(weighting.tasks, values, strict=True)}, gradients=gradients)
    return torch.stack([weighting.weights[task] for task in weighting.tasks]).double()


many = settings(max_examples=30, deadline=None)
problems = {"n_tasks": st.integers(2, 40), "seed": st.integers(0, 10**6)}

# ------------------------------------------------------------------------------------- what is compared


def test_gradients_are_their_inner_products_norms_and_cosines() -> None:
    found = Gradients.of({"a": [torch.tensor([3.0, 4.0])], "b": [torch.tensor([0.0, -2.0])]})
    assert found.gramian.tolist() == [[25, -8], [-8, 4]]
    assert found.norms().tolist() == [5, 2]
    assert found.cosines()[0, 1].item() == pytest.approx(-0.8)
    assert found.filter_norms.shape == (2, 0)
    assert found.select(["b"]).gramian.tolist() == [[4]]


def test_norms_by_filter_leave_biases_out_and_take_a_matrix_as_one_filter() -> None:
    kernel = torch.zeros(2, 3, 1, 1, 1)
    kernel[0, :, 0, 0, 0] = torch.tensor([1.0, 2.0, 2.0])
    kernel[1, 0] = 7.0
    found = Gradients.of({"a": [kernel, torch.full((2,), 100.0), torch.full((2, 2), 1.0)]})
    assert found.filter_norms.tolist() == [[3, 7, 2]]
    assert found.gramian.item() == 9 + 49 + 20000 + 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "no task has a gradient to compare"),
        ({"a": [torch.ones(2)], "b": [torch.ones(3)]}, "gradients of different shapes"),
        ({"a": [], "b": []}, "the tasks share no weight"),
    ],
)
def test_gradients_that_cannot_be_compared_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gradients.of(rows)


# ------------------------------------------------------------------------------------------------- MGDA


@many
@given(**problems)
def test_mgda_is_on_the_simplex_and_against_no_task(n_tasks: int, seed: int) -> None:
    rows = jacobian(n_tasks, seed)
    weights = torch.from_numpy(smallest_convex_combination(square_root(rows @ rows.T)))
    d = weights @ rows
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert ((rows @ d) >= (d @ d) * (1 - 1e-8)).all()
    torch.testing.assert_close(weights_of("mgda", rows), weights, rtol=1e-4, atol=1e-5)


def test_mgda_of_two_tasks_is_the_closed_form() -> None:
    """Sener and Koltun, equation 4: of g1 = (1, 0), g2 = (0, 2), w1 = g2 . (g2 - g1) / |g1 - g2|^2 = 4/5."""
    rows = torch.zeros(2, SIZE, dtype=torch.float64)
    rows[0, 0], rows[1, 1] = 1, 2
    assert weights_of("mgda", rows).tolist() == pytest.approx([0.8, 0.2])


def test_where_torchjds_loop_ends_against_a_task_the_exact_point_does_not() -> None:
    """12 tasks, norms over two decades: Frank-Wolfe stops at its first short step."""
    rows = jacobian(12, 1, spread=1)
    theirs = aggregation.MGDAWeighting()(rows @ rows.T) @ rows
    ours = weights_of("mgda", rows) @ rows
    assert (rows @ theirs).min() < 0
    assert (rows @ ours).min() > 0.999 * (ours @ ours)
    assert ours.norm() < theirs.norm()


# ----------------------------------------------------------------------------------------------- PCGrad


@many
@given(**problems)
def test_pcgrad_without_a_conflict_is_the_sum(n_tasks: int, seed: int) -> None:
    rows = jacobian(n_tasks, seed).abs()
    assert weights_of("pcgrad", rows).tolist() == [1] * n_tasks


@many
@given(seed=st.integers(0, 10**6))
def test_pcgrad_of_two_tasks_is_against_none(seed: int) -> None:
    rows = jacobian(2, seed)
    rows[1] -= rows[0] * 3
    d = weights_of("pcgrad", rows) @ rows
    assert ((rows @ d) >= -1e-5 * rows.norm(dim=1) * d.norm()).all()


def test_pcgrad_of_two_opposing_gradients_by_hand() -> None:
    """g1 = (1, 0), g2 = (-1, 1): g1 + g2 / 2 and g2 + g1, so the weights are 2 and 3/2."""
    rows = torch.zeros(2, SIZE, dtype=torch.float64)
    rows[0, 0], rows[1, 0], rows[1, 1] = 1, -1, 1
    weights = weights_of("pcgrad", rows)
    assert weights.tolist() == pytest.approx([2, 1.5])
    assert (weights @ rows)[:2].tolist() == pytest.approx([0.5, 1.5])


def test_pcgrads_order_of_projections_follows_from_the_seed_and_the_step() -> None:
    rows = jacobian(6, 1) - 0.6 * jacobian(6, 1).mean(0)
    tasks = [f"task{i}" for i in range(6)]
    one, same, other = (build_weighting("pcgrad", tasks, seed=seed) for seed in (1, 1, 2))
    taken = [[step(w, rows).tolist() for _ in range(3)] for w in (one, same, other)]  # type: ignore[arg-type]
    assert taken[0] == taken[1]
    assert taken[0] != taken[2]
    assert taken[0][0] != taken[0][1]


# ----------------------------------------------------------------------------------------------- CAGrad


@many
@given(**problems, c=st.floats(0.05, 0.95))
def test_cagrad_is_as_far_from_the_mean_as_it_may_be_and_best_for_the_worst(
    n_tasks: int, seed: int, c: float
) -> None:
    rows = jacobian(n_tasks, seed)
    mean = rows.mean(0)
    d = weights_of("cagrad", rows, c=c) @ rows
    radius = c * mean.norm()
    assert (d - mean).norm() == pytest.approx(radius.item(), rel=1e-4)
    worst = (rows @ d).min()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):  # no other direction in the ball does better, a feasible step toward any row included
        other = torch.randn(SIZE, generator=generator, dtype=torch.float64)
        for v in (other, *rows):
            moved = d + 0.1 * radius * v / v.norm()
            back = mean + (moved - mean) * min(1.0, float(radius / (moved - mean).norm()))
            assert (rows @ back).min() <= worst + 1e-5 * rows.norm(dim=1).max() * d.norm()


def test_cagrad_with_c_0_is_the_mean() -> None:
    assert weights_of("cagrad", jacobian(5, 0), c=0.0).tolist() == pytest.approx([0.2] * 5)


@many
@given(n_tasks=st.integers(2, 8), seed=st.integers(0, 10**6))
def test_cagrad_agrees_with_a_general_solver(n_tasks: int, seed: int) -> None:
    """The dual, min of g_w . g0 + c |g0| |g_w| on the simplex, by scipy's SLSQP, as in the paper's code."""
    from scipy.optimize import minimize

    rows = jacobian(n_tasks, seed)
    gramian = (rows @ rows.T).numpy()
    radius = 0.5 * float(rows.mean(0).norm())

    def dual(w: np.ndarray) -> float:
        return float(w @ gramian.mean(1) + radius * np.sqrt(max(w @ gramian @ w, 0)))

    start = np.full(n_tasks, 1 / n_tasks)
    sums = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(dual, start, method="SLSQP", bounds=[(0, 1)] * n_tasks, constraints=sums, tol=1e-12)
    d = weights_of("cagrad", rows, c=0.5) @ rows
    assert (rows @ d).min().item() == pytest.approx(best.fun, rel=1e-4)  # strong duality


@pytest.mark.parametrize("c", [-0.1, 1.0, float("nan"), "0.5"])
def test_a_c_out_of_range_is_refused(c: Any) -> None:
    with pytest.raises(ConfigError, match="c must be"):
        build_weighting("cagrad", ["a", "b"], c=c)


# ------------------------------------------------------------------------------------------------- Nash


@many
@given(**problems)
def test_nash_bargains_to_equal_products(n_tasks: int, seed: int) -> None:
    rows = jacobian(n_tasks, seed)
    weights = weights_of("nash-mtl", rows, max_norm=None)
    assert (weights > 0).all()
    assert (weights * (rows @ rows.T @ weights)).tolist() == pytest.approx([1] * n_tasks, abs=1e-3)


def test_nash_does_not_see_the_unit_of_a_loss() -> None:
    rows = jacobian(4, 0)
    scales = torch.tensor([1.0, 1000.0, 1.0, 0.01], dtype=torch.float64)
    one, other = (weights_of("nash-mtl", r) @ r for r in (rows, rows * scales[:, None]))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_nashs_step_is_cut_to_the_given_norm() -> None:
    rows = jacobian(4, 0)
    assert (weights_of("nash-mtl", rows, max_norm=None) @ rows).norm() == pytest.approx(2, rel=1e-4)
    assert (weights_of("nash-mtl", rows) @ rows).norm() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.inf])
def test_a_norm_that_is_no_norm_is_refused(max_norm: float) -> None:
    with pytest.raises(ConfigError, match="max_norm must be"):
        build_weighting("nash-mtl", ["a", "b"], max_norm=max_norm)


# ----------------------------------------------------------------------------- the others, by TorchJD


@many
@given(**problems)
def test_imtl_g_projects_alike_on_every_gradient(n_tasks: int, seed: int) -> None:
    rows = jacobian(n_tasks, seed)
    weights = weights_of("imtl-g", rows)
    assert weights.sum() == pytest.approx(1, abs=1e-4)
    projections = rows @ (weights @ rows) / rows.norm(dim=1)
    assert projections.std() <= 1e-3 * projections.abs().max()


@many
@given(n_tasks=st.integers(2, 12), seed=st.integers(0, 10**6))
def test_upgrad_and_dualproj_are_against_no_task(n_tasks: int, seed: int) -> None:
    rows = jacobian(n_tasks, seed)
    for method in ("upgrad", "dualproj"):
        d = weights_of(method, rows) @ rows
        assert ((rows @ d) >= -1e-5 * rows.norm(dim=1) * d.norm()).all(), method


def test_aligned_gradients_agree_with_the_paper_on_two_orthogonal_ones() -> None:
    """g1 = (3, 0), g2 = (0, 1): the components' lengths 3 and 1 become 1, so w = (1/3, 1) / 2."""
    rows = torch.zeros(2, SIZE, dtype=torch.float64)
    rows[0, 0], rows[1, 1] = 3, 1
    assert weights_of("aligned-mtl", rows).tolist() == pytest.approx([1 / 6, 1 / 2])


def test_an_unknown_scale_of_the_aligned_gradients_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown scale 'medium'; did you mean 'median'"):
        build_weighting("aligned-mtl", ["a", "b"], scale="medium")


def exact_projector() -> Any:
    """TorchJD's own, without the 1e-4 that it adds to the Gramian's diagonal by default."""
    from torchjd.linalg import QuadprogProjector

    return QuadprogProjector(norm_eps=0.0, reg_eps=1e-12)


ORACLES: dict[str, tuple[str, Callable[[], Any]]] = {
    "aligned-mtl": ("torchjd", lambda: aggregation.AlignedMTL()),
    "imtl-g": ("torchjd", lambda: aggregation.IMTLG()),
    "pcgrad": ("torchjd", lambda: aggregation.PCGrad()),
    "upgrad": ("quadprog", lambda: aggregation.UPGrad(projector=exact_projector())),
    "dualproj": ("quadprog", lambda: aggregation.DualProj(projector=exact_projector())),
    "cagrad": ("cvxpy", lambda: aggregation.CAGrad(c=0.4)),
    "nash-mtl": ("ecos", lambda: aggregation.NashMTL(n_tasks=2, max_norm=1.0)),
    "mgda": ("torchjd", lambda: aggregation.MGDA()),
}


@pytest.mark.parametrize("method", sorted(ORACLES))
def test_two_tasks_give_torchjds_direction_on_an_explicit_jacobian(method: str) -> None:
    needs, build = ORACLES[method]
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"TorchJD's {method} needs {needs}, which is not installed")
    accuracy = {"cagrad": 1e-4, "nash-mtl": 1e-3}.get(method, 1e-6)  # of their solvers
    for seed in range(5):
        rows = jacobian(2, seed)
        rows[1] -= 0.5 * rows[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cvxpy's, on its own problem and on ECOS
            theirs = build()(rows)
        ours = weights_of(method, rows) @ rows
        assert (theirs - ours).norm() <= accuracy * theirs.norm()


@pytest.mark.parametrize("method", ["aligned-mtl", "imtl-g"])
@pytest.mark.parametrize("n_tasks", [3, 5, 12])
def test_many_tasks_give_torchjds_direction_on_an_explicit_jacobian(method: str, n_tasks: int) -> None:
    rows = jacobian(n_tasks, n_tasks)
    theirs, ours = ORACLES[method][1]()(rows), weights_of(method, rows) @ rows
    assert (theirs - ours).norm() <= 1e-5 * theirs.norm()


def test_our_projection_onto_the_dual_cone_is_torchjds() -> None:
    if importlib.util.find_spec("quadprog") is None:
        pytest.skip("TorchJD's projection needs quadprog, which is not installed")
    theirs = exact_projector()
    for seed in range(5):
        rows = jacobian(6, seed) - 0.5 * jacobian(6, seed).mean(0)
        gramian, u = rows @ rows.T, torch.eye(6, dtype=torch.float64)
        torch.testing.assert_close(
            project_onto_dual_cone(u, gramian), theirs(u, gramian), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("method", ["pcgrad", "imtl-g", "aligned-mtl", "upgrad", "dualproj"])
def test_without_torchjd_the_error_names_the_extra(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)  # as Python does where nothing is installed
    with pytest.raises(ConfigError, match=rf"'{method}' needs TorchJD.*pip install 'medmtl\[gradients\]'"):
        build_weighting(method, ["a", "b"])


@pytest.mark.parametrize("method", ["gradnorm", "mgda", "cagrad", "nash-mtl"])
def test_these_need_no_torchjd(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    assert torch.isfinite(weights_of(method, jacobian(3, 0))).all()


# --------------------------------------------------------------------------------------------- GradNorm


def rows_of_norms(*norms: float) -> Tensor:
    """Gradients whose mean norm over the 4 filters is what is asked."""
    rows = torch.zeros(len(norms), 4, SIZE // 4, dtype=torch.float64)
    rows[:, :, 0] = torch.tensor(norms, dtype=torch.float64)[:, None]
    return rows.reshape(len(norms), SIZE)


def test_gradnorms_first_step_by_hand() -> None:
    """Norms 1, 2, 6 with mean 3 and all r = 1: two weights rise, one falls, by Adam's first step each."""
    weighting = GradNorm(["a", "b", "c"], learning_rate=0.1)
    assert step(weighting, rows_of_norms(1, 2, 6), [4.0, 5.0, 6.0]).tolist() == [1, 1, 1]
    raised = torch.tensor([1.1, 1.1, 0.9])
    torch.testing.assert_close(weighting.weight, raised * 3 / raised.sum())


def test_gradnorms_steps_are_those_of_torchs_adam_with_the_sum_restored() -> None:
    """Norms 1, 2, 6 of mean 3 pull by -1, -2, 6. Then losses fall to 1/2, 1, 1/4: r = 6/7, 12/7, 3/7 of the
    mean weighted norm, about 1.9, against norms of about 2.1, 1.1 and 2.6: pulls 2, -1, 3.
    """
    weighting = GradNorm(["a", "b", "c"], learning_rate=0.1, alpha=1.0)
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w], lr=0.1, eps=0.0)
    for norms, losses, pull in (
        ((1, 2, 6), [4.0, 5.0, 6.0], [-1.0, -2.0, 6.0]),
        ((2, 1, 3), [2.0, 5.0, 1.5], [2.0, -1.0, 3.0]),
    ):
        taken = step(weighting, rows_of_norms(*norms), losses)
        torch.testing.assert_close(taken, w.detach(), rtol=1e-6, atol=0)
        w.grad = torch.tensor(pull, dtype=torch.float64)
        adam.step()
        with torch.no_grad():
            w *= 3 / w.sum()
    torch.testing.assert_close(weighting.weight.double(), w.detach(), rtol=1e-5, atol=0)


def test_gradnorms_pull_is_the_derivative_that_autograd_finds_with_the_target_held() -> None:
    weighting = GradNorm(["a", "b", "c", "d"], alpha=0.7)
    w = torch.tensor([0.4, 1.6, 1.1, 0.9], requires_grad=True)
    norms, ratio = torch.tensor([3.0, 0.2, 1.0, 0.5]), torch.tensor([0.9, 0.3, 0.5, 1.2])
    weighted = w * norms
    target = (weighted.mean() * (ratio / ratio.mean()) ** 0.7).detach()
    (weighted - target).abs().sum().backward()
    pull = weighting.pull(w.detach(), norms, ratio, torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(pull, w.grad)


def test_gradnorm_brings_norms_to_one_size_and_its_weights_sum_to_k() -> None:
    weighting = GradNorm(["a", "b", "c"], alpha=0.0)
    norms = torch.tensor([0.5, 1.0, 2.0])
    for _ in range(300):
        weights = step(weighting, rows_of_norms(*norms.tolist()))
        assert weights.sum() == pytest.approx(3, rel=1e-5)
    weighted = weights * norms
    assert (weighted / weighted.mean() - 1).abs().max() < 0.1


def test_gradnorm_gives_a_slow_task_a_larger_gradient() -> None:
    weighting = GradNorm(["fast", "slow"], alpha=1.0)
    for n in range(200):
        weights = step(weighting, rows_of_norms(1.0, 1.0), [0.98**n, 1.0])
    assert weights[1] > 2 * weights[0]


def test_gradnorm_undoes_the_root_in_an_l1_loss() -> None:
    """Half of its first loss is a ratio of 1/2, but of an L1 loss 1/4: it is the root of a square."""
    plain, rooted = (GradNorm(["a", "b"], criteria=c) for c in (None, {"a": "l1"}))
    for weighting, losses in ((plain, [0.25, 1.0]), (rooted, [0.5, 1.0])):
        step(weighting, rows_of_norms(1.0, 1.2), [1.0, 1.0])
        step(weighting, rows_of_norms(1.0, 1.2), losses)
    torch.testing.assert_close(plain.weight, rooted.weight)


def test_gradnorm_holds_the_weight_of_an_absent_task_and_the_sum_of_the_others() -> None:
    weighting = GradNorm(["a", "b", "c"])
    step(weighting, rows_of_norms(1, 2, 6))
    before = weighting.weight.clone()
    rows = rows_of_norms(5, 1)
    gradients = Gradients.of({t: [row.reshape(4, -1, 1)] for t, row in zip("ac", rows, strict=True)})
    weighting({"a": torch.tensor(1.0), "c": torch.tensor(1.0)}, gradients=gradients)
    assert weighting.weight[1] == before[1]
    assert weighting.weight[0] != before[0]
    assert (weighting.weight[0] + weighting.weight[2]).item() == pytest.approx((before[0] + before[2]).item())


def test_gradnorms_weights_stay_above_0() -> None:
    weighting = GradNorm(["a", "b"], alpha=0.0, learning_rate=0.5)
    for _ in range(20):
        step(weighting, rows_of_norms(1e-6, 1.0))
    assert weighting.weight.min() >= 1e-4
    assert weighting.weight.sum() == pytest.approx(2)


def test_gradnorms_converged_weights_are_the_mean_of_those_it_took_and_sum_to_k() -> None:
    weighting = GradNorm(["a", "b", "c"])
    with pytest.raises(ConfigError, match="'a', 'b', 'c' had no loss so far"):
        weighting.converged_weights()
    taken = torch.stack([step(weighting, rows_of_norms(1, 2, 6)) for _ in range(10)])
    found = weighting.converged_weights()
    assert list(found.values()) == pytest.approx(taken.mean(0).tolist(), rel=1e-5)
    assert sum(found.values()) == pytest.approx(3)
    rerun = build_weighting("scalarization", ["a", "b", "c"], weights=found)
    rerun({task: torch.tensor(1.0) for task in "abc"})
    assert {t: w.item() for t, w in rerun.weights.items()} == pytest.approx(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "alpha must not be negative"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0"),
        ({"criteria": {"a": "l3"}}, "unknown criterion 'l3'"),
    ],
)
def test_options_that_gradnorm_cannot_use_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_weighting("gradnorm", ["a", "b"], **options)


def test_a_gradnorm_step_never_waits_for_the_device() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        weighting = GradNorm(["a", "b"])
        rows = {task: [torch.ones(4, 3, 1, 1, 1)] for task in weighting.tasks}
        losses = {task: torch.full((), 0.5) for task in weighting.tasks}
        for some in (weighting.tasks, ("b",)):
            gradients = Gradients.of(rows)
            assert weighting({t: losses[t] for t in some}, gradients=gradients).shape == ()
