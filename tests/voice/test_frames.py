import numpy as np
import pytest

from emollm.voice.frames import FLOOR_DB, HOP_S, frames_of_segments, voice_frames
from emollm.voice.vad import VAD_RATE


@pytest.mark.parametrize("pitch_hz", [80, 130, 220, 440])
def test_pitch_of_a_steady_vowel(vowel, pitch_hz):
    frames = frames_of_segments(vowel(np.full(VAD_RATE, pitch_hz)), [(0.0, 1.0)])
    voiced = frames.pitch_hz[~np.isnan(frames.pitch_hz)]
    assert len(voiced) > 90
    assert np.allclose(voiced, pitch_hz, rtol=0.03)


def test_pitch_follows_a_glide(vowel):
    glide = np.linspace(120, 240, 2 * VAD_RATE)
    frames = frames_of_segments(vowel(glide), [(0.0, 2.0)])
    truth = glide[:: int(VAD_RATE * HOP_S)]
    inner = slice(10, -10)
    assert np.allclose(frames.pitch_hz[inner], truth[inner], rtol=0.03)


@pytest.mark.parametrize("amplitude", [0.5, 0.05, 0.005])
def test_level_of_a_tone(amplitude):
    tone = amplitude * np.sin(2 * np.pi * 200 * np.arange(VAD_RATE) / VAD_RATE)
    frames = frames_of_segments(tone, [(0.0, 1.0)])
    expected = 20 * np.log10(amplitude / np.sqrt(2))
    assert np.allclose(frames.energy_db[5:-5], expected, atol=1.0)


def test_nothing_is_voiced_outside_speech(vowel):
    frames = frames_of_segments(vowel(np.full(2 * VAD_RATE, 150)), [(0.5, 1.0)])
    assert frames.speech.sum() == 50
    assert not np.isnan(frames.pitch_hz[55:95]).any()
    assert np.isnan(frames.pitch_hz[~frames.speech]).all()


def test_long_speech_in_pieces_equals_itself(vowel, monkeypatch):
    sound = vowel(np.linspace(150, 200, VAD_RATE))
    whole = frames_of_segments(sound, [(0.0, 1.0)])
    monkeypatch.setattr("emollm.voice.frames._MAX_PIECE_FRAMES", 30)
    pieces = frames_of_segments(sound, [(0.0, 1.0)])
    both = ~np.isnan(whole.pitch_hz) & ~np.isnan(pieces.pitch_hz)
    assert both.mean() > 0.9
    assert np.allclose(whole.pitch_hz[both], pieces.pitch_hz[both], rtol=0.03)


@pytest.fixture
def doubtful(monkeypatch):
    """A voice activity model that hears speech only when asked for the faintest."""
    monkeypatch.setattr(
        "emollm.voice.frames.speech_segments",
        lambda waveform, threshold=0.5: [(0.0, 0.2)] if threshold < 0.5 else [],
    )


@pytest.mark.usefixtures("doubtful")
def test_short_cry_that_the_voice_activity_model_doubts_is_kept(vowel):
    frames = voice_frames(np.pad(vowel(np.full(4800, 150)), 8000))
    assert frames.speech.sum() * HOP_S == pytest.approx(0.3, abs=0.05)
    assert np.nanmedian(frames.pitch_hz) == pytest.approx(150, rel=0.03)
    assert np.isnan(frames.pitch_hz[~frames.speech]).all()


@pytest.mark.usefixtures("doubtful")
@pytest.mark.parametrize("seconds", [3, 20])
def test_long_drone_is_not_a_cry(vowel, seconds):
    assert not voice_frames(vowel(np.linspace(150, 180, seconds * VAD_RATE))).speech.any()


@pytest.mark.usefixtures("doubtful")
def test_beep_and_noise_are_not_a_cry():
    beep = 0.3 * np.sin(2 * np.pi * 220 * np.arange(VAD_RATE) / VAD_RATE)
    noise = np.random.default_rng(0).normal(0, 0.1, VAD_RATE)
    assert not voice_frames(beep).speech.any()
    assert not voice_frames(noise).speech.any()


def test_nothing_is_a_cry_when_the_voice_activity_model_is_sure(monkeypatch, vowel):
    monkeypatch.setattr("emollm.voice.frames.speech_segments", lambda waveform, threshold=0.5: [])
    assert not voice_frames(np.pad(vowel(np.full(4800, 150)), 8000)).speech.any()


@pytest.mark.parametrize("samples", [0, 1, 1599])
def test_too_short_a_sound_has_frames_without_speech(samples):
    frames = voice_frames(np.ones(samples))
    assert len(frames.pitch_hz) == len(frames.energy_db) == len(frames.speech) == -(-samples // 160)
    assert not frames.speech.any()
    assert (frames.energy_db == FLOOR_DB).all()
