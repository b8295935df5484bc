"""Speech for drawn clips: a mouth that follows the loudness of a sound, and a babble where no sound is given."""

import numpy as np
from scipy.signal import lfilter

from emollm.data.head import Array
from emollm.data.tracks import wander
from emollm.media.sound import SAMPLE_RATE

_WINDOW_S = 0.06
_QUIET = 0.08  # of the loud parts: below this nobody speaks
# How far actions go at the loudest: the jaw and lower lip with every syllable, rounding as the vowels change.
_JAW, _LOWER_LIP, _ROUND = 0.38, 0.35, 0.45


def loudness(waveform: Array, times: Array) -> Array:
    """(T,) loudness 0-1 of a sound (N,) at 16 kHz around ``times`` (seconds), against its own loud parts."""
    power = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    edges = np.clip((times[:, None] + (-_WINDOW_S / 2, _WINDOW_S / 2)) * SAMPLE_RATE, 0, len(waveform)).astype(int)
    energy = (power[edges[:, 1]] - power[edges[:, 0]]) / np.maximum(edges[:, 1] - edges[:, 0], 1)
    level = np.sqrt(np.maximum(energy, 0))
    loud = np.quantile(level, 0.95) if len(level) else 0.0
    return np.clip((level / (loud + 1e-9) - _QUIET) / (1 - _QUIET), 0, 1) if loud > 1e-4 else np.zeros(len(times))


def mouth(loud: Array, times: Array, rng: np.random.Generator) -> dict[str, Array]:
    """(T,) weights of the ARKit actions that speak, from the loudness (T,) at ``times``."""
    rounded = np.clip(wander(rng, times, 0.8, fastest_hz=2.5), 0, 1)
    return {
        "jawOpen": _JAW * loud * (1 - 0.4 * rounded),
        "mouthLowerDown": _LOWER_LIP * loud * (1 - 0.6 * rounded),
        "mouthFunnel": _ROUND * loud * rounded,
        "mouthPucker": 0.5 * _ROUND * loud * rounded,
    }


def babble(rng: np.random.Generator, seconds: float) -> Array:
    """(N,) float32 at 16 kHz: syllables without words, in phrases with pauses, by a buzz through two formants."""
    samples = int(seconds * SAMPLE_RATE)
    time = np.arange(samples) / SAMPLE_RATE
    pitch = rng.uniform(95, 230) * 2 ** (wander(rng, time, 0.12, fastest_hz=1.5))
    buzz = 2 * (np.cumsum(pitch / SAMPLE_RATE) % 1) - 1
    noise = rng.normal(0, 1, samples)
    sound, start = np.zeros(samples), int(rng.uniform(0, 0.4) * SAMPLE_RATE)
    while start < samples:
        for _ in range(rng.integers(3, 9)):
            length = int(rng.uniform(0.11, 0.26) * SAMPLE_RATE)
            stop = min(start + length, samples)
            if stop - start < 64:
                break
            source = buzz[start:stop] + 0.05 * noise[start:stop]
            for low, high, width in ((280, 850, 90), (850, 2300, 130)):
                source = source + 2 * _resonate(source, rng.uniform(low, high), width)
            sound[start:stop] += np.hanning(stop - start) * source * rng.uniform(0.5, 1)
            start = stop + int(rng.uniform(0, 0.05) * SAMPLE_RATE)
        start += int(rng.uniform(0.2, 0.7) * SAMPLE_RATE)
    return (0.5 * sound / (np.abs(sound).max() + 1e-9)).astype(np.float32)


def _resonate(sound: Array, frequency: float, width: float) -> Array:
    radius = np.exp(-np.pi * width / SAMPLE_RATE)
    turn = 2 * np.pi * frequency / SAMPLE_RATE
    filtered = lfilter([1.0], [1, -2 * radius * np.cos(turn), radius**2], sound)
    return filtered / (np.abs(filtered).max() + 1e-9)
