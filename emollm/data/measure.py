"""From a clip's labels and tower states to facts: the course of the face, the voice, when each AU shows.

Labels come first. Where there are none, the towers are believed: AUs as measured, and an expression or tone of voice
that they are sure of; what they are not sure of goes with the clip's label. The course is cut where the reading
symbols that the model is given cut it (:mod:`emollm.model.course`), and measured AUs are those that they state.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emollm.data.clip_states import ClipStates
from emollm.data.facts import Facts, Phase, Span, phases_as_read
from emollm.data.prepare import labelled_units
from emollm.data.schema import Labels, Record
from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES, BLINK, MAX_INTENSITY, PRESENT
from emollm.model.course import MAX_NAMED
from emollm.reasoning.prompts import neutralise
from emollm.reasoning.spans import au_spans
from emollm.reasoning.verify import TOLERANCE

SURE = 0.6  # probability from which a reading stands against the clip's label
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

    def emotion_of(first: int, last: int) -> str:
        held = expression[first : last + 1][shown[first : last + 1]]
        return _believed(held.mean(0), EXPRESSIONS, labels.emotion)

    phases = phases_as_read(readings, shown, states.window_s if states.duration_s > 0 else 0.0, emotion_of)
    coded = labelled_units(labels) if labels.au_scale == "occurrence" and labels.aus else None
    if coded is not None:
        return [replace(phase, aus=coded) for phase in phases], []
    if labels.au_spans or labels.aus:
        second = (starts + 1e-4).astype(int)
        inside = [(second >= phase.start_s) & (second <= phase.end_s) for phase in phases]
        phases = [replace(phase, aus=_usual(units[windows])) for phase, windows in zip(phases, inside)]
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


def _usual(units: np.ndarray) -> dict[str, int]:
    """The strongest labelled AUs of a phase at the intensity that they usually have, if their peak is not far from it,
    so that verification would bear them out."""
    units = units[~np.isnan(units).any(-1)]
    usual, peak = np.quantile(units, 0.8, axis=0), units.max(axis=0)
    level = np.clip(np.rint(usual), 1, 5)
    kept = [
        i
        for i in np.argsort(-usual, kind="stable")
        if usual[i] >= PRESENT and AU_CODES[i] != BLINK and abs(peak[i] - level[i]) <= TOLERANCE
    ]
    return {AU_CODES[i]: int(level[i]) for i in kept[:MAX_NAMED]}
