"""What is known of a clip: labels, measured AUs and prosody, as far as a text may speak of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from emollm.emotions import EXPRESSIONS
from emollm.facs import AU_CODES
from emollm.model.course import named, read_course


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
    """The AUs that the model is given of ``(17,)`` measured intensities, strongest first, with their level: the
    strongest four that verification would bear out (:func:`emollm.model.course.named`)."""
    order, levels = named(torch.from_numpy(intensities))
    return {AU_CODES[i]: level for i, level in zip(order.tolist(), levels.tolist()) if i >= 0}


def phases_as_read(
    readings: np.ndarray, present: np.ndarray, window_s: float, emotion_of: Callable[[int, int], str]
) -> list[Phase]:
    """The phases of one clip with the times and Action Units that the model is given in reading symbols.

    Where ``emotion_of`` gives two phases in a row the same emotion, each has what is read there instead: a text could
    not say what tells the two apart.

    Args:
        readings, present, window_s: of one clip, as :func:`read_course` takes those of several.
        emotion_of: the emotion of a phase, from its first and last window.
    """
    course = read_course(torch.from_numpy(readings)[None], torch.from_numpy(present)[None], torch.tensor([window_s]))
    count = int((course.first[0] >= 0).sum())
    first, last = course.first[0, :count].tolist(), course.last[0, :count].tolist()
    emotions = [emotion_of(*windows) for windows in zip(first, last)]
    if any(one == other for one, other in pairwise(emotions)):
        emotions = [EXPRESSIONS[index] for index in course.expression[0, :count].tolist()]
    return [
        Phase(emotion, named_units(units), _second(start * window_s), _second(end * window_s))
        for emotion, units, start, end in zip(emotions, course.units[0].numpy(), first, last)
    ]


def _second(time_s: float) -> int:
    return int(time_s + 1e-4)
