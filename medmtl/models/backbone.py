"""What every backbone offers: a pyramid of features from the encoder, a decoder that only runs when asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from medmtl.registry import Registry


class Backbone(nn.Module, ABC):
    """Shared trunk of all tasks.

    The last four methods let gradients of tasks be compared without the encoder's graph
    (`medmtl.engine.comparison`); a backbone that does not have them is compared by its graph, which a
    compiled trunk hides.

    Attributes:
        pyramid_channels: channels of each pyramid level, finest first.
        decoded_channels: channels of each decoded level, finest (full resolution) first.
        strides: cumulative ``(X, Y, Z)`` stride of each pyramid level.
        separate_decoders: every dense task has a decoder of its own, from `build_decoder`.
    """

    pyramid_channels: tuple[int, ...]
    decoded_channels: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    separate_decoders: bool = False

    @abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """``(N, C, X, Y, Z)`` -> features ``(N, pyramid_channels[i], ...)``, finest first."""

    @abstractmethod
    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Pyramid -> decoded features, finest (as large as the image) first; the decoder that tasks share."""

    def build_decoder(self) -> nn.Module:
        """A new decoder for one task, called with a pyramid; where `separate_decoders` is set."""
        raise NotImplementedError(f"{type(self).__name__} has one decoder for all tasks")

    def encode_opened(self, image: Tensor) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        """The pyramid, and of each level's last convolution its input, its output, what `after_last` needs.

        Everything but the pyramid is detached. Only tensors, so that it can be compiled.
        """
        raise NotImplementedError(f"{type(self).__name__} does not open its last convolutions")

    def last_convolution(self, level: int) -> nn.Conv3d:
        """The last convolution before the features of a pyramid level."""
        raise NotImplementedError(f"{type(self).__name__} does not open its last convolutions")

    def after_last(self, level: int, y: Tensor, *others: Tensor) -> Tensor:
        """What becomes of the output of a level's last convolution, given the rest that was opened.

        The level's features, or, to be cheaper, something on the way to them; then `at_after_last` says how a
        gradient gets there.
        """
        raise NotImplementedError(f"{type(self).__name__} does not open its last convolutions")

    def at_after_last(self, level: int, features: Tensor, gradient: Tensor) -> Tensor:
        """The gradient at what `after_last` gives, from the gradient at the level's features."""
        return gradient

    @classmethod
    def can_be_opened(cls) -> bool:
        """Whether it has these methods."""
        return cls.encode_opened is not Backbone.encode_opened

    @property
    def divisor(self) -> tuple[int, int, int]:
        """What each side of an input must be a multiple of."""
        return self.strides[-1]


BACKBONES: Registry[Backbone] = Registry("backbone", Backbone)
