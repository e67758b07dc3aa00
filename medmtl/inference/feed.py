"""Studies as they are found, in a thread, so that the first is computed while the last is looked for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from medmtl.inference.items import Item, pack, unpack


class Feed:
    """Collects items from whatever finds them.

    Args:
        items: finds them; what a list or tuple holds is there at once.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._found: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="find")
        self._search = self._pool.submit(self._look, items)
        if isinstance(items, list | tuple):
            self._search.result()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_short(self, few: int) -> bool:
        """Wait until more than a few were found, or all were; whether it is only a few.

        Raises:
            BaseException: what the search ended with.
        """
        while not self._search.done() and self._found.qsize() <= few:
            time.sleep(0.01)
        if self._search.done():
            self._search.result()
        return self._found.qsize() <= few

    def drain(self) -> tuple[list[Item], bool]:
        """What was found since the last call, and whether that is all."""
        over = self._search.done()  # asked first: what is found later comes with the next call
        found: list[Item] = []
        while True:
            try:
                found.append(unpack(self._found.get_nowait()))
            except queue.Empty:
                break
        return found, over and not found

    @property
    def complete(self) -> bool:
        """Whether all sources were read to their end."""
        return self._search.done() and self._search.exception() is None

    def check(self) -> None:
        """Wait for the search to end.

        Raises:
            BaseException: what it ended with, such as a source that could not be read to its end.
        """
        self._search.result()

    def close(self) -> None:
        """Look no further."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self, items: Iterable[Item]) -> None:
        for item in items:
            if self._stop.is_set():
                return
            self._found.put(pack(item))
