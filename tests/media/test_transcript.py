from types import SimpleNamespace

import numpy as np
import pytest

from emollm import weights
from emollm.errors import BadArgumentError
from emollm.media import transcript
from emollm.media.clip import Segment, read_clip

from .conftest import tone, write_clip

SRT = "1\n00:00:00,500 --> 00:00:01,250\n<i>Hello</i>\nthere\n\n2\n00:00:02,000 --> 00:00:03,000\nGrüße\n"
VTT = "WEBVTT\n\n00:00.500 --> 00:01.250\n<v Ann>Hello</v>\nthere\n\n00:02.000 --> 00:03.000\nGrüße\n"
SAID = [Segment(0.5, 1.25, "Hello there"), Segment(2.0, 3.0, "Grüße")]


@pytest.fixture
def clip_path(tmp_path):
    return write_clip(tmp_path / "a clip.mp4", times=[0, 0.2], sound=tone(0.4))


@pytest.mark.parametrize(("suffix", "text"), [(".srt", SRT), (".vtt", VTT)])
def test_sidecar(clip_path, suffix, text):
    clip_path.with_suffix(suffix).write_text(text, encoding="utf-8")
    assert read_clip(clip_path).transcript == SAID
    assert read_clip(clip_path, transcript="none").transcript == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_given_file_in_any_encoding(clip_path, tmp_path, encoding):
    given = tmp_path / "said.srt"
    given.write_bytes(SRT.encode(encoding))
    assert read_clip(clip_path, transcript=given).transcript == SAID


def test_given_file_beats_sidecar(clip_path, tmp_path):
    clip_path.with_suffix(".srt").write_text(SRT.replace("there", "sidecar"))
    given = tmp_path / "other.srt"
    given.write_text(SRT, encoding="utf-8")
    assert read_clip(clip_path, transcript=str(given)).transcript == SAID


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "subrip"), ("a.mp4", "mov_text"), ("b.mkv", "webvtt"), ("c.mkv", "ass")]
)
def test_subtitle_track(tmp_path, name, codec):
    lines = [(0.5, 1.25, r"{\i1}Hello{\i0}\Nthere"), (2.0, 3.0, "Grüße")]
    path = write_clip(tmp_path / name, times=[0, 3], subtitles=lines, subtitle_codec=codec)
    assert read_clip(path).transcript == SAID
    assert read_clip(path, transcript="none").transcript == []


@pytest.mark.parametrize("content", [b"", b"just prose", b"\x00\x01\xff" * 500, b"{}", b"[1]", b"x" * (3 << 20)])
def test_unreadable_transcript(clip_path, tmp_path, content):
    given = tmp_path / "said.srt"
    given.write_bytes(content)
    with pytest.raises(BadArgumentError, match=r"said\.srt"):
        read_clip(clip_path, transcript=given)


def test_missing_transcript(clip_path, tmp_path):
    for wrong in (tmp_path / "nothing.srt", tmp_path):
        with pytest.raises(BadArgumentError, match="no transcript file"):
            read_clip(clip_path, transcript=wrong)


def test_unreadable_sidecar_is_only_a_warning(clip_path):
    clip_path.with_suffix(".srt").write_text("not subtitles")
    clip = read_clip(clip_path)
    assert clip.transcript == []
    assert any("a clip.srt" in warning and "ignored" in warning for warning in clip.warnings)


def test_recognition_is_asked_for_the_whole_sound(clip_path, monkeypatch):
    heard = []

    class Whisper:
        def transcribe(self, waveform, **options):
            heard.append(waveform)
            piece = SimpleNamespace(start=0.0, end=0.4, text=" Oh,  hello. ")
            return iter([piece]), None

    monkeypatch.setattr(transcript, "_whisper", Whisper)
    clip = read_clip(clip_path, transcript="asr")
    assert clip.transcript == [Segment(0.0, 0.4, "Oh, hello.")]
    np.testing.assert_array_equal(heard[0], clip.waveform)


def test_recognition_without_sound(tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.mp4", times=[0]), transcript="asr")
    assert clip.transcript == []
    assert any("no sound" in warning for warning in clip.warnings)


@pytest.mark.skipif(not weights.is_cached("whisper"), reason="the recogniser's weights are not cached")
def test_recogniser_invents_nothing_in_silence_and_tones(tmp_path):
    sound = np.concatenate([np.zeros(48_000, np.float32), tone(1.0)])
    clip = read_clip(write_clip(tmp_path / "a.wav", sound=sound, audio="pcm_s16le"), transcript="asr")
    assert clip.transcript == []
