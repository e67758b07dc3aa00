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
        checkpointing: compute blocks again in the backward pass instead of keeping what is inside them: less
            memory, about a third more time, the same numbers.

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
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
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
        return UNetDecoder(
            self.pyramid_channels, self.decoded_channels, self._kernels, self._strides, self.checkpointing
        )

    def level(self, index: int) -> Level:
        """One level of the encoder, 0 the finest."""
        level = self.encoder[index]
        assert isinstance(level, Level)
        return level

    def encode(self, image: Tensor) -> list[Tensor]:
        """``(N, C, X, Y, Z)`` -> one feature map per level, finest first."""
        return self.encode_levels(image, 0, len(self.encoder), opened=False)[0]

    def encode_opened(self, image: Tensor) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        """See `Backbone.encode_opened`."""
        return self.encode_levels(image, 0, len(self.encoder), opened=True)

    def encode_levels(
        self, x: Tensor, start: int, stop: int, *, opened: bool
    ) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        """See `Backbone.encode_levels`."""
        pyramid: list[Tensor] = []
        parts: list[tuple[Tensor, ...]] = []
        for index in range(start, stop):
            if opened:
                x, *found = self.run(self.level(index).opened, x)
                parts.append(tuple(part.detach() for part in found))
            else:
                x = self.run(self.level(index), x)
            pyramid.append(x)
        return pyramid, parts

    def level_parameters(self, level: int) -> list[nn.Parameter]:
        """Parameters of one level of the encoder."""
        return list(self.encoder[level].parameters())

    def drop_level(self, level: int) -> None:
        """Leave a level to another network."""
        self.encoder[level] = nn.Identity()

    def last_convolution(self, level: int) -> nn.Conv3d:
        """The last convolution of a level."""
        return self.level(level).last_convolution

    def last_norm(self, level: int) -> nn.InstanceNorm3d:
        """The norm after it; the residual and the activation follow."""
        return self.level(level).last_norm

    def at_last_norm(self, level: int, features: Tensor, gradient: Tensor) -> Tensor:
        """Gradient at that norm's output: past the activation, and past the sum with the residual."""
        return self.level(level).before_activation(features, gradient)

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded feature maps, finest first."""
        assert not self.separate_decoders, "every dense task has a decoder of its own"
        return run_decoder(self.upsample, self.decoder, pyramid, self.run)
