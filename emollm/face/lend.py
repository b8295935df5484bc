"""Face landmarkers that outlive a clip: opening one costs as much as looking at two frames."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from emollm.face.detect import FaceLandmarker

_idle: dict[Path, list[FaceLandmarker]] = {}
_lock = Lock()


@contextmanager
def lend_landmarker(task: Path) -> Iterator[FaceLandmarker]:
    """A landmarker of nobody else for the time being, one used before if there is; closed when Python ends.

    Raises:
        EmoLLMError: a system library that MediaPipe needs is absent.
    """
    with _lock:
        idle = _idle.setdefault(task, [])
        landmarker = idle.pop() if idle else None
    landmarker = landmarker or FaceLandmarker(task)
    try:
        yield landmarker
    finally:
        with _lock:
            idle.append(landmarker)


@atexit.register
def _close_all() -> None:
    with _lock:
        for idle in _idle.values():
            while idle:
                idle.pop().close()
