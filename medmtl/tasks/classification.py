"""Classification: which class a case belongs to, such as a disease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field
from torch import Tensor

from medmtl.data.dataset import Column
from medmtl.data.prepare import PreparedCase
from medmtl.losses import case_cross_entropy
from medmtl.metrics import accuracy, balanced_accuracy
from medmtl.models import Head
from medmtl.tasks.base import TASKS, CaseResult, CaseValues, HeadContext, Output, Task
from medmtl.tasks.case_level import CaseTaskOptions, build_case_head
from medmtl.types import Batch


class ClassificationOptions(CaseTaskOptions):
    """Options of a `classification` task."""

    target: str = Field(description="category column to learn")
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="share of the target spread over all classes"
    )


@TASKS.register("classification")
class Classification(Task):
    """Cross-entropy over classes."""

    kind = "classification"
    Options = ClassificationOptions
    dense = False

    def __init__(self, name: str, options: ClassificationOptions, columns: Mapping[str, Column]) -> None:
        self.target = options.target
        super().__init__(name, options, columns)
        self._expect("category")
        self.classes = tuple(self.columns[self.target].classes)

    @property
    def targets(self) -> tuple[str, ...]:
        """The category column."""
        return (self.target,)

    @property
    def reads(self) -> tuple[str, ...]:
        """Tasks whose masks the head reads, where the config names them."""
        return self.options.masks or ()

    def build_head(self, context: HeadContext) -> Head:
        """One score per class."""
        return build_case_head(self, len(self.classes), context)

    def loss(self, output: Output, batch: Batch) -> Tensor:
        """Cross-entropy over labelled cases."""
        assert isinstance(output, Tensor)
        return case_cross_entropy(
            output, batch.targets[self.target], label_smoothing=self.options.label_smoothing
        )

    def decode_case(self, output: Tensor) -> list[CaseValues]:
        """Most probable class, and the probability of each."""
        rows: list[CaseValues] = []
        for p in output.float().softmax(1).cpu().tolist():
            row: CaseValues = {"class": self.classes[int(np.argmax(p))]}
            row.update({f"probability.{name}": value for name, value in zip(self.classes, p, strict=True)})
            rows.append(row)
        return rows

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
