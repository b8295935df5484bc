"""From an opened clip to everything that is measured before the model: people, voice, prosody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from emollm.errors import NothingToReadError
from emollm.face.lend import lend_landmarker
from emollm.face.track import FaceTrack, track_faces
from emollm.media.clip import Clip
from emollm.voice.prosody import Prosody, measure_prosody
from emollm.weights import fetch

FRAMES_PER_SECOND = 5.0
MAX_FRAMES = 600  # longer clips are sampled more thinly

Stage = Callable[[str, int, int | None], None]  # stage, units done, units in all if known


@dataclass
class Perception:
    """People (most prominent first), prosody (None if nobody is heard), frames looked at, sentences for the user."""

    clip: Clip
    people: list[FaceTrack] = field(default_factory=list)
    prosody: Prosody | None = None
    frames_seen: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def waveform(self) -> np.ndarray | None:
        return self.clip.waveform if self.prosody is not None else None


def perceive(clip: Clip, *, face_crop: bool = False, on_stage: Stage | None = None) -> Perception:
    """Find people and voice in a clip.

    Raises:
        NothingToReadError: neither a face nor a voice.
    """
    report = on_stage or (lambda stage, done, total: None)
    perception = Perception(clip, warnings=list(clip.warnings))
    if clip.has_video:
        fps = min(FRAMES_PER_SECOND, MAX_FRAMES / max(clip.duration_s, 1.0))
        expected = max(1, round(clip.duration_s * fps))
        with lend_landmarker(fetch("face_landmarker")) as landmarker:
            tracking = track_faces(
                clip.frames(fps),
                landmarker,
                face_crop=face_crop,
                progress=lambda done: report("faces", done, expected),
            )
        perception.people, perception.frames_seen = tracking.tracks, tracking.frames_seen
        perception.warnings = [*clip.warnings, *tracking.warnings]  # decoding may have added some
        if not tracking.tracks:
            perception.warnings.append("No face was found.")
    if clip.has_audio:
        report("voice", 0, 1)
        assert clip.waveform is not None
        perception.prosody = measure_prosody(clip.waveform)
        report("voice", 1, 1)
        if perception.prosody is None:
            perception.warnings.append("The sound holds no voice.")
    if not perception.people and perception.prosody is None:
        raise NothingToReadError("The clip shows no face and holds no voice, so there is nothing to read.")
    return perception
