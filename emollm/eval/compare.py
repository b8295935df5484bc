"""Two runs on the same samples, side by side: is the difference more than chance?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from emollm.errors import BadArgumentError
from emollm.eval.answers import Answers, answers
from emollm.eval.measure import REPEATS, SEED, Better, Measure, speaking
from emollm.eval.measures import measures
from emollm.eval.metrics.base import NothingToScoreError
from emollm.eval.metrics.intervals import mcnemar, paired_bootstrap
from emollm.eval.record import Run, read_run
from emollm.eval.schema import Sample


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Difference(_Part):
    """One metric of both runs on the samples that both answered.

    Attributes:
        difference: b minus a, with its 95 % interval from paired bootstrap draws (the same samples of both).
        p: two-sided, from the same draws: how often the difference lies on the other side of zero, twice.
    """

    name: str
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int
    better: Better


class Flip(_Part):
    """A sample that one run has right and the other wrong. Labels are None where there is no answer."""

    id: str
    truth: str
    a: str | None
    b: str | None
    gained: bool


class Comparison(_Part):
    """Run ``b`` held against run ``a``.

    Attributes:
        gained, lost: samples that only b, or only a, has right.
        mcnemar_p: exact test of gained against lost; None where there are no labels.
    """

    benchmark: str
    a: str
    b: str
    n: int
    differences: list[Difference]
    gained: int
    lost: int
    mcnemar_p: float | None
    flips: list[Flip]


def compare(a: Path, b: Path, repeats: int = REPEATS, seed: int = SEED) -> Comparison:
    """Compare two run folders.

    Raises:
        BadArgumentError: a folder holds no finished run, or the runs are not of the same benchmark and samples.
    """
    first, second = read_run(a), read_run(b)
    if first.result.benchmark != second.result.benchmark or asked(first) != asked(second):
        raise BadArgumentError(f"The runs {a} and {b} cannot be compared: they are not of the same samples.")
    card = first.result.card
    of_a, of_b = (answers(card, in_order(run), run.lines) for run in (first, second))
    both = of_a.counted & of_b.counted
    flips = [_flip(of_a, of_b, row) for row in np.flatnonzero(both & (of_a.right != of_b.right)).tolist()]
    labelled = both & (of_a.truth >= 0)
    test = mcnemar(of_a.right[labelled], of_b.right[labelled])
    return Comparison(
        benchmark=first.result.benchmark,
        a=first.result.model,
        b=second.result.model,
        n=int(both.sum()),
        differences=_of_probe(first, second) if card.probe else _differences(first, of_a, of_b, both, repeats, seed),
        gained=test.only_b,
        lost=test.only_a,
        mcnemar_p=test.p if labelled.any() else None,
        flips=flips,
    )


def asked(run: Run) -> dict[str, object]:
    """What a run was asked: runs are compared only where this is equal."""
    return {sample.id: (sample.truth, sample.question, sample.variant) for sample in run.samples}


def in_order(run: Run) -> list[Sample]:
    """A run's samples in the order that all runs on them share."""
    return sorted(run.samples, key=lambda sample: sample.id)


def _of_probe(a: Run, b: Run) -> list[Difference]:
    """A probe's figures are made of pairs of samples, which draws of single samples would tear apart: no p here."""
    theirs = {score.name: score for score in b.result.scores.scores}
    return [
        Difference(
            name=ours.name,
            a=ours.value,
            b=(other := theirs[ours.name]).value,
            difference=None if ours.value is None or other.value is None else other.value - ours.value,
            n=min(ours.n, other.n),
            better=ours.better,
        )
        for ours in a.result.scores.scores
        if ours.name in theirs
    ]


def _differences(
    first: Run, of_a: Answers, of_b: Answers, both: NDArray[np.bool_], repeats: int, seed: int
) -> list[Difference]:
    ours, theirs = (
        {m.name: m for m in measures(first.result.card, given, au_present=first.result.au_present)}
        for given in (of_a, of_b)
    )
    return [
        _difference(ours[name], theirs[name], both, of_a.speakers, repeats, seed) for name in ours if name in theirs
    ]


def _difference(
    a: Measure, b: Measure, both: NDArray[np.bool_], speakers: NDArray[Any] | None, repeats: int, seed: int
) -> Difference:
    rows = np.intersect1d(a.among(both).rows, b.among(both).rows)
    found = Difference(name=a.name, n=len(rows), better=a.better)
    try:
        found.a, found.b = a.value(rows), b.value(rows)
        clusters = speaking(speakers, rows)
        drawn = paired_bootstrap(
            lambda at: b.value(rows[at]), lambda at: a.value(rows[at]), len(rows), seed, repeats, clusters=clusters
        )
    except NothingToScoreError:
        return found
    found.difference = drawn.value
    if drawn.units > 1:
        found.low, found.high, found.p = drawn.low, drawn.high, drawn.p
    return found


def _flip(a: Answers, b: Answers, row: int) -> Flip:
    def label(given: Answers) -> str | None:
        return given.labels[given.answer[row]] if given.answer[row] < len(given.labels) else None

    return Flip(
        id=a.samples[row].id,
        truth=a.labels[a.truth[row]],
        a=label(a),
        b=label(b),
        gained=bool(b.right[row]),
    )
