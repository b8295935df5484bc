"""A run's folder read back: ``result.json`` with everything needed to judge and repeat it, samples and lines.

Beside the runner's ``samples.jsonl`` (what was replied) lies ``asked.jsonl`` (what was asked, with the labels), so
that a folder can be scored again, compared and looked at without the data set's card.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emollm.errors import BadArgumentError
from emollm.eval.cards import BenchmarkCard
from emollm.eval.schema import Line, Sample
from emollm.eval.score import Scores

RESULT, ASKED, REPLIED = "result.json", "asked.jsonl", "samples.jsonl"


class Result(BaseModel):
    """One run of one benchmark by one model.

    Attributes:
        card: the benchmark's card as it was.
        describe: what the predictor says of itself: checkpoint digest, versions, settings.
        settings: what was asked for on the command line.
        commit: of the code that scored, None outside a checkout; ``dirty`` if files differed from it.
        reply_commits: of the code that made the replies, in short, ``+`` where files differed from it.
        label_origin: who labelled the data: human, exact (by the way of making) or pseudo (another model).
        au_present: smallest AU intensity that counted as present.
        calibrated_on: of which benchmark and split the run was that the confidence temperature was fitted on.
        failures: id -> reason of each clip that failed.
        problems: rows of the data set that could not be used, one sentence each.
        seconds: wall time, or the sum of the samples' times where the run was resumed.
    """

    model_config = ConfigDict(extra="forbid")

    benchmark: str
    model: str
    engine: str
    card: BenchmarkCard
    describe: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    command: str
    commit: str | None = None
    dirty: bool = False
    reply_commits: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    hardware: dict[str, str] = Field(default_factory=dict)
    seed: int = 0
    date: str
    split: str | None = None
    n: int
    label_origin: list[str]
    au_present: float = 1.0
    calibrated_on: str | None = None
    scores: Scores
    failures: dict[str, str] = Field(default_factory=dict)
    problems: list[str] = Field(default_factory=list)
    seconds: float = 0.0
    samples_per_second: float | None = None


@dataclass(frozen=True)
class Run:
    """A finished run's folder, read back."""

    result: Result
    samples: list[Sample]
    lines: list[Line]


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        BadArgumentError: it holds no finished run.
    """
    try:
        result = Result.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
        asked = _json_lines(folder / ASKED)
        replied = _json_lines(folder / REPLIED)
        samples = [Sample.model_validate_json(line) for line in asked]
        ids = {sample.id for sample in samples}
        lines = {line.id: line for line in map(Line.model_validate_json, replied) if line.id in ids}
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise BadArgumentError(f"{folder} holds no finished run.") from error
    if ids != set(lines):
        raise BadArgumentError(f"{folder} holds no finished run.")
    return Run(result, samples, list(lines.values()))


def _json_lines(path: Path) -> list[str]:
    """Lines by line feeds only: a reply may hold other characters that ``splitlines`` takes for the end of a line."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
