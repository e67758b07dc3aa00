"""Gradients of a level's last convolution as a few numbers per filter, without computing them.

A level ends in p = activation(norm(y) + residual), y = conv(h). The gradient on the convolution's weight is a
sum over voxels of the gradient at y times what was read, h. Multiplied by z = S h instead, with fixed random
filters S, it is that gradient times S, and inner products of such gradients are those of the whole ones up to
about 1 / sqrt(filters x size) (Johnson and Lindenstrauss 1984). Everything is linear in the gradient, so that
opposed gradients stay exactly opposed.

The gradient at y is not needed either: an instance norm's backward takes two means off the gradient g at its
output, so that with x = (y - mean) / sd, over the V voxels of a channel,

sum (dL/dy) z = scale / sd [ sum g z - (sum g / V) sum z - (sum g x / V) sum x z ]

and all that is ever summed are products of tensors that are there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

VOXELS = 4096
"""Voxels that one matrix product sums over, about: a single one over millions would leave a GPU idle."""

Places = tuple[tuple[int, int], ...]
"""On each axis of a kernel, the first place and the step to the second."""


@dataclass(frozen=True)
class Sums:
    """What is left of a gradient g at a norm's output, over the voxels of each of N samples.

    Attributes:
        gz: ``(N, F, size)`` sums of g z.
        g: ``(N, F)`` sums of g.
        gy: ``(N, F)`` sums of g (y - mean).
    """

    gz: Tensor
    g: Tensor
    gy: Tensor


class Sketch:
    """What all tasks' gradients on one convolution's weight are multiplied with; called with each of them.

    Args:
        convolution: the layer, of F filters.
        norm: the instance norm that follows.
        inner: what the convolution read, ``(N, in, X, Y, Z)``.
        y: what it gave, ``(N, F, X', Y', Z')``.
        mean: of y over voxels, ``(N, F)`` in float32 or wider.
        inverse: 1 / sd, the same.
        size: numbers per filter.
    """

    @torch.no_grad()
    def __init__(
        self,
        convolution: nn.Conv3d,
        norm: nn.InstanceNorm3d,
        inner: Tensor,
        y: Tensor,
        mean: Tensor,
        inverse: Tensor,
        *,
        size: int,
    ) -> None:
        self.y, self.mean, self.inverse = y, mean, inverse
        self.norm_weight = norm.weight.detach() if norm.affine else torch.ones_like(mean[0])
        z = projection(convolution, inner, size)
        # Sums over z - its mean are the same, and need no large numbers to cancel.
        self.z = z - z.mean((2, 3, 4), keepdim=True)
        self.z_mean = self.z.mean((2, 3, 4), dtype=mean.dtype)
        self.yz_mean = inner_products(y, self.z) / y[0, 0].numel()

    @torch.no_grad()
    def __call__(self, gradient: Tensor) -> Sums:
        """All that has to be known of the gradient at the norm's output."""
        g = gradient.to(self.y.dtype).contiguous()
        return Sums(inner_products(g, self.z), *_reduced(g, self.y, self.mean))


@torch.no_grad()
def sketched(found: Sequence[tuple[Sketch, Sums]]) -> list[Tensor]:
    """Gradients on weights, ``(F, size)`` each in float32 or wider; of all layers and tasks together.

    A few small tensors apiece: side by side they take a few launches in all.
    """
    parts: dict[int, Tensor] = {}
    for samples in dict.fromkeys(len(sums.g) for _, sums in found):
        indices = [i for i, (_, sums) in enumerate(found) if len(sums.g) == samples]
        pairs = [found[i] for i in indices]
        vectors = [
            *(sums.g for _, sums in pairs),
            *(sums.gy for _, sums in pairs),
            *(sketch.mean for sketch, _ in pairs),
            *(sketch.inverse for sketch, _ in pairs),
        ]
        matrices = [
            *(sums.gz for _, sums in pairs),
            *(sketch.yz_mean for sketch, _ in pairs),
            *(sketch.z_mean[:, None].expand_as(sketch.yz_mean) for sketch, _ in pairs),
        ]
        g, gy, mean, inverse = torch.cat(vectors, 1)[:, :, None].chunk(4, 1)
        gz, yz_mean, z_mean = torch.cat(matrices, 1).chunk(3, 1)
        along = torch.addcmul(yz_mean, mean, z_mean, value=-1) * inverse.square()
        past_norm = gz.addcmul(g, z_mean, value=-1).addcmul(gy, along, value=-1) * inverse
        weight = torch.cat([sketch.norm_weight for sketch, _ in pairs])
        whole = past_norm.sum(0) * weight[:, None]
        filters = [len(sketch.norm_weight) for sketch, _ in pairs]
        parts |= dict(zip(indices, whole.split(filters), strict=True))
    return [parts[i] for i in range(len(found))]


def projection(convolution: nn.Conv3d, inner: Tensor, size: int) -> Tensor:
    """What a convolution reads, through ``size`` random filters of the same kernel: ``(N, size, X, Y, Z)``.

    Each has signs for the channels at one place of the kernel, so that a matrix product and a shifted view
    are all it takes. The places are drawn such that all are as likely: of eight filters two places on every
    axis, and further filters draw again. Neighbouring places have nearly the same gradient, so that few of
    them tell the norm of all.

    Args:
        convolution: the layer.
        inner: what it reads, ``(N, in, X, Y, Z)``.
        size: number of filters.
    """
    assert convolution.groups == 1
    assert isinstance(convolution.padding, tuple)
    shape = (convolution.in_channels, *convolution.kernel_size)
    signs, counts, draws = _random_filters(shape, size, inner.dtype, inner.device)
    mixed = torch.bmm(signs.expand(len(inner), -1, -1), inner.flatten(2)).unflatten(2, inner.shape[2:])
    x, y, z = convolution.padding
    if x or y or z:
        mixed = nn.functional.pad(mixed, (z, z, y, y, x, x))
    geometry = (convolution.kernel_size, convolution.stride, convolution.dilation)
    sizes, views = _views(tuple(mixed.shape), mixed.stride(), geometry, counts, draws)
    per_draw = math.prod(counts)
    parts = [
        mixed.as_strided((len(inner), *counts, *sizes), strides, start).reshape(len(inner), per_draw, *sizes)
        for strides, start in views
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


@lru_cache(maxsize=256)
def _views(
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    geometry: tuple[tuple[int, ...], ...],
    counts: tuple[int, ...],
    draws: tuple[Places, ...],
) -> tuple[tuple[int, ...], list[tuple[tuple[int, ...], int]]]:
    """Size of a convolution's output, and strides and start of what each draw sees of a padded map.

    Args:
        shape: of the map, ``(N, size, X, Y, Z)``.
        stride: the same.
        geometry: kernel size, stride and dilation of the convolution.
        counts: places of a draw on each axis.
        draws: as of `_random_filters`.
    """
    sample, channel, *steps = stride
    axes = list(zip(shape[2:], steps, *geometry, strict=True))
    sizes = tuple((side - dilation * (kernel - 1) - 1) // by + 1 for side, _, kernel, by, dilation in axes)
    moved = [step * by for _, step, _, by, _ in axes]
    reach = [step * dilation for _, step, _, _, dilation in axes]
    rows = [channel * math.prod(counts[axis + 1 :]) for axis in range(len(counts))]
    views = []
    for number, places in enumerate(draws):
        own = [row + step * one for row, (_, step), one in zip(rows, places, reach, strict=True)]
        first = sum(first * one for (first, _), one in zip(places, reach, strict=True))
        views.append(((sample, *own, *moved), number * math.prod(counts) * channel + first))
    return sizes, views


@lru_cache(maxsize=64)
def _random_filters(
    shape: tuple[int, ...], size: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, tuple[int, ...], tuple[Places, ...]]:
    """Signs ``(size, in)``, and the places of a kernel ``(in, kx, ky, kz)`` that they belong to.

    The same for every weight of a shape. Filters come in draws; one has the places of a grid, ``counts`` on
    the axes, at most two; a draw gives the first place on each axis and the step to the second. Signs are
    larger as a place stands for all.
    """
    generator = torch.Generator().manual_seed(math.prod(shape) * size)
    channels, *kernel = shape
    signs = torch.randint(0, 2, (size, channels), generator=generator) * 2.0 - 1.0
    counts: list[int] = []
    for side in kernel:
        counts.append(2 if side > 1 and size % (2 * math.prod(counts)) == 0 else 1)
    draws = []
    for _ in range(size // math.prod(counts)):
        drawn = [
            torch.randperm(side, generator=generator)[:count].sort().values.tolist()
            for side, count in zip(kernel, counts, strict=True)
        ]
        draws.append(tuple((places[0], places[-1] - places[0]) for places in drawn))
    signs *= math.sqrt(math.prod(kernel) / size)
    return signs.to(dtype).to(device), tuple(counts), tuple(draws)


def inner_products(a: Tensor, b: Tensor) -> Tensor:
    """Products of all channels of two maps, summed over voxels, ``(N, A, B)`` in float32 or wider.

    Args:
        a: ``(N, A, X, Y, Z)``, contiguous.
        b: ``(N, B, X, Y, Z)``, contiguous.
    """
    return _side_by_side(a, b) if a.is_cuda and torch.version.cuda else _per_sample(a, b)


def _per_sample(a: Tensor, b: Tensor) -> Tensor:
    wide = torch.promote_types(a.dtype, torch.float32)
    return torch.bmm(a.flatten(2).to(wide), b.flatten(2).to(wide).transpose(1, 2))


def _side_by_side(a: Tensor, b: Tensor) -> Tensor:
    """Samples share the rows: products of different samples are for nothing, and nothing is copied."""
    (n, channels), others, voxels = a.shape[:2], b.shape[1], a[0, 0].numel()
    parts = math.gcd(voxels, 1 << (voxels // VOXELS).bit_length())
    rows, columns = (t.reshape(n * t.shape[1], parts, -1).transpose(0, 1) for t in (a, b))
    wide: dict[str, Any] = {} if a.dtype.itemsize > 2 else {"out_dtype": torch.float32}
    products = torch.bmm(rows, columns.transpose(1, 2), **wide).sum(0)
    return products.view(n, channels, n, others).diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def _reduced(g: Tensor, y: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over voxels of g and of g (y - mean), ``(N, C)`` each."""
    if y.is_cuda:
        one, flat = (1, -1, *y.shape[2:]), mean.flatten()
        g_sum, centred, _, _ = torch.batch_norm_backward_reduce(
            g.reshape(one), y.reshape(one), flat, flat, None, True, False, False
        )
        return g_sum.view(mean.shape), centred.view(mean.shape)
    wide = mean.dtype
    values, others = g.flatten(2).to(wide), y.flatten(2).to(wide)
    g_sum = values.sum(2)
    return g_sum, (values * others).sum(2) - mean * g_sum
