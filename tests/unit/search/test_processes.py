"""A search in several processes on one storage, some of them killed: nothing is lost or repeated."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.search_worker import attempts, begun, objective, start

TIMEOUT = 300


@pytest.fixture(params=["", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The journal file in the folder, and a database."""
    return f"sqlite:///{tmp_path / 'trials.db'}" if request.param else ""


def wait_for(folder: Path, count: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while len(begun(folder)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alone(folder: Path, kind: str, budget: int) -> list[dict[str, object]]:
    """The configurations of a search that one process does undisturbed."""
    folder.mkdir()
    assert start(folder, kind, budget).wait(TIMEOUT) == 0
    return [line["params"] for line in begun(folder)]


def test_two_processes_share_a_search_and_never_try_the_same_configuration(
    tmp_path: Path, storage: str
) -> None:
    processes = [start(tmp_path, "evolution", 16, 0.1, storage) for _ in range(2)]
    assert [process.wait(TIMEOUT) for process in processes] == [0, 0]
    lines = begun(tmp_path)
    assert sorted(line["key"] for line in lines) == list(range(16))
    assert len({repr(line["params"]) for line in lines}) == 16
    assert len({line["pid"] for line in lines}) == 2
    assert [a.state for a in attempts(tmp_path, storage)] == ["complete"] * 16


def test_two_processes_use_up_a_small_space_without_a_repeat(tmp_path: Path) -> None:
    """12 configurations and places for 16: drawn by chance, two would soon be the same."""
    processes = [start(tmp_path, "whole", 16) for _ in range(2)]
    assert [process.wait(TIMEOUT) for process in processes] == [0, 0]
    tried = [repr(line["params"]) for line in begun(tmp_path)]
    assert len(tried) == len(set(tried)) == 12


def test_after_a_kill_the_trial_is_done_again_and_no_other(tmp_path: Path, storage: str) -> None:
    expected = alone(tmp_path / "alone", "evolution", 10)
    first = start(tmp_path, "evolution", 10, 0.3, storage)
    wait_for(tmp_path, 6)
    first.send_signal(signal.SIGKILL)
    assert first.wait(TIMEOUT) == -signal.SIGKILL
    assert start(tmp_path, "evolution", 10, 0.0, storage).wait(TIMEOUT) == 0

    times = Counter(line["key"] for line in begun(tmp_path))
    assert times.pop(5) == 2
    assert times == dict.fromkeys([*range(5), *range(6, 10)], 1)
    found = attempts(tmp_path, storage)
    assert [dict(a.trial.params) for a in found] == expected
    assert [a.trial.value for a in found] == [objective(params) for params in expected]


def test_a_process_that_waits_does_what_another_one_died_of(tmp_path: Path) -> None:
    """The survivor cannot go on to the next round before the dead one's trial has a result."""
    dies, lives = (start(tmp_path, "evolution", 8, seconds) for seconds in (60.0, 0.05))
    wait_for(tmp_path, 4)
    time.sleep(1.0)
    dies.send_signal(signal.SIGKILL)
    dies.wait(TIMEOUT)
    assert lives.wait(TIMEOUT) == 0
    assert [a.state for a in attempts(tmp_path)] == ["complete"] * 8


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing_and_change_nothing(tmp_path: Path) -> None:
    """Two processes, one of which is killed and started anew six times, tell what one alone tells."""
    expected = alone(tmp_path / "alone", "evolution", 24)
    rng = random.Random(0)
    processes = [start(tmp_path, "evolution", 24, 0.15) for _ in range(2)]
    for _ in range(6):
        wait_for(tmp_path, 1)
        time.sleep(rng.uniform(0.0, 1.0))
        which = rng.randrange(2)
        processes[which].send_signal(signal.SIGKILL)
        processes[which].wait(TIMEOUT)
        processes[which] = start(tmp_path, "evolution", 24, 0.15)
    assert [process.wait(TIMEOUT) for process in processes] == [0, 0]
    found = attempts(tmp_path)
    assert [dict(a.trial.params) for a in found] == expected
    assert [a.state for a in found] == ["complete"] * 24
    again = Counter(line["key"] for line in begun(tmp_path))
    assert sum(again.values()) - 24 <= 6
