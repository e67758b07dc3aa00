"""What every backbone offers: a pyramid of features from the encoder, a decoder that only runs when asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from medmtl.models.recompute import run_block
from medmtl.registry import Registry
from medmtl.types import ConfigError


class Backbone(nn.Module, ABC):
    """Shared trunk of all tasks.

    The last four methods let gradients of tasks be compared without the encoder's graph
    (`medmtl.engine.comparison`); a backbone that does not have them is compared by its graph, which a
    compiled trunk hides.

    Attributes:
        pyramid_channels: channels of each pyramid level, finest first.
        decoded_channels: channels of each decoded level, finest (full resolution) first.
        strides: cumulative ``(X, Y, Z)`` stride of each pyramid level.
        foreign_names: what other libraries' names of its parts begin with, and what ours do.
        separate_decoders: every dense task has a decoder of its own, from `build_decoder`.
        checkpointing: blocks are computed again in the backward pass instead of being kept; see `run`.
    """

    pyramid_channels: tuple[int, ...]
    decoded_channels: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    separate_decoders: bool = False
    checkpointing: bool = False
    foreign_names: ClassVar[Mapping[str, str]] = {}

    def run(self, block: Callable[..., Any], *inputs: Tensor) -> Any:
        """What a block makes of its inputs; with `checkpointing` nothing inside it is kept."""
        return run_block(block, *inputs, again=self.checkpointing)

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
        """The pyramid, and of each level's last convolution input, output, and what the norm finds in that.

        These are ``(N, in, X, Y, Z)``, ``(N, F, X', Y', Z')``, mean and inverse sd ``(N, F)``. Everything but
        the pyramid is detached. Only tensors, so that it can be compiled.
        """
        raise NotImplementedError(f"{type(self).__name__} does not open its last convolutions")

    def last_convolution(self, level: int) -> nn.Conv3d:
        """The last convolution before the features of a pyramid level."""
        raise NotImplementedError(f"{type(self).__name__} does not open its last convolutions")

    def last_norm(self, level: int) -> nn.InstanceNorm3d:
        """The instance norm right behind it."""
        raise NotImplementedError(f"{type(self).__name__} does not open its last convolutions")

    def at_last_norm(self, level: int, features: Tensor, gradient: Tensor) -> Tensor:
        """The gradient at that norm's output, from the features of the level and the gradient at these."""
        raise NotImplementedError(f"{type(self).__name__} does not open its last convolutions")

    @classmethod
    def can_be_opened(cls) -> bool:
        """Whether it has these methods."""
        return cls.encode_opened is not Backbone.encode_opened

    def opens(self) -> bool:
        """The same of this one, which may be made of others."""
        return self.can_be_opened()

    def encode_levels(
        self, x: Tensor, start: int, stop: int, *, opened: bool
    ) -> tuple[list[Tensor], list[tuple[Tensor, ...]]]:
        """Some levels of the encoder, from what the level above gave; for levels that all groups share.

        Args:
            x: features of level ``start - 1``, or the image.
            start: first level.
            stop: one behind the last.
            opened: as `encode_opened` (else the second list is empty).
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be split")

    def level_parameters(self, level: int) -> list[nn.Parameter]:
        """Parameters of one level of the encoder; of a backbone that has `encode_levels`."""
        raise NotImplementedError(f"{type(self).__name__} cannot be split")

    def drop_level(self, level: int) -> None:
        """Forget a level whose work another backbone does; of a backbone that has `encode_levels`.

        Raises:
            ConfigError: this one has not.
        """
        raise ConfigError(
            f"backbone.sharing.shared_levels: {type(self).__name__} cannot be split into levels; set it to "
            "0, or use backbone.type: unet"
        )

    def is_shared(self, level: int) -> bool:
        """Whether a pyramid level may be read by more than one task."""
        return True

    def private_parameters(self) -> set[nn.Parameter]:
        """Parameters that one task has for itself, see `medmtl.models.branches`."""
        return set()

    def pull_together(self) -> None:
        """Add the gradient of a penalty on the distance between several tasks' backbones to every grad."""

    @property
    def divisor(self) -> tuple[int, int, int]:
        """What each side of an input must be a multiple of."""
        return self.strides[-1]


BACKBONES: Registry[Backbone] = Registry("backbone", Backbone)
