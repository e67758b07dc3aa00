"""Gradients of a level's last convolution as a few numbers per filter, without computing them.

A level ends in p = activation(norm(y) + residual), y = conv(h). The gradient on the convolution's weight is a
sum over voxels of the gradient at y times what was read, h. Multiplied by z = S h instead, with fixed random
signs S, it is that gradient times S, and inner products of such gradients are those of the whole ones up to
about 1 / sqrt(filters x size) (Johnson and Lindenstrauss 1984). Everything is linear in the gradient, so that
opposed gradients stay exactly opposed.

The gradient at y is not needed either: an instance norm's backward takes two means off the gradient g at its
output, so that with x = (y - mean) / sd, over the V voxels of a channel,

sum (dL/dy) z = scale / sd [ sum g z - (sum g / V) sum z - (sum g x / V) sum x z ]

and all that is ever summed are products of tensors that are there.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

VOXELS = 4096
"""Voxels that one matrix product sums over, about: a single one over millions would leave a GPU idle."""

FEW = 9
"""Places of a kernel up to which random filters are products."""


class Sketch:
    """What all tasks' gradients on one convolution's weight are multiplied with; called with each of them.

    Args:
        convolution: the layer, of F filters.
        norm: the instance norm that follows.
        inner: what the convolution read, ``(N, in, X, Y, Z)``.
        y: what it gave, ``(N, F, X', Y', Z')``.
        size: numbers per filter.
    """

    @torch.no_grad()
    def __init__(
        self, convolution: nn.Conv3d, norm: nn.InstanceNorm3d, inner: Tensor, y: Tensor, size: int
    ) -> None:
        self.norm, self.y = norm, y
        z = projection(convolution, inner, size)
        # Sums over z - its mean are the same, and need no large numbers to cancel.
        self.z = z - z.mean((2, 3, 4), keepdim=True)
        wide = torch.promote_types(y.dtype, torch.float32)
        self.z_mean = self.z.sum((2, 3, 4), dtype=wide)[:, None] / y[0, 0].numel()
        self.mean, self.inverse = _moments(y, norm.eps)
        yz = inner_products(y, self.z, mean=True)
        self.xz_mean = self.inverse[:, :, None] * (yz - self.mean[:, :, None] * self.z_mean)

    @torch.no_grad()
    def __call__(self, gradient: Tensor) -> Tensor:
        """``(F, size)`` in float32 or wider, from the gradient at the norm's output."""
        g = gradient.to(self.y.dtype).contiguous()
        g_sum, gx_sum = _reduced(g, self.y, self.mean, self.inverse)
        past_norm = g_sum[:, :, None] * self.z_mean + gx_sum[:, :, None] * self.xz_mean
        found = (self.inverse[:, :, None] * (inner_products(g, self.z) - past_norm)).sum(0)
        return found * self.norm.weight[:, None].to(found.dtype) if self.norm.affine else found


def projection(convolution: nn.Conv3d, inner: Tensor, size: int) -> Tensor:
    """What a convolution reads, through ``size`` random filters of the same kernel: ``(N, size, X, Y, Z)``.

    Filters of few places, as on a finest level whose slices are not mixed, are products of a sign for every
    channel and one for every place: a matrix product mixes the channels, and what is left is small. With 27
    places such products would tell norms apart worse than signs of their own do.

    Args:
        convolution: the layer.
        inner: what it reads, ``(N, in, X, Y, Z)``.
        size: number of filters.
    """
    assert convolution.groups == 1
    assert isinstance(convolution.padding, tuple)
    how = (None, convolution.stride, convolution.padding, convolution.dilation)
    kernel = (tuple(convolution.weight.shape), size, inner.dtype, inner.device)
    if math.prod(convolution.kernel_size) > FEW:
        whole: Tensor = nn.functional.conv3d(inner, _random_filters(*kernel), *how)
        return whole
    channels, places = _random_products(*kernel)
    mixed = torch.matmul(channels, inner.flatten(2)).unflatten(2, inner.shape[2:])
    found: Tensor = nn.functional.conv3d(mixed, places, *how, groups=size)
    return found


@lru_cache(maxsize=64)
def _random_filters(shape: tuple[int, ...], size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Signs over sqrt(size), the same for every weight of a shape."""
    generator = torch.Generator().manual_seed(math.prod(shape))
    signs = torch.randint(0, 2, (size, *shape[1:]), generator=generator) * 2 - 1
    return (signs / math.sqrt(size)).to(dtype).to(device)


@lru_cache(maxsize=64)
def _random_products(
    shape: tuple[int, ...], size: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Signs of channels ``(size, in)``, and of places ``(size, 1, kx, ky, kz)`` over sqrt(size).

    The same for every weight of a shape. Neighbouring places of a kernel have nearly the same gradient; the
    places' signs are drawn such that the squared sum of n of them is n, not only on average over all signs.
    """
    generator = torch.Generator().manual_seed(math.prod(shape))
    channels = torch.randint(0, 2, (size, shape[1]), generator=generator) * 2 - 1
    places = torch.stack([_signs(math.prod(shape[2:]), generator) for _ in range(size)])
    places = places.view(size, 1, *shape[2:]) / math.sqrt(size)
    return channels.to(dtype).to(device), places.to(dtype).to(device)


def _signs(n: int, generator: torch.Generator) -> Tensor:
    """``(n,)`` signs with a sum next to sqrt(n), above or below, such that its square is n on average."""
    low = max(s for s in range(n % 2, n + 1, 2) if s * s <= n)
    high = low if low * low == n else low + 2
    share = 1.0 if high == low else (high * high - n) / (high * high - low * low)
    total = low if float(torch.rand((), generator=generator)) < share else high
    signs = torch.full((n,), -1.0)
    signs[torch.randperm(n, generator=generator)[: (n + total) // 2]] = 1.0
    return signs if float(torch.rand((), generator=generator)) < 0.5 else -signs


def inner_products(a: Tensor, b: Tensor, *, mean: bool = False) -> Tensor:
    """Products of all channels of two maps, summed over voxels, ``(N, A, B)`` in float32 or wider.

    Args:
        a: ``(N, A, X, Y, Z)``, contiguous.
        b: ``(N, B, X, Y, Z)``, contiguous.
        mean: mean over voxels instead of the sum, which 16 bits may not hold.
    """
    factor = 1 / a[0, 0].numel() if mean else 1.0
    return _per_sample(a, b, factor) if a.device.type == "cpu" else _side_by_side(a, b, factor)


def _per_sample(a: Tensor, b: Tensor, factor: float) -> Tensor:
    wide = torch.promote_types(a.dtype, torch.float32)
    return torch.bmm(a.flatten(2).to(wide), b.flatten(2).to(wide).transpose(1, 2)) * factor


def _side_by_side(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """Samples share the rows: products of different samples are for nothing, and nothing is copied."""
    (n, channels), others, voxels = a.shape[:2], b.shape[1], a[0, 0].numel()
    parts = math.gcd(voxels, 1 << (voxels // VOXELS).bit_length())
    rows, columns = (t.reshape(n * t.shape[1], parts, -1).transpose(0, 1) for t in (a, b))
    nothing = a.new_zeros((1, 1, 1))
    products = torch.baddbmm(nothing, rows, columns.transpose(1, 2), beta=0, alpha=factor)
    summed = products.sum(0, dtype=torch.promote_types(a.dtype, torch.float32))
    return summed.view(n, channels, n, others).diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def _moments(y: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation over voxels, as an instance norm has them, ``(N, C)``."""
    if y.is_cuda:
        mean, inverse = torch.batch_norm_stats(y.reshape(1, -1, *y.shape[2:]), eps)
        return mean.view(y.shape[:2]), inverse.view(y.shape[:2])
    values = y.flatten(2).to(torch.promote_types(y.dtype, torch.float32))
    variance, mean = torch.var_mean(values, dim=2, correction=0)
    return mean, (variance + eps).rsqrt()


def _reduced(g: Tensor, y: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over voxels of g and of g (y - mean) / sd, ``(N, C)`` each."""
    if y.is_cuda:
        one = (1, -1, *y.shape[2:])
        g_sum, centred, _, _ = torch.batch_norm_backward_reduce(
            g.reshape(one), y.reshape(one), mean.flatten(), inverse.flatten(), None, True, False, False
        )
        return g_sum.view(mean.shape), centred.view(mean.shape) * inverse
    wide = mean.dtype
    values, others = g.flatten(2).to(wide), y.flatten(2).to(wide)
    g_sum = values.sum(2)
    return g_sum, ((values * others).sum(2) - mean * g_sum) * inverse
