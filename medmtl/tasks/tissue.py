"""Tissue: which tissue each voxel inside a structure is, such as healthy or scar in the myocardium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medmtl.data.dataset import Column
from medmtl.data.prepare import PreparedCase
from medmtl.models import Head, TissueHead
from medmtl.registry import nearest
from medmtl.tasks.base import TASKS, CaseResult, HeadContext, Output, Task, TaskOptions
from medmtl.tasks.most_probable import most_probable
from medmtl.tasks.overlap import mean_dice
from medmtl.tasks.segmentation import Segmentation, supervised_levels
from medmtl.types import UNLABELLED, Batch, ConfigError


class TissueOptions(TaskOptions):
    """Options of a `tissue` task."""

    target: str = Field(description="mask column to learn; 0 in it means: not in the structure")
    inside: str = Field(
        description="structure that the tissue lies in, as TASK.STRUCTURE of a segmentation task"
    )
    deep_supervision: int = Field(
        default=0, ge=0, le=4, description="coarser decoder levels that are supervised too"
    )


@TASKS.register("tissue")
class Tissue(Task):
    """Dice plus cross-entropy over the tissues, learned where the truth has one, applied in the structure."""

    kind = "tissue"
    Options = TissueOptions
    dense = True

    def __init__(self, name: str, options: TissueOptions, columns: Mapping[str, Column]) -> None:
        self.target = options.target
        self.host, _, self.structure = options.inside.partition(".")
        super().__init__(name, options, columns)
        self._expect("mask")
        self.labels = dict(self.columns[self.target].labels)
        self.structures = tuple(self.labels)
        self.outside = tuple(0.0 for _ in self.labels)
        self._index = torch.full((256,), UNLABELLED, dtype=torch.int64)
        for index, value in enumerate(self.labels.values()):
            self._index[value] = index
        self._host_value: int | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The mask column."""
        return (self.target,)

    @property
    def reads(self) -> tuple[str, ...]:
        """The segmentation task that the tissue lies in."""
        return (self.host,)

    def build_head(self, context: HeadContext) -> Head:
        """One score per tissue.

        Raises:
            ConfigError: ``inside`` names no structure of a segmentation task.
        """
        host = context.tasks.get(self.host)
        if not isinstance(host, Segmentation) or self.structure not in host.structures:
            known = [
                f"{n}.{s}"
                for n, t in context.tasks.items()
                if isinstance(t, Segmentation)
                for s in t.structures
            ]
            asked = self.options.inside
            raise ConfigError(
                f"task {self.name!r}: inside: {asked!r} is no TASK.STRUCTURE{nearest(asked, known)}"
            )
        self._host_value = host.labels[self.structure]
        inside = (self.host, host.structures.index(self.structure))
        channels = context.backbone.decoded_channels
        return TissueHead(channels, len(self.structures), inside, self.options.deep_supervision)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Dice over the batch + cross-entropy, on voxels that have a tissue; most cases have no scar."""
        mask = batch.targets[self.target]
        if self._index.device != mask.device:
            self._index = self._index.to(mask.device)
        return supervised_levels(output, self._index[mask], skip=0, together=True)

    def stitchable(self, output: Output) -> Tensor:
        """Probabilities ``(N, K, X, Y, Z)`` of the tissues, as if every voxel had one."""
        return output[0].float().softmax(1)

    def decode_dense(self, stitched: Tensor, dense: Mapping[str, np.ndarray]) -> np.ndarray:
        """Most probable tissue's voxel value inside the predicted structure, 0 elsewhere."""
        values = np.array([*self.labels.values()], dtype=np.uint8)
        tissue = values[most_probable(stitched)]
        return np.where(dense[self.host] == self._host_value, tissue, 0).astype(np.uint8)

    def validate(self, results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> dict[str, float]:
        """Mean Dice over tissues and labelled frames."""
        predictions = [r.dense[self.name] for r in results]
        return mean_dice(predictions, [c.masks.get(self.target) for c in cases], self.labels)

    def describe(self) -> dict[str, Any]:
        """Entry in `outputs.yaml`."""
        return {"kind": self.kind, "target": self.target, "labels": self.labels}
