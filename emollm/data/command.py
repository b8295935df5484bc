"""``emollm data``: make training records of a data set, check them, explain them, draw faces and clips.

``emollm data grow``, which runs a whole model, is in :mod:`emollm.train.grow_command`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emollm.data.screen import bar, name_problems, say, summary
from emollm.errors import BadArgumentError

if TYPE_CHECKING:
    from emollm.data.readers import Problem

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

    with bar("Opening clips") as on_progress:
        prepared = make(load_data_card(card), root, out, media=media, on_progress=on_progress)
    lines = [f"{problem.id}: {problem.text}" for problem in prepared.problems]
    name_problems(lines, "row is left out", "rows are left out", problems)
    if prepared.left_out:
        say(f"{prepared.left_out} rows are left out as the card says.")
    summary(prepared.records, out)


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

        with bar("Opening clips") as on_progress:
            found = validate_file(Path(file), media=media, shared_people=shared_people, on_progress=on_progress)
        lines = [f"line {fault.line}: {f'{fault.id}: ' if fault.id else ''}{fault.text}" for fault in found.faults]
        rows, bad = found.records, len({fault.line for fault in found.faults})
    else:
        wrong, good = _validate_card(file, root, media)
        lines = [f"{problem.id}: {problem.text}" for problem in wrong]
        bad = len({problem.id for problem in wrong})
        rows = good + bad
    name_problems(lines, "thing is wrong", "things are wrong", problems)
    say(f"{rows - bad} of {rows} rows are good.")
    raise typer.Exit(1 if lines else 0)


def _validate_card(name: str, root: Path | None, media: bool) -> tuple[list[Problem], int]:
    """What is wrong with the rows of a data set, and how many are good."""
    import tempfile

    from emollm.data.cards import load_data_card
    from emollm.data.prepare import collect

    card = load_data_card(name)
    if root is None:
        raise BadArgumentError(f"To check the data of {card.title}, say where it is with --root.")
    with tempfile.TemporaryDirectory() as folder, bar("Opening clips") as on_progress:
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
    with bar("Perceiving clips") as on_progress:
        made = list(tell(records, file.parent, out, encoder, wrong, **how, on_progress=on_progress))
    lines = [f"{problem.id}: {problem.text}" for problem in wrong]
    name_problems(lines, "clip is left out", "clips are left out", problems)
    if not made:
        raise BadArgumentError(f"Nothing can be said of any clip in {file}.")
    write_file(out, made)
    summary(made, out)


@app.command()
def synthesize(
    recipe: Annotated[str, typer.Argument(help="A name such as tiny/renders, or the path of a YAML file.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    head: Annotated[Path | None, typer.Option(help="The blendshape head, if the recipe names none.")] = None,
    debug: DebugOption = False,
) -> None:
    """Render faces with exact Action Unit intensities."""
    from emollm.data.cards import find_card
    from emollm.data.synthesize import load_recipe
    from emollm.data.synthesize import synthesize as render

    render(load_recipe(find_card("train", recipe)), out, head)
