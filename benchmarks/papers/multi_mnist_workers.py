"""The arms of Multi-MNIST's tables over several processes on one device.

One process trains all networks of its arms as one, but decides arm by arm in Python. More processes share
that work of the host. Each trains some arms of one table, on the same pictures in the same order, and
writes its scores after every epoch; the first process merges them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multi_mnist_scores import Course

# Milliseconds of one thread for a decision, and what a step costs besides, measured on a CPU; the rest 0.3.
HOST = {"single": 0.01, "uw-so, 1.6": 1.8, "balanced": 1.8, "rlw": 0.1, "gradnorm": 0.6, "cagrad": 0.9}
HOST |= {"mgda": 0.1, "pcgrad": 0.2, "imtl-g": 0.1, "aligned-mtl": 0.1, "nash-mtl": 0.1}
# One more backward pass over the trunk, which is the device's work, weighs as much as this.
GRADIENT, NETWORKS = 0.7, 0.5
GRACE_S = 120.0  # after the minutes are over, for an epoch to end
MERGE_S = 30.0


def cost(arm: str, gradient: bool) -> float:
    own = next((ms for start, ms in HOST.items() if arm.startswith(start)), 0.3)
    return own + NETWORKS + (GRADIENT if gradient else 0.0)


def split(arms: dict[str, float], workers: int) -> list[list[str]]:
    """Arms of about the same cost for each worker: the dearest first, each to the least loaded."""
    groups: list[list[str]] = [[] for _ in range(min(workers, len(arms)))]
    loads = [0.0] * len(groups)
    for arm in sorted(arms, key=lambda name: -arms[name]):
        least = loads.index(min(loads))
        groups[least].append(arm)
        loads[least] += arms[arm]
    return [[arm for arm in arms if arm in group] for group in groups]


def shared_out(groups: list[tuple[str, dict[str, float]]], workers: int) -> list[tuple[str, list[str]]]:
    """``(table, arms)`` of each worker; a group of a table's arms has at least one, the dearest the most."""
    counts = [1] * len(groups)
    while sum(counts) < workers:
        open_ = [i for i, (_, arms) in enumerate(groups) if counts[i] < len(arms)]
        if not open_:
            break
        counts[max(open_, key=lambda i: sum(groups[i][1].values()) / counts[i])] += 1
    return [
        (table, part)
        for (table, arms), count in zip(groups, counts, strict=True)
        for part in split(arms, count)
    ]


@dataclass
class Worker:
    """A process that trains some arms of one table."""

    table: str
    arms: list[str]
    process: subprocess.Popen[bytes]
    course: Path
    log: Path

    @classmethod
    def start(
        cls,
        number: int,
        table: str,
        arms: list[str],
        options: list[str],
        folder: Path,
        gpus: Sequence[str] = (),
    ) -> Worker:
        """Begin; the GPUs, if any are named, take the workers in turn."""
        course, log = folder / f"{number}.npz", folder / f"{number}.log"
        script = Path(__file__).with_name("multi_mnist.py")
        own = ["--tables", table, "--course", str(course), "--arms", *arms]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, str(script), *options, *own],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        return cls(table, arms, process, course, log)

    def failure(self) -> str | None:
        """Why the arms are left out, where the process died."""
        code = self.process.poll()
        if code in (None, 0):
            return None
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return f"its process ended with {code}: {lines[-1] if lines else 'no message'}"

    def read(self, tasks: tuple[str, ...]) -> Course | None:
        if self.failure() is not None or not self.course.is_file():
            return None
        return Course.read(self.course, tasks)


def follow(workers: list[Worker], minutes: float, merge: Any) -> None:
    """Waits for all workers; calls ``merge`` now and then and at the end, and ends what hangs."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    began = merged_at = time.perf_counter()
    told: set[int] = set()
    try:
        while any(worker.process.poll() is None for worker in workers):
            time.sleep(0.5)
            now = time.perf_counter()
            for number, worker in enumerate(workers):
                if (why := worker.failure()) is not None and number not in told:
                    told.add(number)
                    print(f"{worker.table}, worker {number} ({', '.join(worker.arms)}): {why}", flush=True)
            if now - merged_at > MERGE_S:
                merge()
                merged_at = now
            if now - began > 60 * minutes + GRACE_S:
                break
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait()
        signal.signal(signal.SIGTERM, before)
    for number, worker in enumerate(workers):
        if (why := worker.failure()) is not None and number not in told:
            print(f"{worker.table}, worker {number} ({', '.join(worker.arms)}): {why}", flush=True)
    merge()
