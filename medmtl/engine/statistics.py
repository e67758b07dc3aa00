"""What heads need to know of the training set before the first step: how large and different organs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmtl.data.prepare import PreparedCase
from medmtl.models import CaseHead, MultiTaskNetwork, describe_cycle, describe_frames
from medmtl.tasks import Task


def fit_case_heads(
    network: MultiTaskNetwork, tasks: Mapping[str, Task], cases: Sequence[PreparedCase]
) -> None:
    """Give every case-level head the scale of its inputs, measured on the training cases' own masks."""
    covariates = torch.stack([case.covariates for case in cases]) if cases else torch.empty(0, 0)
    found: dict[tuple[str, ...], Tensor] = {}
    for name in tasks:
        head = network.head(name)
        if not isinstance(head, CaseHead):
            continue
        key = head.reads_masks
        if key and key not in found:
            found[key] = _shapes(head, [tasks[task] for task in key], cases)
        shapes = found.get(key, torch.empty(0, 0)).to(head.shape_mean.device)
        used = covariates[:, : head.inputs.covariates].to(head.shape_mean.device)
        head.set_statistics(shapes, used)


@torch.no_grad()
def _shapes(head: CaseHead, providers: Sequence[Task], cases: Sequence[PreparedCase]) -> Tensor:
    """``(B, S)`` descriptors of the cases that are labelled in all masks at ED and ES."""
    rows = []
    for case in cases:
        frames = sorted({f for f in (case.frame_ed, case.frame_es) if f is not None}) or [0]
        soft = _one_hot(providers, case, frames)
        if soft is None:
            continue
        spacing = torch.tensor([case.spacing_mm] * len(frames), device=soft.device)
        shapes = describe_frames(soft, spacing, head.inputs.ring)
        volume = shapes.volume_ml
        size = volume.sum(1) if head.inputs.cycle is None else volume[:, head.inputs.cycle]
        rows.append(describe_cycle(shapes, size.argmax()[None], size.argmin()[None])[0])
    return torch.stack(rows) if rows else torch.empty(0, 0)


def _one_hot(providers: Sequence[Task], case: PreparedCase, frames: Sequence[int]) -> Tensor | None:
    """``(F, K, X, Y, Z)`` of all structures together; None when a frame lacks one of the masks."""
    parts = []
    for task in providers:
        for target in task.targets:
            flags = case.labelled.get(target)
            if flags is None or not all(flags[f] for f in frames):
                return None
            mask = case.masks[target][list(frames)]
            parts += [(mask == value).float() for value in task.columns[target].labels.values()]
    return torch.stack(parts, dim=1)
