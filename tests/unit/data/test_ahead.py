from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from medmtl.data.ahead import Ahead


def test_an_error_in_a_thread_reaches_the_one_who_asks() -> None:
    def parts(step: int) -> list[Callable[[], float]]:
        return [lambda: 1 / (3 - step)]

    ahead = Ahead(parts, 2)
    assert ahead.get(0) == [1 / 3]
    with pytest.raises(ZeroDivisionError):
        ahead.get(3)


def test_parts_come_in_order_and_each_is_made_once() -> None:
    made: Counter[tuple[int, int]] = Counter()
    lock = threading.Lock()

    def make(step: int, part: int) -> int:
        with lock:
            made[step, part] += 1
        return 10 * step + part

    ahead = Ahead(lambda step: [partial(make, step, part) for part in range(3)], 2)
    assert [ahead.get(step) for step in range(5)] == [[10 * s, 10 * s + 1, 10 * s + 2] for s in range(5)]
    assert all(made[step, part] == 1 for step in range(5) for part in range(3))


def test_a_jump_forgets_what_was_under_way() -> None:
    ahead = Ahead(lambda step: [partial(lambda s: s, step)], 3)
    assert ahead.get(0) == [0]
    assert ahead.get(100) == [100]
    assert ahead.get(1) == [1]
