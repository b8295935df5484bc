"""The same work over many items, spread over processes, each item a file of its own.

What an item is depends on nothing but its number, so the number of processes changes nothing; items whose file is
there are not made again, so a run that was broken off goes on.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.progress import Progress

Work = Callable[[int, Path], None]  # makes an item and writes it to the path

_work: Work | None = None  # one a worker process: setting up costs more than one item


def parts_folder(out: Path, decided_by: str) -> Path:
    """The folder beside ``out`` for the items of a run; another text that decides what they are is another folder."""
    digest = hashlib.sha256(decided_by.encode()).hexdigest()[:12]
    return out.with_name(f".{out.name}.{digest}")


def make_each(
    setup: Callable[..., Work], arguments: tuple[Any, ...], files: list[Path], workers: int | None, title: str
) -> None:
    """Make every file that is not there yet, with a progress bar.

    Args:
        setup: called once in every process with ``arguments``; returns the work.
        arguments: sent to the processes.
        files: of item 0, 1, …; each appears only when it is whole.
        workers: processes; one a core unless given.
        title: of the progress bar.
    """
    missing = [item for item, file in enumerate(files) if not file.exists()]
    with Progress() as progress:
        task = progress.add_task(title, total=len(files), completed=len(files) - len(missing))
        if not missing:
            return
        count = min(workers or os.cpu_count() or 1, len(missing))
        pool = ProcessPoolExecutor(count, get_context("spawn"), _start, (setup, arguments))
        try:
            for _ in pool.map(_make, missing, [files[item] for item in missing]):
                progress.advance(task)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start(setup: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    global _work
    import cv2

    cv2.setNumThreads(1)  # the processes share the cores already
    _work = setup(*arguments)


def _make(item: int, file: Path) -> None:
    assert _work is not None, "the process has no work"
    part = file.with_name(f"part-{file.name}")
    _work(item, part)
    os.replace(part, file)
