"""What one training is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medmtl.data.dataset import Dataset
from medmtl.engine.settings import TrainingSettings


@dataclass(frozen=True)
class Job:
    """A training, with everything that the config left to defaults filled in.

    Attributes:
        dataset: where cases and labels come from; its splits ``train`` and ``val`` are used.
        output: the RUN folder.
        tasks: config section of each task (``type`` and options).
        weighting: ``type`` and options of the task weighting.
        backbone: ``type`` and arguments; kernels and strides may be left to the plan.
        covariates: value columns that heads read as input.
        spacing_mm: target voxel size, None entries keep a case's own; None leaves it to the plan.
        patch: voxels that the network sees at once; None leaves it to the plan.
        normalization: of intensities.
        training: how long, how fast.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: of weights, batches and augmentation.
        resolved: the whole config as plain data, for `config.yaml`.
    """

    dataset: Dataset
    output: Path
    tasks: Mapping[str, Mapping[str, Any]]
    weighting: Mapping[str, Any]
    backbone: Mapping[str, Any]
    covariates: tuple[str, ...] = ()
    spacing_mm: tuple[float | None, ...] | None = None
    patch: tuple[int, ...] | None = None
    normalization: str = "zscore"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    device: str = "auto"
    seed: int = 0
    resolved: Mapping[str, Any] = field(default_factory=dict)
