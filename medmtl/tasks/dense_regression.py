"""Dense regression: a value per voxel, such as T1 or a distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medmtl.data.dataset import Column
from medmtl.data.prepare import PreparedCase
from medmtl.losses import coarser_target, masked_absolute_error, masked_huber
from medmtl.models import DenseHead, Head
from medmtl.tasks.base import TASKS, CaseResult, HeadContext, Output, Task, TaskOptions
from medmtl.types import Batch


class DenseRegressionOptions(TaskOptions):
    """Options of a `dense_regression` task."""

    target: str = Field(description="map column to learn")
    deep_supervision: int = Field(
        default=0, ge=0, le=4, description="coarser decoder levels that are supervised too"
    )
    loss: Literal["l1", "huber"] = Field(
        default="l1", description="huber: square below one standard deviation"
    )


@TASKS.register("dense_regression")
class DenseRegression(Task):
    """Absolute or Huber loss in standard deviations of the training voxels; physical units in and out."""

    kind = "dense_regression"
    Options = DenseRegressionOptions
    dense = True

    def __init__(self, name: str, options: DenseRegressionOptions, columns: Mapping[str, Column]) -> None:
        self.target = options.target
        super().__init__(name, options, columns)
        self._expect("map")
        self.mean, self.std = 0.0, 1.0

    @property
    def targets(self) -> tuple[str, ...]:
        """The map column."""
        return (self.target,)

    def build_head(self, context: HeadContext) -> Head:
        """One value per voxel."""
        return DenseHead(context.backbone.decoded_channels, 1, self.options.deep_supervision)

    def fit(self, cases: Sequence[PreparedCase]) -> None:
        """Mean and standard deviation of the training voxels."""
        super().fit(cases)
        known = [
            c.maps[self.target][torch.isfinite(c.maps[self.target])] for c in cases if self.target in c.maps
        ]
        values = torch.cat([k.double() for k in known])
        self.mean, self.std = float(values.mean()), max(float(values.std(correction=0)), 1e-6)

    def state(self) -> dict[str, Any]:
        """Scale."""
        return {"mean": self.mean, "std": self.std}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Scale."""
        self.mean, self.std = float(state["mean"]), float(state["std"])

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Loss in standard deviations, coarser levels half as heavy each."""
        per_level = masked_huber if self.options.loss == "huber" else masked_absolute_error
        target = (batch.targets[self.target] - self.mean) / self.std
        weights = [0.5**level for level in range(len(output))]
        losses = [
            weight * per_level(values[:, 0], coarser_target(target, values.shape[2:]))
            for weight, values in zip(weights, output, strict=True)
        ]
        return sum(losses[1:], losses[0]) / sum(weights)

    def stitchable(self, output: Output) -> Tensor:
        """Values in physical units, ``(N, 1, X, Y, Z)``."""
        return output[0].float() * self.std + self.mean

    def decode_dense(self, stitched: Tensor, dense: Mapping[str, np.ndarray]) -> np.ndarray:
        """Values ``(T, X, Y, Z)`` float32."""
        return stitched[:, 0].cpu().numpy().astype(np.float32)

    def validate(self, results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> dict[str, float]:
        """Mean absolute error in the map's unit; the score is the share of variance explained."""
        errors, squares = [], []
        for result, case in zip(results, cases, strict=True):
            if self.target not in case.maps:
                continue
            truth = case.maps[self.target].cpu().numpy()
            known = np.isfinite(truth) & np.isfinite(result.dense[self.name])
            if known.any():
                error = result.dense[self.name][known] - truth[known]
                errors.append(float(np.abs(error).mean()))
                squares.append(float((error**2).mean()))
        if not errors:
            return {}
        return {"mae": float(np.mean(errors)), "score": max(0.0, 1 - float(np.mean(squares)) / self.std**2)}

    def describe(self) -> dict[str, Any]:
        """Entry in `outputs.yaml`."""
        return {"kind": self.kind, "target": self.target, "unit": self.columns[self.target].unit}
