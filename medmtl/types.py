"""Names that every part of medmtl shares: errors, findings, and the batch that flows through a training step.

This module imports nothing heavy, so that ``import medmtl`` and ``medmtl --help`` stay fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

UNLABELLED = 255
"""Voxel value of a mask that means "nobody labelled this voxel"."""

NO_CLASS = -1
"""Class index of a case without a label."""

MYOCARDIAL_DENSITY_G_PER_ML = 1.05
"""Density that turns myocardial volume into mass, in g/mL (SCMR consensus, Schulz-Menger 2020)."""

Severity = Literal["error", "warning", "info"]


class MedmtlError(Exception):
    """An error that a user can mend; its message says what, where, what was found and what to do."""

    exit_code = 2


class ConfigError(MedmtlError):
    """A configuration or an argument that cannot be used; nothing was written."""


class DatasetError(MedmtlError):
    """A dataset folder that contradicts itself; names file, row and column."""


class OutputError(MedmtlError):
    """An output folder that is not ours to write into."""


class StoppedError(MedmtlError):
    """A run that had to stop before all was done; what is done stays, and the same command goes on."""

    exit_code = 1


class CaseError(MedmtlError):
    """One case that cannot be used; the others go on.

    Args:
        code: a finding code of DESIGN section 2, such as ``LABEL_VALUES``.
        message: one sentence: what, where, what to do.
    """

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RankError(MedmtlError):
    """A training on several ranks stopped; the message names the rank and its reason.

    Args:
        message: which rank, and why.
        exit_code: of this process.
        told: another process on this machine has said it already.
    """

    def __init__(self, message: str, *, exit_code: int = 1, told: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.told = told


@dataclass(frozen=True)
class Finding:
    """Something worth knowing about one case or file.

    Attributes:
        code: stable, documented code such as ``LABEL_GEOMETRY_MISMATCH``.
        severity: ``error`` (refused), ``warning`` (kept, look at it) or ``info``.
        message: one sentence for a person.
        where: file, row or frame that it is about.
        case_id: the case, where one is known.
    """

    code: str
    severity: Severity
    message: str
    where: str = ""
    case_id: str = ""


@dataclass
class Overview:
    """Whole volumes, coarser, of the frames whose volume does not fit the patch.

    Attributes:
        image: ``(M, C, X, Y, Z)`` float.
        frames: ``(M,)`` int64, which of the N frames each one is, ascending.
        spacing_mm: ``(B, 3)`` float, voxel size of what case tasks with a global view see of each case: the
            overview's, or the patch's own where the volume fits it.
    """

    image: Tensor
    frames: Tensor
    spacing_mm: Tensor


@dataclass
class Batch:
    """What one step sees: B cases with N frames in all, every frame a volume of C channels.

    A case owns one or more frames, so that a 3D volume, an ED/ES pair and a full cine are the same thing.

    Attributes:
        image: ``(N, C, X, Y, Z)`` float, all frames of all cases.
        case_of_frame: ``(N,)`` int64, the case in ``0..B-1`` that each frame belongs to, ascending.
        spacing_mm: ``(B, 3)`` float, voxel size of each case in mm.
        covariates: ``(B, V)`` float, scalar inputs in their own units; NaN where unknown.
        targets: by dataset column: mask ``(N, X, Y, Z)`` int64 (255 unlabelled), map ``(N, X, Y, Z)`` float
            (NaN unlabelled), category ``(B,)`` int64 (-1 unlabelled), value ``(B,)`` float (NaN unlabelled).
        counts: by dataset column, how many frames (mask, map) or cases (category, value) carry a label;
            known on the host, so that nothing has to wait for the GPU to learn which tasks are present.
        case_ids: ``B`` names, for messages.
        seeds: ``B`` numbers; what is random inside the network (dropout of a head) follows from a case's own,
            so that a case is treated alike on whichever rank it lies; empty: from torch's global state.
        overview: what tasks with a global view see of volumes larger than the patch; None where all fit.
    """

    image: Tensor
    case_of_frame: Tensor
    spacing_mm: Tensor
    covariates: Tensor
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    case_ids: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    overview: Overview | None = None

    @property
    def n_cases(self) -> int:
        """Number of cases B."""
        return int(self.spacing_mm.shape[0])


@dataclass
class StepOutput:
    """What one training step did.

    Attributes:
        losses: detached loss of each task that had labels, ``()`` float32.
        counts: number of labelled frames or cases behind each loss.
        total: detached weighted total, ``()``; None when no task had a label, and nothing was updated.
        gradient_norm: total gradient norm before clipping, ``()``, or None.
        compared: tasks whose gradients were compared on this step, in order; empty where none were.
        task_norms: norm of each compared task's gradient, ``(P,)``, or None.
        task_cosines: cosine of each pair of them, ``(P, P)``, NaN where one is 0, or None.
        may_overflow: a gradient scaler skips steps whose gradient norm is not finite, which is no error.
    """

    losses: dict[str, Tensor]
    counts: dict[str, int]
    total: Tensor | None
    gradient_norm: Tensor | None = None
    compared: tuple[str, ...] = ()
    task_norms: Tensor | None = None
    task_cosines: Tensor | None = None
    may_overflow: bool = False
