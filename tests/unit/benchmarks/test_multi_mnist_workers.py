"""Arms over several processes: all of them, once, compared where all have been."""

from __future__ import annotations

import sys
from pathlib import Path

import multi_mnist
import multi_mnist_workers
import pytest
import torch
from multi_mnist_data import Batches, Pictures
from multi_mnist_scores import Course, merged, summary
from multi_mnist_workers import Worker, cost, shared_out
from side_by_side import SideBySide, builder

TASKS = ("left", "right")


def course(names: list[str], epochs: int) -> Course:
    """Accuracies that say whose they are: arm number / 10 + epoch / 100."""
    made = Course(TASKS, names)
    for epoch in range(1, epochs + 1):
        scores = torch.tensor([[int(name[-1]) / 10 + epoch / 100 for name in names]] * 2)
        made.add(epoch, dict.fromkeys(TASKS, scores), torch.ones(2, len(names), 2))
    return made


@pytest.mark.parametrize("workers", [1, 3, 7, 100])
def test_every_arm_has_one_worker(workers: int) -> None:
    groups = []
    for table in multi_mnist.TABLES:
        seen, graded = multi_mnist.arms_of(table)
        groups += [(table, {n: cost(n, k is graded) for n in k}) for k in (seen, graded) if k]
    jobs = shared_out(groups, workers)
    assert len(jobs) == min(max(workers, len(groups)), sum(len(arms) for _, arms in groups))
    for table in multi_mnist.TABLES:
        trained = [arm for t, arms in jobs for arm in arms if t == table]
        assert sorted(trained) == sorted(arm for t, arms in groups for arm in arms if t == table)


def test_arms_are_compared_at_the_last_epoch_that_all_have_reached(tmp_path: Path) -> None:
    course(["arm 3", "arm 1"], 4).write(tmp_path / "a.npz")
    read = Course.read(tmp_path / "a.npz", TASKS)
    whole = merged([read, course(["arm 2"], 2)], ["arm 1", "arm 2", "arm 3"])
    found = summary(whole, (1.0,))
    assert found["epochs"] == 2
    assert found["seeds"] == 2
    assert list(found["arms"]) == ["arm 1", "arm 2", "arm 3"]
    for number in (1, 2, 3):
        entry = found["arms"][f"arm {number}"]["100%"]
        assert entry["left"]["last"]["mean"] == pytest.approx(10 * number + 2)


def test_a_worker_that_dies_says_why_and_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["multi_mnist.py"])
    options = ["--quick", "--device", "cpu", "--data", str(tmp_path / "none")]
    worker = Worker.start(0, "table 1", ["ew"], options, tmp_path)
    multi_mnist_workers.follow([worker], 1.0, lambda: None)
    why = worker.failure()
    assert why is not None
    assert "give the folder of MNIST's four files with --data" in why
    assert worker.read(TASKS) is None


def test_batches_and_rlw_do_not_depend_on_what_else_is_drawn() -> None:
    classes = torch.arange(40).view(1, -1)
    pictures = Pictures(torch.zeros(1, 40, 36, 36, dtype=torch.uint8), classes, classes)
    seen = []
    for others in (0, 7):
        batches, rlw = Batches(pictures, (1.0, 0.5), 8), SideBySide(builder(TASKS, type="rlw"), 3)
        drawn = []
        for _ in range(12):
            torch.rand(others)
            drawn += [batches.draw()[1]["left"].float().flatten(), rlw(torch.ones(3, 2))[0].flatten()]
        seen.append(torch.cat(drawn))
    assert torch.equal(seen[0], seen[1])
