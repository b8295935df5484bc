"""Uploaded bytes become a clip: the same as from a file, and refused in words that name no file."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from media.conftest import write_clip
from tiny import make_speech

from emollm.errors import WeightsError
from emollm.media.guard import Limits
from emollm.weights import fetch


@pytest.fixture
def speech(tmp_path):
    soundfile.write(tmp_path / "a.wav", make_speech(), 16000)
    return (tmp_path / "a.wav").read_bytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def test_sound_is_read_and_no_file_stays(speech, folder):
    from emollm.serve.video_loader import EmoLLMVideoLoader

    frames, metadata = EmoLLMVideoLoader.load_bytes(speech, num_frames=1, fps=1, seconds=1e9)
    clip = metadata["clip"]
    assert len(frames) == 0
    assert clip.face is None
    assert clip.duration_s == pytest.approx(3.0)
    assert len(clip.waveform) == 48000
    assert clip.prosody is not None
    assert not list(folder.iterdir())


def test_a_film_gives_face_and_voice(tmp_path):
    import skimage.data

    from emollm.serve.video_loader import EmoLLMVideoLoader

    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")
    portrait = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    times = np.arange(0, 2.0, 0.1).tolist()
    film = write_clip(
        tmp_path / "a.mp4", times=times, pictures=[portrait] * 20, size=(256, 256), sound=make_speech(), rate=16000
    )
    frames, metadata = EmoLLMVideoLoader.load_bytes(film.read_bytes())
    assert frames.shape[1:] == (112, 112, 3)
    assert frames is metadata["clip"].face.crops
    assert len(frames) == 10
    assert metadata["clip"].prosody is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b"RIFF" + bytes(100), "cannot be read"), (b"\xff\xd8\xff" + bytes(50), "The clip")],
)
def test_what_cannot_be_read(data, message, folder):
    from emollm.serve.video_loader import read_upload

    with pytest.raises(ValueError, match=message) as refused:
        read_upload(data)
    assert "The clip" in str(refused.value)
    assert str(folder) not in str(refused.value)
    assert not list(folder.iterdir())


def test_a_clip_that_is_sent_again_is_not_read_again(speech, monkeypatch):
    from emollm.serve import video_loader

    read = []
    perceive = video_loader.perceive
    monkeypatch.setattr(video_loader, "perceive", lambda clip: read.append(1) or perceive(clip))
    data = speech + b"\0"
    assert video_loader.read_upload(data) is video_loader.read_upload(bytes(data))
    assert read == [1]
    video_loader.read_upload(speech + b"\0\0")
    assert read == [1, 1]


def test_limits_hold_for_every_upload(speech, monkeypatch):
    from emollm.serve import video_loader

    monkeypatch.setattr(video_loader, "limits", video_loader.limits)
    video_loader.set_limits(replace(Limits(), seconds=2.0))
    with pytest.raises(ValueError, match=r"The clip lasts 3\.0 s, over the limit of 2\.0 s"):
        video_loader.read_upload(speech)
    video_loader.set_limits(replace(Limits(), file_bytes=1 << 10))
    with pytest.raises(ValueError, match="more than the limit"):
        video_loader.read_upload(speech)


def test_a_clip_without_face_and_voice_is_refused(tmp_path):
    from emollm.serve.video_loader import read_upload

    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.float32), 16000)
    with pytest.raises(ValueError, match="no face and holds no voice"):
        read_upload(Path(tmp_path / "a.wav").read_bytes())
