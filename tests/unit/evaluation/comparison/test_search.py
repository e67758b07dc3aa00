"""Learning rates that are tried, and the one that is chosen."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from medmtl.engine import TrainingSettings
from medmtl.evaluation.comparison.record import Place, Record
from medmtl.evaluation.comparison.search import Point, points, search, with_early_stopping

SETTINGS = TrainingSettings(learning_rate=1e-3, weight_decay=1e-2)


@pytest.mark.parametrize("trials", [1, 2, 8])
def test_the_configs_own_point_is_tried_first_and_the_others_lie_around_it(trials: int) -> None:
    found = points(SETTINGS, trials)
    assert found[0] == Point(1e-3, 1e-2)
    assert len(set(found)) == trials
    assert all(1e-4 <= p.learning_rate <= 1e-2 and 1e-3 <= p.weight_decay <= 1e-1 for p in found)


def test_the_same_points_are_tried_every_time() -> None:
    assert points(SETTINGS, 6) == points(SETTINGS, 6)
    assert points(SETTINGS, 4) == points(SETTINGS, 6)[:4]


def test_without_a_weight_decay_some_are_tried_all_the_same() -> None:
    found = points(SETTINGS.model_copy(update={"weight_decay": 0.0}), 5)
    assert found[0].weight_decay == 0
    assert all(p.weight_decay > 0 for p in found[1:])


@pytest.mark.parametrize(
    ("epochs", "patience", "expected"), [(5, 0, 3), (50, 0, 10), (50, 4, 4), (50, 30, 10)]
)
def test_a_trial_stops_early(epochs: int, patience: int, expected: int) -> None:
    settings = SETTINGS.model_copy(update={"epochs": epochs, "patience": patience})
    assert with_early_stopping(settings).patience == expected


def run(tmp_path: Path, records: list[Record]) -> tuple[Point, list[Place]]:
    """What a search chooses among trials that ended so; the score is the value of `task.mae`."""
    candidates = points(SETTINGS, len(records))
    places: list[Place] = []

    def try_one(point: Point, place: Place) -> Record:
        places.append(place)
        return records[candidates.index(point)]

    found = search(tmp_path, candidates, try_one, lambda r: r.values.get("task.mae", math.nan))
    assert found.steps == sum(record.steps for record in records)
    return found.point, places


def ended(score: float, status: str = "ok") -> Record:
    return Record(status, seconds=1.5, steps=10, values={"task.mae": score})


def test_the_lowest_score_is_chosen_and_everything_is_written_down(tmp_path: Path) -> None:
    chosen, places = run(tmp_path, [ended(3.0), ended(1.0), ended(2.0)])
    assert chosen == points(SETTINGS, 3)[1]
    assert [place.folder.name for place in places] == ["trial0", "trial1", "trial2"]
    written = json.loads((tmp_path / "search.json").read_text())
    assert written["chosen"] == {"learning_rate": chosen.learning_rate, "weight_decay": chosen.weight_decay}
    assert (written["seconds"], written["steps"]) == (4.5, 30)
    assert [trial["score"] for trial in written["trials"]] == [3.0, 1.0, 2.0]


def test_trials_that_failed_or_have_no_score_are_never_chosen(tmp_path: Path) -> None:
    failed = Record("failed", "NaN at step 3")
    assert run(tmp_path, [failed, ended(math.nan), ended(5.0)])[0] == points(SETTINGS, 3)[2]
    assert run(tmp_path, [ended(math.nan), failed])[0] == points(SETTINGS, 2)[0]
