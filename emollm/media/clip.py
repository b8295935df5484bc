"""A clip: pictures by time, sound at 16 kHz, and what was said, from one video, picture or sound file."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from emollm.errors import BadArgumentError
from emollm.media.decode import Picture, survey, video_frames
from emollm.media.guard import Limits
from emollm.media.sound import SAMPLE_RATE
from emollm.media.still import read_still
from emollm.media.transcript import Segment, find_sidecar, read_subtitles, recognise

__all__ = ["CLIP_SUFFIXES", "SAMPLE_RATE", "Clip", "Frame", "Limits", "Segment", "find_clips", "read_clip"]

_VIDEO = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
AUDIO_SUFFIXES = (".wav", ".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus")
CLIP_SUFFIXES = frozenset(_VIDEO + IMAGE_SUFFIXES + AUDIO_SUFFIXES)


@dataclass(frozen=True)
class Frame:
    """One sampled picture: seconds from the start of the clip, and (H, W, 3) uint8 RGB, upright."""

    time_s: float
    image: np.ndarray


@dataclass
class Clip:
    """An opened clip. Frames are decoded as they are asked for, so a long clip never sits in memory.

    ``width`` and ``height`` are those of the frames handed out (upright, long side at most 1280 px; 0 for sound only).
    ``waveform`` is (N,) float32 mono at 16 kHz in [-1, 1], sample i at i / 16000 s of the clip; None without sound.
    """

    path: Path
    kind: Literal["video", "image", "audio"]
    duration_s: float
    width: int
    height: int
    waveform: np.ndarray | None
    transcript: list[Segment] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    limits: Limits = field(default=Limits(), repr=False)
    source: Picture | np.ndarray | None = field(default=None, repr=False)  # how to render frames, or the still itself

    @property
    def has_video(self) -> bool:
        return self.source is not None

    @property
    def has_audio(self) -> bool:
        return self.waveform is not None and self.waveform.size > 0

    def frames(self, fps: float = 5.0) -> Iterator[Frame]:
        """Decode the clip, at most one frame in each 1/fps seconds, going by timestamps; a picture yields one at 0.0.

        Raises BadArgumentError unless fps is positive, and ClipError if a limit is exceeded while decoding.
        """
        if not (math.isfinite(fps) and fps > 0):
            raise BadArgumentError(f"The frame rate must be a positive number, not {fps}.")
        if isinstance(self.source, np.ndarray):
            return iter((Frame(0.0, self.source),))
        if self.source is None:
            return iter(())
        return (Frame(*found) for found in video_frames(self.path, self.source, self.limits, fps))


def read_clip(path: str | Path, *, transcript: str | Path = "auto", limits: Limits = Limits()) -> Clip:  # noqa: B008
    """Open a local video, picture or sound file, decode its sound, and check all of it against the limits.

    ``transcript``: "auto" takes a .srt or .vtt of the same stem beside the clip, else a subtitle track; "none" takes
    neither; "asr" recognises the speech; anything else is a subtitle file.

    Raises ClipError for a clip that is missing, unreadable or over a limit, BadArgumentError for an unreadable
    transcript, and WeightsError if the recogniser cannot be had.
    """
    path = Path(path)
    still = read_still(path, limits)
    if still is not None:
        height, width = still.image.shape[:2]
        clip = Clip(path, "image", 0.0, width, height, None, [], still.warnings, limits, still.image)
        embedded: list[Segment] = []
    else:
        found = survey(path, limits)
        width, height = (found.picture.width, found.picture.height) if found.picture else (0, 0)
        kind: Literal["video", "audio"] = "video" if found.picture else "audio"
        clip = Clip(
            path, kind, found.duration_s, width, height, found.waveform, [], found.warnings, limits, found.picture
        )
        embedded = found.subtitles
    clip.transcript = _transcript(clip, str(transcript), embedded)
    return clip


def find_clips(folder: str | Path) -> list[Path]:
    """List the media files directly in a folder, by extension, sorted by name; subfolders are not entered.

    Raises BadArgumentError if there are none or the folder cannot be read.
    """
    folder = Path(folder)
    try:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in CLIP_SUFFIXES and p.is_file())
    except OSError as error:
        raise BadArgumentError(f"{folder} is not a folder that can be read.") from error
    if not found:
        raise BadArgumentError(f"{folder} holds no clips.")
    return found


def _transcript(clip: Clip, choice: str, embedded: list[Segment]) -> list[Segment]:
    if choice == "none":
        return []
    if choice == "asr":
        if clip.waveform is not None:
            return recognise(clip.waveform)
        clip.warnings.append("There is no sound to recognise speech in.")
        return []
    if choice != "auto":
        return read_subtitles(Path(choice))
    if sidecar := find_sidecar(clip.path):
        try:
            return read_subtitles(sidecar)
        except BadArgumentError as error:
            clip.warnings.append(f"{str(error).rstrip('.')}; it is ignored.")
    return embedded
