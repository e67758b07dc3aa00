"""Random changes of a training sample's intensities, drawn from an explicit generator.

Plain torch, not MONAI's transforms: some of those wait for the GPU, and return a MetaTensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from medmtl.data.augment import Augmentation


def change_intensity(
    image: Tensor, augmentation: Augmentation, generator: Generator, aspect: float | None = None
) -> Tensor:
    """Change blur, resolution, bias field, contrast, brightness, gamma and noise of a case, all frames alike.

    Args:
        image: ``(T, C, X, Y, Z)``, standardized.
        augmentation: how strongly.
        generator: on the CPU; as many numbers are drawn from it whatever they are.
        aspect: length of a voxel over its width, to blur and coarsen along the stack too; None leaves it out.
    """
    draws = torch.rand(16, generator=generator).tolist()
    coefficients = [augmentation.bias * (2 * c - 1) for c in torch.rand(9, generator=generator).tolist()]
    seed = int(torch.randint(2**31, (1,), generator=generator))
    chosen = [draw < augmentation.probability for draw in draws[:7]]
    strength = draws[7:14]
    signed = [2 * s - 1 for s in strength]
    if chosen[0] and augmentation.blur_voxels > 0:
        sigma = strength[0] * augmentation.blur_voxels
        image = _blur(image, (sigma, sigma, 0.0 if aspect is None else sigma / aspect))
    if chosen[1] and augmentation.low_resolution > 1:
        factor = 1 + (augmentation.low_resolution - 1) * strength[1]
        along = 1.0 if aspect is None else max(1.0, factor / aspect)
        image = _lower_resolution(image, (factor, factor, along))
    if chosen[2] and augmentation.bias > 0:
        image = _bias_field(image, coefficients)
    if chosen[3]:
        image = image * (1 + augmentation.contrast * signed[3])
    if chosen[4]:
        image = image + augmentation.brightness * signed[4]
    if chosen[5] and augmentation.gamma > 0:
        exponent = (1 + augmentation.gamma) ** signed[5]
        inverted = augmentation.inverted_gamma and draws[14] < 0.5
        image = -_gamma(-image, exponent) if inverted else _gamma(image, exponent)
    if chosen[6] and augmentation.noise > 0:
        local = torch.Generator(image.device).manual_seed(seed)
        sigma = augmentation.noise * strength[6]
        image = image + sigma * torch.randn(image.shape, generator=local, device=image.device)
    return image


def _gamma(image: Tensor, exponent: float) -> Tensor:
    """Raise intensities, scaled to 0..1, to a power; mean and standard deviation stay as they were."""
    low = image.amin()
    span = (image.amax() - low).clamp_min(1e-6)
    bent = ((image - low) / span) ** exponent
    return _spread_like(image, bent)


def _spread_like(image: Tensor, changed: Tensor) -> Tensor:
    """The changed image with mean and standard deviation of the image, as if standardized afterwards."""
    return (changed - changed.mean()) / changed.std().clamp_min(1e-6) * image.std() + image.mean()


def _bias_field(image: Tensor, coefficients: list[float]) -> Tensor:
    """Multiply intensities above the lowest by the exponential of a quadratic; mean and spread stay."""
    x, y, z = (torch.linspace(-1, 1, n, device=image.device) for n in image.shape[2:])
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    terms = (x, y, z, x * x, y * y, z * z, x * y, x * z, y * z)
    exponent = torch.zeros(image.shape[2:], device=image.device)
    for coefficient, term in zip(coefficients, terms, strict=True):
        exponent = exponent + coefficient * term
    low = image.amin()
    return _spread_like(image, (image - low) * exponent.exp())


def _lower_resolution(image: Tensor, factors: Sequence[float]) -> Tensor:
    """Resolution of ``(T, C, X, Y, Z)`` lowered by a factor along each axis, on the same grid."""
    flat = image.flatten(0, 1)[:, None]
    shape = [int(size) for size in flat.shape[2:]]
    coarse = [max(1, round(size / factor)) for size, factor in zip(shape, factors, strict=True)]
    small = functional.interpolate(flat, size=coarse, mode="nearest")
    return functional.interpolate(small, size=shape, mode="trilinear").reshape(image.shape)


def _blur(image: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Gaussian smoothing of ``(T, C, X, Y, Z)`` along each axis, by voxels; less than a tenth is none."""
    flat = image.flatten(0, 1)[:, None]
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.1:
            continue
        radius = math.ceil(3 * sigma)
        offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        kernel = (-(offsets**2) / (2 * sigma**2)).exp()
        shape, margin = [1, 1, 1, 1, 1], [0] * 6
        shape[2 + axis] = len(kernel)
        margin[4 - 2 * axis] = margin[5 - 2 * axis] = radius
        padded = functional.pad(flat, margin, mode="replicate")
        flat = functional.conv3d(padded, (kernel / kernel.sum()).reshape(shape))
    return flat.reshape(image.shape)
