import numpy as np
import pytest

from emollm.data.alter import CONDITIONS, alter, microphone, noise, opus, room, speed, telephone
from emollm.media.decode import SAMPLE_RATE

TIME = np.arange(SAMPLE_RATE) / SAMPLE_RATE


def tone(hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * TIME).astype(np.float32)


def power_at(sound: np.ndarray, hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(sound)) ** 2 / len(sound) ** 2 * 4
    centre = round(hz * len(sound) / SAMPLE_RATE)
    return float(spectrum[centre - 3 : centre + 4].sum())


def test_takes_stay_finite_within_range_and_repeat():
    for seed in range(12):
        take = alter(tone(300), np.random.default_rng(seed))
        assert take.dtype == np.float32
        assert np.isfinite(take).all()
        assert 0.09 < np.abs(take).max() <= 1.0
        assert abs(len(take) / len(TIME) - 1) < 0.15
        assert np.array_equal(take, alter(tone(300), np.random.default_rng(seed)))


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_change_the_sound_and_repeat(name):
    first, again = (CONDITIONS[name](tone(300), np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.isfinite(first).all()
    assert len(first) != len(TIME) or np.abs(first - tone(300)).max() > 0.01


def test_faster_is_shorter_and_higher():
    fast = speed(tone(400), 1.25)
    assert len(fast) == pytest.approx(len(TIME) / 1.25, abs=2)
    assert power_at(fast, 500) > 0.9


def test_noise_has_the_level_asked_for():
    added = noise(tone(300), np.random.default_rng(0), 10.0) - tone(300)
    assert 10 * np.log10(np.mean(tone(300) ** 2) / np.mean(added**2)) == pytest.approx(10, abs=0.01)


def test_brown_noise_is_low():
    added = noise(tone(300), np.random.default_rng(0), 0.0, slope=2.0) - tone(300)
    spectrum = np.abs(np.fft.rfft(added)) ** 2
    assert spectrum[:1000].sum() > 20 * spectrum[1000:].sum()


def test_a_room_rings_on():
    click = np.zeros(SAMPLE_RATE)
    click[0] = 1.0
    heard = room(click, np.random.default_rng(0), 0.4, 0.0)
    assert heard[0] > 0.9
    early, late = np.mean(heard[10:1600] ** 2), np.mean(heard[4800:6400] ** 2)
    assert 10 * np.log10(early / late) == pytest.approx(45, abs=5)  # 60 dB in 0.4 s, the two 0.3 s apart


def test_a_microphone_keeps_its_band():
    assert power_at(microphone(tone(1000), 200, 4000), 1000) > 0.9
    assert power_at(microphone(tone(40), 200, 4000), 40) < 0.05
    assert power_at(microphone(tone(7800), 200, 4000), 7800) < 0.05


def test_a_telephone_keeps_speech_and_loses_the_rest():
    assert telephone(tone(1000)).shape == TIME.shape
    assert power_at(telephone(tone(1000)), 1000) > 0.9
    assert power_at(telephone(tone(6000)), 6000) < 0.001
    assert power_at(telephone(tone(60)), 60) < 0.01


def test_the_codec_keeps_time_and_level():
    sound = tone(440) * (TIME > 0.5)
    heard = opus(sound, 16000)
    assert heard.shape == sound.shape
    assert np.mean(heard[:7000] ** 2) < 0.01
    assert np.mean(heard[9000:] ** 2) == pytest.approx(0.5, rel=0.3)
