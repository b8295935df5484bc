"""A clip as the part of an OpenAI message that it is sent in, inside the request itself."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np

from emollm.errors import ClipError
from emollm.media.clip import Clip
from emollm.media.guard import open_file
from emollm.media.mux import mp4, png, wav
from emollm.perceive import FRAMES_PER_SECOND, MAX_FRAMES

MAX_SENT = 24 << 20  # bytes of a file; most servers take no larger requests than about 50 MB
# Files of these kinds are sent as they are; servers know them by these types.
_TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm",
    ".mkv": "video/x-matroska", ".avi": "video/x-msvideo",
}  # fmt: skip


def media_part(clip: Clip) -> dict[str, Any]:
    """The clip as ``image_url`` (PNG), ``input_audio`` (WAV) or ``video_url`` with a data URL.

    A video file goes as it is. One that is too large, of a rare kind, or only a part of its file is encoded again from
    the pictures and the sound that we look at ourselves.

    Raises:
        ClipError: the clip cannot be read, or is too large to be sent.
    """
    if isinstance(clip.source, np.ndarray):
        return _url("image", "image/png", _checked(clip, png(clip.source)))
    if not clip.has_video:
        assert clip.waveform is not None
        sound = b64encode(_checked(clip, wav(clip.waveform))).decode()
        return {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}
    kind = _TYPES.get(clip.path.suffix.lower())
    if kind is not None and type(clip) is Clip:  # a part of a clip is of another class
        with open_file(clip.path, clip.limits) as file:
            data = file.read(MAX_SENT + 1)
        if len(data) <= MAX_SENT:
            return _url("video", kind, data)
    fps = min(FRAMES_PER_SECOND, MAX_FRAMES / max(clip.duration_s, 1.0))
    return _url("video", "video/mp4", _checked(clip, mp4(clip, fps)))


def _url(modality: str, kind: str, data: bytes) -> dict[str, Any]:
    name = f"{modality}_url"
    return {"type": name, name: {"url": f"data:{kind};base64,{b64encode(data).decode()}"}}


def _checked(clip: Clip, data: bytes) -> bytes:
    if len(data) > MAX_SENT:
        raise ClipError(f"{clip.path} is too large to be sent to a server, even in fewer pictures.")
    return data
