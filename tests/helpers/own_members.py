"""What a user writes in a file of their own: a weighting, a task and a backbone, named in a config."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medmtl.models import Backbone
from medmtl.tasks import Segmentation
from medmtl.tasks.base import Output
from medmtl.types import Batch
from medmtl.weighting import Weighed, Weighting


class LargestFirst(Weighting):
    """Half of the weight to the largest loss, the rest spread evenly."""

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        share = torch.full_like(losses, 0.5 / len(losses))
        share[losses.argmax()] += 0.5
        return Weighed(losses, share, share)


class Doubled(Segmentation):
    """A segmentation whose loss counts double."""

    kind = "doubled"

    def loss(self, output: Output, batch: Batch) -> Tensor:
        return 2 * super().loss(output, batch)


class TooLarge(Segmentation):
    """A segmentation whose loss asks for more memory than any GPU has, and gets the GPU's answer."""

    kind = "too-large"

    def loss(self, output: Output, batch: Batch) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1000.00 GiB.\nMore lines.")


class BreaksAtThirdStep(Segmentation):
    """A segmentation whose loss is NaN from its third step on."""

    kind = "breaks"
    asked = 0

    def loss(self, output: Output, batch: Batch) -> Tensor:
        self.asked += 1
        return super().loss(output, batch) * (torch.nan if self.asked >= 3 else 1.0)


class BreaksItsGradient(Segmentation):
    """A segmentation whose loss is fine and whose gradient is NaN from its third step on."""

    kind = "breaks-gradient"
    asked = 0

    def loss(self, output: Output, batch: Batch) -> Tensor:
        self.asked += 1
        loss = super().loss(output, batch)
        return loss + (loss - loss).sqrt() if self.asked >= 3 else loss


class TwoLevels(Backbone):
    """The least that a backbone can be."""

    strides = ((1, 1, 1), (2, 2, 1))

    def __init__(self, in_channels: int, width: int = 4) -> None:
        super().__init__()
        self.pyramid_channels = (width, 2 * width)
        self.decoded_channels = (width,)
        self.fine = nn.Conv3d(in_channels, width, 3, padding=1)
        self.coarse = nn.Conv3d(width, 2 * width, (2, 2, 1), stride=(2, 2, 1))
        self.up = nn.ConvTranspose3d(2 * width, width, (2, 2, 1), stride=(2, 2, 1))

    def encode(self, image: Tensor) -> list[Tensor]:
        fine = self.fine(image).relu()
        return [fine, self.coarse(fine).relu()]

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        return [pyramid[0] + self.up(pyramid[1])]


class SeesThrough(Backbone):
    """Hands the image itself to the heads, so that a test can say what they find in it."""

    strides = ((1, 1, 1), (4, 4, 1))
    pyramid_channels = (1, 1)
    decoded_channels = (1,)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(in_channels))

    def encode(self, image: Tensor) -> list[Tensor]:
        return [image, nn.functional.avg_pool3d(image, (4, 4, 1))]

    def decode(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        return [pyramid[0]]


class NotATask:
    """Something that a config names by mistake."""


class LooksAtValues(TwoLevels):
    """A backbone that does not run without numbers in its tensors."""

    def encode(self, image: Tensor) -> list[Tensor]:
        return super().encode(image * float(image.max()))


class LosesItsChannels(TwoLevels):
    """A backbone with a mistake: it reads no channel of its image."""

    def encode(self, image: Tensor) -> list[Tensor]:
        return super().encode(image[:, :0])
