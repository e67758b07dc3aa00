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
from medmtl.losses import SegmentationLoss, boundary_loss, coarser_target, segmentation_loss
from medmtl.models import Head, SegmentationHead
from medmtl.tasks.base import TASKS, CaseResult, HeadContext, Output, Task, TaskOptions
from medmtl.tasks.most_probable import most_probable
from medmtl.tasks.overlap import mean_dice
from medmtl.types import Batch


class SegmentationOptions(TaskOptions):
    """Options of a `segmentation` task."""

    target: str = Field(description="mask column to learn")
    deep_supervision: int = Field(
        default=0, ge=0, le=4, description="coarser decoder levels that are supervised too"
    )
    loss: SegmentationLoss = Field(default="dice_ce", description="overlap loss plus loss per voxel")
    batch_dice: bool = Field(
        default=False, description="one overlap per structure over the whole batch, not per frame"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="of the cross-entropy")
    boundary: float = Field(
        default=0.0,
        ge=0,
        description="weight of an added loss on distances to the outline; waits for the GPU",
    )


@TASKS.register("segmentation")
class Segmentation(Task):
    """Overlap loss plus loss per voxel on every labelled frame; softmax over background and structures."""

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
        """Overlap and voxel loss, coarser levels half as heavy each; the boundary loss on the finest."""
        target = self.class_index(batch.targets[self.target])
        total = supervised_levels(
            output,
            target,
            name=self.options.loss,
            together=self.options.batch_dice,
            label_smoothing=self.options.label_smoothing,
        )
        if self.options.boundary > 0:
            spacing = batch.spacing_mm[batch.case_of_frame]
            probabilities = output[0].float().softmax(1)
            total = total + self.options.boundary * boundary_loss(probabilities, target, spacing)
        return total

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
        return values[most_probable(stitched)]

    def validate(self, results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> dict[str, float]:
        """Mean Dice over structures and labelled frames."""
        predictions = [r.dense[self.name] for r in results]
        return mean_dice(predictions, [c.masks.get(self.target) for c in cases], self.labels)

    def describe(self) -> dict[str, Any]:
        """Entry in `outputs.yaml`."""
        return {"kind": self.kind, "target": self.target, "labels": self.labels}


def supervised_levels(
    output: Output,
    target: Tensor,
    *,
    name: SegmentationLoss = "dice_ce",
    skip: int = 1,
    together: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Weighted mean of a segmentation loss over decoded levels, each half as heavy as the one above."""
    weights = [0.5**level for level in range(len(output))]
    losses = [
        weight
        * segmentation_loss(
            name,
            logits,
            coarser_target(target, logits.shape[2:]),
            skip=skip,
            together=together,
            label_smoothing=label_smoothing,
        )
        for weight, logits in zip(weights, output, strict=True)
    ]
    return sum(losses[1:], losses[0]) / sum(weights)


def _label_to_index(labels: Mapping[str, int]) -> np.ndarray:
    table = np.full(256, 255, dtype=np.int64)
    table[0] = 0
    for index, value in enumerate(labels.values(), start=1):
        table[value] = index
    return table
