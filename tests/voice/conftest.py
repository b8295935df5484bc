from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import lfilter, sawtooth

RATE = 16000
# Centre and bandwidth in Hz of the formants of two vowels.
FORMANTS_HZ = {"a": ((700, 100), (1200, 120), (2600, 160)), "i": ((300, 80), (2200, 150), (2900, 200))}


def _vowel(pitch_hz: np.ndarray, name: str = "a") -> np.ndarray:
    sound = sawtooth(2 * np.pi * np.cumsum(pitch_hz) / RATE)
    for centre, width in FORMANTS_HZ[name]:
        radius = np.exp(-np.pi * width / RATE)
        sound = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2], sound)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


@pytest.fixture(scope="session")
def vowel() -> Callable[..., np.ndarray]:
    """A vowel ("a" or "i") with the given pitch at each of N samples at 16 kHz: (N,) float32, peak 0.5."""
    return _vowel


@pytest.fixture(scope="session")
def babble() -> np.ndarray:
    """Four seconds that Silero takes for speech: "aiaiai", 5 syllables a second, pitch from 130 to 170 Hz and back."""
    time_s = np.arange(4 * RATE) / RATE
    pitch_hz = 150 + 20 * np.sin(2 * np.pi * 0.7 * time_s)
    vowels = np.where(np.floor(5 * time_s) % 2 == 0, _vowel(pitch_hz, "a"), _vowel(pitch_hz, "i"))
    return (vowels * (0.5 - 0.5 * np.cos(2 * np.pi * 5 * time_s))).astype(np.float32)
