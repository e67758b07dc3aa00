"""How unlike the training data a case is: the distance of its features from those of the training cases.

On every level of the encoder, features are pooled over space (mean and standard deviation) and over the
frames of ED and ES, and compared with the training cases' by Mahalanobis' distance, with a covariance that is
shrunk toward the identity (Ledoit and Wolf 2004, after scaling each feature). Lee et al. 2018 use the same
distance to find what a classifier was not trained on. Fine levels see noise and blur, coarse ones anatomy and
orientation; the level that is furthest off counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from medmtl.data.prepare import PreparedCase
from medmtl.data.spatial import patch_grid, sample_image
from medmtl.inference.context import Context
from medmtl.inference.patch import IDENTITY, place

FEWEST = 8
"""Training cases below which nothing is fitted."""
MOST_AXES = 64
PERCENTILE = 99.0
FOLDS = 10
_TINY = 1e-6
_ARRAYS = ("mean", "scale", "axes", "variances")
_NUMBERS = ("rest", "usual")
Pooled = tuple[NDArray[np.float64], ...]
"""Features of one case ``(D_i,)``, or of several ``(N, D_i)``, by level."""


@dataclass(frozen=True, eq=False)
class Level:
    """A Gaussian of the training cases' features on one level.

    Attributes:
        mean: ``(D,)`` of each feature.
        scale: ``(D,)`` standard deviation of each.
        axes: ``(R, D)`` orthonormal directions in which scaled features vary most.
        variances: ``(R,)`` along them, shrunk.
        rest: variance along all others, shrunk.
        usual: the distance that 99 % of cases that were not fitted stay below.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    axes: NDArray[np.float64]
    variances: NDArray[np.float64]
    rest: float
    usual: float = 1.0

    def distance(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(N, D)`` -> ``(N,)`` distance per square root of D; about 1 for the training cases."""
        scaled = (features - self.mean) / self.scale
        along = scaled @ self.axes.T
        total = (along**2 / self.variances).sum(1)
        total += np.maximum((scaled**2).sum(1) - (along**2).sum(1), 0.0) / self.rest
        found: NDArray[np.float64] = np.sqrt(total / features.shape[1])
        return found


@dataclass(frozen=True, eq=False)
class Likeness:
    """What the training cases' features look like, and how far few of their kind are from that.

    Attributes:
        levels: finest first.
        threshold: of the largest of the levels' distances, each over what is usual on its level.
    """

    levels: tuple[Level, ...]
    threshold: float = 1.0

    def distance(self, features: Pooled) -> NDArray[np.float64]:
        """``(N, D_i)`` by level -> ``(N,)``: the level that is furthest off."""
        found = [level.distance(f) / level.usual for level, f in zip(self.levels, features, strict=True)]
        return np.asarray(np.max(found, axis=0))

    def score(self, features: Pooled) -> float:
        """Distance of one case ``(D_i,)`` over the threshold; more than 1 is unlike the training data."""
        return float(self.distance(tuple(f[None] for f in features))[0] / self.threshold)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What goes into the model's weights file."""
        found = {"threshold": np.array([self.threshold])}
        for number, level in enumerate(self.levels):
            found |= {f"{number}.{name}": getattr(level, name) for name in _ARRAYS}
            found |= {f"{number}.{name}": np.array([getattr(level, name)]) for name in _NUMBERS}
        return {name: torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in found.items()}

    @classmethod
    def from_tensors(cls, found: Mapping[str, torch.Tensor]) -> Likeness:
        """What `tensors` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        arrays = {name: tensor.double().numpy() for name, tensor in found.items()}
        count = 1 + max(int(name.partition(".")[0]) for name in arrays if "." in name)
        levels = []
        for n in range(count):
            mean, scale, axes, variances = (arrays[f"{n}.{name}"] for name in _ARRAYS)
            rest, usual = (float(arrays[f"{n}.{name}"][0]) for name in _NUMBERS)
            levels.append(Level(mean, scale, axes, variances, rest, usual))
        return cls(tuple(levels), float(arrays["threshold"][0]))


def fit_likeness(train: Pooled, val: Pooled | None = None) -> Likeness | None:
    """Fit the training cases' features; thresholds are 99th percentiles of cases that were not fitted.

    These are the validation cases, and the training cases, each judged by a fit to nine tenths of the others.

    Args:
        train: ``(N, D_i)`` by level.
        val: ``(M, D_i)`` by level.

    Returns:
        None where there are fewer than 8 training cases.
    """
    if len(train[0]) < FEWEST:
        return None
    levels, distances = [], []
    for number, features in enumerate(train):
        level = _fit(features)
        unfitted = _held_out(features)
        if val is not None:
            unfitted = np.concatenate([unfitted, level.distance(val[number])])
        usual = float(np.percentile(unfitted, PERCENTILE))
        levels.append(replace(level, usual=usual))
        distances.append(unfitted / usual)
    return Likeness(tuple(levels), float(np.percentile(np.max(distances, axis=0), PERCENTILE)))


@torch.inference_mode()
def pooled_features(context: Context, case: PreparedCase, frames: Sequence[int]) -> Pooled:
    """Features of the patch in the middle of the image, by level, mean over the given frames.

    Args:
        context: the network; of an ensemble, its first member.
        case: a prepared case.
        frames: 0-based.
    """
    patch = context.preparation.patch
    middle = place(patch, case.shape, [(size - 1) / 2 for size in case.shape])
    grid = patch_grid(IDENTITY, middle.centre, patch, case.shape, context.device)
    pooled: list[list[torch.Tensor]] = []
    for frame in frames:
        image = case.crop([frame]).image.float().to(context.device)
        with context.autocast():
            pyramid = context.network.backbone.encode(sample_image(image, grid))
        flat = [level[0].float().flatten(1) for level in pyramid]
        pooled.append([torch.cat([f.mean(1), f.std(1, correction=0)]) for f in flat])
    return tuple(torch.stack(level).mean(0).double().cpu().numpy() for level in zip(*pooled, strict=True))


def stacked(cases: Sequence[Pooled]) -> Pooled | None:
    """Features of several cases, one below the other; None without cases."""
    return tuple(np.stack(level) for level in zip(*cases, strict=True)) if cases else None


def _held_out(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances ``(N,)`` of all cases, each from a fit without it."""
    fold = np.arange(len(features)) % FOLDS
    distances = np.empty(len(features))
    for k in np.unique(fold):
        distances[fold == k] = _fit(features[fold != k]).distance(features[fold == k])
    return distances


def _fit(features: NDArray[np.float64]) -> Level:
    from sklearn.covariance import ledoit_wolf_shrinkage

    mean = features.mean(0)
    scale = np.maximum(features.std(0), _TINY * (1.0 + np.abs(mean)))
    scaled = (features - mean) / scale
    shrinkage = min(max(float(ledoit_wolf_shrinkage(scaled, assume_centered=True)), 0.01), 1.0)
    _, singular, axes = np.linalg.svd(scaled, full_matrices=False)
    variances = singular**2 / len(scaled)
    kept = min(MOST_AXES, int(np.count_nonzero(variances > _TINY)))
    left = max(scaled.shape[1] - kept, 1)
    rest = (1 - shrinkage) * float(variances[kept:].sum()) / left + shrinkage
    return Level(mean, scale, axes[:kept], (1 - shrinkage) * variances[:kept] + shrinkage, rest)
