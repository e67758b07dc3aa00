"""Tissue without the segmentation that it lies in: learned by itself, put in its place afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from medmtl.data import Column
from medmtl.data.nifti import read_volume, write_volume
from medmtl.data.prepare import PreparedCase
from medmtl.models import Head
from medmtl.models.heads import DenseHead
from medmtl.tasks import CaseResult, HeadContext, Tissue
from medmtl.tasks.most_probable import most_probable
from medmtl.tasks.overlap import mean_dice
from medmtl.types import UNLABELLED, OutputError

TYPE = f"{__name__}:TissueAlone"
"""The ``type`` under which a config names it."""


class TissueAlone(Tissue):
    """Says a tissue for every voxel, as if all were inside; `confine` does the rest.

    The loss of tissue looks only at voxels that have one, so it needs no other task.
    """

    def __init__(self, name: str, options: Any, columns: Mapping[str, Column]) -> None:
        super().__init__(name, options, columns)
        self.structures, self.outside = (), ()  # nothing is inside or outside, so nobody may read its masks

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def build_head(self, context: HeadContext) -> Head:
        """One score per tissue."""
        channels = context.backbone.decoded_channels
        return DenseHead(channels, len(self.labels), self.options.deep_supervision)

    def decode_dense(self, stitched: Tensor, dense: Mapping[str, np.ndarray]) -> np.ndarray:
        """Most probable tissue's voxel value, everywhere."""
        values = np.array([*self.labels.values()], dtype=np.uint8)
        return values[most_probable(stitched)]

    def validate(self, results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> dict[str, float]:
        """Mean Dice inside the true structure; it chooses the epoch that is kept, and nothing else."""
        truths = [case.masks.get(self.target) for case in cases]
        inside = [
            result.dense[self.name]
            if truth is None
            else np.where(np.isin(truth.cpu().numpy(), (0, UNLABELLED)), 0, result.dense[self.name])
            for result, truth in zip(results, truths, strict=True)
        ]
        return mean_dice(inside, truths, self.labels)


def confine(predictions: Path, task: str, hosts: Path, host: str, structure: str) -> None:
    """Put 0 into a task's predicted masks wherever another network does not see the structure.

    Args:
        predictions: folder of the task's predictions; its volumes are changed.
        task: whose volumes.
        hosts: folder of the host's predictions, of the same cases. Where a case was not predicted there, it
            loses its volume here, and the evaluation says so.
        host: the host's name there.
        structure: what has to be predicted there.

    Raises:
        OutputError: one of the folders does not hold its task.
    """
    own, other = _entry(predictions, task), _entry(hosts, host)
    label = other.get("labels", {}).get(structure)
    if label is None:
        raise OutputError(f"{hosts}: the predictions of {host} have no {structure}; predict them anew")
    for path in sorted(predictions.glob(f"*/{own['file']}")):
        there = hosts / path.parent.name / str(other["file"])
        if not there.is_file():
            path.unlink()
            continue
        volume = read_volume(path)
        kept = np.where(read_volume(there).array == label, volume.array, 0).astype(np.uint8)
        write_volume(path, replace(volume, array=kept))


def _entry(folder: Path, task: str) -> Mapping[str, Any]:
    outputs: Mapping[str, Any] = yaml.safe_load((folder / "outputs.yaml").read_text(encoding="utf-8"))
    found: Mapping[str, Any] | None = outputs["tasks"].get(task)
    if found is None:
        raise OutputError(f"{folder}: holds no predictions of {task}; predict them anew")
    return found
