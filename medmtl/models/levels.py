"""Encoder levels: MONAI's blocks, which can be opened at their last convolution.

features = activation(norm2(last(inner)) + residual). Opened like this, the gradient of a loss on the last
convolution's weight follows from the gradient at the level's features alone, without the graph of the
encoder, the residual or a second forward pass through convolutions: see `medmtl.engine.cut`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the last convolution reads, and what `finish` needs besides."""
        return (self.lrelu(self.norm1(self.conv1(x))),)

    def last(self, inner: Tensor) -> Tensor:
        """The last convolution."""
        return self.conv2(inner)

    @abstractmethod
    def finish(self, y: Tensor, *others: Tensor) -> Tensor:
        """The level's features, from the last convolution's output."""

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(N, out, ...)`` of ``(N, in, X, Y, Z)``."""
        return self.opened(x)[0]

    def opened(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The features, and what the last convolution reads and gives."""
        inner, *others = self.start(x)
        y = self.last(inner)
        return self.finish(y, *others), inner, y

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

    def __init__(self, channels_in: int, channels_out: int, kernel: Sizes, stride: Sizes) -> None:
        UnetBasicBlock.__init__(
            self, 3, channels_in, channels_out,
            kernel_size=kernel, stride=stride, norm_name=NORM, act_name=ACTIVATION,
        )  # fmt: skip

    def finish(self, y: Tensor, *others: Tensor) -> Tensor:
        """Norm and activation."""
        return self.lrelu(self.norm2(y))


class ResidualLevel(Level, UnetResBlock):
    """The same, with the input added before the last activation."""

    conv3: nn.Module
    norm3: nn.Module

    def __init__(self, channels_in: int, channels_out: int, kernel: Sizes, stride: Sizes) -> None:
        UnetResBlock.__init__(
            self, 3, channels_in, channels_out,
            kernel_size=kernel, stride=stride, norm_name=NORM, act_name=ACTIVATION,
        )  # fmt: skip

    def start(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the last convolution reads, and the residual."""
        residual: Tensor = self.norm3(self.conv3(x)) if self.downsample else x
        return (*super().start(x), residual)

    def finish(self, y: Tensor, *others: Tensor) -> Tensor:
        """Norm, sum, activation."""
        (residual,) = others
        out = self.norm2(y)
        out += residual
        return self.lrelu(out)
