"""The 3D U-Net: anisotropic kernels and strides as nnU-Net's planner chooses them, of MONAI's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from pydantic import PositiveInt
from torch import Tensor, nn

from medmtl.models.backbone import BACKBONES, Backbone
from medmtl.models.levels import Level, PlainLevel, ResidualLevel
from medmtl.models.unet_decoder import UNetDecoder, run_decoder
from medmtl.types import ConfigError

Triple = tuple[PositiveInt, PositiveInt, PositiveInt]
LIGHT = 2
"""A light decoder has the widths of the full one divided by this, and a third of its multiplications."""


@BACKBONES.register("unet")
class UNet(Backbone):
    """U-Net of Isensee et al. 2021 (nnU-Net) with plain or residual encoder blocks.

    Args:
        in_channels: image channels C.
        widths: channels of each level, finest first.
        kernels: kernel of each level; 1 along an axis means that slices are not mixed yet.
        strides: stride into each level; the first is usually ``(1, 1, 1)``.
        residual: residual instead of plain encoder blocks.
        decoders: one full decoder ``shared`` by all dense tasks, or a ``separate`` one of half the width for
            each, which costs a third of a full one.

    Raises:
        ConfigError: the three lists have different lengths.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[PositiveInt],
        kernels: Sequence[Triple],
        strides: Sequence[Triple],
        residual: bool = True,
        decoders: Literal["shared", "separate"] = "shared",
    ) -> None:
        super().__init__()
        if not len(widths) == len(kernels) == len(strides) >= 2:
            raise ConfigError(
                f"backbone: widths ({len(widths)}), kernels ({len(kernels)}) and strides ({len(strides)}) "
                "must have the same number of levels, at least 2"
            )
        self._kernels = [cast(Triple, tuple(k)) for k in kernels]
        self._strides = [cast(Triple, tuple(s)) for s in strides]
        level = ResidualLevel if residual else PlainLevel
        self.separate_decoders = decoders == "separate"
        self.pyramid_channels = tuple(widths)
        self.decoded_channels = tuple(
            max(1, w // LIGHT) if self.separate_decoders else w for w in widths[:-1]
        )
        total, cumulative = (1, 1, 1), []
        for s in self._strides:
            total = (total[0] * s[0], total[1] * s[1], total[2] * s[2])
            cumulative.append(total)
        self.strides = tuple(cumulative)
        inputs = [in_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(
            level(i, o, k, s) for i, o, k, s in zip(inputs, widths, self._kernels, self._strides, strict=True)
        )
        shared = None if self.separate_decoders else self.build_decoder()
        self.upsample = nn.ModuleList() if shared is None else shared.upsample
        self.decoder = nn.ModuleList() if shared is None else shared.decoder

    def build_decoder(self) -> UNetDecoder:
        """A new decoder."""
        return UNetDecoder(self.pyramid_channels, self.decoded_channels, self._kernels, self._strides)

    def level(self, index: int) -> Level:
        """One level of the encoder, 0 the finest."""
        level = self.encoder[index]
        assert isinstance(level, Level)
        return level

    def encode(self, image: Tensor) -> list[Tensor]:
        """``(N, C, X, Y, Z)`` -> one feature map per level, finest first."""
        pyramid: list[Tensor] = []
        for block in self.encoder:
            image = block(image)
            pyramid.append(image)
        return pyramid

    def encode_opened(self, image: Tensor) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        """The pyramid, and each level's last convolution opened: its input and its output."""
        pyramid: list[Tensor] = []
        opened: list[tuple[Tensor, ...]] = []
        for index in range(len(self.encoder)):
            level = self.level(index)
            inner, *others = level.start(image)
            y = level.last(inner)
            image = level.finish(y, *others)
            pyramid.append(image)
            opened.append((inner.detach(), y.detach()))
        return pyramid, opened

    def last_convolution(self, level: int) -> nn.Conv3d:
        """The last convolution of a level."""
        return self.level(level).last_convolution

    def after_last(self, level: int, y: Tensor, *others: Tensor) -> Tensor:
        """The norm after a level's last convolution; the residual and the activation follow."""
        found: Tensor = self.level(level).norm2(y)
        return found

    def at_after_last(self, level: int, features: Tensor, gradient: Tensor) -> Tensor:
        """Gradient at that norm's output: past the activation, and past the sum with the residual."""
        return self.level(level).before_activation(features, gradient)

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded feature maps, finest first."""
        assert not self.separate_decoders, "every dense task has a decoder of its own"
        return run_decoder(self.upsample, self.decoder, pyramid)
