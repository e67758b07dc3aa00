"""Metrics as pure functions on NumPy arrays.

Undefined is ``nan`` and never a made-up number: the mean over cases leaves it out and counts it.
The Ignite wrapper is :class:`medmtl.metrics.ignite.CaseMetric`, imported only when asked, because it loads
torch.
"""

from medmtl.metrics.agreement import BlandAltman, bland_altman, icc, mean_absolute_error, pearson
from medmtl.metrics.bootstrap import bootstrap_interval, wilson_interval
from medmtl.metrics.classification import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    expected_calibration_error,
    macro_auc,
    one_vs_rest_auc,
)
from medmtl.metrics.estimate import Estimate, Interval
from medmtl.metrics.overlap import dice
from medmtl.metrics.surface import hausdorff, surface_dice

__all__ = [
    "BlandAltman",
    "Estimate",
    "Interval",
    "accuracy",
    "balanced_accuracy",
    "bland_altman",
    "bootstrap_interval",
    "confusion_matrix",
    "dice",
    "expected_calibration_error",
    "hausdorff",
    "icc",
    "macro_auc",
    "mean_absolute_error",
    "one_vs_rest_auc",
    "pearson",
    "surface_dice",
    "wilson_interval",
]
