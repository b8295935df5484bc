import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emollm.voice.frames import frames_of_segments, voice_frames
from emollm.voice.prosody import Prosody, measure_prosody, prosody_track
from emollm.voice.vad import VAD_RATE

CALM = Prosody(
    pitch_hz=200.0,
    pitch_sd_semitones=2.4,
    energy_db=-20.0,
    energy_sd_db=6.3,
    rate=5.6,
    pause_share=0.1,
    voiced_share=0.64,
    speech_s=2.0,
)


def test_speech_end_to_end(babble):
    prosody = measure_prosody(babble)
    assert prosody is not None
    assert prosody.pitch_hz == pytest.approx(150, rel=0.05)
    assert prosody.pitch_sd_semitones == pytest.approx(1.65, abs=0.3)  # of a sine of 20 Hz around 150 Hz
    assert prosody.rate == pytest.approx(5, abs=0.3)
    assert prosody.speech_s == pytest.approx(4, abs=0.1)
    assert prosody.pause_share < 0.05
    assert prosody.voiced_share > 0.7


def test_other_sample_rates_give_the_same(babble):
    import librosa

    high = librosa.resample(babble, orig_sr=VAD_RATE, target_sr=44100)
    here, there = measure_prosody(babble), measure_prosody(high, sample_rate=44100)
    assert np.allclose(here.vector(), there.vector(), atol=0.2)


def test_gain_moves_the_level_alone(babble):
    loud, soft = measure_prosody(babble), measure_prosody(babble * 0.1)
    assert loud.energy_db - soft.energy_db == pytest.approx(20, abs=0.5)
    assert soft.pitch_hz == pytest.approx(loud.pitch_hz, rel=0.01)
    assert soft.rate == pytest.approx(loud.rate, abs=0.3)


@pytest.mark.parametrize("rate", [3, 5, 7])
def test_rate_counts_amplitude_peaks(vowel, rate):
    time_s = np.arange(3 * VAD_RATE) / VAD_RATE
    sound = vowel(np.full(len(time_s), 150)) * (0.5 - 0.5 * np.cos(2 * np.pi * rate * time_s))
    prosody = measure_prosody(frames_of_segments(sound, [(0.0, 3.0)]))
    assert prosody.rate == pytest.approx(rate, abs=0.4)


def test_pauses_are_counted_between_first_and_last_speech(babble):
    gap = np.zeros(2 * VAD_RATE, dtype=np.float32)
    prosody = measure_prosody(np.concatenate([gap, babble, gap, babble, gap]))
    assert prosody.pause_share == pytest.approx(0.2, abs=0.03)
    assert prosody.speech_s == pytest.approx(8, abs=0.3)


def test_whisper_has_no_pitch_but_a_vector():
    noise = np.random.default_rng(0).normal(0, 0.1, VAD_RATE)
    prosody = measure_prosody(frames_of_segments(noise, [(0.0, 1.0)]))
    assert prosody.pitch_hz is None
    assert prosody.pitch_sd_semitones is None
    assert prosody.energy_db == pytest.approx(-20, abs=1)
    assert prosody.vector()[:2].tolist() == [0, 0]
    assert "no measurable pitch" in prosody.summary()


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(0),
        np.zeros(2 * VAD_RATE),
        np.random.default_rng(0).normal(0, 0.1, 2 * VAD_RATE),
        0.3 * np.sin(2 * np.pi * 440 * np.arange(VAD_RATE) / VAD_RATE),
        np.full(VAD_RATE, 0.5),
    ],
    ids=["empty", "silence", "noise", "beep", "offset"],
)
def test_nobody_is_heard(waveform):
    assert measure_prosody(waveform) is None


def test_less_than_a_tenth_of_a_second_is_too_short(babble):
    assert measure_prosody(babble[1000:2500]) is None


@given(
    pitch=st.one_of(st.none(), st.floats(65, 500)),
    numbers=st.tuples(st.floats(-100, 0), st.floats(0, 50), st.floats(0, 100)),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    speech_s=st.floats(0.01, 1e5),
)
def test_vector_is_finite_and_bounded(pitch, numbers, shares, speech_s):
    prosody = Prosody(pitch, None if pitch is None else 2.0, *numbers, *shares, speech_s)
    vector = prosody.vector()
    assert vector.shape == (8,)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    assert np.abs(vector).max() <= 3
    assert prosody.summary()


def test_vector_of_an_average_voice_is_the_origin():
    assert np.abs(CALM.vector()).max() < 0.01


@pytest.mark.parametrize(("index", "field"), list(enumerate(f.name for f in dataclasses.fields(Prosody))))
def test_each_number_moves_its_own_place(index, field):
    more = dataclasses.replace(CALM, **{field: getattr(CALM, field) + 0.1 * abs(getattr(CALM, field))})
    change = more.vector() - CALM.vector()
    assert change[index] > 0
    assert np.count_nonzero(change) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "medium pitch, normal level, medium pace, some pauses"),
        (
            {"pitch_hz": 280.0, "pitch_sd_semitones": 4.0, "energy_db": -10.0, "rate": 7.0, "pause_share": 0.02},
            "high pitch, varied intonation, loud, fast, few pauses",
        ),
        (
            {"pitch_hz": 100.0, "pitch_sd_semitones": 1.0, "energy_db": -40.0, "rate": 3.0, "pause_share": 0.5},
            "low pitch, flat intonation, quiet, slow, many pauses",
        ),
    ],
)
def test_summary_words(changes, words):
    assert dataclasses.replace(CALM, **changes).summary() == words


def test_track_agrees_with_the_whole(babble):
    sound = np.concatenate([np.zeros(VAD_RATE, dtype=np.float32), babble, np.zeros(VAD_RATE // 4, dtype=np.float32)])
    frames = voice_frames(sound)
    track = prosody_track(frames)
    assert track.start_s.tolist() == [0.5 * index for index in range(11)]
    assert np.isnan(track.pitch_hz[:2]).all()
    assert np.isfinite(track.pitch_hz[2:10]).all()
    assert track.pitch_hz[4] == np.nanmedian(frames.pitch_hz[200:250])
    assert np.nanmin(track.pitch_hz) < measure_prosody(frames).pitch_hz < np.nanmax(track.pitch_hz)
    assert track.speech_share[0] == 0
    assert (track.speech_share[3:9] > 0.9).all()
    assert track.energy_db[4] == pytest.approx(10 * np.log10(np.mean(sound[32000:40000] ** 2)), abs=1)


def test_track_of_a_waveform_measures_it(babble):
    from_sound, from_frames = prosody_track(babble, 1.0), prosody_track(voice_frames(babble), 1.0)
    assert np.array_equal(from_sound.pitch_hz, from_frames.pitch_hz, equal_nan=True)
    assert len(from_sound.start_s) == 4


def test_track_of_nothing_is_empty():
    track = prosody_track(np.zeros(0))
    assert [len(getattr(track, field.name)) for field in dataclasses.fields(track)] == [0, 0, 0, 0]
