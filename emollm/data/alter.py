"""Other takes of a recording: what distance, microphone, line and tempo do to a voice that says the same.

``CONDITIONS`` are the fixed ones that robustness is measured under, :func:`alter` draws one at random for training.
Sounds are ``(N,)`` float, mono, :data:`emollm.media.decode.SAMPLE_RATE`; all but speed keep their length.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import librosa
import numpy as np
from scipy.signal import butter, fftconvolve, sosfiltfilt

from emollm.media.decode import SAMPLE_RATE

_TELEPHONE_HZ, _TELEPHONE_RATE, _MU = (300.0, 3400.0), 8000, 255.0
_OPUS_RATE = 48000


def speed(sound: np.ndarray, rate: float) -> np.ndarray:
    """Played ``rate`` times as fast, pitch and all."""
    return librosa.resample(sound, orig_sr=int(SAMPLE_RATE * rate), target_sr=SAMPLE_RATE)


def room(sound: np.ndarray, random: np.random.Generator, decay_s: float, direct_db: float) -> np.ndarray:
    """Add an echo of decaying noise: 60 dB in ``decay_s``, ``direct_db`` under the direct sound."""
    time = np.arange(int(decay_s * SAMPLE_RATE)) / SAMPLE_RATE
    echo = random.standard_normal(len(time)) * 10 ** (-3 * time / decay_s)
    echo *= 10 ** (-direct_db / 20) / np.sqrt((echo**2).sum())
    echo[0] += 1.0
    return fftconvolve(sound, echo)[: len(sound)]


def noise(sound: np.ndarray, random: np.random.Generator, snr_db: float, slope: float = 0.0) -> np.ndarray:
    """Add noise whose power falls with frequency to the power ``slope``: 0 white, 1 pink, 2 brown."""
    frequency = np.maximum(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE), 20.0)
    added = np.fft.irfft(np.fft.rfft(random.standard_normal(len(sound))) / frequency ** (slope / 2), len(sound))
    return sound + added * np.sqrt(np.mean(sound**2) / np.mean(added**2)) * 10 ** (-snr_db / 20)


def microphone(sound: np.ndarray, low_hz: float, high_hz: float, order: int = 2) -> np.ndarray:
    """Keep the band from ``low_hz`` to ``high_hz``."""
    return sosfiltfilt(butter(order, [low_hz, high_hz], "band", fs=SAMPLE_RATE, output="sos"), sound)


def telephone(sound: np.ndarray) -> np.ndarray:
    """A telephone line: 300 to 3400 Hz, 8 kHz, eight-bit mu-law (ITU-T G.711, its curve without its segments)."""
    line = librosa.resample(microphone(sound, *_TELEPHONE_HZ, order=4), orig_sr=SAMPLE_RATE, target_sr=_TELEPHONE_RATE)
    peak = np.abs(line).max() + 1e-9
    code = np.round(np.sign(line) * np.log1p(_MU * np.abs(line) / peak) / np.log1p(_MU) * 127) / 127
    line = np.sign(code) * np.expm1(np.abs(code) * np.log1p(_MU)) / _MU * peak
    return librosa.util.fix_length(
        librosa.resample(line, orig_sr=_TELEPHONE_RATE, target_sr=SAMPLE_RATE), size=len(sound)
    )


def opus(sound: np.ndarray, bits_per_s: int) -> np.ndarray:
    """Through the codec of calls and chats and back."""
    file, peak = io.BytesIO(), np.abs(sound).max() + 1e-9
    samples = (sound / peak * 0.8 * 32767).astype(np.int16)
    with av.open(file, "w", format="ogg") as written:
        stream = written.add_stream("libopus", rate=_OPUS_RATE, layout="mono")
        stream.bit_rate = bits_per_s
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        fitted = av.AudioResampler(format=stream.format, layout="mono", rate=_OPUS_RATE)
        for part in [*fitted.resample(frame), *fitted.resample(None)]:
            written.mux(stream.encode(part))
        written.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as read:
        back = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        parts = [part for frame in read.decode(audio=0) for part in back.resample(frame)]
        heard = np.concatenate([part.to_ndarray()[0] for part in [*parts, *back.resample(None)]])
    return librosa.util.fix_length(heard, size=len(sound)) * peak / 0.8


def alter(sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A random take: speed or pitch (only as far as it stays the person), room, microphone, noise, line, gain."""
    sound = np.asarray(sound, np.float32)
    tempo = random.random()
    if tempo < 0.6:
        sound = speed(sound, random.choice([0.88, 0.92, 0.95, 0.97, 1.03, 1.05, 1.08, 1.12]))
    elif tempo < 0.8:
        sound = librosa.effects.pitch_shift(sound, sr=SAMPLE_RATE, n_steps=random.uniform(-1.5, 1.5))
    if random.random() < 0.35:
        sound = room(sound, random, random.uniform(0.15, 0.8), random.uniform(-2, 10))
    if random.random() < 0.35:
        sound = microphone(sound, random.uniform(20, 350), random.uniform(3000, 7500))
    if random.random() < 0.5:
        sound = noise(sound, random, random.uniform(5, 30), random.uniform(0, 2))
    line = random.random()
    if line < 0.12:
        sound = telephone(sound)
    elif line < 0.3:
        sound = opus(sound, int(random.choice([8000, 12000, 16000])))
    sound = sound / (np.abs(sound).max() + 1e-9) * 10 ** (-random.uniform(0, 20) / 20)
    return sound.astype(np.float32)


Condition = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CONDITIONS: dict[str, Condition] = {
    "noise_10db": lambda sound, random: noise(sound, random, 10.0),
    "telephone": lambda sound, random: telephone(sound),
    "room": lambda sound, random: room(sound, random, 0.5, 0.0),
    "slower": lambda sound, random: speed(sound, 0.9),
    "faster": lambda sound, random: speed(sound, 1.1),
}
