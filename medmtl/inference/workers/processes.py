"""Studies in processes of this machine, each watched: one that dies or hangs is replaced."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait

from medmtl.inference.items import Item
from medmtl.inference.outcome import Outcome, without_values
from medmtl.inference.worker import Job
from medmtl.inference.workers.base import Workers
from medmtl.inference.workers.child import serve
from medmtl.types import StoppedError

GRACE_SECONDS = 30.0
"""How long after its time limit a study may go on before its process is killed."""
ATTEMPTS = 2
"""How often a study may be at work in a process that dies."""
FALSE_STARTS = 3
"""How often in a row a process may die before it has loaded the model."""


@dataclass
class _Given:
    """A study that a process has."""

    item: Item
    attempts: int = 0
    alone: bool = False
    worked: float = 0.0
    since: float | None = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time worked, waiting for the device left out."""
        return self.worked + (0.0 if self.since is None else time.monotonic() - self.since)

    def tell(self, working: bool) -> None:
        """It waits, or works again."""
        self.worked, self.since = self.seconds, time.monotonic() if working else None


@dataclass
class _Child:
    """A process and what it has."""

    number: int
    process: multiprocessing.process.BaseProcess
    connection: Connection
    ready: bool = False
    given: dict[str, _Given] = field(default_factory=dict)
    suspects: deque[_Given] = field(default_factory=deque)


class Processes(Workers):
    """A few processes, each with the model loaded and a few threads.

    A process that dies may have died of any study that it had: each of them runs once more, alone. A study
    that is alone when a process dies and was begun twice has failed.

    Args:
        job: what the processes are told.
        count: how many.
        grace: seconds after a study's time limit until its process is killed.
    """

    def __init__(self, job: Job, count: int, *, grace: float = GRACE_SECONDS) -> None:
        self._job, self._count, self._grace = job, count, grace
        self._devices = _devices(job.options.device, count)
        self._again: deque[_Given] = deque()
        self._false_starts = 0
        self._found: list[Outcome] = []
        self._children = [self._start(number) for number in range(count)]

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [child.process.pid or 0 for child in self._children]

    @property
    def free(self) -> int:
        """How many studies the processes that are ready would take."""
        return sum(self._room(child) for child in self._children) - len(self._again)

    def submit(self, item: Item) -> None:
        """Give a study to the process that has the fewest."""
        self._give(_Given(item))

    def poll(self, seconds: float) -> list[Outcome]:
        """Outcomes that are there; replaces processes that died and kills those that hang."""
        sources = {child.connection: child for child in self._children}
        for source in wait(list(sources), timeout=seconds):
            assert isinstance(source, Connection), "only connections are waited for"
            self._listen(sources[source])
        for child in self._children:
            self._kill_overdue(child)
            if child.ready and not child.given and child.suspects:
                self._send(child, child.suspects.popleft())
        while self._again and any(self._room(child) for child in self._children):
            self._give(self._again.popleft())
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        """Kill all processes; none holds anything that is not on disk or lost on purpose."""
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.process.join()
            child.connection.close()

    def _room(self, child: _Child) -> int:
        if not child.ready or child.suspects or any(given.alone for given in child.given.values()):
            return 0
        return self._job.options.at_hand - len(child.given)

    def _start(self, number: int) -> _Child:
        context = multiprocessing.get_context(
            "spawn"
        )  # a fork would copy a CUDA context, which does not work
        ours, theirs = context.Pipe()
        options = replace(self._job.options, device=self._devices[number])
        cores = len(os.sched_getaffinity(0))
        process = context.Process(
            target=serve,
            args=(replace(self._job, options=options), theirs, max(1, cores // self._count)),
            name=f"medmtl-predict-{number}",
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Child(number, process, ours)

    def _give(self, given: _Given) -> None:
        self._send(max(self._children, key=self._room), given)

    def _send(self, child: _Child, given: _Given) -> None:
        given = _Given(given.item, given.attempts + 1, given.alone)
        child.given[given.item.key] = given
        try:
            child.connection.send(given.item)
        except OSError:
            self._bury(child)

    def _listen(self, child: _Child) -> None:
        """Take what a process says; one that says nothing more has died."""
        try:
            while child.connection.poll():
                self._understand(child, child.connection.recv())
        except (EOFError, OSError):
            self._bury(child)

    def _understand(self, child: _Child, message: object) -> None:
        match message:
            case Outcome():
                given = child.given.pop(message.key)
                self._found.append(replace(message, attempts=given.attempts))
            case (str(key), bool(working)):
                child.given[key].tell(working)
            case "ready":
                child.ready, self._false_starts = True, 0
            case ("broken", str(why)):
                raise StoppedError(why)

    def _kill_overdue(self, child: _Child) -> None:
        limit = self._job.options.timeout
        if limit is None:
            return
        late = [given for given in child.given.values() if given.seconds > limit + self._grace]
        if not late:
            return
        for given in late:
            del child.given[given.item.key]
            message = (
                f"still at work {self._grace:g} s after its limit of {limit:g} s; its process was killed"
            )
            self._end(given, "TIMEOUT", message)
        self._again.extend(_Given(given.item, given.attempts - 1) for given in child.given.values())
        child.given.clear()
        child.process.kill()
        self._bury(child)

    def _bury(self, child: _Child) -> None:
        """Replace a process that died; what it had runs once more, alone."""
        if self._children[child.number] is not child:
            return
        child.process.join()
        child.connection.close()
        if not child.ready:
            self._false_starts += 1
        if self._false_starts >= FALSE_STARTS:
            raise StoppedError(
                f"worker processes die while they load the model (exit code {child.process.exitcode}); "
                "is there enough memory? Try --workers 1"
            )
        fresh = self._start(child.number)
        fresh.suspects = child.suspects
        alone = len(child.given) == 1
        for given in child.given.values():
            if alone and given.attempts >= ATTEMPTS:
                self._end(given, "WORKER_DIED", _how(child.process.exitcode))
            else:
                fresh.suspects.append(_Given(given.item, given.attempts, alone=True))
        self._children[child.number] = fresh

    def _end(self, given: _Given, code: str, message: str) -> None:
        hidden = self._job.options.key is not None
        found = without_values(given.item, code, message, seconds=given.seconds, hidden=hidden)
        self._found.append(replace(found, attempts=given.attempts))


def _how(exitcode: int | None) -> str:
    if exitcode == -9:
        return "its process was killed twice, as systems do when memory runs out; use a machine with more"
    how = f"by signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"with exit code {exitcode}"
    return f"its process ended {how} twice while it worked on this study alone"


def _devices(wanted: str, count: int) -> list[str]:
    """A device for each process: all GPUs in turn, unless one is named."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted in ("auto", "cuda") and gpus > 1:
        return [f"cuda:{number % gpus}" for number in range(count)]
    return [wanted] * count
