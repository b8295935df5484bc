"""From a clip's labels and tower states to facts: the course of the face, the voice, when each AU shows.

Labels come first. Where there are none, the towers are believed: AUs as measured, and an expression or tone of voice
that they are sure of; what they are not sure of goes with the clip's label.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from emollm.data.clip_states import ClipStates
from emollm.data.facts import MAX_NAMED, Facts, Phase, Span
from emollm.data.prepare import labelled_units
from emollm.data.schema import Labels, Record
from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES, BLINK, MAX_INTENSITY
from emollm.reasoning.prompts import neutralise
from emollm.reasoning.spans import au_spans
from emollm.reasoning.verify import PRESENT, TOLERANCE

SURE = 0.6  # probability from which a reading stands against the clip's label
MIN_PHASE_S = 2
MAX_PHASES = 3
MAX_SPANS = 6
MAX_SAID = 200  # characters of a transcript that an answer repeats


def facts_of(record: Record, states: ClipStates, without: str | None = None) -> Facts:
    """What may be said of a clip; ``without``: a modality that is held back, ``face`` or ``voice``."""
    labels = record.labels
    phases, spans = ([], []) if without == "face" else _face(labels, states)
    voice = None if without == "voice" else states.voice
    voice_emotion = None
    if voice:
        voice_emotion = _believed(states.voice_readings[: len(EMOTIONS)], EMOTIONS, labels.emotion)
    said = "" if without == "voice" else neutralise(states.said[:MAX_SAID]).replace('"', "'").strip()
    whole = without is None
    return Facts(
        label=labels.emotion or "",
        phases=phases,
        voice=voice,
        voice_emotion=voice_emotion,
        timed=states.duration_s > 0,
        spans=spans if states.duration_s > 0 else [],
        words=labels.emotions if whole else [],
        valence=labels.valence if whole else None,
        arousal=labels.arousal if whole else None,
        said=" ".join(said.split()) or None,
    )


def _believed(probabilities: np.ndarray, names: tuple[str, ...], label: str | None) -> str:
    best = int(probabilities.argmax())
    if label is None or probabilities[best] >= SURE:
        return names[best]
    return label if label in names else "neutral"  # a face cannot show boredom


def _face(labels: Labels, states: ClipStates) -> tuple[list[Phase], list[Span]]:
    shown = ~np.isnan(states.face).any(-1)
    if not shown.any():
        return [], []
    readings = states.face[:, -states.face_readings :]
    starts = np.arange(len(readings)) * states.window_s
    times = np.stack([starts, np.minimum(starts + states.window_s, max(states.duration_s, 0.0))], axis=1)
    units = _units(labels, readings, times)
    expression = readings[:, len(AU_CODES) : len(AU_CODES) + len(EXPRESSIONS)]
    second = (starts + 1e-4).astype(int)
    course = _course(expression, second, labels.emotion)
    coded = labelled_units(labels) if labels.au_scale == "occurrence" and labels.aus else None
    phases = []
    for emotion, first, last in course:
        measured = _named(units[(second >= first) & (second <= last)])
        phases.append(Phase(emotion, measured if coded is None else coded, first, last))
    if coded is not None:
        return phases, []
    found = [span for span in au_spans(times, units, PRESENT) if span.code != BLINK]
    strongest = sorted(found, key=lambda span: -span.intensity)[:MAX_SPANS]
    ordered = sorted(strongest, key=lambda span: (span.start_s, int(span.code[2:])))
    return phases, [Span(span.code, round(span.start_s, 1), round(span.end_s, 1)) for span in ordered]


def _units(labels: Labels, readings: np.ndarray, times: np.ndarray) -> np.ndarray:
    """AU intensities ``(W, 17)``: as labelled over time, as labelled for the clip, or as measured."""
    units = MAX_INTENSITY * readings[:, : len(AU_CODES)]
    if labels.au_spans:
        units = np.zeros_like(units)
        for span in labels.au_spans:
            if span.code in AU_CODES:
                inside = (times[:, 0] < span.end_s) & (times[:, 1] > span.start_s)
                column = units[:, AU_CODES.index(span.code)]
                column[inside] = np.maximum(column[inside], span.intensity)
    elif labels.aus:
        values = [labels.aus.get(code, 0.0) for code in AU_CODES]
        units = np.where(np.isnan(units), np.nan, np.array(values, np.float32))
    return units


def _named(units: np.ndarray) -> dict[str, int]:
    """The strongest AUs of a phase at the intensity that they usually have, if their peak is not far from it."""
    units = units[~np.isnan(units).any(-1)]
    if not len(units):
        return {}
    usual, peak = np.quantile(units, 0.8, axis=0), units.max(axis=0)
    level = np.clip(np.rint(usual), 1, 5)
    kept = [
        i
        for i in np.argsort(-usual, kind="stable")
        if usual[i] >= PRESENT and AU_CODES[i] != BLINK and abs(peak[i] - level[i]) <= TOLERANCE
    ]
    return {AU_CODES[i]: int(level[i]) for i in kept[:MAX_NAMED]}


def _course(expression: np.ndarray, second: np.ndarray, label: str | None) -> list[tuple[str, int, int]]:
    """Emotion, first and last second of each phase; phases are merged until each is long enough and they are few."""
    seconds = sorted(set(second.tolist()))
    known, last = [], "neutral"
    for number in seconds:
        windows = expression[second == number]
        windows = windows[~np.isnan(windows).any(-1)]
        last = _believed(windows.mean(0), EXPRESSIONS, label) if len(windows) else last
        known.append((last, number, number))
    phases = _joined(known)
    while len(phases) > 1:
        lengths = [end - start + 1 for _, start, end in phases]
        shortest = min(range(len(phases)), key=lambda i: (lengths[i], not _interrupts(phases, i)))
        if lengths[shortest] >= MIN_PHASE_S and len(phases) <= MAX_PHASES:
            break
        beside = [i for i in (shortest - 1, shortest + 1) if 0 <= i < len(phases)]
        taker = max(beside, key=lambda i: lengths[i])
        _, start, end = phases[shortest]
        phases[shortest] = (phases[taker][0], start, end)
        phases = _joined(phases)
    return phases


def _interrupts(phases: list[tuple[str, int, int]], i: int) -> bool:
    """Whether the same emotion stands before and behind a phase."""
    return 0 < i < len(phases) - 1 and phases[i - 1][0] == phases[i + 1][0]


def _joined(phases: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Neighbours of one emotion made one."""
    joined = []
    for emotion, group in groupby(phases, key=lambda phase: phase[0]):
        run = list(group)
        joined.append((emotion, run[0][1], run[-1][2]))
    return joined
