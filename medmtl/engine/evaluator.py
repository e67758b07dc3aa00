"""Validation while training: an Ignite engine over prepared cases, one metric per task."""

from __future__ import annotations

from collections.abc import Sequence

from ignite.engine import Engine
from ignite.metrics import Metric

from medmtl.data.prepare import PreparedCase
from medmtl.inference.predictor import Context, predict_prepared
from medmtl.tasks import CaseResult, Task

Pair = tuple[CaseResult, PreparedCase]


class TaskMetric(Metric):
    """Collects results of cases and lets the task judge them; ``{}`` when no case was labelled."""

    def __init__(self, task: Task) -> None:
        self.task = task
        super().__init__()

    def reset(self) -> None:
        """Forget all cases."""
        self.pairs: list[Pair] = []

    def update(self, output: Pair) -> None:
        """Remember one case."""
        self.pairs.append(output)

    def compute(self) -> dict[str, float]:
        """The task's validation metrics over all cases."""
        return self.task.validate([result for result, _ in self.pairs], [case for _, case in self.pairs])

    def completed(self, engine: Engine, name: str) -> None:
        """Put the metrics into the engine's state under the task's name, as one dict."""
        engine.state.metrics[name] = self.compute()


def build_evaluator(context: Context) -> Engine:
    """Engine whose data are prepared cases and whose ``state.metrics`` hold ``{task: {metric: value}}``."""
    names = tuple(context.tasks)

    def step(engine: Engine, case: PreparedCase) -> Pair:
        return predict_prepared(context, case, names, on_source_grid=False), case

    evaluator = Engine(step)
    for name, task in context.tasks.items():
        TaskMetric(task).attach(evaluator, name)
    return evaluator


def run_evaluator(evaluator: Engine, cases: Sequence[PreparedCase]) -> dict[str, dict[str, float]]:
    """Metrics of every task that had labels; empty without cases."""
    if not cases:
        return {}
    evaluator.run(cases)
    return {name: dict(found) for name, found in evaluator.state.metrics.items() if found}


def overall_score(metrics: dict[str, dict[str, float]]) -> float:
    """Mean of the tasks' scores, 0..1; NaN without any."""
    scores = [found["score"] for found in metrics.values() if "score" in found]
    return sum(scores) / len(scores) if scores else float("nan")
