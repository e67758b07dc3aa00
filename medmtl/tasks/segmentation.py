"""Segmentation: which structure each voxel belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medmtl.data.dataset import Column
from medmtl.data.prepare import PreparedCase
from medmtl.losses import coarser_target, dice_cross_entropy
from medmtl.models import Head, SegmentationHead
from medmtl.tasks.base import TASKS, CaseResult, HeadContext, Output, Task, TaskOptions
from medmtl.tasks.overlap import mean_dice
from medmtl.types import Batch


class SegmentationOptions(TaskOptions):
    """Options of a `segmentation` task."""

    target: str = Field(description="mask column to learn")
    deep_supervision: int = Field(
        default=0, ge=0, le=4, description="coarser decoder levels that are supervised too"
    )


@TASKS.register("segmentation")
class Segmentation(Task):
    """Soft Dice plus cross-entropy on every labelled frame; softmax over background and structures."""

    kind = "segmentation"
    Options = SegmentationOptions
    dense = True

    def __init__(self, name: str, options: SegmentationOptions, columns: Mapping[str, Column]) -> None:
        self.target = options.target
        super().__init__(name, options, columns)
        self._expect("mask")
        self.labels = dict(self.columns[self.target].labels)
        self.structures = tuple(self.labels)
        self.outside = (1.0, *(0.0 for _ in self.labels))
        self._index = torch.as_tensor(_label_to_index(self.labels))

    @property
    def targets(self) -> tuple[str, ...]:
        """The mask column."""
        return (self.target,)

    def build_head(self, context: HeadContext) -> Head:
        """One score per structure and for the background."""
        channels = context.backbone.decoded_channels
        return SegmentationHead(channels, 1 + len(self.structures), self.options.deep_supervision)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Dice + cross-entropy; coarser levels count half as much each."""
        target = self.class_index(batch.targets[self.target])
        return supervised_levels(output, target)

    def class_index(self, mask: Tensor) -> Tensor:
        """Voxel values of the file -> class index (0 background, then structures, 255 unlabelled)."""
        if self._index.device != mask.device:
            self._index = self._index.to(mask.device)
        return self._index[mask]

    def stitchable(self, output: Output) -> Tensor:
        """Probabilities ``(N, 1 + K, X, Y, Z)``."""
        return output[0].float().softmax(1)

    def decode_dense(self, stitched: Tensor, dense: Mapping[str, np.ndarray]) -> np.ndarray:
        """Most probable structure's voxel value."""
        values = np.array([0, *self.labels.values()], dtype=np.uint8)
        return values[stitched.argmax(1).cpu().numpy()]

    def validate(self, results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> dict[str, float]:
        """Mean Dice over structures and labelled frames."""
        predictions = [r.dense[self.name] for r in results]
        return mean_dice(predictions, [c.masks.get(self.target) for c in cases], self.labels)

    def describe(self) -> dict[str, Any]:
        """Entry in `outputs.yaml`."""
        return {"kind": self.kind, "target": self.target, "labels": self.labels}


def supervised_levels(output: Output, target: Tensor, *, skip: int = 1, together: bool = False) -> Tensor:
    """Weighted mean of Dice + cross-entropy over decoded levels, each half as heavy as the one above."""
    weights = [0.5**level for level in range(len(output))]
    losses = [
        weight
        * dice_cross_entropy(logits, coarser_target(target, logits.shape[2:]), skip=skip, together=together)
        for weight, logits in zip(weights, output, strict=True)
    ]
    return sum(losses[1:], losses[0]) / sum(weights)


def _label_to_index(labels: Mapping[str, int]) -> np.ndarray:
    table = np.full(256, 255, dtype=np.int64)
    table[0] = 0
    for index, value in enumerate(labels.values(), start=1):
        table[value] = index
    return table
