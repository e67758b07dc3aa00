"""The way up of a U-Net, as a module of its own, so that every dense task may have one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, get_conv_layer
from torch import Tensor, nn

from medmtl.models.levels import ACTIVATION, NORM, Sizes


class UNetDecoder(nn.Module):
    """Upsample, join with the encoder's features of that level, convolve twice; from coarse to fine.

    Args:
        pyramid_channels: channels of the encoder's levels, finest first.
        decoded_channels: channels of the decoded levels, finest first, one fewer.
        kernels: kernel of each level.
        strides: stride into each level of the encoder.
    """

    def __init__(
        self,
        pyramid_channels: Sequence[int],
        decoded_channels: Sequence[int],
        kernels: Sequence[Sizes],
        strides: Sequence[Sizes],
    ) -> None:
        super().__init__()
        below = [*decoded_channels[1:], pyramid_channels[-1]]
        self.upsample = nn.ModuleList(
            get_conv_layer(
                3, deep, w, kernel_size=stride, stride=stride,
                act=None, norm=None, conv_only=True, is_transposed=True,
            )
            for deep, w, stride in zip(below, decoded_channels, strides[1:], strict=True)
        )  # fmt: skip
        self.decoder = nn.ModuleList(
            UnetBasicBlock(3, w + skip, w, kernel_size=k, stride=1, norm_name=NORM, act_name=ACTIVATION)
            for w, skip, k in zip(decoded_channels, pyramid_channels[:-1], kernels[:-1], strict=True)
        )

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded feature maps, finest first."""
        return run_decoder(self.upsample, self.decoder, pyramid)


def run_decoder(upsample: nn.ModuleList, blocks: nn.ModuleList, pyramid: Sequence[Tensor]) -> list[Tensor]:
    """The way up through the given modules."""
    x = pyramid[-1]
    decoded: list[Tensor] = []
    for level in reversed(range(len(blocks))):
        x = torch.cat([upsample[level](x), pyramid[level]], dim=1)
        x = blocks[level](x)
        decoded.append(x)
    return decoded[::-1]
