"""Many LeNets side by side, every layer one batched matrix product.

A network per (slot, arm): the A arms of a slot see the same pictures, so their first layers are one
product. Libraries run thousands of small convolutions one by one or as slow groups. Here a kernel is
written out as a banded matrix that maps the 5 rows under it to a row of the output: more multiplications
than a convolution needs, all of them in large products, and no copy of every patch.

Rows are `(height, batch)`, columns `(width, channel)`; max-pooling sorts its four partners into blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

KERNEL = 5
WIDE = 8  # outputs of the first layer that share a block of input columns
CHANNELS = (10, 20)
FEATURES = 50
Weights = dict[str, Tensor]


class Pool(torch.autograd.Function):
    """The largest of four blocks, as in 2 x 2 max-pooling: ``(..., 2, *middle, 2, n)`` by two axes."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, rows: int) -> Tensor:
        quarters = [x.select(rows, i).select(-2, j) for i in (0, 1) for j in (0, 1)]
        best = quarters[0].contiguous()
        which = torch.zeros(best.shape, dtype=torch.uint8, device=x.device)
        for number, quarter in enumerate(quarters[1:], start=1):
            higher = quarter > best
            which.masked_fill_(higher, number)
            best = torch.maximum(best, quarter)
        ctx.save_for_backward(which)
        ctx.rows, ctx.full = rows, x.shape  # type: ignore[attr-defined]
        return best

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (which,) = ctx.saved_tensors  # type: ignore[attr-defined]
        full = grad.new_empty(ctx.full)  # type: ignore[attr-defined]
        for number in range(4):
            part = full.select(ctx.rows, number // 2).select(-2, number % 2)  # type: ignore[attr-defined]
            torch.mul(grad, which == number, out=part)
        return full, None


def bands(width: int, device: torch.device) -> Tensor:
    """``(width + 4, width, 5)``: 1 where an input column lies under a place of the kernel of an output."""
    x, out, j = torch.meshgrid(torch.arange(width + 4), torch.arange(width), torch.arange(5), indexing="ij")
    return (x - out == j).float().to(device)


def unrolled(kernel: Tensor, band: Tensor) -> Tensor:
    """``(M, 5 * (W + 4) * C, 2 * W / 2 * D)`` from kernels ``(M, 5, 5, C, D)``; even columns come first."""
    full = torch.einsum("xoj,mijcd->mixcod", band, kernel)
    runs, k, x, c, out, d = full.shape
    parity = full.reshape(runs, k * x * c, out // 2, 2, d).transpose(2, 3)
    return parity.reshape(runs, k * x * c, out * d)


def uniform(shape: Sequence[int], fan_in: int, seeds: Sequence[int], name: str) -> Tensor:
    """``(S, ...)`` of PyTorch's default, U(-1, 1) / sqrt(fan in)."""
    drawn = []
    for seed in seeds:
        g = torch.Generator().manual_seed(7919 * seed + sum(map(ord, name)))
        drawn.append((2 * torch.rand(*shape, generator=g) - 1) / math.sqrt(fan_in))
    return torch.stack(drawn)


def initial(
    seeds: Sequence[int], arms: int, heads: Mapping[str, Sequence[int]], device: torch.device
) -> tuple[Weights, dict[str, Weights]]:
    """Trunk and heads, ``(S * A, ...)`` each; the arms of a slot begin alike.

    A head's numbers are the widths of its layers after the 50 features.
    """
    c, d = CHANNELS
    trunk = {
        "conv1": ((5, 5, 1, c), 25), "bias1": ((1, c), 25),
        "conv2": ((5, 5, c, d), 25 * c), "bias2": ((1, d), 25 * c),
        "fc": ((36 * d, FEATURES), 36 * d), "bias": ((1, FEATURES), 36 * d),
    }  # fmt: skip

    def make(shapes: Mapping[str, tuple[Sequence[int], int]], prefix: str) -> Weights:
        made = {}
        for name, (shape, fan_in) in shapes.items():
            values = uniform(shape, fan_in, seeds, prefix + name).to(device)
            values = values[:, None].expand(-1, arms, *shape).reshape(-1, *shape)
            made[name] = values.clone().requires_grad_()
        return made

    found = {}
    for head, widths in heads.items():
        layers: dict[str, tuple[Sequence[int], int]] = {}
        for i, (a, b) in enumerate(zip((FEATURES, *widths[:-1]), widths, strict=True)):
            layers |= {f"weight{i}": ((a, b), a), f"bias{i}": ((1, b), a)}
        found[head] = make(layers, head)
    return make(trunk, ""), found


class LeNets:
    """The trunk: pictures ``(S, B, 36, 36)`` to features ``(S * A, B, 50)``."""

    def __init__(self, slots: int, arms: int, device: torch.device) -> None:
        self.slots, self.arms = slots, arms
        self.band1, self.band2 = bands(WIDE, device), bands(12, device)

    def __call__(self, images: Tensor, p: Weights) -> Tensor:
        slots, arms, (c, d) = self.slots, self.arms, CHANNELS
        batch, runs = images.shape[1], slots * arms
        # (S, y 32, B, block 4, (row 5, column 12)) against (S, 60, arm x (parity 2, 4, channel))
        windows = images.unfold(2, KERNEL, 1).unfold(3, WIDE + 4, WIDE)  # (S, B, 32, 4, 5, 12)
        rows = windows.permute(0, 2, 1, 3, 4, 5).reshape(slots, -1, KERNEL * (WIDE + 4))
        first = unrolled(p["conv1"], self.band1).view(slots, arms, rows.shape[2], WIDE * c)
        first = first.transpose(1, 2).reshape(slots, rows.shape[2], arms * WIDE * c)
        x = torch.bmm(rows, first).view(slots, 16, 2, batch, 4, arms, 2, WIDE // 2 * c)
        x = Pool.apply(x, 2)  # (S, 16, B, 4, A, 4 * c)
        x = x.permute(0, 4, 1, 2, 3, 5).reshape(runs, 16, batch, 16 * c)
        x = torch.relu(x + p["bias1"].repeat(1, 1, 16)[:, None])
        # (M, (y 12, B), (row 5, column 16, channel)) against (M, 800, (parity 2, 6, channel))
        x = torch.stack([x[:, i : i + 12] for i in range(KERNEL)], dim=3).view(runs, 12 * batch, -1)
        x = torch.bmm(x, unrolled(p["conv2"], self.band2)).view(runs, 6, 2, batch, 2, 6 * d)
        x = Pool.apply(x, 2)  # (M, 6, B, 6 * d)
        x = torch.relu(x + p["bias2"].repeat(1, 1, 6)[:, None])
        x = x.transpose(1, 2).reshape(runs, batch, 36 * d)
        return torch.relu(torch.baddbmm(p["bias"], x, p["fc"]))


def head(features: Tensor, p: Weights) -> Tensor:
    """``(M, B, outputs)`` through linear layers with ReLU between them."""
    x = features
    for i in range(len(p) // 2):
        x = torch.baddbmm(p[f"bias{i}"], torch.relu(x) if i else x, p[f"weight{i}"])
    return x
