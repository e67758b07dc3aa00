"""The 3D U-Net: anisotropic kernels and strides as nnU-Net's planner chooses them, of MONAI's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock, get_conv_layer
from pydantic import PositiveInt
from torch import Tensor, nn

from medmtl.models.backbone import BACKBONES, Backbone
from medmtl.types import ConfigError

Triple = tuple[PositiveInt, PositiveInt, PositiveInt]
NORM = ("INSTANCE", {"affine": True})
ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})


@BACKBONES.register("unet")
class UNet(Backbone):
    """U-Net of Isensee et al. 2021 (nnU-Net) with plain or residual encoder blocks.

    Args:
        in_channels: image channels C.
        widths: channels of each level, finest first.
        kernels: kernel of each level; 1 along an axis means that slices are not mixed yet.
        strides: stride into each level; the first is usually ``(1, 1, 1)``.
        residual: residual instead of plain encoder blocks.

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
    ) -> None:
        super().__init__()
        if not len(widths) == len(kernels) == len(strides) >= 2:
            raise ConfigError(
                f"backbone: widths ({len(widths)}), kernels ({len(kernels)}) and strides ({len(strides)}) "
                "must have the same number of levels, at least 2"
            )
        kernel = [cast(Triple, tuple(k)) for k in kernels]
        stride = [cast(Triple, tuple(s)) for s in strides]
        block = UnetResBlock if residual else UnetBasicBlock
        self.pyramid_channels = tuple(widths)
        self.decoded_channels = tuple(widths[:-1])
        total, cumulative = (1, 1, 1), []
        for s in stride:
            total = (total[0] * s[0], total[1] * s[1], total[2] * s[2])
            cumulative.append(total)
        self.strides = tuple(cumulative)
        inputs = [in_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(
            block(3, i, o, kernel_size=k, stride=s, norm_name=NORM, act_name=ACTIVATION)
            for i, o, k, s in zip(inputs, widths, kernel, stride, strict=True)
        )
        self.upsample = nn.ModuleList(
            get_conv_layer(
                3, widths[i + 1], widths[i], kernel_size=stride[i + 1], stride=stride[i + 1],
                act=None, norm=None, conv_only=True, is_transposed=True,
            )
            for i in range(len(widths) - 1)
        )  # fmt: skip
        self.decoder = nn.ModuleList(
            UnetBasicBlock(3, 2 * w, w, kernel_size=k, stride=1, norm_name=NORM, act_name=ACTIVATION)
            for w, k in zip(widths[:-1], kernel[:-1], strict=True)
        )

    def encode(self, image: Tensor) -> list[Tensor]:
        """``(N, C, X, Y, Z)`` -> one feature map per level, finest first."""
        pyramid: list[Tensor] = []
        for block in self.encoder:
            image = block(image)
            pyramid.append(image)
        return pyramid

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded feature maps, finest first."""
        x = pyramid[-1]
        decoded: list[Tensor] = []
        for level in reversed(range(len(self.decoder))):
            x = torch.cat([self.upsample[level](x), pyramid[level]], dim=1)
            x = self.decoder[level](x)
            decoded.append(x)
        return decoded[::-1]
