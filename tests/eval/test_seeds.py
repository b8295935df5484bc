"""Runs of several seeds as one."""

import numpy as np
import pytest
from replies import card, lines, sample, says

from emollm.errors import BadArgumentError
from emollm.eval.compare import compare
from emollm.eval.metrics.intervals import bootstrap, paired_bootstrap, seeds_bootstrap
from emollm.eval.results import write_results
from emollm.eval.seeds import seed_scores

TRUTHS = ["happiness", "sadness", "anger", "neutral"] * 10
RIGHT = (np.arange(40) % 4 == 0).astype(float), (np.arange(40) % 2 == 0).astype(float), np.ones(40)


def share(right):
    return lambda rows: float(right[rows].mean())


def test_of_one_seed_it_is_the_paired_bootstrap():
    few, some, _ = map(share, RIGHT)
    assert seeds_bootstrap([some], [few], 40) == paired_bootstrap(some, few, 40)


def test_of_equal_seeds_it_is_no_wider_and_of_differing_ones_it_is():
    few, some, all_ = map(share, RIGHT)
    alone = bootstrap(some, 40)
    same = seeds_bootstrap([some] * 3, [lambda rows: 0.0] * 3, 40)
    assert (same.value, same.low, same.high) == pytest.approx((alone.value, alone.low, alone.high))
    unlike = seeds_bootstrap([few, some, all_], [lambda rows: 0.0] * 3, 40)
    assert unlike.value == pytest.approx((0.25 + 0.5 + 1) / 3)
    assert unlike.high - unlike.low > 1.3 * (same.high - same.low)


def test_runs_of_one_seed_are_drawn_together():
    few, some, all_ = map(share, RIGHT)
    found = seeds_bootstrap([few, some, all_], [few, some, all_], 40)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    apart = seeds_bootstrap([few, some, all_], [few, some], 40)
    assert apart.low < 0 < apart.high


def finish(out, right, bench=None):
    """A run that has every sample right whose number ``right`` says yes to."""
    bench = bench or card()
    samples = [sample(f"s{at:02}", truth) for at, truth in enumerate(TRUTHS)]
    replies = [says(truth) if right(at) else says("contempt") for at, truth in enumerate(TRUTHS)]
    write_results(out, bench, samples, lines(bench, samples, replies, out), {}, [], model=out.name)
    return out


def test_scores_are_means_and_differences_are_paired(tmp_path):
    start = finish(tmp_path / "start", lambda at: at % 4 == 0)
    tuned = [finish(tmp_path / f"tuned{seed}", lambda at, seed=seed: at % 4 == 0 or at < seed) for seed in (10, 20)]
    war, uar = seed_scores(tuned, [start], names=["uar", "war"])
    assert (war.name, uar.name, war.n, war.seeds) == ("war", "uar", 40, 2)
    assert war.value == pytest.approx(((10 + 7) / 40 + (10 + 15) / 40) / 2)
    assert war.difference == pytest.approx(war.value - 0.25)
    assert war.low < war.value < war.high
    assert 0 < war.difference_low < war.difference < war.difference_high
    assert war.p < 0.05
    alone = seed_scores(tuned, names=["war"])[0]
    assert (alone.value, alone.difference, alone.p) == (war.value, None, None)


def test_of_one_seed_they_are_those_of_the_comparison(tmp_path):
    a, b = finish(tmp_path / "a", lambda at: at % 4 == 0), finish(tmp_path / "b", lambda at: at % 3)
    pairs = {one.name: one for one in compare(a, b).differences}
    for score in seed_scores([b], [a]):
        pair = pairs[score.name]
        held = (score.difference, score.difference_low, score.difference_high, score.p)
        assert held == pytest.approx((pair.difference, pair.low, pair.high, pair.p)), score.name


def test_runs_on_other_samples_are_refused(tmp_path):
    a = finish(tmp_path / "a", lambda at: True)
    b = finish(tmp_path / "b", lambda at: True, card(name="other"))
    with pytest.raises(BadArgumentError, match="not of the same samples"):
        seed_scores([a], [b])
