"""Where somebody speaks: the Silero voice activity model (https://github.com/snakers4/silero-vad, MIT) that
faster-whisper bundles."""

from __future__ import annotations

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps

VAD_RATE = 16000
# A pause is a silence that a listener notices; shorter gaps are mostly stop closures inside words.
_MIN_PAUSE_MS = 200
_MIN_SPEECH_MS = 100
_PAD_MS = 30
# Silero misses speech far below full scale (at -40 dB a tenth of EmoDB, at -60 dB nearly all), so all sound is brought
# to one peak first. Below -80 dBFS there is nothing but quantisation noise.
_PEAK, _SILENCE = 0.5, 1e-4


def speech_segments(waveform: np.ndarray, threshold: float = 0.5) -> list[tuple[float, float]]:
    """Start and end in seconds of each stretch of speech in ``waveform`` ((N,) float, mono, 16 kHz), in order.

    Stretches less than 0.2 s apart count as one. ``threshold`` is the speech probability (0-1) at which one begins.
    """
    waveform = np.nan_to_num(np.asarray(waveform, dtype=np.float32))
    peak = float(np.abs(waveform).max(initial=0.0))
    if peak < _SILENCE:
        return []
    options = VadOptions(
        threshold=threshold,
        min_speech_duration_ms=_MIN_SPEECH_MS,
        min_silence_duration_ms=_MIN_PAUSE_MS,
        speech_pad_ms=_PAD_MS,
    )
    found = get_speech_timestamps(waveform * (_PEAK / peak), options)
    return [(segment["start"] / VAD_RATE, segment["end"] / VAD_RATE) for segment in found]
