"""EmotionReport: the JSON contract of one analysed clip (``emollm analyze --json``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from emollm.facs import AU_NAMES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClipSummary(_Part):
    path: str
    duration_s: float
    frames_used: int
    has_audio: bool
    transcript: str | None = None


class EmotionEstimate(_Part):
    """The answer's label with the language model's probability of each label it may give (they sum to 1)."""

    label: str | None
    distribution: dict[str, float] = Field(default_factory=dict)
    confidence: float | None = None


class ActionUnitSpan(_Part):
    """One AU held by one person from ``start_s`` to ``end_s`` (seconds); intensity is the span's mean, 0-5.

    ``claimed`` says whether the answer names this AU, ``supported`` whether the measurement bears the claim out
    (None when nothing was claimed).
    """

    code: str
    name: str
    intensity: float
    start_s: float
    end_s: float
    claimed: bool = False
    supported: bool | None = None


class VoiceSummary(_Part):
    """Prosody of the clip: median pitch (Hz), mean level of voiced speech (dB full scale), syllable-like onsets per
    second of speech, and the same in words. Values are None where there is no voice to measure."""

    pitch_hz: float | None = None
    energy_db: float | None = None
    rate: float | None = None
    summary: str = ""


class TimelineEntry(_Part):
    """What the face tower measured in one window: most likely expression and AU intensities (0-5)."""

    start_s: float
    end_s: float
    emotion: str
    aus: dict[str, float]


class Reasoning(_Part):
    observations: str = ""
    interpretation: str = ""
    conclusion: str = ""


class Verification(_Part):
    """Claimed AUs against the measured ones. ``omitted``: measured at 2.0 or more (blinks apart) but
    not named.

    ``support_rate`` is len(supported) / len(claimed), None when nothing was claimed. ``unfitting``: for an emotion the
    AUs that the interpretation gives as its signs, though they are not typical of it (:data:`emollm.facs.PROTOTYPES`)
    or were not observed.
    """

    claimed: list[str] = Field(default_factory=list)
    supported: list[str] = Field(default_factory=list)
    unsupported: list[str] = Field(default_factory=list)
    omitted: list[str] = Field(default_factory=list)
    support_rate: float | None = None
    unfitting: dict[str, list[str]] = Field(default_factory=dict)


class PersonReport(_Part):
    """One person. ``id`` counts from 1 in order of prominence; a clip with sound only has one person with id 0."""

    id: int
    box_share: float = Field(description="mean share of the picture's area that the face box covers, 0-1")
    emotion: EmotionEstimate
    open_labels: list[str] = Field(default_factory=list)
    valence: float | None = None
    arousal: float | None = None
    action_units: list[ActionUnitSpan] = Field(default_factory=list)
    voice: VoiceSummary | None = None
    timeline: list[TimelineEntry] = Field(default_factory=list)
    reasoning: Reasoning = Field(default_factory=Reasoning)
    verification: Verification = Field(default_factory=Verification)
    missing_modalities: list[str] = Field(default_factory=list)


class EmotionReport(_Part):
    """Everything EmoLLM says about one clip, and what it measured to say it."""

    clip: ClipSummary
    people: list[PersonReport]
    question: str
    answer: str
    model: str
    engine: str
    timings_s: dict[str, float] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    _faces: dict[int, list[tuple[float, np.ndarray]]] = PrivateAttr(default_factory=dict)

    @property
    def faces(self) -> dict[int, list[tuple[float, np.ndarray]]]:
        """Aligned crops of each person with their times, for pictures. Not part of the JSON."""
        return self._faces

    @property
    def action_units(self) -> pd.DataFrame:
        """One row per AU span of every person: person, AU, name, intensity, start_s, end_s, claimed, supported."""
        import pandas as pd

        columns = ["person", "AU", "name", "intensity", "start_s", "end_s", "claimed", "supported"]
        rows = [
            (person.id, s.code, AU_NAMES.get(s.code, s.name), s.intensity, s.start_s, s.end_s, s.claimed, s.supported)
            for person in self.people
            for s in person.action_units
        ]
        return pd.DataFrame(rows, columns=columns)
