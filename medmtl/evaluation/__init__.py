"""Predictions held against a dataset: scores per case and frame, and metrics with their intervals."""

from medmtl.evaluation.evaluate import Evaluation, evaluate_predictions
from medmtl.evaluation.record import Missing
from medmtl.evaluation.tasks import PredictedTask

__all__ = ["Evaluation", "Missing", "PredictedTask", "evaluate_predictions"]
