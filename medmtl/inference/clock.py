"""The time that one study takes, stage by stage, and its limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medmtl.types import CaseError


class Stopped(Exception):
    """The run ends before this study does; it is no failure of the study."""


def ignore(_: bool) -> None:
    """Tell nobody."""


class Clock:
    """Measures stages and says when a study has had its time.

    Args:
        limit: seconds of work; None is no limit.
        stop: set when the run is to end.
        tell: called with True when the study works and with False when it waits for others.
    """

    def __init__(
        self,
        limit: float | None = None,
        stop: threading.Event | None = None,
        tell: Callable[[bool], None] = ignore,
    ) -> None:
        self.limit, self._stop, self._tell = limit, stop or threading.Event(), tell
        self.stages: dict[str, float] = {}
        self._began = time.perf_counter()
        self._waited = 0.0
        self._stage = "read"

    @property
    def seconds(self) -> float:
        """Time worked so far, waiting left out."""
        return time.perf_counter() - self._began - self._waited

    def check(self) -> None:
        """Called between stages, frames and windows.

        Raises:
            CaseError: ``TIMEOUT``, the study has had its time.
            Stopped: the run is to end.
        """
        if self._stop.is_set():
            raise Stopped
        if self.limit is not None and self.seconds > self.limit:
            raise CaseError(
                "TIMEOUT",
                f"not done after {self.limit:g} s of work, while it was to {self._stage}; "
                "look at the study, or give it more time with --timeout",
            )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage, such as ``read`` or ``write``; its seconds are kept in ``stages``."""
        self._stage = name
        self.check()
        began = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - began
        self.check()

    @contextmanager
    def turn(self, lock: threading.Semaphore) -> Iterator[None]:
        """Have the device; the time until it is free counts as waiting, not as work."""
        began = time.perf_counter()
        self._tell(False)
        while not lock.acquire(timeout=0.5):
            if self._stop.is_set():
                raise Stopped
        try:
            waited = time.perf_counter() - began
            self._waited += waited
            self.stages["wait"] = self.stages.get("wait", 0.0) + waited
            self._tell(True)
            yield
        finally:
            lock.release()
