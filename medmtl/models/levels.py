"""Encoder levels: MONAI's blocks, which can be opened at their last convolution.

features = activation(norm2(conv2(inner)) + residual). Opened like this, the gradient of a loss on the last
convolution's weight follows from the gradient at the level's features alone, without the graph of the
encoder, the residual or a second forward pass through convolutions: see `medmtl.engine.cut`.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock
from torch import Tensor, nn

NORM = ("INSTANCE", {"affine": True})
SLOPE = 0.01
ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": SLOPE})
Sizes = Sequence[int]


class Level(nn.Module, ABC):
    """One level of an encoder: two convolutions, the first with the stride."""

    conv1: nn.Module
    conv2: nn.Module
    norm1: nn.Module
    norm2: nn.Module
    lrelu: nn.Module

    def start(self, x: Tensor) -> Tensor:
        """What the last convolution reads."""
        return activated(self.norm1, self.lrelu, self.conv1(x))

    def residual(self, x: Tensor) -> Tensor | None:
        """What is added before the last activation."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(N, out, ...)`` of ``(N, in, X, Y, Z)``."""
        return activated(self.norm2, self.lrelu, self.conv2(self.start(x)), self.residual(x))

    def opened(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features; what the last convolution reads and gives; mean and inverse sd that the norm finds."""
        inner = self.start(x)
        y = self.conv2(inner)
        features, mean, inverse = instance_normalized(self.last_norm, self.lrelu, y, self.residual(x))
        return features, inner, y, mean, inverse

    @staticmethod
    def before_activation(features: Tensor, gradient: Tensor) -> Tensor:
        """Gradient before the last activation, from that at the features; both have the same sign."""
        found: Tensor = torch.ops.aten.leaky_relu_backward(gradient, features, SLOPE, True)
        return found

    @property
    def last_convolution(self) -> nn.Conv3d:
        """The module of the last convolution."""
        found = next(module for module in self.conv2.modules() if isinstance(module, nn.Conv3d))
        assert isinstance(found, nn.Conv3d)
        return found

    @property
    def last_norm(self) -> nn.InstanceNorm3d:
        """The norm that follows it."""
        assert isinstance(self.norm2, nn.InstanceNorm3d)
        return self.norm2


class PlainLevel(Level, UnetBasicBlock):
    """Convolution, norm and activation, twice."""

    def __init__(self, channels_in: int, channels_out: int, kernel: Sizes, stride: Sizes | int) -> None:
        UnetBasicBlock.__init__(
            self, 3, channels_in, channels_out,
            kernel_size=kernel, stride=stride, norm_name=NORM, act_name=ACTIVATION,
        )  # fmt: skip


class ResidualLevel(Level, UnetResBlock):
    """The same, with the input added before the last activation."""

    conv3: nn.Module
    norm3: nn.Module

    def __init__(self, channels_in: int, channels_out: int, kernel: Sizes, stride: Sizes) -> None:
        UnetResBlock.__init__(
            self, 3, channels_in, channels_out,
            kernel_size=kernel, stride=stride, norm_name=NORM, act_name=ACTIVATION,
        )  # fmt: skip

    def residual(self, x: Tensor) -> Tensor:
        """The input, in the shape of the output."""
        found: Tensor = self.norm3(self.conv3(x)) if self.downsample else x
        return found


def activated(norm: nn.Module, activation: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """activation(norm(x) + residual), whatever the norm."""
    if isinstance(norm, nn.InstanceNorm3d) and not norm.track_running_stats:
        return instance_normalized(norm, activation, x, residual)[0]
    found: Tensor = norm(x)
    if residual is not None:
        found += residual
    return activation(found)


def instance_normalized(
    norm: nn.InstanceNorm3d, activation: nn.Module, x: Tensor, residual: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """activation(norm(x) + residual), and what the norm found: mean and inverse sd ``(N, C)``.

    The module itself returns a view, and what works in place on a view copies the gradient three times in
    its backward pass. Here sum and activation work on the tensor itself.

    Args:
        norm: of every channel of every sample, by the sample itself.
        activation: may work in place.
        x: ``(N, C, X, Y, Z)``.
        residual: of the same shape, or None.

    Raises:
        ValueError: a single voxel, which is its own mean.
    """
    samples, channels = x.shape[:2]
    if math.prod(x.shape[2:]) == 1:
        raise ValueError(
            f"instance normalization needs more than one voxel per channel; found {tuple(x.shape)}"
        )
    flat = (1, samples * channels, *x.shape[2:])
    weight, bias = (
        p.expand(samples, -1).reshape(-1) if norm.affine else None for p in (norm.weight, norm.bias)
    )
    out, mean, inverse = torch.native_batch_norm(
        x.reshape(flat), weight, bias, None, None, True, 0.0, norm.eps
    )
    if residual is not None:
        out += residual.reshape(flat)
    return activation(out).view(x.shape), mean.view(samples, channels), inverse.view(samples, channels)
