import numpy as np
import pytest

from emollm.voice.vad import VAD_RATE, speech_segments


def test_speech_is_found_between_silences(babble):
    silence = np.zeros(2 * VAD_RATE, dtype=np.float32)
    segments = speech_segments(np.concatenate([silence, babble, silence, babble]))
    assert np.allclose(segments, [(2, 6), (8, 12)], atol=0.25)


@pytest.mark.parametrize("gain", [1.0, 0.05, 0.001])
def test_gain_does_not_matter(babble, gain):
    assert speech_segments(babble * gain) == speech_segments(babble)


@pytest.mark.parametrize("waveform", [np.zeros(0), np.zeros(VAD_RATE), np.full(VAD_RATE, 1e-5)])
def test_silence_holds_no_speech(waveform):
    assert speech_segments(waveform) == []


def test_broken_samples_are_survived(babble):
    broken = babble.copy()
    broken[::997] = np.nan
    assert speech_segments(broken)
