"""Whether clips can be read, found out once: a journal beside the records lets an interrupted check go on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emollm.errors import ClipError

OnProgress = Callable[[int, int], None]  # done, in all


def check_media(paths: Iterable[Path], journal: Path, on_progress: OnProgress | None = None) -> dict[Path, str]:
    """What is wrong with those clips that cannot be read, each in one sentence; a clip is opened once.

    Args:
        journal: JSON lines of what was found before, added to as it is found; a clip that has changed since then is
            opened again.
    """
    wanted = list(dict.fromkeys(paths))
    found: dict[Path, str] = {}
    keys: dict[Path, str] = {}
    for path in wanted:
        try:
            about = path.stat()
            keys[path] = json.dumps([os.path.abspath(path), about.st_size, about.st_mtime_ns])
        except OSError:
            found[path] = f"There is no file {path}."
    known = _read(journal)
    missing = [path for path, key in keys.items() if key not in known]
    if missing:
        journal.parent.mkdir(parents=True, exist_ok=True)
        # A line each, flushed: what is torn by a kill is one line, which reading skips.
        with journal.open("a", encoding="utf-8") as lines, ThreadPoolExecutor(os.cpu_count()) as pool:
            lines.write("\n")
            try:
                for done, (path, problem) in enumerate(zip(missing, pool.map(media_problem, missing)), start=1):
                    known[keys[path]] = problem
                    lines.write(json.dumps([keys[path], problem]) + "\n")
                    lines.flush()
                    if on_progress:
                        on_progress(done, len(missing))
            finally:
                pool.shutdown(cancel_futures=True)
    return found | {path: problem for path, key in keys.items() if (problem := known[key])}


def media_problem(path: Path) -> str:
    """Open a clip, decode its sound and its first picture; what is wrong in one sentence, or nothing."""
    from emollm.media.clip import read_clip

    try:
        clip = read_clip(path, transcript="none")
        if clip.has_video:
            next(clip.frames(1.0), None)
    except ClipError as error:
        return str(error)
    return ""


def _read(journal: Path) -> dict[str, str]:
    known: dict[str, str] = {}
    if journal.exists():
        for line in journal.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                key, problem = json.loads(line)
                known[key] = str(problem)
            except (ValueError, TypeError):
                continue
    return known
