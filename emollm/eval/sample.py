"""A quick look at the default model: how many of N held-out faces and N held-out voices the full answer gets right.

``python -m emollm.eval.sample --ferplus FILE --emodb FOLDER``: the pictures and recordings are picked by seed, written
to files, and go the whole way that a user's clip goes. The label must be exactly right; a reply that cannot be read is
wrong.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from emollm.api import EmoLLM
from emollm.data.voices import EMODB_LETTERS, TEST_SPEAKERS
from emollm.emotions import EXPRESSIONS
from emollm.report import EmotionReport


def pick_faces(parquet: Path, count: int, seed: int, folder: Path) -> Iterator[tuple[Path, str]]:
    """Validation faces of FER+ as picture files, with the label that most raters gave."""
    import pandas as pd

    frame = pd.read_parquet(parquet)
    frame = frame[frame["split"] == "valid"]
    majority = np.stack(frame["votes"].to_numpy()).argmax(-1)
    rows = np.flatnonzero(majority < len(EXPRESSIONS))
    for row in np.random.default_rng(seed).choice(rows, count, replace=False):
        path = folder / f"face-{row}.png"
        Image.open(io.BytesIO(frame["image"].iloc[row])).save(path)
        yield path, EXPRESSIONS[majority[row]]


def pick_voices(emodb: Path, count: int, seed: int) -> Iterator[tuple[Path, str]]:
    """EmoDB recordings of the two speakers who took no part in training or selection."""
    files = [f for f in sorted((emodb / "wav").glob("*.wav")) if f.stem[:2] in TEST_SPEAKERS]
    for index in np.random.default_rng(seed).choice(len(files), count, replace=False):
        yield files[index], EMODB_LETTERS[files[index].stem[5]]


def main(
    ferplus: Annotated[Path | None, typer.Option(help="FER+ parquet")] = None,
    emodb: Annotated[Path | None, typer.Option(help="EmoDB folder")] = None,
    count: Annotated[int, typer.Option(help="how many of each")] = 20,
    seed: int = 0,
    think: bool = True,
    model: Annotated[Path | None, typer.Option(help="a checkpoint instead of the default model")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Score the full answer on held-out faces and voices."""
    loaded = EmoLLM.from_pretrained(model)
    console = Console(stderr=as_json)
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sets = {}
        if ferplus:
            sets["FER+ valid faces"] = list(pick_faces(ferplus, count, seed, Path(folder)))
        if emodb:
            sets[f"EmoDB speakers {' and '.join(TEST_SPEAKERS)}"] = list(pick_voices(emodb, count, seed))
        for name, items in sets.items():
            reports = [
                (loaded.analyze(path, face_crop=path.suffix == ".png", transcript="none", think=think), truth)
                for path, truth in track(items, description=name, console=console)
            ]
            result[name] = score(reports)
    table = Table("", *next(iter(result.values())))
    for name, figures in result.items():
        table.add_row(name, *(f"{value:g}" for value in figures.values()))
    console.print(table)
    if as_json:
        print(json.dumps(result))


def score(reports: list[tuple[EmotionReport, str]]) -> dict[str, float]:
    """Right answers, unreadable replies, and what became of the AU claims."""
    people = [(report.people[0], truth) for report, truth in reports]
    claimed = sum(len(person.verification.claimed) for person, _ in people)
    supported = sum(len(person.verification.supported) for person, _ in people)
    return {
        "clips": len(people),
        "right": sum(person.emotion.label == truth for person, truth in people),
        "unreadable": sum(person.emotion.label is None for person, _ in people),
        "AUs claimed": claimed,
        "AUs supported": supported,
    }


if __name__ == "__main__":
    typer.run(main)
