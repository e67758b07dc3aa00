"""What one training is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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
        backbone: ``type`` and arguments; widths, kernels and strides may be left to the plan.
        covariates: value columns that heads read as input.
        select: which volumes of a DICOM study the model is for; what it leaves out, the cases decide.
        spacing_mm: target voxel size, None entries keep a case's own; None leaves it to the plan.
        patch: voxels that the network sees at once; None leaves it to the plan.
        normalization: of intensities, as a config has it; ``auto`` leaves it to the plan.
        overview: voxels of the coarser whole volume for case tasks, ``none``, or ``auto``: the plan's.
        slices: what becomes of thick slices where ``spacing_mm`` is open, ``keep`` or ``resample``.
        memory_gib: memory to plan for; None is what the device has, at most 8.
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
    select: Mapping[str, Any] = field(default_factory=dict)
    spacing_mm: tuple[float | None, ...] | None = None
    patch: tuple[int, ...] | None = None
    normalization: Any = "auto"
    overview: tuple[int, ...] | str = "auto"
    slices: Literal["keep", "resample"] = "keep"
    memory_gib: float | None = None
    training: TrainingSettings = field(default_factory=TrainingSettings)
    device: str = "auto"
    seed: int = 0
    resolved: Mapping[str, Any] = field(default_factory=dict)

    @property
    def third_party(self) -> list[str]:
        """Members outside medmtl that this job's own config named, and so trusts."""
        types = [str(section.get("type", "")) for section in (*self.tasks.values(), self.backbone)]
        return [name for name in types if ":" in name]
