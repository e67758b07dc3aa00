"""Weights of the Gramian methods for S trainings at once, on the device.

medmtl solves each on the CPU, one training at a time. Here two tasks have closed forms, and more tasks
batched linear algebra; MGDA and CAGrad of more than two tasks are medmtl's own, training by training.
The unit tests hold every one of them against medmtl's weighting to 1e-6.

Each takes `(S, K, K)` float64 inner products and gives `(S, K)` weights; no gradient may be 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medmtl.weighting import GramianWeighting, build_weighting

CELLS = 256
CAGRAD_C = 0.4
NEWTON_STEPS = 30


def norms_of(gramian: Tensor) -> Tensor:
    """``(S, K)``."""
    return gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()


def solved(name: str, gramian: Tensor) -> Tensor:
    """medmtl's own solver, training by training; waits for the device."""
    weighting = build_weighting(name, tuple(f"{i:03d}" for i in range(gramian.shape[-1])))
    assert isinstance(weighting, GramianWeighting)
    rows = gramian.cpu()
    scale = rows.diagonal(dim1=-2, dim2=-1).mean(-1)
    found = [weighting.unscaled(weighting.solve(g / s), float(s)) for g, s in zip(rows, scale, strict=True)]
    return torch.stack(found).to(gramian)


def mgda(gramian: Tensor) -> Tensor:
    """The shortest vector between two gradients (Sener and Koltun 2018, algorithm 1)."""
    if gramian.shape[-1] > 2:
        return solved("mgda", gramian)
    a, b, ab = gramian[:, 0, 0], gramian[:, 1, 1], gramian[:, 0, 1]
    first = ((b - ab) / (a + b - 2 * ab)).clamp(0, 1)
    return torch.stack([first, 1 - first], dim=1)


def cagrad(gramian: Tensor) -> Tensor:
    """The dual on the simplex of two tasks, where its derivative changes sign (Liu et al. 2021)."""
    if gramian.shape[-1] > 2:
        return solved("cagrad", gramian)
    gramian = gramian / gramian.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    mean = gramian.mean(-1)  # g_i . g0
    radius = CAGRAD_C * mean.mean(-1).clamp_min(0).sqrt()  # c |g0|
    low, width = torch.zeros_like(radius), 1.0
    for _ in range(4):  # nested grids: each keeps the cell in which the derivative becomes positive
        first = low[:, None] + width * torch.arange(CELLS + 1, device=low.device) / CELLS
        w = torch.stack([first, 1 - first], dim=-1)  # (S, cells, 2)
        pull = w @ gramian
        along = pull[..., 0] - pull[..., 1]
        length = (pull * w).sum(-1).clamp_min(1e-30).sqrt()
        slope = (mean[:, 0] - mean[:, 1])[:, None] + radius[:, None] * along / length
        width = width / CELLS
        low = low + width * ((slope < 0).sum(-1).clamp(1, CELLS) - 1)
    # At an end of the simplex the derivative does not change sign.
    first = torch.where(low <= 0, 0.0, low + width / 2)
    first = torch.where(low + 2 * width >= 1, 1.0, first)
    w = torch.stack([first, 1 - first], dim=1)
    length = torch.einsum("si,sij,sj->s", w, gramian, w).clamp_min(1e-30).sqrt()
    return 0.5 + (radius / length)[:, None] * w


def pcgrad(gramian: Tensor, orders: Tensor | None = None) -> Tensor:
    """Gradient surgery (Yu et al. 2020, algorithm 1); for two tasks there is only one order.

    Args:
        gramian: ``(S, K, K)``.
        orders: ``(S, K, K)``: row i is the order in which task i meets the tasks; drawn when None.
    """
    runs, count = gramian.shape[:2]
    if orders is None:
        orders = torch.rand(runs, count, count, device=gramian.device).argsort(-1)
    own = torch.eye(count, dtype=gramian.dtype, device=gramian.device).expand(runs, -1, -1)
    parts = own.clone()  # row i: what is left of g_i, as a combination of the gradients
    for turn in range(count):
        other = torch.gather(own, 1, orders[:, :, turn, None].expand(-1, -1, count))  # (S, K, K) one-hot
        product = ((parts @ gramian) * other).sum(-1)
        square = (other * gramian.diagonal(dim1=-2, dim2=-1)[:, None]).sum(-1)
        meets = (product < 0) & ((other * own).sum(-1) == 0)
        parts = parts - torch.where(meets, product / square, 0.0)[..., None] * other
    return parts.sum(1)


def imtl_g(gramian: Tensor) -> Tensor:
    """Equal projections; with two tasks each has the other's norm as its weight (Liu et al. 2021)."""
    norms = norms_of(gramian)
    if gramian.shape[-1] == 2:
        weights = norms.flip(1)
    else:
        weights = (torch.linalg.pinv(gramian) @ norms[..., None]).squeeze(-1)
    return weights / weights.sum(1, keepdim=True)


def aligned_mtl(gramian: Tensor) -> Tensor:
    """sqrt(smallest eigenvalue) G^(-1/2) on the mean (Senushkin et al. 2023, algorithm 1)."""
    count = gramian.shape[-1]
    if count == 2:
        return _aligned_two(gramian)
    values, vectors = torch.linalg.eigh(gramian)
    kept = values > values.amax(-1, keepdim=True) * count * torch.finfo(values.dtype).eps
    least = torch.where(kept, values, torch.inf).amin(-1, keepdim=True)
    factor = torch.where(kept, (least / values.clamp_min(1e-300)).sqrt(), 0.0)
    along = vectors.sum(-2) / count  # V^T (1/K, ...)
    return (vectors @ (factor * along)[..., None]).squeeze(-1)


def _aligned_two(gramian: Tensor) -> Tensor:
    """A 2 x 2 matrix has its root in closed form: (G + sqrt(det) I) / sqrt(trace + 2 sqrt(det))."""
    a, b, ab = gramian[:, 0, 0], gramian[:, 1, 1], gramian[:, 0, 1]
    root = (a * b - ab * ab).clamp_min(1e-24 * a * b).sqrt()
    half = (a + b) / 2
    largest = half + ((a - b).square() / 4 + ab * ab).sqrt()
    least = (root / largest) * root
    # G^(-1/2) (1/2, 1/2), by the adjugate of (G + root I), whose determinant is root * (trace + 2 root)
    scale = (least / (2 * half + 2 * root)).sqrt() / root / 2
    return torch.stack([b + root - ab, a + root - ab], dim=1) * scale[:, None]


def nash_mtl(gramian: Tensor) -> Tensor:
    """a_i (G a)_i = 1; two tasks have 1 / (|g_i| sqrt(1 + cosine)) (Navon et al. 2022)."""
    norms = norms_of(gramian)
    count = gramian.shape[-1]
    cosines = gramian / norms[:, :, None] / norms[:, None]
    ridge = 1e-9 * torch.eye(count, dtype=gramian.dtype, device=gramian.device)
    if count == 2:
        a = (1 + cosines[:, 0, 1] + 1e-9).clamp_min(1e-9).rsqrt()[:, None].expand(-1, 2)
    else:
        a = _newton(cosines + ridge)
    return a / norms / count**0.5  # the step's norm is sqrt(K), and is cut to 1


def _newton(matrix: Tensor) -> Tensor:
    """Damped Newton steps on a^T C a / 2 - sum log a, as many for all."""
    a = torch.full(matrix.shape[:2], matrix.shape[-1] ** -0.5, dtype=matrix.dtype, device=matrix.device)
    for _ in range(NEWTON_STEPS):
        gradient = (matrix @ a[..., None]).squeeze(-1) - 1 / a
        step = torch.linalg.solve(matrix + torch.diag_embed(a**-2), gradient)
        decrement = (gradient * step).sum(-1, keepdim=True).clamp_min(0).sqrt()
        a = a - step * torch.where(decrement < 0.25, 1.0, 1 / (1 + decrement))
    return a


SOLVERS: dict[str, Callable[[Tensor], Tensor]] = {
    "mgda": mgda,
    "pcgrad": pcgrad,
    "cagrad": cagrad,
    "imtl-g": imtl_g,
    "aligned-mtl": aligned_mtl,
    "nash-mtl": nash_mtl,
}


def gramian_of(rows: list[list[Tensor]]) -> Tensor:
    """``(S, K, K)`` float64 from each task's gradients, one ``(S, ...)`` per parameter."""
    gramian: Tensor | None = None
    for parts in zip(*rows, strict=True):
        flat = [part.flatten(1).double() for part in parts]
        if len(flat) > 2:
            block = torch.stack(flat, dim=1)
            product = block @ block.mT
        else:  # long sums, which a product of thin matrices would leave to few processors of a GPU
            sums = [[(a * b).sum(1) for b in flat[: i + 1]] for i, a in enumerate(flat)]
            whole = [sums[max(i, j)][min(i, j)] for i in range(len(flat)) for j in range(len(flat))]
            product = torch.stack(whole, dim=1).unflatten(1, (len(flat), len(flat)))
        gramian = product if gramian is None else gramian + product
    assert gramian is not None
    return gramian
