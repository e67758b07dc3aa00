"""Several processes that prepare cases side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from medmtl.data.cases import Case
from medmtl.data.store.recipe import Recipe
from medmtl.data.store.work import case_order, order_of, prepare_into


def prepare_side_by_side(
    store: Path,
    cases: Sequence[Case],
    recipe: Recipe,
    workers: int,
    done: Callable[[], None],
    inherit: tuple[int, ...] = (),
) -> None:
    """Prepare cases into a store, each in one of several processes; with one worker, in this one.

    Args:
        store: the folder.
        cases: which.
        recipe: how.
        workers: how many processes.
        done: called after each case, from any thread.
        inherit: open files that the processes keep open, such as a lock: where this process is killed, they
            finish the case that they are at, and nobody else may write until then.

    Raises:
        OSError: the disk is full or cannot be written; cases that are begun are finished first.
        ChildProcessError: a process died, most likely for want of memory.
    """
    if workers <= 1 or len(cases) <= 1:
        for case in cases:
            prepare_into(store, case, recipe)
            done()
        return
    free: SimpleQueue[_Process] = SimpleQueue()
    processes = [_Process(store, recipe, inherit) for _ in range(min(workers, len(cases)))]
    for process in processes:
        free.put(process)

    def one(case: Case) -> None:
        process = free.get()
        try:
            process.prepare(case)
        finally:
            free.put(process)
        done()

    pool = ThreadPoolExecutor(len(processes))
    futures: list[Future[None]] = []
    try:
        futures = [pool.submit(one, case) for case in cases]
        finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for process in processes:
            process.dismiss()
        for process in processes:
            process.join()
    for future in finished:
        future.result()


class _Process:
    """One process, told one case at a time."""

    def __init__(self, store: Path, recipe: Recipe, inherit: tuple[int, ...]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "medmtl.data.store.work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            pass_fds=inherit,
        )
        self._greeted = False
        self._tell(order_of(store, recipe))

    def prepare(self, case: Case) -> None:
        """Have it prepare a case, and wait until it has.

        Raises:
            OSError: it could not write.
            ChildProcessError: it died.
        """
        if not self._greeted:
            self._answer(case)
            self._greeted = True
        self._tell(case_order(case))
        answer = json.loads(self._answer(case))
        if answer:
            number, _, words = answer.partition(" ")
            raise OSError(int(number) or None, words)

    def dismiss(self) -> None:
        """Tell it that there is no more to do."""
        assert self._popen.stdin is not None
        with suppress(OSError):  # it may be dead already
            self._popen.stdin.close()

    def join(self) -> None:
        """Wait until it has ended."""
        assert self._popen.stdout is not None
        self._popen.stdout.close()
        try:
            self._popen.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def _tell(self, order: dict[str, object]) -> None:
        assert self._popen.stdin is not None
        with suppress(BrokenPipeError):  # its death shows when it does not answer
            self._popen.stdin.write(json.dumps(order) + "\n")
            self._popen.stdin.flush()

    def _answer(self, case: Case) -> str:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        if not line:
            code = self._popen.wait()
            raise ChildProcessError(
                f"the process that prepared {case.case_id} ended (code {code}); most likely memory ran out"
            )
        return line
