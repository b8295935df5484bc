"""``emollm data grow``: a command of its family in :mod:`emollm.data.command`, but it runs a whole model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from emollm.data.command import DebugOption, ProblemsOption
from emollm.data.screen import bar, name_problems, summary
from emollm.errors import BadArgumentError

if TYPE_CHECKING:
    from emollm.train.grow import Grown


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
    from emollm.train.grow import grow as write
    from emollm.train.grow_recipe import GrowRecipe
    from emollm.train.recipe import load_recipe

    settings = load_recipe(GrowRecipe, find_card("train", recipe), changes)
    with bar("Writing explanations") as on_progress:
        grown = write(settings, on_progress=on_progress)
    lines = [f"{problem.id}: {problem.text}" for problem in grown.problems]
    name_problems(lines, "clip is left out", "clips are left out", problems)
    _rejections(grown)
    if not grown.records:
        raise BadArgumentError(f"No explanation passed; {settings.output}/rejected.jsonl says why.")
    summary([*grown.joined, *grown.records], settings.output / "records.jsonl")


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
