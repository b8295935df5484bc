"""What is known of a clip: labels, measured AUs and prosody, as far as a text may speak of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from emollm.facs import AU_CODES, BLINK
from emollm.reasoning.verify import PRESENT

MAX_NAMED = 4  # AUs named in one phase, strongest first


@dataclass(frozen=True)
class Phase:
    """One expression held from ``start_s`` to ``end_s``; ``aus`` are whole intensities 1-5, strongest first.

    An intensity of 0 stands for an AU that is coded as present without an intensity.
    """

    emotion: str
    aus: dict[str, int]
    start_s: int = 0
    end_s: int = 0


@dataclass(frozen=True)
class Span:
    """One AU held from ``start_s`` to ``end_s`` (seconds, to a tenth)."""

    code: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Facts:
    """What an explanation may say. ``label`` is the clip's emotion; no phases: no face; ``voice`` None: no voice.

    Attributes:
        voice: what is measured of it in words, as :meth:`emollm.voice.prosody.Prosody.summary`.
        timed: False for a picture, in which nothing has a time.
        spans: when each AU is seen, finer than the phases.
        words: open-vocabulary words for the feeling, besides the label.
        valence, arousal: in [-1, 1].
        said: what the person says.
    """

    label: str
    phases: list[Phase] = field(default_factory=list)
    voice: str | None = None
    voice_emotion: str | None = None
    timed: bool = True
    spans: list[Span] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    valence: float | None = None
    arousal: float | None = None
    said: str | None = None

    @property
    def face_emotion(self) -> str | None:
        """The emotion that the face holds longest, the last of equals."""
        if not self.phases:
            return None
        return max(self.phases, key=lambda phase: (phase.end_s - phase.start_s, phase.start_s)).emotion

    @property
    def conflict(self) -> bool:
        return bool(self.phases and self.voice_emotion and self.face_emotion != self.voice_emotion)


def named_units(intensities: np.ndarray) -> dict[str, int]:
    """AUs worth naming in ``(17,)`` measured intensities: the strongest four that verification would bear out;
    blinks left out."""
    order = np.argsort(-intensities, kind="stable")
    present = [i for i in order if intensities[i] >= PRESENT and AU_CODES[i] != BLINK]
    return {AU_CODES[i]: int(np.clip(np.rint(intensities[i]), 1, 5)) for i in present[:MAX_NAMED]}
