"""Processes that decode frames side by side, started when a series is worth it and ended with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any, TypeVar

from numpy.typing import NDArray

from medmtl.data.dicom import codecs
from medmtl.data.dicom.codecs import Coded

WORTH_SECONDS = 2.0
"""Decoding that is expected to take longer than this is shared out; a process needs some 0.5 s to start."""

Decode = Callable[[bytes, Coded], NDArray[Any]]
Job = TypeVar("Job")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(jobs: Iterable[Job], work: Callable[[Job, Decode], None], *, workers: int | None = None) -> None:
    """Calls ``work(job, decode)`` for every job; jobs that take long altogether are worked off side by side.

    The first jobs run here, one after the other, and show how long all will take. Only then are processes
    started, if they pay: every thread that then calls ``work`` has a decoding process of its own. Without
    them, and for small series, nothing but this thread is at work.

    Args:
        jobs: what to work off; all of about the same size.
        work: decodes frames with the function that it is given, and may run in several threads at a time.
        workers: number of processes at most; by default one per core. 1 never starts one.

    Raises:
        Exception: whatever ``work`` raises first; jobs that have not begun are then left out.
    """
    waiting = list(jobs)
    workers = cores() if workers is None else workers
    start = perf_counter()
    for done, job in enumerate(waiting):
        if done == 1:  # the first has also imported the codec
            start = perf_counter()
        left = len(waiting) - done
        expected = (perf_counter() - start) / (done - 1) * left if done > 1 else 0.0
        if workers > 1 and left > 1 and expected > WORTH_SECONDS and sys.executable:
            _side_by_side(waiting[done:], work, min(workers, left, int(2 * expected / WORTH_SECONDS)))
            return
        work(job, codecs.decode_frame)


def _side_by_side(jobs: list[Job], work: Callable[[Job, Decode], None], workers: int) -> None:
    processes = [_Process() for _ in range(workers)]
    free: SimpleQueue[_Process] = SimpleQueue()
    for process in processes:
        free.put(process)

    def one(job: Job) -> None:
        process = free.get()
        try:
            work(job, process.decode)
        finally:
            free.put(process)

    pool = ThreadPoolExecutor(workers)
    try:
        finished, _ = wait([pool.submit(one, job) for job in jobs], return_when=FIRST_EXCEPTION)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for process in processes:
            process.close()
    for future in finished:
        future.result()


class _Process:
    """A process that runs ``codecs.py``; where none can be had, this one does its work."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        # -P: the folder of codecs.py is not for import. What codecs print on stderr comes back as errors.
        command = [sys.executable, "-P", str(Path(codecs.__file__))]
        self._popen: subprocess.Popen[bytes] | None = None
        self._greeted = False
        with suppress(OSError):
            self._popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )

    def decode(self, frame: bytes, coded: Coded) -> NDArray[Any]:
        """As `codecs.decode_frame`."""
        if self._greeted and self._popen is not None and self._popen.poll() is not None:
            self.close()  # the frame before was its end
            self._start()
        if self._popen is None or self._popen.stdin is None or self._popen.stdout is None:
            return codecs.decode_frame(frame, coded)
        if not self._greeted and self._popen.stdout.read(len(codecs.GREETING)) != codecs.GREETING:
            self.close()
            return codecs.decode_frame(frame, coded)
        self._greeted = True
        return codecs.ask(self._popen.stdin, self._popen.stdout, frame, coded)

    def close(self) -> None:
        """End it."""
        if self._popen is None:
            return
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with suppress(OSError):  # what it was still to be told no longer matters
                    pipe.close()
        self._popen = None
