"""Dropout that follows from the case, not from what else lies in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn


class CaseDropout(nn.Dropout):
    """Drops features of a case by a seed of that case.

    A batch that several ranks share then loses the same features as on one, whichever tasks a rank has labels
    for.
    """

    def forward(self, values: Tensor, seeds: Sequence[int] = ()) -> Tensor:
        """The values ``(B, H)``, some 0, the others larger; without seeds, by torch's global state."""
        if not self.training or self.p == 0 or not seeds:
            return super().forward(values)
        width = int(values.shape[1])
        draws = torch.stack([torch.rand(width, generator=Generator().manual_seed(seed)) for seed in seeds])
        factors = (draws >= self.p).to(values.dtype) / (1 - self.p)
        return values * factors.to(values.device, non_blocking=True)
