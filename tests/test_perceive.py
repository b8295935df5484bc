from pathlib import Path

import numpy as np
import pytest
import skimage.data
from media.conftest import tone, write_clip
from PIL import Image
from tiny import make_speech

from emollm.errors import NothingToReadError, WeightsError
from emollm.media.clip import read_clip
from emollm.perceive import perceive
from emollm.weights import fetch


@pytest.fixture(autouse=True, scope="module")
def landmarker() -> None:
    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")


def portrait() -> np.ndarray:
    """``(256, 256, 3)``: a face."""
    return np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])


def film(path: Path, seconds: float = 2.0, **sound: object) -> Path:
    times = np.arange(0, seconds, 0.1).tolist()
    return write_clip(path, times=times, pictures=[portrait()] * len(times), size=(256, 256), **sound)


def test_a_film_with_a_voice(tmp_path):
    stages = []
    clip = read_clip(film(tmp_path / "a.mp4", 3.0, sound=make_speech(), rate=16000))
    perception = perceive(clip, on_stage=lambda *stage: stages.append(stage))
    (person,) = perception.people
    assert len(person.times) == perception.frames_seen == 15
    assert person.usable.all()
    assert perception.prosody is not None
    assert perception.waveform is clip.waveform
    assert perception.warnings == []
    assert ("faces", 15, 15) in stages
    assert stages[-1] == ("voice", 1, 1)


def test_a_silent_track_is_said_to_hold_no_voice(tmp_path):
    perception = perceive(read_clip(film(tmp_path / "a.mp4", sound=np.zeros(32000, np.float32), rate=16000)))
    assert len(perception.people) == 1
    assert perception.prosody is None
    assert perception.waveform is None
    assert "The sound holds no voice." in perception.warnings


def test_a_film_without_sound(tmp_path):
    perception = perceive(read_clip(film(tmp_path / "a.mp4")))
    assert len(perception.people) == 1
    assert perception.prosody is None


def test_a_picture(tmp_path):
    Image.fromarray(portrait()).save(tmp_path / "a.png")
    perception = perceive(read_clip(tmp_path / "a.png"))
    assert perception.people[0].times.tolist() == [0.0]


def test_a_voice_behind_a_picture_without_face(tmp_path):
    path = write_clip(tmp_path / "a.mp4", times=[0, 1, 2], sound=make_speech(), rate=16000)
    perception = perceive(read_clip(path))
    assert perception.people == []
    assert perception.prosody is not None
    assert "No face was found." in perception.warnings


def test_sound_only(tmp_path):
    perception = perceive(
        read_clip(write_clip(tmp_path / "a.wav", sound=make_speech(), rate=16000, audio="pcm_s16le"))
    )
    assert perception.frames_seen == 0
    assert perception.prosody is not None


@pytest.mark.parametrize(
    "sound", [None, np.zeros(32000, np.float32), tone(2, rate=16000)], ids=["none", "silent", "hum"]
)
def test_neither_face_nor_voice(tmp_path, sound):
    path = write_clip(tmp_path / "a.mp4", times=[0, 0.5, 1, 1.5], sound=sound, rate=16000)
    with pytest.raises(NothingToReadError, match="no face and holds no voice"):
        perceive(read_clip(path))


def test_a_crop_of_a_face(tmp_path):
    Image.fromarray(np.full((48, 48, 3), 128, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(NothingToReadError):
        perceive(read_clip(tmp_path / "a.png"))
    (person,) = perceive(read_clip(tmp_path / "a.png"), face_crop=True).people
    assert np.isnan(person.blendshapes).all()


def test_long_clips_are_sampled_more_thinly(monkeypatch, tmp_path):
    monkeypatch.setattr("emollm.perceive.MAX_FRAMES", 4)
    perception = perceive(read_clip(film(tmp_path / "a.mp4")))
    assert perception.frames_seen == 4
