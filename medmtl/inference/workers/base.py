"""What the run asks of workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

from medmtl.inference.items import Item
from medmtl.inference.outcome import Outcome


class Workers(ABC):
    """Takes studies, gives outcomes; each study that was taken has one outcome, whatever happens to it."""

    @property
    @abstractmethod
    def free(self) -> int:
        """How many more studies may be given now. The rest waits where it costs no memory."""

    @abstractmethod
    def submit(self, item: Item) -> None:
        """Give a study to a worker."""

    @abstractmethod
    def poll(self, seconds: float) -> list[Outcome]:
        """Outcomes that are there, after waiting so long for a first one.

        Raises:
            StoppedError: no worker can be kept alive.
        """

    @abstractmethod
    def close(self) -> None:
        """End all work at once; what is not done is left."""

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
