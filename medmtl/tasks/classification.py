"""Classification: which class a case belongs to, such as a disease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from medmtl.data.dataset import Column
from medmtl.data.prepare import PreparedCase
from medmtl.losses import (
    balanced_class_weights,
    case_cross_entropy,
    case_ordinal,
    ordinal_probabilities,
)
from medmtl.metrics import accuracy, balanced_accuracy
from medmtl.models import Head
from medmtl.tasks.base import TASKS, CaseResult, CaseValues, HeadContext, Output, Task
from medmtl.tasks.case_level import CaseTaskOptions, build_case_head
from medmtl.types import Batch


class ClassificationOptions(CaseTaskOptions):
    """Options of a `classification` task."""

    target: str = Field(description="category column to learn")
    label_smoothing: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="of the cross-entropy: share of the target spread over all classes",
    )
    loss: Literal["cross_entropy", "ordinal"] = Field(
        default="cross_entropy", description="ordinal: the classes are in an order, as in dataset.yaml"
    )
    class_balance: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="cross-entropy: 0 counts cases alike, towards 1 rare classes more",
    )


@TASKS.register("classification")
class Classification(Task):
    """Cross-entropy over classes, or for classes in an order one question per threshold (CORN)."""

    kind = "classification"
    Options = ClassificationOptions
    dense = False

    def __init__(self, name: str, options: ClassificationOptions, columns: Mapping[str, Column]) -> None:
        self.target = options.target
        super().__init__(name, options, columns)
        self._expect("category")
        self.classes = tuple(self.columns[self.target].classes)
        self._class_weights: torch.Tensor | None = None
        self.temperature = 1.0

    @property
    def targets(self) -> tuple[str, ...]:
        """The category column."""
        return (self.target,)

    @property
    def reads(self) -> tuple[str, ...]:
        """Tasks whose masks the head reads, where the config names them."""
        return self.options.masks or ()

    def build_head(self, context: HeadContext) -> Head:
        """One score per class, or per threshold between classes in an order."""
        return build_case_head(self, len(self.classes) - (self.options.loss == "ordinal"), context)

    def fit(self, cases: Sequence[PreparedCase]) -> None:
        """Weights of the classes, where they are balanced."""
        super().fit(cases)
        if self.options.class_balance > 0:
            known = [int(case.values[self.target]) for case in cases if self.target in case.values]
            counts = torch.bincount(torch.tensor(known), minlength=len(self.classes))
            self._class_weights = balanced_class_weights(counts, beta=self.options.class_balance)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Loss over labelled cases."""
        assert isinstance(output, Tensor)
        target = batch.targets[self.target]
        if self.options.loss == "ordinal":
            return case_ordinal(output, target)
        return case_cross_entropy(
            output,
            target,
            label_smoothing=self.options.label_smoothing,
            class_weights=self._class_weights,
        )

    def probabilities(self, output: Tensor) -> Tensor:
        """Probability of each class ``(B, K)``: softmax(log p / T) with the temperature T of calibration."""
        ordinal = self.options.loss == "ordinal"
        found = ordinal_probabilities(output) if ordinal else output.float().softmax(1)
        if self.temperature == 1.0:
            return found
        return (found.clamp_min(1e-12).log() / self.temperature).softmax(1)

    def state(self) -> dict[str, Any]:
        """Temperature, where it was calibrated."""
        return {} if self.temperature == 1.0 else {"temperature": self.temperature}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Temperature."""
        self.temperature = float(state.get("temperature", 1.0))

    def decode_case(self, output: Tensor) -> list[CaseValues]:
        """Most probable class, and the probability of each."""
        rows: list[CaseValues] = []
        for p in self.probabilities(output).cpu().tolist():
            row: CaseValues = {"class": self.classes[int(np.argmax(p))]}
            row.update({f"probability.{name}": value for name, value in zip(self.classes, p, strict=True)})
            rows.append(row)
        return rows

    def combine(self, members: Sequence[CaseValues]) -> CaseValues:
        """Mean probabilities, and the class that they make most probable."""
        row = super().combine(members)
        return {**row, "class": max(self.classes, key=lambda name: float(row[f"probability.{name}"]))}

    def validate(self, results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> dict[str, float]:
        """Accuracy and balanced accuracy over labelled cases; the score is the balanced one."""
        pairs = [
            (self.classes.index(str(r.values[self.name]["class"])), int(c.values[self.target]))
            for r, c in zip(results, cases, strict=True)
            if self.target in c.values
        ]
        if not pairs:
            return {}
        predicted, true = np.array(pairs).T
        balanced = float(balanced_accuracy(predicted, true))
        return {
            "accuracy": float(accuracy(predicted, true)),
            "balanced_accuracy": balanced,
            "score": balanced,
        }

    def describe(self) -> dict[str, Any]:
        """Entry in `outputs.yaml`."""
        return {"kind": self.kind, "target": self.target, "classes": list(self.classes)}
