"""The sound of a clip: decoded frames of any format become one 16 kHz mono waveform on the clip's own clock."""

from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame

from emollm.media.guard import Limits

SAMPLE_RATE = 16_000

_GAP_S = 0.1  # longer holes in the sound are filled with silence, so that sample / 16000 stays the clip's time
_RATES = (1_000, 768_000)  # Hz; swresample's filters grow without bound beyond any real recording's rate


class Sound:
    """Collects decoded frames; raises ClipError as soon as they exceed a limit."""

    def __init__(self, path: Path, limits: Limits):
        self.path, self.limits = path, limits
        self.chunks: list[np.ndarray] = []
        self.filled = 0  # samples at 16 kHz
        self.decoded = 0  # samples as stored, all channels
        self.broken = 0
        self.end_s = 0.0
        self.setup: tuple = ()
        self.resampler: av.AudioResampler | None = None

    def add(self, frame: AudioFrame, stamp_s: float | None) -> None:
        """Append a frame due ``stamp_s`` seconds into the clip, or None to follow on from the last one."""
        begin_s = self.end_s
        if stamp_s is not None and stamp_s > self.end_s + _GAP_S:
            begin_s = stamp_s
        if not _RATES[0] <= frame.sample_rate <= _RATES[1]:
            self.broken += 1
            return
        # Checked before resampling, which multiplies the samples of a low rate.
        self.limits.check_seconds(self.path, begin_s + frame.samples / frame.sample_rate)
        self.decoded += frame.samples * len(frame.layout.channels)
        self.limits.check_audio_samples(self.path, self.decoded)
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if begin_s > self.end_s or setup != self.setup:
            self._flush()
            self._append(np.zeros(max(0, round(begin_s * SAMPLE_RATE) - self.filled), np.int16))
            # 16-bit output, because swresample only keeps a mix of channels within full scale for integer formats.
            self.resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            self.setup = setup
        self.end_s = begin_s + frame.samples / frame.sample_rate
        frame.pts = None
        self._resample(frame)

    def waveform(self) -> np.ndarray | None:
        """Return (N,) float32 in [-1, 1], or None if the stream held no samples."""
        self._flush()
        if not self.filled:
            return None
        return np.concatenate(self.chunks).astype(np.float32) / 32768

    def _flush(self) -> None:
        if self.resampler:
            self._resample(None)
            self.resampler = None

    def _resample(self, frame: AudioFrame | None) -> None:
        assert self.resampler
        try:
            pieces = self.resampler.resample(frame)
        except (av.error.FFmpegError, ValueError):  # a layout of channels that swresample cannot mix
            self.broken += 1
            return
        for piece in pieces:
            self._append(piece.to_ndarray()[0])

    def _append(self, samples: np.ndarray) -> None:
        self.chunks.append(samples)
        self.filled += len(samples)
