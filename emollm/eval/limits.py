"""Sentences about what the default model does badly, each with the figure that it stands on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from emollm.eval.benchmarked import Measured
from emollm.eval.measure import Score
from emollm.eval.pages.markup import interval
from emollm.eval.trained import Training

HALF = 0.5  # recall of an expression, or correlation of an AU, below which it is named as weak


def limits(training: Training, benchmarks: Mapping[str, Measured]) -> list[str]:
    """One sentence or two a limit, only of what was measured."""
    return [
        *_rare(benchmarks),
        *_units(training),
        *_conditions(training),
        *_against_towers(training, benchmarks),
        *_claims(benchmarks["ferplus"]),
        *_probes(benchmarks),
        *_unreadable(benchmarks),
    ]


def per_cent(score: Score | float) -> str:
    """``75.8 % (73.2–78.6)``."""
    if isinstance(score, Score):
        return f"{100 * (score.value or 0):.1f} % {interval(score)}".rstrip()
    return f"{100 * score:.1f} %"


def _rare(benchmarks: Mapping[str, Measured]) -> Iterator[str]:
    for name, of in (("ferplus", "FER+ faces"), ("emodb", "EmoDB voices")):
        rows = [row.think for row in benchmarks[name].per_class.get("recall", []) if row.think is not None]
        weak = [one for one in rows if one.value is not None and one.value < HALF]
        if weak:
            named = "; ".join(f"{one.name} {per_cent(one)} of {one.n}" for one in weak)
            yield f"Of these {of} the full answer misses more than half: it finds {named}."
        elif rows:
            yield f"The full answer finds at least half of every kind of {of}."


def _units(training: Training) -> Iterator[str]:
    for source, scores in training.face.items():
        known = {unit: one.r for unit, one in scores.per_au.items() if one.r is not None}
        weak = ", ".join(f"{unit} {r:.2f}" for unit, r in known.items() if r < HALF)
        if weak:
            yield f"On the held-out people of {source} these Action Units are weak (Pearson r below {HALF:g}): {weak}."
        elif known:
            unit = min(known, key=known.__getitem__)
            yield f"On the held-out people of {source} the weakest Action Unit is {unit}: Pearson r {known[unit]:.2f}."


def _conditions(training: Training) -> Iterator[str]:
    folds = training.folds or {}
    found = {key.removesuffix("_uar"): uar for key, uar in folds.items() if key.endswith("_uar")}
    if "uar" in folds and found:
        each = ", ".join(f"{per_cent(uar)} under {name.replace('_', ' ')}" for name, uar in found.items())
        yield f"The voice head's UAR over left-out speakers is {per_cent(folds['uar'])} as recorded, {each}."


def _against_towers(training: Training, benchmarks: Mapping[str, Measured]) -> Iterator[str]:
    faces, voices = benchmarks["ferplus"], benchmarks["emodb"]
    seen, heard = _value(faces.score("tower_war")), (training.voice or {}).get("test_war")
    for of, answer, tower, alone in (
        ("FER+ faces", faces.score("war"), "the face tower alone", seen),
        ("the voices of the test speakers", voices.score("war"), "the voice head alone", heard),
    ):
        if answer is not None and answer.value is not None and alone is not None:
            points = round(100 * answer.value, 1) - round(100 * alone, 1)
            held = f"{abs(points):.1f} points {'fewer' if points < 0 else 'more'}" if round(points, 1) else "as many"
            yield f"The full answer is right on {per_cent(answer)} of {of}, {tower} on {per_cent(alone)}: {held}."


def _value(score: Score | None) -> float | None:
    return None if score is None else score.value


def _claims(faces: Measured) -> Iterator[str]:
    if (borne_out := faces.score("support_precision")) is not None:
        yield (
            f"Of the Action Units that a thinking answer names on FER+ faces, the face tower bears out"
            f" {per_cent(borne_out)}; how often the tower is right itself on real faces is not known."
        )
    if (typical := faces.score("interpretation_fit")) is not None:
        yield f"Of the Action Units that a thought gives for an emotion there, {per_cent(typical)} are typical of it."
    if (given := faces.score("interpretation_recall")) is not None:
        yield f"Of the typical ones that it observes, it gives {per_cent(given)}."
    if faces.no_think is not None:
        without = faces.score("support_precision", think=False)
        if without is None:
            yield "Without thinking, answers name no Action Units by code; muscles named in words are not checked."
        else:
            yield f"Without thinking it is {per_cent(without)}."


def _probes(benchmarks: Mapping[str, Measured]) -> Iterator[str]:
    for benchmark, names, sentence in (
        ("grounding", ["renders: recall"], "Of the Action Units drawn on rendered faces an answer names {}."),
        (
            "faithfulness",
            ["order: course is told right"],
            "What changes over time is told with a likeness of {} to what was composed (100 % is all right).",
        ),
        (
            "contradiction",
            ["conflict named", "false alarms"],
            "A conflict of face and voice is named in {} of clips that have one and in {} of those that have none.",
        ),
        (
            "refusal",
            ["refused: new wording", "harmless answered"],
            "Of questions that no face can answer, in new wording, {} are refused; of harmless ones near them {} are"
            " answered.",
        ),
    ):
        scores = [benchmarks[benchmark].score(name) for name in names]
        if None not in scores:
            yield sentence.format(*(per_cent(score) for score in scores if score is not None))


def _unreadable(benchmarks: Mapping[str, Measured]) -> Iterator[str]:
    rates = [
        (one.name, "thinking" if think else "no-think", score)
        for one in benchmarks.values()
        for think in (True, False)
        if (score := one.score("parse_failures", think)) is not None
    ]
    bad = [f"{name}, {mode}: {per_cent(score)}" for name, mode, score in rates if score.value]
    if bad:
        yield f"Replies that break the grammar count as wrong: {'; '.join(bad)}."
    elif rates:
        yield "No reply in the evaluations above was unreadable."
