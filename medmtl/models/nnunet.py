"""nnU-Net's two 3D networks, so that weights trained there go on here with the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from medmtl.models.backbone import BACKBONES, Backbone
from medmtl.types import ConfigError

Triple = tuple[PositiveInt, PositiveInt, PositiveInt]


@BACKBONES.register("nnunet")
class NNUNet(Backbone):
    """PlainConvUNet (Isensee et al. 2021) and ResidualEncoderUNet (Isensee et al. 2024) of nnU-Net v2.

    Instance normalization, leaky ReLU and biases everywhere, as in all of its default plans.

    Args:
        in_channels: image channels C.
        widths: channels of each stage, finest first.
        kernels: kernel of each stage.
        strides: stride into each stage; the first is ``(1, 1, 1)``.
        encoder: ``plain`` or ``residual`` blocks.
        encoder_blocks: convolutions (plain) or residual blocks in each stage.
        decoder_convolutions: convolutions in each decoder stage, coarsest first.
        checkpointing: compute blocks again in the backward pass instead of keeping what is inside them: less
            memory, about a third more time, the same numbers.

    Raises:
        ConfigError: lists of lengths that do not go together.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[PositiveInt],
        kernels: Sequence[Triple],
        strides: Sequence[Triple],
        encoder: Literal["plain", "residual"] = "plain",
        encoder_blocks: Sequence[PositiveInt] | None = None,
        decoder_convolutions: Sequence[PositiveInt] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        n = len(widths)
        blocks = list(encoder_blocks or [2] * n)
        merges = list(decoder_convolutions or [2] * (n - 1))
        if n < 2 or not n == len(kernels) == len(strides) == len(blocks) == len(merges) + 1:
            raise ConfigError(
                f"backbone: widths ({n}), kernels ({len(kernels)}), strides ({len(strides)}) and "
                f"encoder_blocks ({len(blocks)}) must have the same number of stages, at least 2, and "
                f"decoder_convolutions ({len(merges)}) one less"
            )
        kernel, stride = [_triple(k) for k in kernels], [_triple(s) for s in strides]
        self.pyramid_channels = tuple(widths)
        self.decoded_channels = tuple(widths[:-1])
        total, cumulative = (1, 1, 1), []
        for s in stride:
            total = (total[0] * s[0], total[1] * s[1], total[2] * s[2])
            cumulative.append(total)
        self.strides = tuple(cumulative)
        residual = encoder == "residual"
        self.stem = ConvBlock(in_channels, widths[0], kernel[0]) if residual else None
        inputs = [widths[0] if residual else in_channels, *widths[:-1]]
        block = ResidualBlock if residual else ConvBlock
        self.stages = nn.ModuleList(
            nn.Sequential(block(i, o, k, s), *(block(o, o, k) for _ in range(count - 1)))
            for i, o, k, s, count in zip(inputs, widths, kernel, stride, blocks, strict=True)
        )
        down = range(n - 1, 0, -1)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(widths[i], widths[i - 1], stride[i], stride[i]) for i in down
        )
        self.merge = nn.ModuleList(
            nn.Sequential(
                ConvBlock(2 * widths[i - 1], widths[i - 1], kernel[i - 1]),
                *(ConvBlock(widths[i - 1], widths[i - 1], kernel[i - 1]) for _ in range(count - 1)),
            )
            for i, count in zip(down, merges, strict=True)
        )

    def encode(self, image: Tensor) -> list[Tensor]:
        """``(N, C, X, Y, Z)`` -> one feature map per stage, finest first."""
        x = image if self.stem is None else self.stem(image)
        pyramid: list[Tensor] = []
        for stage in self.stages:
            x = self.run(stage, x)
            pyramid.append(x)
        return pyramid

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded feature maps, finest first."""
        x = pyramid[-1]
        decoded: list[Tensor] = []
        for skip, up, merge in zip(pyramid[-2::-1], self.up, self.merge, strict=True):
            x = self.run(partial(_one_up, up, merge), x, skip)
            decoded.append(x)
        return decoded[::-1]


def _one_up(up: nn.Module, merge: nn.Module, below: Tensor, skip: Tensor) -> Tensor:
    found: Tensor = merge(torch.cat([up(below), skip], dim=1))
    return found


class ConvBlock(nn.Module):
    """Convolution, instance normalization and, unless ``activate`` is off, leaky ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
        *,
        bias: bool = True,
        activate: bool = True,
    ) -> None:
        super().__init__()
        padding = _triple([(k - 1) // 2 for k in kernel])
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=bias)
        self.norm = nn.InstanceNorm3d(outputs, eps=1e-5, affine=True)
        self.activation = nn.LeakyReLU(0.01) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, ...)`` -> ``(N, outputs, ...)``."""
        return self.activation(self.norm(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut that is pooled by the stride and projected where the width changes."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.conv1 = ConvBlock(inputs, outputs, kernel, stride)
        self.conv2 = ConvBlock(outputs, outputs, kernel, activate=False)
        self.pool = nn.AvgPool3d(stride, stride) if max(stride) > 1 else nn.Identity()
        self.project = (
            ConvBlock(inputs, outputs, (1, 1, 1), bias=False, activate=False)
            if inputs != outputs
            else nn.Identity()
        )
        self.activation = nn.LeakyReLU(0.01)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, ...)`` -> ``(N, outputs, ...)``."""
        return self.activation(self.conv2(self.conv1(x)) + self.project(self.pool(x)))


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (int(v) for v in values)
    return (x, y, z)
