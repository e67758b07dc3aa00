"""A loss on distances to the true outline, beside the overlap losses that do not see them."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from medmtl.types import UNLABELLED


def boundary_loss(
    probabilities: Tensor, target: Tensor, spacing_mm: Tensor, *, skip: int = 1, reach_mm: float = 20.0
) -> Tensor:
    """Mean over labelled voxels of probability times signed distance to the outline (Kervadec et al. 2019).

    A probability far outside its structure costs its distance, one inside earns it. Distances are limited to
    ``reach_mm`` and divided by it, so that the loss lies in -1..1. A structure that a sample does not have
    costs ``reach_mm`` everywhere. Meant as an addition to an overlap loss, never alone.

    Distances are computed on the CPU: a step waits for the GPU once.

    Args:
        probabilities: ``(N, K, X, Y, Z)``.
        target: ``(N, X, Y, Z)`` class indices, 255 = unlabelled.
        spacing_mm: ``(N, 3)`` voxel size of each sample in mm.
        skip: leading classes left out.
        reach_mm: distance beyond which all voxels cost the same.

    Returns:
        ``()``; 0 when nothing is labelled.
    """
    truth = target.cpu().numpy()
    distances = np.empty((len(truth), probabilities.shape[1] - skip, *truth.shape[1:]), dtype=np.float32)
    for sample, (labels, spacing) in enumerate(zip(truth, spacing_mm.tolist(), strict=True)):
        for structure in range(skip, probabilities.shape[1]):
            distances[sample, structure - skip] = _signed_distance(labels == structure, spacing, reach_mm)
    signed = torch.from_numpy(distances / reach_mm).to(probabilities.device)
    known = (target != UNLABELLED)[:, None]
    cost = torch.where(known, probabilities[:, skip:].float() * signed, 0.0)
    return cost.sum() / (known.sum() * signed.shape[1]).clamp_min(1)


def _signed_distance(inside: np.ndarray, spacing: list[float], reach: float) -> np.ndarray:
    """Distance in mm to the structure, negative inside it."""
    if not inside.any():
        return np.full(inside.shape, reach, dtype=np.float32)
    outer = distance_transform_edt(~inside, sampling=spacing)
    inner = (
        distance_transform_edt(inside, sampling=spacing) if not inside.all() else np.full(inside.shape, reach)
    )
    return np.clip(outer - inner, -reach, reach).astype(np.float32)
