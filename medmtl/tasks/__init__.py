"""Tasks: what one network learns at once."""

from medmtl.tasks.base import TASKS, CaseResult, HeadContext, Task, TaskOptions
from medmtl.tasks.build import (
    TASK_NAME,
    backbone_options,
    build_network,
    build_task,
    parse_backbone,
    parse_task,
    task_losses,
)
from medmtl.tasks.case_level import CaseTaskOptions
from medmtl.tasks.classification import Classification
from medmtl.tasks.dense_regression import DenseRegression
from medmtl.tasks.regression import Regression, value_name
from medmtl.tasks.segmentation import Segmentation
from medmtl.tasks.sharing import SharingSettings, parse_sharing, refuse_comparison, shares_weights
from medmtl.tasks.tissue import Tissue

__all__ = [
    "TASKS",
    "TASK_NAME",
    "CaseResult",
    "CaseTaskOptions",
    "Classification",
    "DenseRegression",
    "HeadContext",
    "Regression",
    "Segmentation",
    "SharingSettings",
    "Task",
    "TaskOptions",
    "Tissue",
    "backbone_options",
    "build_network",
    "build_task",
    "parse_backbone",
    "parse_sharing",
    "parse_task",
    "refuse_comparison",
    "shares_weights",
    "task_losses",
    "value_name",
]
