"""Tasks that go wrong on one rank only."""

from __future__ import annotations

import os
import signal

from torch import Tensor

from medmtl.engine.ranks import rank
from medmtl.tasks import Segmentation
from medmtl.tasks.base import Output
from medmtl.types import Batch


class RaisesOnRankOne(Segmentation):
    """A segmentation that rank 1 cannot compute from its fourth step on."""

    kind = "raises"
    asked = 0

    def loss(self, output: Output, batch: Batch) -> Tensor:
        self.asked += 1
        if rank() == 1 and self.asked > 3:
            raise ValueError("the coil fell off")
        return super().loss(output, batch)


class KilledOnRankOne(Segmentation):
    """A segmentation whose fourth step kills rank 1, as a system without memory does."""

    kind = "killed"
    asked = 0

    def loss(self, output: Output, batch: Batch) -> Tensor:
        self.asked += 1
        if rank() == 1 and self.asked > 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(output, batch)
