"""What the commands that make records show: sentences, a progress bar, what is wrong, and a summary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from emollm.errors import BadArgumentError
from emollm.show import sentence

SHOWN = 20  # rows named on the screen; --problems writes all of them


def say(text: str, style: str = "") -> None:
    sentence(Console(file=sys.stderr), text, style)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left, on a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    notes = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=notes, speed_estimate_period=3600, disable=not notes.is_terminal) as progress:
        task = progress.add_task(title, total=None)

        def report(done: int, total: int) -> None:
            if progress.tasks[0].total is None:  # what an earlier run did says nothing of the speed of this one
                progress.reset(task, completed=done, total=total)
            progress.update(task, completed=done, total=total)

        yield report


def name_problems(lines: list[str], one: str, many: str, file: Path | None) -> None:
    """Name what is wrong: all of it in ``file``, else the first on the screen."""
    if file is not None:
        try:
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        except OSError as error:
            raise BadArgumentError(f"The file {file} cannot be written ({error.strerror}).") from error
    for line in lines[:SHOWN]:
        say(line, "yellow")
    if len(lines) > SHOWN:
        say(f"... and {len(lines) - SHOWN} more{'' if file else '; --problems FILE names all'}.", "yellow")
    if lines:
        say(f"{len(lines)} {one if len(lines) == 1 else many}.", "yellow")


def summary(records: list, out: Path) -> None:
    """Counts per split and label, people per split, labels by origin."""
    from rich.table import Table

    from emollm.data.summary import labels_of, origins, speakers

    splits = sorted({record.split or "" for record in records})
    counts = {split: labels_of([r for r in records if (r.split or "") == split]) for split in splits}
    table = Table(title=f"{out}: {len(records)} records")
    table.add_column("")
    for split in splits:
        table.add_column(split or "no split", justify="right")
    for label in sorted(set().union(*counts.values())):
        table.add_row(label, *(str(counts[split][label]) for split in splits))
    table.add_section()
    table.add_row("people", *(speakers([r for r in records if (r.split or "") == split]) for split in splits))
    console = Console(file=sys.stdout)
    console.print(table)
    sentence(console, "Labels by origin: " + ", ".join(f"{name} {n}" for name, n in sorted(origins(records).items())))
