"""Studies in threads of this process: one reads while another computes and a third writes."""

from __future__ import annotations

import queue
from concurrent.futures import Future, ThreadPoolExecutor

from medmtl.inference.items import Item
from medmtl.inference.outcome import Outcome, outcome_of
from medmtl.inference.study import process
from medmtl.inference.worker import Worker
from medmtl.inference.workers.base import Workers


class Threads(Workers):
    """A few threads around one worker.

    Args:
        worker: the model; only one thread at a time has its device.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._threads = worker.options.at_hand
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="study")
        self._done: queue.SimpleQueue[tuple[Future[Outcome], Item]] = queue.SimpleQueue()
        self._taken = 0

    @property
    def free(self) -> int:
        """Threads without a study."""
        return self._threads - self._taken

    def submit(self, item: Item) -> None:
        """Give a study to a thread."""
        self._taken += 1
        future = self._pool.submit(process, self._worker, item)
        future.add_done_callback(lambda done: self._done.put((done, item)))

    def poll(self, seconds: float) -> list[Outcome]:
        """Outcomes that are there."""
        found: list[Outcome] = []
        try:
            done = self._done.get(timeout=seconds)
            while True:
                self._taken -= 1
                found.append(outcome_of(*done, hidden=self._worker.options.key is not None))
                done = self._done.get_nowait()
        except queue.Empty:
            return found

    def close(self) -> None:
        """Studies stop at their next frame or window."""
        self._worker.stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
