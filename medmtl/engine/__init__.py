"""Training: one step, the clock around it, checkpoints, logs."""

from medmtl.engine.job import Job
from medmtl.engine.launch import process_group, speaks
from medmtl.engine.settings import AugmentationSettings, TrainingSettings
from medmtl.engine.step import train_step
from medmtl.engine.together import together
from medmtl.engine.train import Run, train
from medmtl.engine.trainer import Training, build_trainer

__all__ = [
    "AugmentationSettings",
    "Job",
    "Run",
    "Training",
    "TrainingSettings",
    "build_trainer",
    "process_group",
    "speaks",
    "together",
    "train",
    "train_step",
]
