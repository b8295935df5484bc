"""``emollm data``: make training records of a data set, check them, explain them, draw faces and clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Training data: prepare, validate, explain, synthesize.")

DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and what libraries print.")]


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
