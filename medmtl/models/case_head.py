"""The head of case-level tasks: what the encoder saw, what the masks measure, and what the record says.

It works in two halves, frame by frame and then over the frames of a case, so that a cine of any length fits
in memory: frames can go through the network in chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmtl.models.case_dropout import CaseDropout
from medmtl.models.descriptors import FrameShapes, Ring, cycle_of, cycle_size
from medmtl.models.features import Features
from medmtl.models.frames import attention_over_frames, extreme_frames, extreme_values, mean_over_frames
from medmtl.models.heads import Head

Pooling = Literal["mean", "attention", "mask"]
Temporal = Literal["extremes", "mean", "attention"]
View = Literal["local", "global"]


@dataclass(frozen=True)
class CaseInputs:
    """What a case head reads.

    Attributes:
        bottleneck_channels: channels of the encoder's coarsest level; 0 leaves the features out.
        structures: by mask task, the structures of its soft masks, in order; empty leaves the shapes out.
        covariates: number of scalar inputs.
        ring: wall and cavity among all structures taken together.
        cycle: index of the structure whose volume finds ED (largest) and ES (smallest), or None for the sum.
        view: whether the features are those of the patch or of the whole volume. Masks are always read where
            they were made, in the patch.
    """

    bottleneck_channels: int
    structures: Mapping[str, Sequence[str]]
    covariates: int = 0
    ring: Ring | None = None
    cycle: int | None = None
    view: View = "local"

    @property
    def n_structures(self) -> int:
        """Structures of all mask tasks together."""
        return sum(len(names) for names in self.structures.values())


@dataclass(frozen=True)
class FrameSummary:
    """What is kept of each frame: pooled features ``(N, D)``, attention score ``(N,)``, shapes of masks."""

    pooled: Tensor
    score: Tensor
    shapes: FrameShapes | None


class CaseHead(Head):
    """Scores or values of a case.

    output = linear(standardized shapes and covariates) + MLP(features, shapes, covariates). The linear part
    learns from few cases what a volume means; the MLP starts at zero and adds what volumes cannot say.

    Args:
        inputs: what it reads.
        out_features: K outputs.
        pooling: over space, ``mean``, learned ``attention``, or weighted by each ``mask`` in turn.
        temporal: over frames, features of the two ``extremes`` (ED, ES) side by side, their ``mean``, or
            ``attention``. A head that reads no masks cannot tell ED from ES, and its ``extremes`` are each
            feature's largest and smallest value.
        hidden: width of the MLP.
        dropout: before the MLP's last layer.
    """

    shape_mean: Tensor
    shape_std: Tensor
    covariate_mean: Tensor
    covariate_std: Tensor

    def __init__(
        self,
        inputs: CaseInputs,
        out_features: int,
        *,
        pooling: Pooling = "attention",
        temporal: Temporal = "extremes",
        hidden: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.inputs, self.pooling, self.temporal = inputs, pooling, temporal
        self.reads_masks = tuple(inputs.structures)
        self.sees_whole = inputs.view == "global" and inputs.bottleneck_channels > 0
        n_shapes = cycle_size(inputs.n_structures, inputs.ring) if inputs.structures else 0
        n_known = n_shapes + 2 * inputs.covariates
        channels = inputs.bottleneck_channels
        regions = inputs.n_structures if pooling == "mask" else 1
        width = channels * regions * (2 if temporal == "extremes" else 1) if channels else 0
        self.register_buffer("shape_mean", torch.zeros(n_shapes))
        self.register_buffer("shape_std", torch.ones(n_shapes))
        self.register_buffer("covariate_mean", torch.zeros(inputs.covariates))
        self.register_buffer("covariate_std", torch.ones(inputs.covariates))
        self.space_score = nn.Conv3d(channels, 1, 1) if channels and pooling == "attention" else None
        self.time_score = nn.Linear(channels * regions, 1) if channels and temporal == "attention" else None
        self.feature_norm = nn.LayerNorm(width) if width else None
        self.linear = nn.Linear(n_known, out_features) if n_known else None
        last = nn.Linear(hidden, out_features)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        first = nn.Linear(width + n_known + 1, hidden)
        self.mlp = nn.Sequential(first, nn.LeakyReLU(), CaseDropout(dropout), last)

    def set_statistics(self, shapes: Tensor, covariates: Tensor) -> None:
        """Standardize inputs by training cases' shapes ``(B, S)`` and covariates ``(B, V)``, NaN unknown."""
        for values, mean, std in (
            (shapes, self.shape_mean, self.shape_std),
            (covariates, self.covariate_mean, self.covariate_std),
        ):
            if values.shape[0] == 0:
                continue
            known = torch.isfinite(values)
            count = known.sum(0).clamp_min(1)
            centre = torch.where(known, values, 0.0).sum(0) / count
            spread = (torch.where(known, values - centre, 0.0) ** 2).sum(0) / count
            mean.copy_(centre)
            std.copy_(torch.where(spread > 1e-10, spread.sqrt(), 1.0))

    def frame_summary(self, features: Features) -> FrameSummary:
        """Reduce every frame to a few numbers."""
        case_of_frame = features.case_of_frame
        n = case_of_frame.shape[0]
        tasks = tuple(self.inputs.structures)
        shapes = features.shapes(tasks, self.inputs.ring) if tasks else None
        if not self.inputs.bottleneck_channels:
            empty = torch.zeros((n, 0), device=case_of_frame.device)
            return FrameSummary(empty, torch.zeros(n, device=case_of_frame.device), shapes)
        soft = features.soft_masks(tasks) if self.pooling == "mask" else None
        pooled = self._pooled(features, soft)
        score = self.time_score(pooled).squeeze(1) if self.time_score is not None else pooled.new_zeros(n)
        return FrameSummary(pooled, score, shapes)

    def _pooled(self, features: Features, soft: Tensor | None) -> Tensor:
        """``(N, D)``: of every frame what this head sees, its patch or its whole volume."""
        whole = features.whole if self.sees_whole else None
        if whole is None:
            return self._pool(features.pyramid[-1].float(), soft)
        seen = self._pool(whole.pyramid[-1].float(), None)
        if len(whole.frames) == len(features.case_of_frame):
            return seen
        return self._pool(features.pyramid[-1].float(), None).index_copy(0, whole.frames, seen)

    def seen_mm(self, features: Features) -> Tensor:
        """``(B, 3)`` voxel size of what this head sees of each case."""
        whole = features.whole if self.sees_whole else None
        return features.spacing_mm if whole is None else whole.spacing_mm

    def _pool(self, bottleneck: Tensor, soft: Tensor | None) -> Tensor:
        """``(N, C, x, y, z)`` -> ``(N, D)``."""
        flat = bottleneck.flatten(2)
        if self.space_score is not None:
            weight = self.space_score(bottleneck).flatten(2).softmax(2)
            return (flat * weight).sum(2)
        if self.pooling == "mask" and soft is not None:
            x, y, z = (int(size) for size in bottleneck.shape[2:])
            small = functional.adaptive_avg_pool3d(soft, (x, y, z)).flatten(2)
            small = small / small.sum(2, keepdim=True).clamp_min(1e-3)
            return torch.einsum("ncv,nkv->nkc", flat, small).flatten(1)
        return flat.mean(2)

    def from_frames(
        self,
        frames: FrameSummary,
        case_of_frame: Tensor,
        spacing_mm: Tensor,
        covariates: Tensor,
        seeds: Sequence[int] = (),
    ) -> Tensor:
        """Combine each case's frames into ``(B, K)`` outputs.

        Args:
            frames: what is kept of each.
            case_of_frame: ``(N,)``.
            spacing_mm: ``(B, 3)`` voxel size of what was seen, see `seen_mm`.
            covariates: ``(B, V)``.
            seeds: of `CaseDropout`.
        """
        n_cases = int(spacing_mm.shape[0])
        described = None
        if frames.shapes is not None:
            cycle = cycle_of(frames.shapes, case_of_frame, n_cases, self.inputs.cycle)
            ed, es, described = cycle.ed, cycle.es, cycle.described
        else:
            ed, es = extreme_frames(frames.score, case_of_frame, n_cases)
        known = self._known(described, covariates)
        parts = [known, spacing_mm[:, :1].float().log()]
        if self.feature_norm is not None:
            if self.temporal == "extremes" and frames.shapes is None:
                pooled = torch.cat(extreme_values(frames.pooled, case_of_frame, n_cases), dim=1)
            elif self.temporal == "extremes":
                pooled = frames.pooled[torch.stack([ed, es], 1)].flatten(1)
            elif self.temporal == "attention":
                pooled = attention_over_frames(frames.pooled, frames.score, case_of_frame, n_cases)
            else:
                pooled = mean_over_frames(frames.pooled, case_of_frame, n_cases)
            parts.append(self.feature_norm(pooled))
        output = torch.cat(parts, dim=1)
        for layer in self.mlp:
            output = layer(output, seeds) if isinstance(layer, CaseDropout) else layer(output)
        return output if self.linear is None else output + self.linear(known)

    def _known(self, described: Tensor | None, covariates: Tensor) -> Tensor:
        """Standardized shapes and covariates ``(B, S + 2V)``; an unknown covariate is 0 with its flag set."""
        parts = []
        if described is not None:
            parts.append(((described - self.shape_mean) / self.shape_std).clamp(-5, 5))
        if self.inputs.covariates:
            covariates = covariates[:, : self.inputs.covariates]
            unknown = ~torch.isfinite(covariates)
            scaled = ((covariates - self.covariate_mean) / self.covariate_std).masked_fill(unknown, 0.0)
            parts += [scaled.float(), unknown.float()]
        return torch.cat(parts, dim=1) if parts else covariates.new_zeros((len(covariates), 0))

    def forward(self, features: Features) -> Tensor:
        """``(B, K)``, in float32 even under autocast."""
        with torch.autocast(features.case_of_frame.device.type, enabled=False):
            frames = self.frame_summary(features)
            return self.from_frames(
                frames, features.case_of_frame, self.seen_mm(features), features.covariates, features.seeds
            )
