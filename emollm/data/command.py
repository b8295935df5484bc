"""``emollm data``: make training records of a data set, check them, explain them, grow them, draw faces and clips."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from emollm.errors import BadArgumentError
from emollm.show import sentence

if TYPE_CHECKING:
    from emollm.data.grow import Grown
    from emollm.data.readers import Problem

SHOWN = 20  # rows named on the screen; --problems writes all of them

app = typer.Typer(no_args_is_help=True, help="Training data: prepare, validate, explain, grow, synthesize.")

CardArgument = Annotated[str, typer.Argument(help="A card of the folder data, such as ravdess, or your own (YAML).")]
RootOption = Annotated[Path, typer.Option(help="The folder that holds the folders of data sets.")]
MediaOption = Annotated[
    bool, typer.Option("--media/--no-media", help="Open every clip, to see whether it can be read.")
]
ProblemsOption = Annotated[Path | None, typer.Option(help="Text file for everything that is wrong, one row a line.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what libraries print.")]


@app.command()
def prepare(
    card: CardArgument,
    root: RootOption,
    out: Annotated[Path, typer.Option(help="File to write, JSON lines.")],
    media: MediaOption = True,
    problems: ProblemsOption = None,
    debug: DebugOption = False,
) -> None:
    """Make training records of a data set: one JSON object a line, with labels, splits, licence and consent.

    Rows that cannot be used are named and left out. What was found about clips is kept, so that the same command goes
    on where it was broken off; the file appears only when it is whole.
    """
    from emollm.data.cards import load_data_card
    from emollm.data.prepare import prepare as make

    with _bar("Opening clips") as on_progress:
        prepared = make(load_data_card(card), root, out, media=media, on_progress=on_progress)
    lines = [f"{problem.id}: {problem.text}" for problem in prepared.problems]
    _name_problems(lines, "row is left out", "rows are left out", problems)
    if prepared.left_out:
        _say(f"{prepared.left_out} rows are left out as the card says.")
    _summary(prepared.records, out)


@app.command()
def validate(
    file: Annotated[str, typer.Argument(metavar="FILE|CARD", help="Training records (JSON lines), or a card.")],
    root: Annotated[Path | None, typer.Option(help="With a card: the folder that holds the data sets.")] = None,
    media: MediaOption = True,
    shared_people: Annotated[
        bool, typer.Option("--shared-people", help="People may be in several splits, as they are in MELD.")
    ] = False,
    problems: ProblemsOption = None,
    debug: DebugOption = False,
) -> None:
    """Name every bad row: missing or unreadable media, unknown labels, people in two splits, and so on.

    Exit code 1 if there is any.
    """
    if file.endswith(".jsonl"):
        from emollm.data.validate import validate_file

        with _bar("Opening clips") as on_progress:
            found = validate_file(Path(file), media=media, shared_people=shared_people, on_progress=on_progress)
        lines = [f"line {fault.line}: {f'{fault.id}: ' if fault.id else ''}{fault.text}" for fault in found.faults]
        rows, bad = found.records, len({fault.line for fault in found.faults})
    else:
        wrong, good = _validate_card(file, root, media)
        lines = [f"{problem.id}: {problem.text}" for problem in wrong]
        bad = len({problem.id for problem in wrong})
        rows = good + bad
    _name_problems(lines, "thing is wrong", "things are wrong", problems)
    _say(f"{rows - bad} of {rows} rows are good.")
    raise typer.Exit(1 if lines else 0)


def _validate_card(name: str, root: Path | None, media: bool) -> tuple[list[Problem], int]:
    """What is wrong with the rows of a data set, and how many are good."""
    import tempfile

    from emollm.data.cards import load_data_card
    from emollm.data.prepare import collect

    card = load_data_card(name)
    if root is None:
        raise BadArgumentError(f"To check the data of {card.title}, say where it is with --root.")
    with tempfile.TemporaryDirectory() as folder, _bar("Opening clips") as on_progress:
        prepared = collect(card, root, Path(folder) / "records.jsonl", media=media, on_progress=on_progress)
    return prepared.problems, len(prepared.records)


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Records of 'emollm data prepare'.")],
    out: Annotated[Path, typer.Option(help="File to write, JSON lines.")],
    model: Annotated[Path | None, typer.Option(help="Model whose towers measure the clips: a folder.")] = None,
    per_clip: Annotated[int, typer.Option(min=1, help="Dialogues about each clip.")] = 4,
    think_share: Annotated[float, typer.Option(min=0, max=1, help="Share that thinks before it answers.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Decides what is asked and how it is worded.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Where encoded clips are kept, if not in your cache.")] = None,
    problems: ProblemsOption = None,
    debug: DebugOption = False,
) -> None:
    """Look at and listen to every clip, and write varied dialogues about what is labelled and measured in it.

    Clips that were encoded before are not encoded again, so the same command goes on where it was broken off.
    """
    from emollm.data.clip_states import ClipEncoder
    from emollm.data.instruct import explain as tell
    from emollm.data.schema import read_file, write_file

    wrong: list[Problem] = []
    records, encoder = read_file(file), ClipEncoder(model, cache)
    how: dict = {"per_clip": per_clip, "think_share": think_share, "seed": seed}
    with _bar("Perceiving clips") as on_progress:
        made = list(tell(records, file.parent, out, encoder, wrong, **how, on_progress=on_progress))
    lines = [f"{problem.id}: {problem.text}" for problem in wrong]
    _name_problems(lines, "clip is left out", "clips are left out", problems)
    if not made:
        raise BadArgumentError(f"Nothing can be said of any clip in {file}.")
    write_file(out, made)
    _summary(made, out)


@app.command()
def grow(
    recipe: Annotated[Path, typer.Argument(help="A name such as tiny/grow, or the path of a YAML file.")],
    changes: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides.")] = None,
    problems: ProblemsOption = None,
    debug: DebugOption = False,
) -> None:
    """Let a trained model explain clips, labelled or not, and keep what holds against labels and measurement.

    The same command goes on where it was broken off.
    """
    for change in changes or []:
        if "=" not in change:
            raise BadArgumentError(f"'{change}' is not of the form key=value.")
    from emollm.data.cards import find_card
    from emollm.data.grow import grow as write
    from emollm.data.grow_recipe import GrowRecipe
    from emollm.train.recipe import load_recipe

    settings = load_recipe(GrowRecipe, find_card("train", recipe), changes)
    with _bar("Writing explanations") as on_progress:
        grown = write(settings, on_progress=on_progress)
    lines = [f"{problem.id}: {problem.text}" for problem in grown.problems]
    _name_problems(lines, "clip is left out", "clips are left out", problems)
    _rejections(grown)
    if not grown.records:
        raise BadArgumentError(f"No explanation passed; {settings.output}/rejected.jsonl says why.")
    _summary([*grown.joined, *grown.records], settings.output / "records.jsonl")


@app.command()
def synthesize(
    recipe: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Such as train/tiny/renders.yaml.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    head: Annotated[Path | None, typer.Option(help="The blendshape head, if the recipe names none.")] = None,
    debug: DebugOption = False,
) -> None:
    """Render faces with exact Action Unit intensities."""
    from emollm.data.synthesize import load_recipe
    from emollm.data.synthesize import synthesize as render

    render(load_recipe(recipe), out, head)


def _say(text: str, style: str = "") -> None:
    sentence(Console(file=sys.stderr), text, style)


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
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


def _name_problems(lines: list[str], one: str, many: str, file: Path | None) -> None:
    """Name what is wrong: all of it in ``file``, else the first on the screen."""
    if file is not None:
        try:
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        except OSError as error:
            raise BadArgumentError(f"The file {file} cannot be written ({error.strerror}).") from error
    for line in lines[:SHOWN]:
        _say(line, "yellow")
    if len(lines) > SHOWN:
        _say(f"... and {len(lines) - SHOWN} more{'' if file else '; --problems FILE names all'}.", "yellow")
    if lines:
        _say(f"{len(lines)} {one if len(lines) == 1 else many}.", "yellow")


def _rejections(grown: Grown) -> None:
    """How many candidates passed, and how many were rejected for which reason."""
    from rich.table import Table

    table = Table(title=f"{len(grown.records)} of {grown.clips} clips explained")
    table.add_column("of the candidates")
    table.add_column("", justify="right")
    table.add_column("share", justify="right")
    passing = grown.candidates - sum(grown.rejected.values())
    for reason, count in (("pass", passing), *grown.rejected.most_common()):
        table.add_row(reason, str(count), f"{count / max(grown.candidates, 1):.1%}")
    Console(file=sys.stdout).print(table)


def _summary(records: list, out: Path) -> None:
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
