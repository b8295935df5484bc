"""What was said and when: from a subtitle file, a subtitle track's packets, or speech recognition."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pysubs2

from emollm.errors import BadArgumentError

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

SIDECAR_SUFFIXES = (".srt", ".vtt")
_MAX_BYTES = 2 << 20


@dataclass(frozen=True)
class Segment:
    """A stretch of speech, in seconds from the start of the clip."""

    start_s: float
    end_s: float
    text: str


def find_sidecar(clip: Path) -> Path | None:
    """Return the .srt or .vtt file beside the clip that has its stem, if there is one."""
    candidates = (clip.with_suffix(suffix) for suffix in SIDECAR_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_subtitles(path: Path) -> list[Segment]:
    """Read a subtitle file (.srt, .vtt, .ass and whatever else pysubs2 recognises by content).

    Raises BadArgumentError if it cannot be read, is over 2 MiB, or holds no timed text.
    """
    try:
        if not path.is_file():
            raise BadArgumentError(f"There is no transcript file at {path}.")
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BadArgumentError(f"The transcript {path} cannot be opened.") from error
    if len(data) > _MAX_BYTES:
        raise BadArgumentError(f"The transcript {path} is over the limit of {_MAX_BYTES >> 20} MiB.")
    try:
        events = pysubs2.SSAFile.from_string(_decode(data))
    except Exception as error:  # pysubs2's parsers let many kinds of error through on malformed text
        raise BadArgumentError(f"The transcript {path} is not a subtitle file (.srt or .vtt).") from error
    segments = _segments((e.start / 1000, e.end / 1000, e.plaintext) for e in events if e.is_text)
    if not segments:
        raise BadArgumentError(f"The transcript {path} holds no timed text.")
    return segments


def subtitle_text(dialogue: bytes) -> str:
    """Return the text, on one line, of a subtitle as FFmpeg decodes it (ASS, with style tags)."""
    return _one_line(pysubs2.SSAEvent(text=dialogue.decode("utf-8", "replace")).plaintext)


def recognise(waveform: np.ndarray) -> list[Segment]:
    """Recognise English speech in a (N,) float32 16 kHz waveform with the embedded Whisper (tiny.en).

    Silence is cut out first by Silero VAD, because Whisper invents words in it. Raises WeightsError if the model
    cannot be fetched.
    """
    found, _ = _whisper().transcribe(waveform, language="en", vad_filter=True, condition_on_previous_text=False)
    return _segments((s.start, s.end, s.text) for s in found)


@lru_cache(maxsize=1)
def _whisper() -> "WhisperModel":
    # Imported on use: most clips never need recognition, and faster-whisper takes a second to import.
    from faster_whisper import WhisperModel

    from emollm import weights

    return WhisperModel(str(weights.fetch("whisper")), device="cpu", compute_type="float32")


def _segments(pieces: Iterable[tuple[float, float, str]]) -> list[Segment]:
    found = [Segment(start_s, max(start_s, end_s), _one_line(text)) for start_s, end_s, text in pieces]
    return sorted((s for s in found if s.text), key=lambda s: s.start_s)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
