"""How the parts of benchmarks/predict.py run, time and count."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

CORES = len(os.sched_getaffinity(0))
FORMATS = ("nifti", "csv")
_TICK = os.sysconf("SC_CLK_TCK")


class Mark(NamedTuple):
    """A moment: wall-clock seconds, and CPU seconds of this process and all that it started."""

    wall: float
    cpu: float


def command(model: Path, source: Path, output: Path, device: str, *more: str) -> list[str]:
    """`medmtl predict` in a process of its own."""
    start = [sys.executable, "-m", "medmtl", "predict", str(model), str(source), "-o", str(output)]
    return [*start, "--device", device, "--write", ",".join(FORMATS), *more]


def run(arguments: list[str]) -> None:
    """Run a command that may find studies without values."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr


def timed(call: Callable[[], Any]) -> float:
    """Wall-clock seconds, until the GPU is done as well."""
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def mark() -> Mark:
    """Now; ended processes count once they are waited for."""
    return Mark(time.perf_counter(), sum(_cpu_seconds(pid) for pid in _tree(os.getpid())))


def workers_of_this() -> int:
    """How many processes that multiprocessing spawned for this one are alive."""
    found = 0
    for pid in _tree(os.getpid()):
        try:
            found += b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
    return found


def once_running(marks: list[Mark]) -> dict[str, float]:
    """Wall and CPU seconds per study between the tenth and the ninetieth percent of the studies."""
    left_out = max(1, len(marks) // 10)
    first, last = marks[left_out], marks[-1 - left_out]
    studies = len(marks) - 1 - 2 * left_out
    return {
        "seconds_per_study_once_running": round((last.wall - first.wall) / studies, 4),
        "cpu_seconds_per_study_once_running": round((last.cpu - first.cpu) / studies, 4),
        "cpu_busy": round((last.cpu - first.cpu) / (last.wall - first.wall) / CORES, 3),
    }


def _tree(root: int) -> list[int]:
    """A process and all below it."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        if (fields := _stat(int(path.parent.name))) is not None:
            below.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += below.get(pid, [])
    return found


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return 0.0 if fields is None else sum(map(int, fields[11:15])) / _TICK


def _stat(pid: int) -> list[str] | None:
    """Fields of ``/proc/PID/stat`` from the state on: 1 is the parent, 11 to 14 are times."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
