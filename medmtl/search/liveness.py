"""Whether the process behind a running trial is still alive.

A process that is killed cannot say so. On the same machine its number tells: at once, and surely. Elsewhere a
beat tells: the process raises a number in the storage now and then, and whoever sees the same number for long
enough takes it for dead. Only the watcher's own clock is read, so machines need not agree on the time.
"""

from __future__ import annotations

import logging
import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any

from medmtl.search._optuna import optuna

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

LOG = logging.getLogger("medmtl.search")
WORKER, BEAT = "medmtl:worker", "medmtl:beat"
"""Attributes of a trial: the process that runs it, and a number that rises while it does."""
EVERY_SECONDS = 30.0
DEAD_AFTER_SECONDS = 300.0
UNCLAIMED_SECONDS = 30.0
"""A process writes down that a trial is its own at once; one that nobody claims for so long is nobody's."""
_PROC = Path("/proc")


@dataclass(frozen=True)
class Worker:
    """A process that runs trials.

    Attributes:
        machine: the same for processes that see each other's numbers.
        pid: the process's number.
        began: when it began, in the machine's ticks, since numbers are used again; 0 where unknown.
        token: of this one search in the process.
    """

    machine: str
    pid: int
    began: int
    token: str

    @classmethod
    def here(cls) -> Worker:
        """This process."""
        return cls(_machine(), os.getpid(), _began(os.getpid()), uuid.uuid4().hex)

    def as_attribute(self) -> dict[str, Any]:
        """For the storage."""
        return asdict(self)

    def knows_dead(self, other: Mapping[str, Any]) -> bool:
        """Whether another process ran on this machine and is gone; False where that cannot be told."""
        if other.get("machine") != self.machine or not _PROC.is_dir() or not other.get("began"):
            return False
        return _began(int(other["pid"])) != other["began"]


@dataclass
class Watch:
    """Sees which running trials have lost their process.

    Attributes:
        worker: this process.
        dead_after_seconds: a beat that is the same for so long is that of a dead process.
        clock: seconds that only ever rise.
    """

    worker: Worker
    dead_after_seconds: float = DEAD_AFTER_SECONDS
    clock: Callable[[], float] = time.monotonic
    _seen: dict[int, tuple[object, float]] = field(default_factory=dict)

    def is_lost(self, trial: FrozenTrial) -> bool:
        """Whether nobody works any more on a trial that is marked as running."""
        owner = trial.user_attrs.get(WORKER, {})
        if owner.get("token") == self.worker.token:
            return False
        if self.worker.knows_dead(owner):
            return True
        beat, now = (owner.get("token"), trial.user_attrs.get(BEAT)), self.clock()
        before, since = self._seen.get(trial.number, (None, now))
        if before != beat:
            since = now
        self._seen[trial.number] = (beat, since)
        patience = self.dead_after_seconds if owner else min(UNCLAIMED_SECONDS, self.dead_after_seconds)
        return now - since > patience


class Beat:
    """Raises a running trial's number in the background, and notices when the trial was given to another.

    Args:
        trial: as it was asked for.
        worker: this process.
        every_seconds: between two beats.
    """

    def __init__(self, trial: Trial, worker: Worker, every_seconds: float = EVERY_SECONDS) -> None:
        self.trial, self.worker, self.every_seconds = trial, worker, every_seconds
        self.taken = False
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Beat:
        self.trial.set_user_attr(WORKER, self.worker.as_attribute())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        exceptions = optuna().exceptions
        number = 0
        while not self._over.wait(self.every_seconds):
            number += 1
            try:
                self.trial.set_user_attr(BEAT, number)
            except exceptions.UpdateFinishedTrialError:
                self.taken = True
                return
            except (exceptions.StorageInternalError, OSError) as error:
                LOG.warning("the storage cannot be reached (%s); trying again", error)


def _machine() -> str:
    """Name, boot and process namespace: containers on one machine do not see each other's processes."""
    parts = [platform.node()]
    try:
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text().strip())
        parts.append(str((_PROC / "self/ns/pid").readlink()))
    except OSError:
        pass
    return "/".join(parts)


def _began(pid: int) -> int:
    """When a process began, in ticks since the machine's boot; 0 where there is no such process, or no /proc.

    A process that has ended and waits for its parent to notice is none any more.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    state, began = fields[0], int(fields[19])
    return 0 if state in "ZX" else began
