"""Ranks that stop together: the first one that fails says why, and the others stop with its reason.

What a rank has to say lies in the key-value store that torchrun itself keeps, which outlives any rank. A rank
that waits for another one learns of its end by a broken connection, or by the SIGTERM that torchrun then
sends; it looks up the reason. A rank that left none was killed: it is the one that does not answer.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

import torch.distributed as dist

from medmtl.engine.launch import launched
from medmtl.types import MedmtlError, RankError

WAIT_S = 3.0
"""How long to wait for the ranks that are still alive to say so, before the others are named."""


class _TerminatedError(RuntimeError):
    """Torchrun asked this rank to stop, because another one did."""


@contextmanager
def together() -> Iterator[None]:
    """Turn an error on any rank into one that names the rank, on all ranks; without torchrun do nothing.

    Raises:
        RankError: this rank failed in a way that a user can mend, or another rank failed.
    """
    if not launched():
        yield
        return
    board = Board()
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
        signal.signal(signal.SIGTERM, before)
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # whoever sends it now knows what is being said here
        if isinstance(error, MedmtlError):
            raise board.failed(error) from error
        if is_consequence(error):
            raise board.stopped() from error
        board.post(f"{type(error).__name__}: {error}".splitlines()[0])
        raise


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TerminatedError


def is_consequence(error: BaseException) -> bool:
    """Whether an error only says that another rank is gone."""
    if isinstance(error, _TerminatedError | dist.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error).lower()


class Board:
    """What the ranks of one torchrun tell each other when they stop."""

    def __init__(self) -> None:
        self.rank, self.ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.host = self.rank // int(os.environ["LOCAL_WORLD_SIZE"])
        kept = dist.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=30),
        )
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store = dist.PrefixStore(f"medmtl/{restart}", kept)  # type: ignore[attr-defined]

    def post(self, reason: str) -> str:
        """Say why this rank stops; the first reason that any rank gave."""
        self.store.set(f"stopped/{self.rank}", "1")
        first: bytes = self.store.compare_set("reason", "", f"rank {self.rank}: {reason}")
        return first.decode()

    def failed(self, error: MedmtlError) -> RankError:
        """What to raise where this rank failed by itself."""
        own = f"rank {self.rank}: {error}"
        first = self.post(str(error))
        same = first.partition(": ")[2] == str(error)
        return RankError(own, exit_code=error.exit_code, told=same and not self._speaks())

    def stopped(self) -> RankError:
        """What to raise where another rank failed."""
        self.store.set(f"stopped/{self.rank}", "1")
        if self.store.check(["reason"]):
            return RankError(self.store.get("reason").decode(), told=not self._speaks())
        silent = self._silent()
        which = f"rank {silent[0]}" if len(silent) == 1 else f"one of the ranks {', '.join(map(str, silent))}"
        text = f"{which if silent else 'a rank'} stopped without a reason: it was killed, or memory ran out"
        return RankError(text, told=not self._speaks())

    def _silent(self) -> list[int]:
        """Ranks that say nothing within `WAIT_S`."""
        until = time.monotonic() + WAIT_S
        missing = list(range(self.ranks))
        while missing and time.monotonic() < until:
            missing = [rank for rank in missing if not self.store.check([f"stopped/{rank}"])]
            time.sleep(0.05)
        return missing

    def _speaks(self) -> bool:
        """Whether this rank is the first of its machine to tell people."""
        return self.store.add(f"told/{self.host}", 1) == 1
