"""One person's part of the report: what was measured, what was answered, and whether the two agree."""

from __future__ import annotations

import numpy as np

from emollm.emotions import EXPRESSIONS, named_emotions
from emollm.facs import AU_CODES, MAX_INTENSITY
from emollm.reasoning.fit import unfitting
from emollm.reasoning.parse import ParsedAnswer
from emollm.reasoning.verify import verify
from emollm.report import (
    EmotionEstimate,
    PersonReport,
    TimelineEntry,
    VoiceSummary,
)
from emollm.voice.prosody import Prosody


def person_report(
    *,
    id: int,
    box_share: float,
    parsed: ParsedAnswer,
    distribution: dict[str, float],
    windows: np.ndarray,
    face: np.ndarray | None,
    voice: np.ndarray | None,
    prosody: Prosody | None,
) -> PersonReport:
    """Put one person's report together.

    Args:
        distribution: the model's probability of each label.
        windows: ``(W, 2)`` start and end of the clip's windows in seconds.
        face: ``(W, R)`` readings per window (AUs / 5, expressions, valence, arousal), NaN rows without a face;
            None where no face is.
        voice: ``(R,)`` emotion probabilities, valence, arousal, or None.
    """
    units = MAX_INTENSITY * face[:, : len(AU_CODES)] if face is not None else np.zeros((0, len(AU_CODES)))
    verification, spans = verify(list(parsed.claims), windows[: len(units)], units)
    coordinates = [np.nanmean(face[:, -2:], axis=0)] if face is not None else []
    coordinates += [voice[-2:]] if voice is not None else []
    valence, arousal = np.mean(coordinates, axis=0) if coordinates else (None, None)
    missing = [name for name, reading in (("face", face), ("voice", voice)) if reading is None]
    return PersonReport(
        id=id,
        box_share=round(box_share, 4),
        emotion=EmotionEstimate(
            label=parsed.label,
            distribution={label: round(p, 4) for label, p in distribution.items()},
            confidence=round(distribution[parsed.label], 4) if parsed.label in distribution else None,
        ),
        open_labels=named_emotions(f"{parsed.thought or ''} {parsed.answer or ''}"),
        valence=_rounded(valence),
        arousal=_rounded(arousal),
        action_units=[
            span.model_copy(update={key: round(getattr(span, key), 3) for key in ("intensity", "start_s", "end_s")})
            for span in spans
        ],
        voice=voice_summary(prosody),
        timeline=_timeline(windows, face) if face is not None else [],
        reasoning=parsed.reasoning,
        verification=verification.model_copy(update={"unfitting": unfitting(parsed)}),
        missing_modalities=missing,
    )


def voice_summary(prosody: Prosody | None) -> VoiceSummary | None:
    if prosody is None:
        return None
    pitch = None if prosody.pitch_hz is None else round(prosody.pitch_hz, 1)
    return VoiceSummary(
        pitch_hz=pitch, energy_db=round(prosody.energy_db, 1), rate=round(prosody.rate, 2), summary=prosody.summary()
    )


def _timeline(windows: np.ndarray, face: np.ndarray) -> list[TimelineEntry]:
    first = len(AU_CODES)
    return [
        TimelineEntry(
            start_s=round(float(start), 3),
            end_s=round(float(end), 3),
            emotion=EXPRESSIONS[int(row[first : first + len(EXPRESSIONS)].argmax())],
            aus={code: round(float(MAX_INTENSITY * value), 2) for code, value in zip(AU_CODES, row)},
        )
        for (start, end), row in zip(windows, face)
        if not np.isnan(row).any()
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)
