import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import closing

import pytest

from emollm.ahead import ahead


def test_items_come_in_order_with_what_was_made_of_each():
    assert [(item, made.result()) for item, made in ahead("abcd", str.upper, 2)] == [
        ("a", "A"), ("b", "B"), ("c", "C"), ("d", "D"),
    ]  # fmt: skip


def test_as_many_at_once_as_there_are_processors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    all_there = threading.Barrier(3)
    made = [made.result() for _, made in ahead(range(6), lambda item: all_there.wait(60), 6)]
    assert sorted(made) == [0, 0, 1, 1, 2, 2]


def test_no_further_than_asked_for():
    taken = []

    def items() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            yield number

    with closing(ahead(items(), str, 2)) as coming:
        next(coming)
        assert taken == [0, 1, 2]
        next(coming)
        assert taken == [0, 1, 2, 3]


def test_what_fails_is_raised_where_it_is_asked_for_and_stops_nothing():
    results = [made for _, made in ahead([1, 0, 2], lambda item: 1 / item, 3)]
    assert results[0].result() == 1
    with pytest.raises(ZeroDivisionError):
        results[1].result()
    assert results[2].result() == 0.5


def test_closing_drops_what_was_not_begun(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    go_on, begun = threading.Event(), []

    def prepare(item: int) -> None:
        begun.append(item)
        assert go_on.wait(60)

    coming = ahead(range(5), prepare, 3)
    _, first = next(coming)
    _, second = next(coming)

    def let_it_end_once_the_rest_is_dropped() -> None:
        while not second.cancelled():
            time.sleep(0.01)
        go_on.set()

    watcher = threading.Thread(target=let_it_end_once_the_rest_is_dropped, daemon=True)
    watcher.start()
    coming.close()
    watcher.join(60)
    assert begun == [0]
    assert first.result() is None
    with pytest.raises(CancelledError):
        second.result()
