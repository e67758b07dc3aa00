"""Intensities: what one unit means to the network, by what the numbers mean to the scanner.

MRI has arbitrary units, so each case is standardized by itself. Hounsfield units and SUV mean the same in
every case, and a network should see that: they are scaled by constants that are measured or fixed once and
travel in the model file, so that a case is prepared for prediction as it was for training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medmtl.registry import nearest
from medmtl.types import ConfigError

TYPES = ("zscore", "window", "suv", "none")
SUV_HIGHEST = 20.0
"""SUV above this is shown as this: what lies above is bladder, or as hot as a lesion needs to be."""
SUV_UNIT = 5.0
"""This SUV becomes 1, so that liver lies near 0.5 and the clipped range in 0..4."""
_SAMPLE = 1_000_000


@dataclass(frozen=True)
class Normalization:
    """How one channel's intensities are changed.

    Attributes:
        type: ``zscore`` (clipped at the case's 0.1 and 99.9 percentiles over all its frames, then mean 0 and
            standard deviation 1), ``window`` (clipped to ``low .. high``, minus ``mean``, over ``sd``; the
            same constants for every case), ``suv`` (clipped to ``0 .. 20``, over 5) or ``none``.
        low: lower end of the window, in the image's own unit.
        high: upper end.
        mean: what becomes 0.
        sd: what becomes 1.
    """

    type: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    sd: float | None = None

    def __call__(self, volume: Tensor) -> Tensor:
        """One channel over all its frames, ``(T, X, Y, Z)`` float32, so that motion keeps its contrast."""
        if self.type == "none":
            return volume
        if self.type == "zscore":
            return _standardize(volume)
        if self.type == "suv":
            return volume.clamp(0.0, SUV_HIGHEST) / SUV_UNIT
        assert self.mean is not None, "a window is complete where it is used"
        assert self.sd is not None, "a window is complete where it is used"
        return (volume.clamp(self.low, self.high) - self.mean) / self.sd

    @property
    def is_complete(self) -> bool:
        """Whether all constants are known; those of a window may be left to the data."""
        return self.type != "window" or None not in (self.low, self.high, self.mean, self.sd)

    def as_plain(self) -> dict[str, Any] | str:
        """Plain data for YAML: the type alone, or with its constants."""
        plain = {key: value for key, value in asdict(self).items() if value is not None}
        return plain if len(plain) > 1 else self.type


Normalizations = tuple[Normalization, ...]
"""One per channel; a single one stands for all channels."""


def parse_normalization(found: Any, *, where: str = "normalization") -> Normalizations | None:
    """Read what a person wrote: a type for all channels, one entry per channel, or ``auto``.

    Args:
        found: ``auto`` (the data decides: None), the name of a type, or a list whose entries are names of
            types or mappings ``{type, low, high, mean, sd}``.
        where: what stands before every sentence.

    Raises:
        ConfigError: an unknown type or key, or a window that is not one.
    """
    if found is None or found == "auto":
        return None
    if isinstance(found, Sequence) and not isinstance(found, str):
        if not found:
            raise ConfigError(f"{where}: is empty; give one entry per channel, or auto")
        return tuple(_one(entry, f"{where}.{i}") for i, entry in enumerate(found))
    return (_one(found, where),)


def plain_normalization(normalizations: Normalizations) -> str | list[dict[str, Any] | str]:
    """What `parse_normalization` reads again: the name where a single entry has no constants, else a list."""
    entries = [entry.as_plain() for entry in normalizations]
    first = entries[0]
    return first if len(entries) == 1 and isinstance(first, str) else entries


def _one(found: Any, where: str) -> Normalization:
    if isinstance(found, Normalization):
        return found
    entry: Mapping[str, Any] = found if isinstance(found, Mapping) else {"type": found}
    kind = entry.get("type")
    if kind not in TYPES:
        known = f"auto, {', '.join(TYPES)}, or a list with an entry per channel"
        raise ConfigError(
            f"{where}: must be {known}, found {kind!r:.40}{nearest(str(kind), ['auto', *TYPES])}"
        )
    constants = {key: value for key, value in entry.items() if key != "type"}
    allowed = ("low", "high", "mean", "sd") if kind == "window" else ()
    for key, value in constants.items():
        if key not in allowed:
            raise ConfigError(f"{where}.{key}: {kind} has no such number{nearest(key, list(allowed))}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"{where}.{key}: must be a finite number, found {value!r:.40}")
    if constants and len(constants) < len(allowed):
        missing = next(key for key in allowed if key not in constants)
        raise ConfigError(
            f"{where}.{missing}: is missing; give all of low, high, mean and sd, or none of them"
        )
    made = Normalization(str(kind), **{key: float(value) for key, value in constants.items()})
    if made.low is not None and made.high is not None and made.low >= made.high:
        raise ConfigError(f"{where}: low ({made.low:g}) must lie below high ({made.high:g})")
    if made.sd is not None and made.sd <= 0:
        raise ConfigError(f"{where}.sd: must be above 0, found {made.sd:g}")
    return made


def of_channel(normalizations: Normalizations, channel: int) -> Normalization:
    """The entry of a channel; a single entry stands for all."""
    return normalizations[0] if len(normalizations) == 1 else normalizations[channel]


def _standardize(volume: Tensor) -> Tensor:
    """Clip at percentiles; mean 0, standard deviation 1."""
    flat = volume.flatten()
    step = max(1, flat.numel() // _SAMPLE)
    low, high = np.percentile(flat[::step].numpy(), (0.1, 99.9))
    if low == high:  # its standard deviation would be rounding noise
        return torch.zeros_like(volume)
    clipped = volume.clamp(float(low), float(high))
    mean, sd = mean_and_sd(clipped.numpy())
    return (clipped - mean) / max(sd, 1e-6)


def mean_and_sd(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Mean and standard deviation of any number of values, in float64 and part by part.

    Not torch's: its sums depend on the number of threads, and a case must come out the same to the last bit
    wherever it is prepared. Not NumPy's over all at once: that takes three times the memory of the volume.
    """
    parts = np.array_split(values.reshape(-1), max(1, values.size // _SAMPLE))
    mean = sum(float(part.sum(dtype=np.float64)) for part in parts) / max(1, values.size)
    square = sum(float(np.square(part.astype(np.float64) - mean).sum()) for part in parts)
    return mean, math.sqrt(square / max(1, values.size))
