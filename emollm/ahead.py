"""Work prepared in background threads while something else goes on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(
    items: Iterable[Item], prepare: Callable[[Item], Made], count: int
) -> Generator[tuple[Item, Future[Made]], None, None]:
    """Each item, in order, with what ``prepare`` makes of it; the ``count`` next ones are worked on meanwhile.

    What comes may still be under way: ``result()`` waits for it, and raises what ``prepare`` raised. ``prepare`` is
    called in as many threads at once as there are processors. A model that computes on all of them goes at the pace of
    the one that has least time for it, so work beside it should lie on all alike, and be over the sooner. Closing the
    generator drops what has not been begun.
    """
    pool = ThreadPoolExecutor(os.cpu_count() or 1, "prepare")
    under_way: deque[tuple[Item, Future[Made]]] = deque()
    try:
        for item in items:
            under_way.append((item, pool.submit(prepare, item)))
            if len(under_way) > count:
                yield under_way.popleft()
        while under_way:
            yield under_way.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
