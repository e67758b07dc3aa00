"""What a training costs: seconds per step, and memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

Progress = Callable[[str, int, int], None]
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_WARMUP = 3
"""Steps at the start that are not timed: compilation, autotuning, first allocations."""


class Meter:
    """Times the steps of a training through its progress, and takes the peak of its memory.

    Only steps of one epoch are compared with each other, so validation and checkpoints do not count. The last
    step of an epoch has waited for the device, so a GPU's work is not missed.

    Args:
        device: that trains.
        steps_per_epoch: of the training.
        progress: told the same as the meter.
    """

    def __init__(self, device: torch.device, steps_per_epoch: int, progress: Progress | None = None) -> None:
        self.device, self.steps_per_epoch, self.progress = device, steps_per_epoch, progress
        self._first: tuple[int, float] | None = None
        self._epochs: list[float] = []
        self._seen = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _forget_peak()

    def __call__(self, what: str, done: int, total: int) -> None:
        """What `medmtl.engine.train` calls after every step."""
        if what == "train":
            self._seen += 1
            if self._seen > _WARMUP or self.steps_per_epoch <= _WARMUP + 1:
                self._add(done, time.perf_counter())
        if self.progress is not None:
            self.progress(what, done, total)

    def _add(self, done: int, now: float) -> None:
        if (
            self._first is None
            or (done - 1) // self.steps_per_epoch != (self._first[0] - 1) // self.steps_per_epoch
        ):
            self._first = (done, now)
        elif done % self.steps_per_epoch == 0:
            self._epochs.append((now - self._first[1]) / (done - self._first[0]))

    @property
    def seconds_per_step(self) -> float:
        """Median over epochs; ``nan`` where no epoch had two steps that could be timed."""
        return median(self._epochs) if self._epochs else math.nan

    @property
    def peak_memory_mib(self) -> float:
        """Of tensors on a GPU; on a CPU of the whole process, Python and libraries included."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return _peak()


def _forget_peak() -> None:
    """Let the process's peak of memory begin anew, where the system can."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return


def _peak() -> float:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return math.nan
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else math.nan
