"""Heads: small networks that turn shared features into one task's output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from medmtl.models.features import Features


class Head(nn.Module, ABC):
    """One task's own parameters.

    Attributes:
        reads_masks: tasks whose soft masks this head needs; they are computed first.
    """

    reads_masks: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, features: Features) -> Tensor | list[Tensor]:
        """Dense heads: logits ``(N, K, X, Y, Z)`` per decoded level, finest first. Case heads: ``(B, K)``."""

    def masks(self, output: Tensor | list[Tensor], features: Features) -> Tensor | None:
        """Soft masks ``(N, K, X, Y, Z)`` in 0..1 that other heads may read; None when there are none."""
        return None


class DenseHead(Head):
    """A value or class scores per voxel; while training also on coarser levels (deep supervision).

    Args:
        decoded_channels: channels of the backbone's decoded levels, finest first.
        out_channels: K.
        deep_supervision: how many coarser levels are supervised as well.
    """

    def __init__(self, decoded_channels: Sequence[int], out_channels: int, deep_supervision: int = 0) -> None:
        super().__init__()
        levels = list(decoded_channels[: 1 + deep_supervision])
        self.projections = nn.ModuleList(nn.Conv3d(channels, out_channels, 1) for channels in levels)

    def forward(self, features: Features) -> list[Tensor]:
        """Logits of the finest level, and while training of the coarser ones too."""
        used = list(self.projections) if self.training else [self.projections[0]]
        return [projection(features.decoded[level]) for level, projection in enumerate(used)]


class SegmentationHead(DenseHead):
    """Background and K structures; its soft masks are the structures' probabilities."""

    def masks(self, output: Tensor | list[Tensor], features: Features) -> Tensor:
        """Probabilities of the structures, background left out."""
        return output[0].float().softmax(1)[:, 1:]


class TissueHead(DenseHead):
    """K tissue classes of the voxels inside one structure of a segmentation task.

    Args:
        decoded_channels: channels of the backbone's decoded levels, finest first.
        out_channels: K tissue classes; there is no background among them.
        inside: the segmentation task and the index of the structure among its soft masks.
        deep_supervision: how many coarser levels are supervised as well.
    """

    def __init__(
        self,
        decoded_channels: Sequence[int],
        out_channels: int,
        inside: tuple[str, int],
        deep_supervision: int = 0,
    ) -> None:
        super().__init__(decoded_channels, out_channels, deep_supervision)
        self.reads_masks = (inside[0],)
        self.inside = inside

    def masks(self, output: Tensor | list[Tensor], features: Features) -> Tensor:
        """Probability of being inside the structure and of this tissue."""
        task, structure = self.inside
        return output[0].float().softmax(1) * features.masks[task][:, structure : structure + 1]
