"""What every backbone offers: a pyramid of features from the encoder, a decoder that only runs when asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from medmtl.registry import Registry


class Backbone(nn.Module, ABC):
    """Shared trunk of all tasks.

    Attributes:
        pyramid_channels: channels of each pyramid level, finest first.
        decoded_channels: channels of each decoded level, finest (full resolution) first.
        strides: cumulative ``(X, Y, Z)`` stride of each pyramid level.
    """

    pyramid_channels: tuple[int, ...]
    decoded_channels: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]

    @abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """``(N, C, X, Y, Z)`` -> features ``(N, pyramid_channels[i], ...)``, finest first."""

    @abstractmethod
    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded features, finest (as large as the image) first."""

    @property
    def divisor(self) -> tuple[int, int, int]:
        """What each side of an input must be a multiple of."""
        return self.strides[-1]


BACKBONES: Registry[Backbone] = Registry("backbone", Backbone)
