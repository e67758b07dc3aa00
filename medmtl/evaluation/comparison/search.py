"""Learning rate and weight decay of each method by itself, since equal budget alone is not fair.

The same points are tried for every method and for every single-task network: the config's own, and points
that are even on a log scale around it. Each is trained with early stopping and judged on the validation
cases; single-task networks by their metric, methods by delta-m against the chosen single-task networks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from medmtl.engine import TrainingSettings
from medmtl.evaluation.comparison.record import Place, Record
from medmtl.files import write_text

DECADES = 1.0
"""Learning rate and weight decay are tried so many powers of ten below and above the config's."""
NO_DECAY = 1e-2
"""Middle of the weight decays that are tried where the config has none."""
FILE = "search.json"


@dataclass(frozen=True)
class Point:
    """One pair of learning rate and weight decay."""

    learning_rate: float
    weight_decay: float

    def applied(self, settings: TrainingSettings) -> TrainingSettings:
        """The settings with these two."""
        return settings.model_copy(update=asdict(self))


@dataclass(frozen=True)
class Found:
    """What a search chose.

    Attributes:
        point: the best one.
        score: its score, lower is better.
        seconds: of all its trainings.
        steps: of all its trainings.
        place: of the best training.
        record: of the best training.
    """

    point: Point
    score: float
    seconds: float
    steps: int
    place: Place
    record: Record


def points(settings: TrainingSettings, trials: int, seed: int = 0) -> list[Point]:
    """The config's own point, and ``trials - 1`` from a Halton sequence around it."""
    from scipy.stats import qmc

    own = Point(settings.learning_rate, settings.weight_decay)
    if trials < 2:
        return [own]
    middle = np.log10([own.learning_rate, own.weight_decay or NO_DECAY])
    drawn = qmc.Halton(d=2, seed=np.random.default_rng(seed)).random(trials - 1)
    around = 10 ** (middle + DECADES * (2 * drawn - 1))
    return [own, *(Point(float(f"{rate:.3g}"), float(f"{decay:.3g}")) for rate, decay in around)]


def with_early_stopping(settings: TrainingSettings) -> TrainingSettings:
    """Settings of a trial: it stops after a fifth of the epochs, and at least 3, without improvement."""
    patience = max(3, settings.epochs // 5)
    if settings.patience:
        patience = min(patience, settings.patience)
    return settings.model_copy(update={"patience": patience})


def search(
    folder: Path,
    candidates: Sequence[Point],
    try_one: Callable[[Point, Place], Record],
    score: Callable[[Record], float],
) -> Found:
    """Try every point and choose the best; points that are finished are not repeated.

    Args:
        folder: where trials go, one folder each.
        candidates: the points.
        try_one: trains and judges one.
        score: of a record, lower is better; ``nan`` counts as worst.

    Returns:
        The best; the config's own where no point could be scored.
    """
    tried: list[tuple[Point, Place, Record, float]] = []
    for number, point in enumerate(candidates):
        place = Place(folder / f"trial{number}")
        record = try_one(point, place)
        reached = score(record) if record.ok else math.nan
        tried.append((point, place, record, reached))
    point, place, record, best = min(tried, key=lambda t: math.inf if math.isnan(t[3]) else t[3])
    found = Found(
        point,
        best,
        seconds=sum(t[2].seconds for t in tried if not math.isnan(t[2].seconds)),
        steps=sum(t[2].steps for t in tried),
        place=place,
        record=record,
    )
    trials = [
        {**asdict(p), "score": None if math.isnan(s) else s, "seconds": r.seconds if r.ok else None,
         "steps": r.steps, "status": r.status}
        for p, _, r, s in tried
    ]  # fmt: skip
    chosen = {"chosen": asdict(point), "seconds": found.seconds, "steps": found.steps, "trials": trials}
    write_text(folder / FILE, json.dumps(chosen, indent=2) + "\n")
    return found
