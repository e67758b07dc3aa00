"""What a training learned about its own results: ranges and thresholds by which quality flags are raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from medmtl.inference.measure.likeness import Likeness
from medmtl.types import ConfigError

Range = tuple[float, float]
PREFIX = "quality.likeness."
"""What the names of its tensors start with in ``model.safetensors``."""
WHOLE = 0.9
"""Share of a structure in its largest part below which it is in pieces, where nothing was learned."""
APART = 0.1
"""1 - Dice between an ensemble's members, or mirror images, above which a mask is uncertain."""
PROBABILITY_APART = 0.2
"""Standard deviation of a class's probability among members above which a class is uncertain."""


@dataclass(frozen=True)
class Quality:
    """Ranges and thresholds of one model; what is not in it is not judged, or by a fixed limit.

    Attributes:
        volumes: by ``task.structure``, smallest and largest plausible volume in mL.
        values: by value column, smallest and largest plausible value.
        parts: by ``task.structure``, share of its largest part below which it is in pieces.
        enclosed: by ``task.cavity``, share of the cavity's rim that is wall, below which it sticks out.
        disagreement: by value column, |from masks - from the head| above which the two contradict.
        spread: by ``task.structure`` or ``task.value``, spread of an ensemble or of mirror images above which
            a result is uncertain.
        calibrated: classification tasks whose probabilities were calibrated.
        likeness: what the training cases' features look like.
    """

    volumes: Mapping[str, Range] = field(default_factory=dict)
    values: Mapping[str, Range] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)
    enclosed: Mapping[str, float] = field(default_factory=dict)
    disagreement: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    calibrated: tuple[str, ...] = ()
    likeness: Likeness | None = None

    def as_plain(self) -> dict[str, Any]:
        """Plain data for ``model.yaml``: everything but the likeness."""
        plain: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "calibrated":
                plain[entry.name] = list(value)
            elif entry.name in ("volumes", "values"):
                plain[entry.name] = {k: [_short(low), _short(high)] for k, (low, high) in value.items()}
            elif entry.name != "likeness":
                plain[entry.name] = {k: _short(limit) for k, limit in value.items()}
        return plain

    def tensors(self) -> dict[str, torch.Tensor]:
        """What goes into the weights file."""
        if self.likeness is None:
            return {}
        return {PREFIX + name: tensor for name, tensor in self.likeness.tensors().items()}

    @classmethod
    def from_plain(cls, found: object, tensors: Mapping[str, torch.Tensor], where: str) -> Quality:
        """What `as_plain` and `tensors` gave; nothing where a model was saved without.

        Raises:
            ConfigError: it is damaged.
        """
        try:
            known = dict(found or {})  # type: ignore[call-overload]
            own = {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
            return cls(
                volumes=_ranges(known.get("volumes")),
                values=_ranges(known.get("values")),
                parts=_limits(known.get("parts")),
                enclosed=_limits(known.get("enclosed")),
                disagreement=_limits(known.get("disagreement")),
                spread=_limits(known.get("spread")),
                calibrated=tuple(known.get("calibrated", ())),
                likeness=Likeness.from_tensors(own) if own else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"{where}quality: is damaged ({error!r}); copy the model again") from error


def _ranges(found: Mapping[str, Any] | None) -> dict[str, Range]:
    return {name: (float(low), float(high)) for name, (low, high) in (found or {}).items()}


def _limits(found: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: float(limit) for name, limit in (found or {}).items()}


def _short(value: float) -> float:
    return float(f"{value:.6g}")
