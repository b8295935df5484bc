"""What baselines see and hear of a clip: read under the same limits and cut to the same part as for the model."""

from __future__ import annotations

import numpy as np

from emollm.errors import NothingToReadError
from emollm.eval.predict import CannotAnswerError, cut
from emollm.eval.schema import Sample
from emollm.face.lend import lend_landmarker
from emollm.face.track import FaceTrack, track_faces
from emollm.media.clip import Clip, read_clip
from emollm.perceive import FRAMES_PER_SECOND, MAX_FRAMES
from emollm.weights import fetch


def open_clip(sample: Sample) -> Clip:
    """The part of the clip that a sample means. Raises ClipError as :func:`emollm.media.clip.read_clip`."""
    clip = read_clip(sample.clip, transcript="none")
    if sample.start_s is not None or sample.end_s is not None:
        clip = cut(clip, sample.start_s or 0.0, sample.end_s)
    return clip


def look(sample: Sample) -> tuple[Clip, float]:
    """A clip with pictures, and how many frames a second to take: as many as the model gets.

    Raises:
        CannotAnswerError: there is no picture.
    """
    clip = open_clip(sample)
    if not clip.has_video:
        raise CannotAnswerError("The clip has no picture, and this baseline only looks at faces.")
    return clip, min(FRAMES_PER_SECOND, MAX_FRAMES / max(clip.duration_s, 1.0))


def main_face(sample: Sample) -> FaceTrack:
    """The face of the main person.

    Raises:
        CannotAnswerError: there is no picture. NothingToReadError: no face is found in it.
    """
    clip, fps = look(sample)
    with lend_landmarker(fetch("face_landmarker")) as landmarker:
        tracks = track_faces(clip.frames(fps), landmarker, face_crop=sample.face_crop).tracks
    if not tracks:
        raise NothingToReadError("No face was found.")
    return tracks[0]


def sound(sample: Sample) -> np.ndarray:
    """``(N,)`` float32 at 16 kHz.

    Raises:
        CannotAnswerError: there is no sound.
    """
    clip = open_clip(sample)
    if clip.waveform is None or not clip.has_audio:
        raise CannotAnswerError("The clip has no sound, and this baseline only listens.")
    return clip.waveform
