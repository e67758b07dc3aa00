"""Seconds per step and memory, from a training's own progress."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import torch

from medmtl.evaluation.comparison.meter import Meter

CPU = torch.device("cpu")


def train(meter: Meter, steps: int, *, epoch: int, first: int = 0, validation: float = 0.0) -> None:
    for done in range(first + 1, steps + 1):
        time.sleep(0.005)
        meter("train", done, steps)
        if done % epoch == 0:
            time.sleep(validation)


def test_steps_that_were_not_taken_cost_nothing_that_is_known() -> None:
    assert math.isnan(Meter(CPU, 10).seconds_per_step)
    meter = Meter(CPU, 1)
    train(meter, 4, epoch=1)
    assert math.isnan(meter.seconds_per_step)


def test_validation_between_epochs_does_not_count() -> None:
    meter = Meter(CPU, 8)
    train(meter, 24, epoch=8, validation=0.3)
    assert 0.004 < meter.seconds_per_step < 0.05


def test_a_training_that_goes_on_in_the_middle_is_timed_from_there() -> None:
    meter = Meter(CPU, 8)
    train(meter, 16, epoch=8, first=5)
    assert 0.004 < meter.seconds_per_step < 0.1


def test_progress_is_passed_on() -> None:
    seen: list[tuple[str, int, int]] = []
    meter = Meter(CPU, 5, lambda what, done, total: seen.append((what, done, total)))
    meter("prepare", 1, 2)
    meter("train", 1, 10)
    assert seen == [("prepare", 1, 2), ("train", 1, 10)]


def test_memory_that_was_used_in_between_is_seen() -> None:
    # in a process of its own: what a test before this one used at its peak may be more
    code = (
        "import numpy, torch; from medmtl.evaluation.comparison.meter import Meter; "
        "meter = Meter(torch.device('cpu'), 5); before = meter.peak_memory_mib; "
        "numpy.ones((512, 2**20), numpy.uint8); print(before, meter.peak_memory_mib)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    before, after = (float(part) for part in said.split())
    assert math.isnan(before) or after >= before + 256
