"""Networks of MONAI as backbones: the same blocks and weights, split into encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import ClassVar

from monai.networks.nets import SegResNet, SwinUNETR
from pydantic import PositiveInt
from torch import Tensor, nn

from medmtl.models.backbone import BACKBONES, Backbone
from medmtl.types import ConfigError


def _halvings(levels: int) -> tuple[tuple[int, int, int], ...]:
    """Cumulative strides where every level halves every axis."""
    return tuple((2**level, 2**level, 2**level) for level in range(levels))


@BACKBONES.register("segresnet")
class SegResNetBackbone(Backbone):
    """SegResNet (Myronenko 2018, without its autoencoder branch), as MONAI has it.

    Every level halves all three axes: for nearly isotropic volumes. Weights of MONAI's own network fit.

    Args:
        in_channels: image channels C.
        width: channels of the finest level; each coarser one has twice as many; a multiple of ``groups``.
        blocks: residual blocks of each level of the encoder, finest first.
        groups: of the group normalization.
        checkpointing: compute blocks again in the backward pass instead of keeping what is inside them: less
            memory, about a third more time, the same numbers.

    Raises:
        ConfigError: fewer than two levels, or a width that the groups do not divide.
    """

    foreign_names: ClassVar[Mapping[str, str]] = {
        "convInit.": "stem.",
        "down_layers.": "down.",
        "up_samples.": "up.",
        "up_layers.": "blocks.",
    }

    def __init__(
        self,
        in_channels: int,
        width: PositiveInt = 16,
        blocks: Sequence[PositiveInt] = (1, 2, 2, 4),
        groups: PositiveInt = 8,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        if len(blocks) < 2:
            raise ConfigError(f"backbone: segresnet needs at least two levels; found blocks {list(blocks)}")
        if width % groups:
            raise ConfigError(f"backbone: width {width} is no multiple of the {groups} groups; change either")
        net = SegResNet(
            spatial_dims=3,
            init_filters=width,
            in_channels=in_channels,
            out_channels=1,
            norm=("GROUP", {"num_groups": groups}),
            blocks_down=tuple(blocks),
            blocks_up=(1,) * (len(blocks) - 1),
        )
        self.stem, self.down = net.convInit, net.down_layers
        self.up, self.blocks = net.up_samples, net.up_layers
        self.pyramid_channels = tuple(width * 2**level for level in range(len(blocks)))
        self.decoded_channels = self.pyramid_channels[:-1]
        self.strides = _halvings(len(blocks))

    def encode(self, image: Tensor) -> list[Tensor]:
        """``(N, C, X, Y, Z)`` -> one feature map per level, finest first."""
        x = self.stem(image)
        pyramid: list[Tensor] = []
        for layer in self.down:
            x = self.run(layer, x)
            pyramid.append(x)
        return pyramid

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded feature maps, finest first."""
        x = pyramid[-1]
        decoded: list[Tensor] = []
        for skip, up, block in zip(pyramid[-2::-1], self.up, self.blocks, strict=True):
            x = self.run(partial(_one_up, up, block), x, skip)
            decoded.append(x)
        return decoded[::-1]


def _one_up(up: nn.Module, block: nn.Module, below: Tensor, skip: Tensor) -> Tensor:
    found: Tensor = block(up(below) + skip)
    return found


@BACKBONES.register("swin_unetr")
class SwinUNETRBackbone(Backbone):
    """Swin UNETR (Hatamizadeh et al. 2022), as MONAI has it; sides are multiples of 32.

    Args:
        in_channels: image channels C.
        width: channels of the finest level; a multiple of 12.
        depths: transformer layers of each of the four stages.
        heads: attention heads of each stage.
        checkpointing: compute blocks again in the backward pass instead of keeping what is inside them: less
            memory, about a third more time, the same numbers.

    Raises:
        ConfigError: a width that is no multiple of 12, not four stages, or einops is not installed.
    """

    foreign_names: ClassVar[Mapping[str, str]] = {
        "swinViT.": "transformer.",
        **{f"encoder{n + 1}.": f"levels.{n}." for n in range(4)},
        "encoder10.": "bottom.",
        **{f"decoder{5 - n}.": f"up.{n}." for n in range(5)},
    }

    def __init__(
        self,
        in_channels: int,
        width: PositiveInt = 24,
        depths: Sequence[PositiveInt] = (2, 2, 2, 2),
        heads: Sequence[PositiveInt] = (3, 6, 12, 24),
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        if width % 12:
            raise ConfigError(f"backbone: swin_unetr needs a width that is a multiple of 12; found {width}")
        if len(depths) != 4 or len(heads) != 4:
            raise ConfigError(
                f"backbone: swin_unetr has four stages; found depths {list(depths)} and heads {list(heads)}"
            )
        if find_spec("einops") is None:
            raise ConfigError("backbone: swin_unetr needs einops: pip install 'medmtl[swin]'")
        net = SwinUNETR(
            in_channels=in_channels,
            out_channels=1,
            feature_size=width,
            depths=tuple(depths),
            num_heads=tuple(heads),
            spatial_dims=3,
            use_checkpoint=checkpointing,
        )
        self.transformer = net.swinViT
        self.levels = nn.ModuleList([net.encoder1, net.encoder2, net.encoder3, net.encoder4])
        self.bottom = net.encoder10
        self.up = nn.ModuleList([net.decoder5, net.decoder4, net.decoder3, net.decoder2, net.decoder1])
        self.pyramid_channels = (width, width, 2 * width, 4 * width, 8 * width, 16 * width)
        self.decoded_channels = self.pyramid_channels[:-1]
        self.strides = _halvings(6)

    def encode(self, image: Tensor) -> list[Tensor]:
        """``(N, C, X, Y, Z)`` -> features of the image and of five stages, finest first."""
        stages = self.transformer(image, True)
        fine = [self.run(level, x) for level, x in zip(self.levels, [image, *stages[:3]], strict=True)]
        return [*fine, stages[3], self.run(self.bottom, stages[4])]

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded feature maps, finest first."""
        x = pyramid[-1]
        decoded: list[Tensor] = []
        for skip, up in zip(pyramid[-2::-1], self.up, strict=True):
            x = self.run(up, x, skip)
            decoded.append(x)
        return decoded[::-1]
