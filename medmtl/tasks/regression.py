"""Regression: values of a case with units, such as volumes and ejection fraction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medmtl.data.dataset import Column
from medmtl.data.prepare import PreparedCase
from medmtl.losses import case_gaussian_nll, case_smooth_l1, case_squared_error
from medmtl.models import Head
from medmtl.tasks.base import TASKS, CaseResult, CaseValues, HeadContext, Output, Task
from medmtl.tasks.case_level import CaseTaskOptions, build_case_head
from medmtl.types import Batch


class RegressionOptions(CaseTaskOptions):
    """Options of a `regression` task."""

    targets: tuple[str, ...] = Field(min_length=1, description="value columns to learn")
    loss: Literal["smooth_l1", "l1", "l2", "gaussian"] = Field(
        default="smooth_l1", description="gaussian: the likelihood, with a predicted spread of every value"
    )
    beta: float = Field(
        default=0.5, gt=0, description="standard deviations at which the loss turns from square to line"
    )


@TASKS.register("regression")
class Regression(Task):
    """A loss in standard deviations of the training set; physical units in and out.

    The scale (mean and standard deviation of every value) lives in the model file.
    """

    kind = "regression"
    Options = RegressionOptions
    dense = False

    def __init__(self, name: str, options: RegressionOptions, columns: Mapping[str, Column]) -> None:
        self._targets = options.targets
        super().__init__(name, options, columns)
        self._expect("value")
        self.units = tuple(self.columns[t].unit for t in self.targets)
        self.mean = [0.0] * len(self.targets)
        self.std = [1.0] * len(self.targets)

    @property
    def targets(self) -> tuple[str, ...]:
        """The value columns."""
        return self._targets

    @property
    def reads(self) -> tuple[str, ...]:
        """Tasks whose masks the head reads, where the config names them."""
        return self.options.masks or ()

    def build_head(self, context: HeadContext) -> Head:
        """One value per target, and its log variance where the loss is the Gaussian likelihood."""
        return build_case_head(self, len(self.targets) * (1 + (self.options.loss == "gaussian")), context)

    def fit(self, cases: Sequence[PreparedCase]) -> None:
        """Mean and standard deviation of every value over the training cases."""
        super().fit(cases)
        for i, target in enumerate(self.targets):
            known = [c.values[target] for c in cases if target in c.values]
            if known:
                self.mean[i], self.std[i] = float(np.mean(known)), max(float(np.std(known)), 1e-6)

    def state(self) -> dict[str, Any]:
        """Scale."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Scale."""
        self.mean, self.std = [float(v) for v in state["mean"]], [float(v) for v in state["std"]]

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Loss over known values, in standard deviations."""
        assert isinstance(output, Tensor)
        unknown = torch.full((batch.n_cases,), math.nan, device=output.device)
        columns = [
            (batch.targets.get(t, unknown) - mean) / std
            for t, mean, std in zip(self.targets, self.mean, self.std, strict=True)
        ]
        target = torch.stack(columns, dim=1)
        if self.options.loss == "gaussian":
            mean, log_variance = output.split(len(self.targets), dim=1)
            return case_gaussian_nll(mean, log_variance, target)
        if self.options.loss == "l2":
            return case_squared_error(output, target)
        return case_smooth_l1(output, target, beta=0.0 if self.options.loss == "l1" else self.options.beta)

    def decode_case(self, output: Tensor) -> list[CaseValues]:
        """Values in their units."""
        scaled = output[:, : len(self.targets)].float().cpu() * torch.tensor(self.std) + torch.tensor(
            self.mean
        )
        names = [value_name(target, unit) for target, unit in zip(self.targets, self.units, strict=True)]
        return [dict(zip(names, row, strict=True)) for row in scaled.tolist()]

    def validate(self, results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> dict[str, float]:
        """Mean absolute error of every value; the score is the mean share of variance explained."""
        metrics: dict[str, float] = {}
        explained: list[float] = []
        for target, unit, std in zip(self.targets, self.units, self.std, strict=True):
            pairs = [
                (float(r.values[self.name][value_name(target, unit)]), c.values[target])
                for r, c in zip(results, cases, strict=True)
                if target in c.values
            ]
            if pairs:
                error = np.subtract(*np.array(pairs).T)
                metrics[f"mae.{target}"] = float(np.abs(error).mean())
                explained.append(max(0.0, 1 - float((error**2).mean()) / std**2))
        return {**metrics, "score": float(np.mean(explained))} if explained else {}

    def describe(self) -> dict[str, Any]:
        """Entry in `outputs.yaml`."""
        return {"kind": self.kind, "targets": list(self.targets), "units": list(self.units)}


def value_name(target: str, unit: str) -> str:
    """Column header of a value, such as ``LV_EF [%]``."""
    return f"{target} [{unit}]" if unit else target
