"""The way up of a U-Net, as a module of its own, so that every dense task may have one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.networks.blocks.dynunet_block import get_conv_layer
from torch import Tensor, nn

from medmtl.models.levels import PlainLevel, Sizes
from medmtl.models.recompute import run_block


class UNetDecoder(nn.Module):
    """Upsample, join with the encoder's features of that level, convolve twice; from coarse to fine.

    Args:
        pyramid_channels: channels of the encoder's levels, finest first.
        decoded_channels: channels of the decoded levels, finest first, one fewer.
        kernels: kernel of each level.
        strides: stride into each level of the encoder.
        checkpointing: compute levels again in the backward pass.
    """

    def __init__(
        self,
        pyramid_channels: Sequence[int],
        decoded_channels: Sequence[int],
        kernels: Sequence[Sizes],
        strides: Sequence[Sizes],
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        below = [*decoded_channels[1:], pyramid_channels[-1]]
        self.upsample = nn.ModuleList(
            get_conv_layer(
                3, deep, w, kernel_size=stride, stride=stride,
                act=None, norm=None, conv_only=True, is_transposed=True,
            )
            for deep, w, stride in zip(below, decoded_channels, strides[1:], strict=True)
        )  # fmt: skip
        self.decoder = nn.ModuleList(
            PlainLevel(w + skip, w, kernel=k, stride=1)
            for w, skip, k in zip(decoded_channels, pyramid_channels[:-1], kernels[:-1], strict=True)
        )

    def run(self, block: Callable[..., Any], *inputs: Tensor) -> Any:
        """As `Backbone.run`."""
        return run_block(block, *inputs, again=self.checkpointing)

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded feature maps, finest first."""
        return run_decoder(self.upsample, self.decoder, pyramid, self.run)


def run_decoder(
    upsample: nn.ModuleList, blocks: nn.ModuleList, pyramid: Sequence[Tensor], run: Callable[..., Any]
) -> list[Tensor]:
    """The way up through the given modules; ``run`` runs each level."""
    x = pyramid[-1]
    decoded: list[Tensor] = []
    for level in reversed(range(len(blocks))):
        x = run(partial(_one_up, upsample[level], blocks[level]), x, pyramid[level])
        decoded.append(x)
    return decoded[::-1]


def _one_up(upsample: nn.Module, block: nn.Module, below: Tensor, skip: Tensor) -> Tensor:
    found: Tensor = block(torch.cat([upsample(below), skip], dim=1))
    return found
