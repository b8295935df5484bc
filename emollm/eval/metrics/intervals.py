"""How sure a score is: bootstrap intervals, and tests between two runs on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from emollm.eval.metrics.base import FloatArray, IntArray, NothingToScoreError

# A metric of the samples with these numbers, in which one may occur several times:
# ``lambda rows: uar(truth[rows], predicted[rows])``, with truth and predicted from ``metrics.label_codes``.
Metric = Callable[[IntArray], float]


@dataclass(frozen=True)
class Interval:
    """A value with its interval.

    Attributes:
        units: what was drawn from, samples or clusters. From few (one has an interval without width) it says little.
    """

    value: float
    low: float
    high: float
    units: int


@dataclass(frozen=True)
class Difference(Interval):
    """A value of run A minus that of run B, and ``p``, two-sided, of there being no difference."""

    p: float


@dataclass(frozen=True)
class McNemar:
    """``only_a`` samples only run A had right, ``only_b`` only run B, and the exact two-sided ``p``."""

    only_a: int
    only_b: int
    p: float


def bootstrap(
    metric: Metric,
    samples: int,
    seed: int = 0,
    repeats: int = 1000,
    level: float = 0.95,
    clusters: Sequence[Hashable] | None = None,
) -> Interval:
    """Percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Args:
        metric: takes row numbers, gives the value.
        samples: number of samples.
        repeats: resamples, each as large as the data. One on which the metric is not defined is left out.
        clusters: whose sample it is (speaker, video): whole clusters are drawn, as samples of one are alike and
            drawing them one by one makes the interval too narrow.

    Raises:
        NothingToScoreError: the metric is not defined on the data.
    """
    value = metric(np.arange(samples))
    drawn = np.array(list(_defined(metric, _resamples(samples, seed, repeats, clusters))))
    low, high = _percentiles(drawn, level)
    return Interval(value, low, high, _units(samples, clusters))


def paired_bootstrap(
    a: Metric,
    b: Metric,
    samples: int,
    seed: int = 0,
    repeats: int = 1000,
    level: float = 0.95,
    clusters: Sequence[Hashable] | None = None,
) -> Difference:
    """The difference of two runs in any metric, each resample drawn for both (arguments as :func:`bootstrap`).

    ``p`` is twice the smaller share of resamples on either side of 0, with one added above and below the line
    (Davison & Hinkley 1997, section 4.2), so it is never 0.
    """

    def metric(rows: IntArray) -> float:
        return a(rows) - b(rows)

    value = metric(np.arange(samples))
    drawn = np.array(list(_defined(metric, _resamples(samples, seed, repeats, clusters))))
    low, high = _percentiles(drawn, level)
    return Difference(value, low, high, _units(samples, clusters), _p(drawn))


def seeds_bootstrap(
    a: Sequence[Metric],
    b: Sequence[Metric],
    samples: int,
    seed: int = 0,
    repeats: int = 1000,
    level: float = 0.95,
    clusters: Sequence[Hashable] | None = None,
) -> Difference:
    """The difference of two recipes that were each run with several seeds: mean of ``a`` minus mean of ``b``.

    Each resample draws samples, the same for all runs, and then runs of either side with replacement; with as many
    runs on both, the same numbers of both (runs of one seed stand at one place). So the interval is over samples and
    seeds. Few seeds make it too narrow: of S, the bootstrap sees only (S - 1) / S of their variance.
    Other arguments, and ``p``, as for :func:`paired_bootstrap`.
    """
    runs = np.random.default_rng([seed, len(a), len(b)])

    def mean(metrics: Sequence[Metric], drawn: IntArray, rows: IntArray) -> float:
        return float(np.mean([metrics[number](rows) for number in drawn]))

    def drawn(rows: IntArray) -> float:
        ours = runs.integers(len(a), size=len(a))
        theirs = ours if len(a) == len(b) else runs.integers(len(b), size=len(b))
        return mean(a, ours, rows) - mean(b, theirs, rows)

    every = np.arange(samples)
    value = mean(a, np.arange(len(a)), every) - mean(b, np.arange(len(b)), every)
    found = np.array(list(_defined(drawn, _resamples(samples, seed, repeats, clusters))))
    return Difference(value, *_percentiles(found, level), _units(samples, clusters), _p(found))


def mcnemar(right_a: ArrayLike, right_b: ArrayLike) -> McNemar:
    """McNemar's exact test of two runs' right and wrong answers to the same samples (McNemar 1947).

    Only samples that one run had right and the other wrong count; without a difference they fall either way as a
    coin does. p is 1 where there are none. It takes samples as independent: for clusters see paired_bootstrap.
    """
    from scipy.stats import binomtest

    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if a.shape != b.shape:
        raise ValueError("the two runs differ in length")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def wilson(count: int, samples: int, level: float = 0.95) -> Interval:
    """Score interval of a share ``count / samples`` (Wilson 1927); sound for few samples and for shares of 0 and 1."""
    from scipy.stats import binomtest

    if not samples:
        raise NothingToScoreError("there are no samples to take a share of")
    ends = binomtest(count, samples).proportion_ci(level, "wilson")
    return Interval(count / samples, float(ends.low), float(ends.high), samples)


def _resamples(samples: int, seed: int, repeats: int, clusters: Sequence[Hashable] | None) -> Iterator[IntArray]:
    generator = np.random.default_rng(seed)
    if clusters is None:
        for _ in range(repeats):
            yield generator.integers(samples, size=samples)
        return
    if len(clusters) != samples:
        raise ValueError("there must be one cluster a sample")
    members: dict[Hashable, list[int]] = {}
    for row, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(row)
    rows = [np.array(group) for group in members.values()]
    for _ in range(repeats):
        yield np.concatenate([rows[drawn] for drawn in generator.integers(len(rows), size=len(rows))])


def _defined(metric: Metric, resamples: Iterator[IntArray]) -> Iterator[float]:
    for rows in resamples:
        try:
            yield metric(rows)
        except NothingToScoreError:
            continue


def _percentiles(drawn: FloatArray, level: float) -> tuple[float, float]:
    if not len(drawn):
        raise NothingToScoreError("the metric is not defined on any resample")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _p(drawn: FloatArray) -> float:
    smaller = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return min(1.0, 2 * (smaller + 1) / (len(drawn) + 1))


def _units(samples: int, clusters: Sequence[Hashable] | None) -> int:
    return samples if clusters is None else len(set(clusters))
