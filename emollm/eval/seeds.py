"""Several runs of one recipe, trained with different seeds, as one: means with intervals over samples and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emollm.errors import BadArgumentError
from emollm.eval.answers import answers
from emollm.eval.compare import asked, in_order
from emollm.eval.measure import REPEATS, SEED, Measure, Score, speaking
from emollm.eval.measures import measures
from emollm.eval.metrics.base import IntArray, NothingToScoreError
from emollm.eval.metrics.intervals import Metric, seeds_bootstrap
from emollm.eval.record import read_run


class SeedScore(Score):
    """One metric's mean over the seeds, with its interval over samples and seeds.

    Attributes:
        seeds: number of runs.
        difference: from the runs that these are held against, paired by sample, with its interval and two-sided ``p``.
    """

    seeds: int
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None


def seed_scores(
    runs: Sequence[Path],
    against: Sequence[Path] = (),
    names: Sequence[str] | None = None,
    repeats: int = REPEATS,
    seed: int = SEED,
) -> list[SeedScore]:
    """Scores of run folders, one a seed, on the samples that all of them (and of ``against``) answered.

    Args:
        against: run folders to hold them against; as many as ``runs`` stand for the same seeds in the same order.
        names: of the metrics wanted, where the benchmark has them; None takes all.

    Raises:
        BadArgumentError: a folder holds no finished run, or the runs are not of the same benchmark and samples.
    """
    every = [read_run(folder) for folder in (*runs, *against)]
    first = every[0].result
    if any(run.result.benchmark != first.benchmark or asked(run) != asked(every[0]) for run in every):
        raise BadArgumentError(f"The runs {runs[0]} and {[*runs, *against][-1]} are not of the same samples.")
    given = [answers(first.card, in_order(run), run.lines) for run in every]
    both = np.all([each.counted for each in given], axis=0)
    known = [
        {m.name: m.among(both) for m in measures(first.card, each, au_present=first.au_present)} for each in given
    ]
    wanted = [name for name in known[0] if (names is None or name in names) and all(name in each for each in known)]
    by_name = {name: [each[name] for each in known] for name in wanted}
    return [_score(found, len(runs), given[0].speakers, repeats, seed) for found in by_name.values()]


def _score(found: Sequence[Measure], ours: int, speakers: NDArray[Any] | None, repeats: int, seed: int) -> SeedScore:
    """found: of the runs, the first ``ours`` of them, and of those that they are held against."""
    rows: IntArray = reduce(np.intersect1d, (measure.rows for measure in found))
    clusters = speaking(speakers, rows)
    score = SeedScore(name=found[0].name, value=None, n=len(rows), better=found[0].better, seeds=ours)

    def metric(measure: Measure) -> Metric:
        return lambda drawn: measure.value(rows[drawn])

    a, b = [metric(measure) for measure in found[:ours]], [metric(measure) for measure in found[ours:]]
    nothing: list[Metric] = [lambda drawn: 0.0] * ours
    try:
        own = seeds_bootstrap(a, nothing, len(rows), seed, repeats, clusters=clusters)
        score.value = own.value
        score.low, score.high = (own.low, own.high) if own.units > 1 else (None, None)
        if b:
            held = seeds_bootstrap(a, b, len(rows), seed, repeats, clusters=clusters)
            score.difference = held.value
            if held.units > 1:
                score.difference_low, score.difference_high, score.p = held.low, held.high, held.p
    except NothingToScoreError:
        pass
    return score
