"""The committed results of the default model, with and without a thought side by side."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from emollm.errors import BadArgumentError
from emollm.eval.measure import Score
from emollm.eval.record import Result

MODEL = "emollm-tiny"


class Row(NamedTuple):
    """A figure of one benchmark; None where it was not measured."""

    name: str
    think: Score | None
    no_think: Score | None

    @property
    def n(self) -> str:
        return ", ".join(dict.fromkeys(str(score.n) for score in self[1:] if score is not None))


class Measured(NamedTuple):
    """One benchmark with and without a thought."""

    name: str
    think: Result | None
    no_think: Result | None

    @property
    def title(self) -> str:
        return next((run.card.title for run in (self.think, self.no_think) if run is not None), self.name)

    @property
    def rows(self) -> list[Row]:
        """Every figure that has a value in one of the two."""
        return _rows(*(_named([] if run is None else run.scores.scores) for run in (self.think, self.no_think)))

    @property
    def per_class(self) -> dict[str, list[Row]]:
        """Recall of each class, F1 of each AU."""
        runs = [{} if run is None else run.scores.per_class for run in (self.think, self.no_think)]
        kinds = dict.fromkeys(kind for run in runs for kind in run)
        return {kind: _rows(*(_named(run.get(kind, [])) for run in runs)) for kind in kinds}

    @property
    def per_group(self) -> dict[tuple[str, str], list[Row]]:
        """(field, metric) -> each group, then the gap between them."""
        runs = [
            {
                (part.field, part.metric): part.groups | {"gap": part.gap}
                for part in (run.scores.subgroups if run is not None else [])
            }
            for run in (self.think, self.no_think)
        ]
        kinds = dict.fromkeys(kind for run in runs for kind in run)
        return {kind: _rows(*(run.get(kind, {}) for run in runs)) for kind in kinds}

    def score(self, name: str, think: bool = True) -> Score | None:
        """A figure; None where it was not measured."""
        run = self.think if think else self.no_think
        found = {score.name: score for score in run.scores.scores} if run is not None else {}
        return score if (score := found.get(name)) is not None and score.value is not None else None


def _named(scores: list[Score]) -> dict[str, Score]:
    return {score.name: score for score in scores}


def _rows(think: dict[str, Score], no_think: dict[str, Score]) -> list[Row]:
    rows = [Row(name, think.get(name), no_think.get(name)) for name in dict.fromkeys([*think, *no_think])]
    return [row for row in rows if any(score is not None and score.value is not None for score in row[1:])]


def read_results(folder: Path) -> list[Result]:
    """The committed results of the default model on the benchmarks' own splits.

    Raises:
        BadArgumentError: a file is no result.
    """
    found = []
    for file in sorted(folder.glob(f"*--{MODEL}*.json")):
        try:
            result = Result.model_validate_json(file.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise BadArgumentError(f"{file} is no result of an evaluation.") from error
        if result.model == MODEL and result.split == result.card.split:
            found.append(result)
    return found
