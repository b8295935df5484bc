"""Uploaded bytes to what the model is given of the main person: decoded under limits, in the API process."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from hashlib import sha256
from threading import Lock
from typing import Any

import numpy as np
from cachetools import LRUCache
from vllm.multimodal.video import VIDEO_LOADER_REGISTRY, VideoLoader

from emollm.errors import EmoLLMError
from emollm.media.clip import read_clip
from emollm.media.guard import Limits
from emollm.model.processing_emollm import ClipInputs
from emollm.perceive import perceive

#: Clips read last are kept up to this size, so that a further question about one is answered without reading it again.
KEPT_BYTES = 256 << 20

#: Caps on every upload. A server sets them once, before it takes requests; nothing in a request changes them.
limits = Limits()


def clip_bytes(clip: ClipInputs) -> int:
    """Memory that a clip's waveform and crops take."""
    return sum(a.nbytes for a in (clip.waveform, clip.face and clip.face.crops) if isinstance(a, np.ndarray))


_lock = Lock()
_kept: LRUCache[Any, ClipInputs] = LRUCache(KEPT_BYTES, clip_bytes)


def set_limits(new: Limits) -> None:
    """Replace the caps on uploads for this process."""
    global limits
    limits = new


def read_upload(data: bytes) -> ClipInputs:
    """Read an uploaded video, picture or sound: main person and voice. A transcript in it is left alone.

    What was read is kept for a while, since a client sends a clip again with every further question about it.

    Raises:
        ValueError: unreadable, over a limit, or neither a face nor a voice; one sentence without a path.
    """
    if len(data) > limits.file_bytes:
        raise ValueError(f"The clip has more than the limit of {limits.file_bytes >> 20:,} MiB.")
    key = (limits, sha256(data).digest())
    with _lock:
        kept = _kept.get(key)
    if kept is None:
        kept = _read(data)
        with _lock, suppress(ValueError):  # larger than all that may be kept
            _kept[key] = kept
    return kept


def _read(data: bytes) -> ClipInputs:
    # FFmpeg is only ever given a local file, see the guard; nobody else can open this one.
    with tempfile.NamedTemporaryFile(prefix="emollm-") as file:
        file.write(data)
        file.flush()
        try:
            perception = perceive(read_clip(file.name, transcript="none", limits=limits))
        except EmoLLMError as error:
            raise ValueError(str(error).replace(file.name, "The clip")) from None
    return ClipInputs(
        duration_s=perception.clip.duration_s,
        face=perception.people[0] if perception.people else None,
        waveform=perception.waveform,
        prosody=perception.prosody,
    )


class EmoLLMVideoLoader(VideoLoader):
    """One ``video_url`` part gives faces and sound: vLLM passes both on as a video's frames and metadata."""

    @classmethod
    def load_bytes(cls, data: bytes, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Crops ``(T, 112, 112, 3)`` uint8 and ``{"clip": ClipInputs}``. Arguments of a request change nothing."""
        clip = read_upload(data)
        return clip.face.crops if clip.face is not None else np.zeros((0, 1, 1, 3), np.uint8), {"clip": clip}


def register(video_processor: str) -> None:
    """Make the loader known to vLLM, for models whose configuration names this video processor."""
    VIDEO_LOADER_REGISTRY.register("emollm", video_processor=video_processor)(EmoLLMVideoLoader)
