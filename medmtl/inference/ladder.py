"""What a study too large for the memory at hand still may try: each rung needs less and takes longer."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from medmtl.inference.context import Context
from medmtl.types import CaseError

T = TypeVar("T")


@dataclass(frozen=True)
class Rung:
    """One way to compute, and how a row says that it was taken."""

    context: Context
    note: str


class Ladder:
    """Contexts from the fastest to the one that needs the least memory of the device.

    Args:
        context: as it is meant to run.
        on_cpu: makes the context of the same model on the CPU; asked once, when the first study needs it.
    """

    def __init__(self, context: Context, on_cpu: Callable[[], Context] | None = None) -> None:
        self._context, self._make = context, on_cpu
        self._cpu: Context | None = None
        self._lock = threading.Lock()

    def rungs(self, check: Callable[[], None]) -> Iterator[Rung]:
        """All rungs in order; ``check`` is called between frames and windows."""
        first = self._context.adapted(check=check)
        yield Rung(first, "")
        if first.volumes_at_once > 1:
            yield Rung(first.adapted(at_once=1), "one window at a time")
        if first.device.type == "cpu":
            return
        yield Rung(first.adapted(at_once=1, stitch_on_cpu=True), "one window at a time, stitched on the CPU")
        with self._lock:
            if self._cpu is None and self._make is not None:
                self._cpu = self._make()
        if self._cpu is not None:
            yield Rung(self._cpu.adapted(check=check), "on the CPU")


def climb(rungs: Iterator[Rung], compute: Callable[[Context], T]) -> tuple[T, str]:
    """What the first rung computes that does not run out of memory, and its note.

    Raises:
        CaseError: ``OUT_OF_MEMORY``, none did.
    """
    for rung in rungs:
        try:
            return compute(rung.context), rung.note
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        gc.collect()  # outside the handler, whose traceback keeps the tensors alive
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise CaseError(
        "OUT_OF_MEMORY", "does not fit the memory, not even one window at a time; use a machine with more"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in said or "out of memory" in said)
