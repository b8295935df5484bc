"""Every metric that a benchmark card may name, as a function of samples.

A reply that cannot be read, a label outside the answer space and a clip that failed are wrong in every metric: they
name no label and no Action Unit, and stand for the wrong end of a scale of numbers. Only ``skipped`` samples, which a
predictor cannot answer by its nature (a face model and a recording of a voice), are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from emollm.errors import BadArgumentError
from emollm.eval.answers import Answers
from emollm.eval.cards import BenchmarkCard
from emollm.eval.measure import Measure, mean_measure, ratio_measure
from emollm.eval.metrics import calibration, labels, numbers, units
from emollm.eval.metrics.base import FloatArray, IntArray, NothingToScoreError
from emollm.eval.wording import WORDING_METRICS, wording_measures
from emollm.facs import MAX_INTENSITY
from emollm.reasoning.fit import fitting, interpreted, omitted
from emollm.reasoning.parse import parse_answer

if TYPE_CHECKING:
    from pandas import DataFrame

    from emollm.eval.metrics.judge import Judge
    from emollm.eval.metrics.wheels import Wheels

LABEL_METRICS: dict[str, Callable[[IntArray, IntArray], float]] = {
    "war": labels.war,
    "uar": labels.uar,
    "weighted_f1": labels.weighted_f1,
    "macro_f1": labels.macro_f1,
}
AU_METRICS = ("au_f1_macro", "au_f1_micro", "icc", "mse")
MER2023_SCALE = 5.0  # its valence runs from -5 to 5, ours from -1 to 1
NUMBER_METRICS = ("ccc_valence", "ccc_arousal", "mer2023")
CONFIDENCE_METRICS = ("ece", "brier", "aurc")
SUPPORT_METRICS = ("support_precision", "support_recall", "interpretation_fit", "interpretation_recall")
RATES = ("parse_failures", "failed", "outside")


def measures(
    card: BenchmarkCard,
    given: Answers,
    *,
    au_present: float = 1.0,
    judges: Sequence[Judge] = (),
    wheels: Wheels | None = None,
) -> list[Measure]:
    """The card's metrics in its order, then what the towers score on their own, then confidence, support and rates.

    Args:
        au_present: smallest intensity that counts as present, of truth and answer.
        judges: asked for the metric ``judge``, which is left out without them.
        wheels: the published emotion wheels, to give hit rate and EW on these too.

    Raises:
        BadArgumentError: the card names a metric that there is none of.
    """
    known: dict[str, list[Measure]] = {}
    for name in WORDING_METRICS:
        if name in card.metrics:  # reading the words of every answer takes its time
            known[name] = wording_measures(name, given, judges, wheels)
    for name in (*LABEL_METRICS, *NUMBER_METRICS, "sentiment_waf"):
        known[name] = _on_labels(name, given)
    for name in AU_METRICS:
        known[name] = [_on_aus(name, given, au_present, tower=False)]
    for name in CONFIDENCE_METRICS:
        known[name] = [_on_confidence(name, given)]
    for measure in (*_support(given), *_rates(card, given)):
        known[measure.name] = [measure]
    if unknown := [name for name in card.metrics if name not in known]:
        raise BadArgumentError(f"The card {card.name} names the metric '{unknown[0]}', which there is none of.")

    chosen = [measure for name in card.metrics for measure in known[name]]
    chosen += _tower(card, given, au_present)
    further = [*(CONFIDENCE_METRICS if given.sure else ()), *SUPPORT_METRICS, *RATES]
    chosen += [measure for name in further if name not in card.metrics for measure in known[name]]
    wanted = set(card.metrics)
    return [measure for measure in chosen if measure.name in wanted or len(measure.rows)]


def per_class(given: Answers, au_present: float = 1.0) -> dict[str, list[Measure]]:
    """Recall of each label, F1 of each AU as answered and as the face tower measured it."""
    found: dict[str, list[Measure]] = {}
    rows = given.counted & (given.truth >= 0)
    for number, label in enumerate(given.labels):
        if (rows & (given.truth == number)).any():
            hits = np.where(rows & (given.truth == number), given.right, np.nan)
            found.setdefault("recall", []).append(mean_measure(label, hits))
    for name, tower in (("au_f1", False), ("tower_au_f1", True)):
        if (tower and not _has_aus(given)) or not _au_rows(given).any():
            continue
        outcomes = _outcomes(given, au_present, tower)
        found[name] = [_au_f1(code, given, outcomes[[code]], "macro") for code in outcomes]
    return found


# Labels and numbers --------------------------------------------------------------------------------------------------


def _on_labels(name: str, given: Answers) -> list[Measure]:
    samples, labelled = given.samples, given.counted & (given.truth >= 0)
    if name in LABEL_METRICS:
        return [_labels(name, LABEL_METRICS[name], given.truth, given.answer, labelled)]
    if name == "sentiment_waf":
        return _sentiment(given)
    field = "arousal" if name == "ccc_arousal" else "valence"
    truth = np.array([getattr(sample.truth, field) for sample in samples], dtype=float)  # None becomes NaN
    read = [line.measured if line.status in ("ok", "unparsed") else None for line in given.lines]
    guess = _or_wrong_end(truth, np.array([getattr(m, field, None) for m in read], dtype=float), -1.0, 1.0)
    rows = given.counted & ~np.isnan(truth)
    if name == "mer2023":

        def value(rows: IntArray) -> float:
            valence = (MER2023_SCALE * truth[rows], MER2023_SCALE * guess[rows])
            return numbers.mer2023(given.truth[rows], given.answer[rows], *valence).score

        return [Measure(name, np.flatnonzero(rows & labelled), value)]
    return [Measure(name, np.flatnonzero(rows), lambda rows: numbers.ccc(truth[rows], guess[rows]))]


def _labels(
    name: str,
    metric: Callable[[IntArray, IntArray], float],
    truth: IntArray,
    answer: IntArray,
    counted: NDArray[np.bool_],
) -> Measure:
    return Measure(name, np.flatnonzero(counted), lambda rows: metric(truth[rows], answer[rows]))


def _sentiment(given: Answers) -> list[Measure]:
    truth = np.array([sample.truth.sentiment for sample in given.samples], dtype=float)
    said = [line.label if line.status == "ok" else None for line in given.lines]

    def waf(rows: IntArray) -> float:
        found = labels.sentiment_waf(truth[rows].tolist(), [said[row] for row in rows]).waf
        if found is None:
            raise NothingToScoreError("every sentiment is neutral")
        return found

    def waf3(rows: IntArray) -> float:
        return labels.sentiment_waf(truth[rows].tolist(), [said[row] for row in rows]).waf3

    rows = np.flatnonzero(given.counted & ~np.isnan(truth))
    return [Measure("sentiment_waf", rows[truth[rows] != 0], waf), Measure("sentiment_waf3", rows, waf3)]


def _or_wrong_end(truth: FloatArray, guess: FloatArray, low: float, high: float) -> FloatArray:
    """Guesses, and where there is none the end of the scale that lies farther from the truth."""
    return np.where(np.isnan(guess), np.where(truth > (low + high) / 2, low, high), guess)


# Action Units --------------------------------------------------------------------------------------------------------


def _au_rows(given: Answers) -> NDArray[np.bool_]:
    return given.counted & np.array([sample.truth.aus is not None for sample in given.samples], dtype=bool)


def _has_aus(given: Answers) -> bool:
    return any(line.measured is not None and line.measured.aus for line in given.lines)


def _predicted_aus(given: Answers, tower: bool) -> list[Mapping[str, float | None]]:
    if tower:
        return [line.measured.aus if line.measured else {} for line in given.lines]
    return [line.claimed if line.status == "ok" else {} for line in given.lines]


def _au_f1(name: str, given: Answers, outcomes: DataFrame, mean: Literal["macro", "micro"]) -> Measure:
    def value(rows: IntArray) -> float:
        found = units.au_f1_of(outcomes.iloc[rows])
        return found.macro if mean == "macro" else found.micro

    return Measure(name, np.flatnonzero(_au_rows(given)), value)


def _outcomes(given: Answers, present: float, tower: bool) -> DataFrame:
    return units.au_outcomes(
        [sample.truth.aus or {} for sample in given.samples], _predicted_aus(given, tower), present
    )


def _on_aus(name: str, given: Answers, present: float, tower: bool) -> Measure:
    named = f"tower_{name}" if tower else name
    if not _au_rows(given).any():
        return Measure(named, np.array([], dtype=int), lambda rows: float("nan"))
    if name in ("au_f1_macro", "au_f1_micro"):
        return _au_f1(named, given, _outcomes(given, present, tower), "macro" if name == "au_f1_macro" else "micro")
    truth, guess = _intensities(given, tower)

    def value(rows: IntArray) -> float:
        columns = [(t[~np.isnan(t)], g[~np.isnan(t)]) for t, g in zip(truth[rows].T, guess[rows].T)]
        metric = numbers.icc_3_1 if name == "icc" else numbers.mse
        return float(np.mean([metric(t, g) for t, g in columns if len(t)]))

    return Measure(named, np.flatnonzero(_au_rows(given)), value, "higher" if name == "icc" else "lower")


def _intensities(given: Answers, tower: bool) -> tuple[FloatArray, FloatArray]:
    """(n, codes) true and answered intensities on 0-5, NaN where not labelled.

    An AU that a readable answer does not name is 0; one named without a number is 1, the least that can be seen.
    """
    codes = sorted({code for sample in given.samples for code in sample.truth.aus or {}})
    truth = np.array([[(s.truth.aus or {}).get(code, np.nan) for code in codes] for s in given.samples], dtype=float)
    guess = np.full_like(truth, np.nan)
    for row, (line, aus) in enumerate(zip(given.lines, _predicted_aus(given, tower))):
        if line.status == "ok" or (tower and aus):
            values = [aus.get(code, 0.0) for code in codes]
            guess[row] = [1.0 if value is None else value for value in values]
    return truth, _or_wrong_end(truth, guess, 0.0, MAX_INTENSITY)


# What the towers say on their own, confidence, support, rates --------------------------------------------------------


def _tower(card: BenchmarkCard, given: Answers, present: float) -> list[Measure]:
    """The towers' own reading beside the language model's answer: what it adds, or loses."""
    found: list[Measure] = []
    if any(line.measured is not None and line.measured.expression for line in given.lines):
        number = {label: at for at, label in enumerate(given.labels)}
        read = [max(m.expression, key=m.expression.__getitem__) if (m := line.measured) and m.expression else None
                for line in given.lines]  # fmt: skip
        words = [card.word_for(label) if label is not None else None for label in read]
        answer = np.array([number.get(word, -1) if word is not None else -1 for word in words], dtype=int)
        labelled = given.counted & (given.truth >= 0)
        found += [_labels(f"tower_{name}", LABEL_METRICS[name], given.truth, answer, labelled)
                  for name in card.metrics if name in LABEL_METRICS]  # fmt: skip
    if _has_aus(given):
        found += [_on_aus(name, given, present, tower=True) for name in card.metrics if name in AU_METRICS]
    return found


def _on_confidence(name: str, given: Answers) -> Measure:
    rows = given.counted & (given.truth >= 0) & ~np.isnan(given.confidence)
    if not given.sure:
        rows[:] = False
    if name == "brier":
        truth = [given.labels[number] if number >= 0 else "" for number in given.truth]
        each = [calibration.brier([d], [t]) if d else 2.0 for d, t in zip(given.distributions, truth)]
        return mean_measure(name, np.where(rows, each, np.nan), "lower")
    if name == "ece":  # no answer was given with confidence 0 to be right about
        rows &= given.status("ok")
    metric = calibration.ece if name == "ece" else calibration.aurc
    return Measure(name, np.flatnonzero(rows), lambda rows: metric(given.confidence[rows], given.right[rows]), "lower")


def _support(given: Answers) -> list[Measure]:
    """How many claimed AUs the measurement bears out, and how many of those that it shows clearly are named; how many
    of those that a thought gives for an emotion are typical of it, and how many of the typical it gives."""
    checked = [line.verification if line.status != "skipped" else None for line in given.lines]
    claimed, supported, omitted = (
        np.array([np.nan if v is None else len(getattr(v, part)) for v in checked], dtype=float)
        for part in ("claimed", "supported", "omitted")
    )
    return [
        ratio_measure("support_precision", supported, claimed),
        ratio_measure("support_recall", supported, supported + omitted),
        *_interpretation(given),
    ]


def _interpretation(given: Answers) -> list[Measure]:
    replies = [parse_answer(line.raw) if line.status == "ok" and line.raw else None for line in given.lines]
    fit, every, missing = (
        np.array([np.nan if reply is None else len(pairs(reply)) for reply in replies], dtype=float)
        for pairs in (fitting, interpreted, omitted)
    )
    return [
        ratio_measure("interpretation_fit", fit, every),
        ratio_measure("interpretation_recall", fit, fit + missing),
    ]


def _rates(card: BenchmarkCard, given: Answers) -> list[Measure]:
    def rate(name: str, happened: NDArray[np.bool_]) -> Measure:
        return mean_measure(name, np.where(given.counted, happened, np.nan), "lower")

    rates = [rate("parse_failures", given.status("unparsed")), rate("failed", given.status("failed"))]
    if card.answers or card.task in ("emotion", "sentiment"):
        return [*rates, rate("outside", given.status("ok") & (given.answer < 0))]
    # Without labels to choose from nothing can be outside of them.
    return [*rates, mean_measure("outside", np.full(len(given.lines), np.nan), "lower")]
