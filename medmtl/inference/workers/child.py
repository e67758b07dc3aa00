"""What a worker process does: load the model once, then a study per thread until nobody asks any more."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait

from medmtl.inference.items import Item
from medmtl.inference.outcome import Outcome, outcome_of
from medmtl.inference.worker import Job
from medmtl.types import MedmtlError


def serve(job: Job, connection: Connection, cores: int) -> None:
    """Receive items, send ``"ready"``, ``(key, working)`` and outcomes.

    Args:
        job: model, options, output.
        connection: to the process that runs the journal.
        cores: how many of them this process may keep busy.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this process
    threading.Thread(target=_die_with_parent, daemon=True).start()
    import torch

    from medmtl.inference.study import process
    from medmtl.inference.worker import Worker

    torch.set_num_threads(cores)
    sending = threading.Lock()

    def send(message: object) -> None:
        with sending:
            connection.send(message)

    try:
        worker = Worker.of(job)
    except MedmtlError as error:
        send(("broken", str(error)))
        return
    send("ready")
    with ThreadPoolExecutor(job.options.at_hand) as pool:
        while True:
            try:
                item: Item = connection.recv()
            except EOFError:
                worker.stop.set()
                return
            future = pool.submit(process, worker, item, partial(_tell, send, item.key))
            future.add_done_callback(_sender(send, item, hidden=job.options.key is not None))


def _tell(send: Callable[[object], None], key: str, working: bool) -> None:
    send((key, working))


def _sender(send: Callable[[object], None], item: Item, *, hidden: bool) -> Callable[[Future[Outcome]], None]:
    return lambda future: send(outcome_of(future, item, hidden=hidden))


def _die_with_parent() -> None:
    """Nobody would note what this process still did: the run that comes next does it again."""
    parent = parent_process()
    assert parent is not None, "a worker process has a parent"
    wait([parent.sentinel])
    os._exit(1)
