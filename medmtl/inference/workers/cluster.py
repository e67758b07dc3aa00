"""Studies on a dask.distributed cluster: each of its workers does what a process of this machine does."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from medmtl.inference.items import Item
from medmtl.inference.outcome import Outcome, outcome_of, without_values
from medmtl.inference.study import process
from medmtl.inference.worker import Job, Worker
from medmtl.inference.workers.base import Workers
from medmtl.types import ConfigError, MedmtlError, StoppedError

if TYPE_CHECKING:
    from distributed import Future

CONNECT_SECONDS = 30
"""How long a scheduler may take to answer."""
GRACE_SECONDS = 60.0
"""How long after its time limit a study on a worker that says nothing is given up."""
WORKERLESS_SECONDS = 600.0
"""How long a run waits for a cluster that has no workers."""
_WORKERS: dict[str, Worker] = {}
_LOADING = threading.Lock()


class Cluster(Workers):
    """The workers of a dask scheduler. All of them must see the model and the output under the same paths.

    Dask gives the studies of a worker that dies to others; a study that was there each time has failed.

    Args:
        job: what the workers are told.
        address: of the scheduler, such as ``tcp://host:8786``.

    Raises:
        ConfigError: no scheduler answers there, or the extra ``cluster`` is not installed.
    """

    def __init__(self, job: Job, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise ConfigError("--dask needs dask: pip install 'medmtl[cluster]'") from error
        try:
            self._client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--dask {address}: no scheduler answers there ({type(error).__name__}); start one with "
                "`dask scheduler`, and workers with `dask worker ADDRESS`"
            ) from error
        self._job = job
        self._given: dict[str, tuple[Item, Future[Any], float]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._alone_since = time.monotonic()
        self._slots, self._asked = 0, -1.0

    @property
    def free(self) -> int:
        """One study for each thread of each worker; what comes and goes is noticed within a second."""
        if time.monotonic() - self._asked > 1:
            self._slots = sum(self._client.nthreads().values())
            self._asked = time.monotonic()
            if self._slots:
                self._alone_since = self._asked
            elif self._asked - self._alone_since > WORKERLESS_SECONDS:
                raise StoppedError(f"the cluster has had no worker for {WORKERLESS_SECONDS:g} s")
        return self._slots - len(self._given)

    def submit(self, item: Item) -> None:
        """Give a study to the cluster."""
        future = self._client.submit(
            work, self._job, item, key=f"medmtl-{self._job.run[:8]}-{item.key_digest()[:16]}", pure=False
        )
        self._given[item.key] = (item, future, time.monotonic())
        future.add_done_callback(lambda _, key=item.key: self._ended.put(key))

    def poll(self, seconds: float) -> list[Outcome]:
        """Outcomes that are there."""
        found: list[Outcome] = []
        try:
            key = self._ended.get(timeout=seconds)
            while True:
                if key in self._given:
                    item, future, _ = self._given.pop(key)
                    found.append(self._outcome(item, future))
                key = self._ended.get_nowait()
        except queue.Empty:
            return found + self._overdue()

    def close(self) -> None:
        """Drop what is not done; the workers stay for the next run."""
        self._client.cancel([future for _, future, _ in self._given.values()])
        self._client.close()

    def _outcome(self, item: Item, future: Future[Any]) -> Outcome:
        from distributed.scheduler import KilledWorker

        hidden = self._job.options.key is not None
        if future.status == "finished":
            return future.result()
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker):
            return without_values(
                item, "WORKER_DIED", "each worker that had it died; look at the workers' logs", hidden=hidden
            )
        if isinstance(error, MedmtlError):
            return Outcome(item.key, "waiting", attempts=0, stop=str(error))
        return without_values(
            item, "UNEXPECTED", f"the cluster lost it ({type(error).__name__}); run again", hidden=hidden
        )

    def _overdue(self) -> list[Outcome]:
        limit = self._job.options.timeout
        found: list[Outcome] = []
        if limit is None:
            return found
        longest = (
            self._job.options.at_hand + 1
        ) * limit + GRACE_SECONDS  # others may have had the device first
        for key, (item, future, since) in list(self._given.items()):
            if time.monotonic() - since > longest:
                del self._given[key]
                future.cancel()
                found.append(without_values(item, "TIMEOUT", f"no word of it for {longest:g} s; given up"))
        return found


def work(job: Job, item: Item) -> Outcome:
    """One study, on a worker of the cluster, which loads the model once.

    Raises:
        ConfigError: the model cannot be loaded there, or is another one.
    """
    with _LOADING:
        known = f"{job.run} {job.digest}"
        if known not in _WORKERS:
            _WORKERS.clear()
            _WORKERS[known] = Worker.of(job)
        worker = _WORKERS[known]
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(process, worker, item)
    return outcome_of(future, item, hidden=job.options.key is not None)
