import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from emollm.errors import BadArgumentError, ClipError
from emollm.media.clip import Limits, read_clip
from emollm.media.decode import _Reader

from .conftest import index_of, tone, write_clip

SECOND = [i / 25 for i in range(25)]
UNIT = 1 << 16
FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mp4", {}),
        ("a.mov", {}),
        ("a.mkv", {}),
        ("a.webm", {"video": "libvpx-vp9", "audio": "libopus", "options": FAST_VP9}),
        ("a.avi", {"video": "mpeg4", "audio": "pcm_s16le", "fps": 25}),
    ],
)
def test_video_formats(tmp_path, name, settings):
    clip = read_clip(write_clip(tmp_path / name, times=SECOND, sound=tone(1.0), **settings))
    frames = list(clip.frames(fps=5))
    assert clip.kind == "video"
    assert clip.has_video
    assert clip.has_audio
    assert clip.warnings == []
    assert clip.duration_s == pytest.approx(1.0, abs=0.06)
    assert [f.time_s for f in frames] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=2e-3)
    assert [index_of(f.image) for f in frames] == [0, 5, 10, 15, 20]
    assert all(f.image.shape == (48, 64, 3) and f.image.dtype == np.uint8 for f in frames)


def test_opening_a_clip_decodes_one_picture_however_many_processors_there_are(tmp_path, monkeypatch):
    decoded = []

    def pictures(self, video, packet, original=_Reader.pictures):
        found = original(self, video, packet)
        decoded.append(len(found))
        return found

    monkeypatch.setattr("os.cpu_count", lambda: 4)
    path = write_clip(tmp_path / "a.mp4", times=SECOND, options={"bf": "0"})
    monkeypatch.setattr(_Reader, "pictures", pictures)
    read_clip(path)
    assert decoded == [1]


def test_gif_is_a_silent_video(tmp_path):
    times = [i / 10 for i in range(10)]
    clip = read_clip(write_clip(tmp_path / "a.gif", times=times, video="gif", pix_fmt="rgb8", fps=10))
    assert clip.kind == "video"
    assert clip.waveform is None
    assert not clip.has_audio
    assert clip.duration_s == pytest.approx(1.0, abs=0.01)
    assert [f.time_s for f in clip.frames(fps=5)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", "pcm_s16le"),
        ("a.mp3", "libmp3lame"),
        ("a.flac", "flac"),
        ("a.m4a", "aac"),
        ("a.ogg", "libopus"),
        ("a.aac", "aac"),
    ],
)
def test_sound_formats(tmp_path, name, codec):
    clip = read_clip(write_clip(tmp_path / name, sound=tone(2.0, 440.0), audio=codec))
    assert clip.kind == "audio"
    assert not clip.has_video
    assert list(clip.frames()) == []
    assert (clip.width, clip.height) == (0, 0)
    assert clip.waveform is not None
    assert clip.waveform.dtype == np.float32
    assert len(clip.waveform) == pytest.approx(32_000, abs=0.05 * 16_000)
    assert clip.duration_s == len(clip.waveform) / 16_000
    middle = clip.waveform[8000:24_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440  # 1 s long, so bins are 1 Hz wide
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_full_scale_stereo_stays_in_range(tmp_path):
    both = np.stack([tone(1.0, amplitude=0.95)] * 2)
    clip = read_clip(write_clip(tmp_path / "a.wav", sound=both, audio="pcm_s16le", layout="stereo"))
    assert np.abs(clip.waveform).max() == pytest.approx(0.95, abs=0.02)


def test_variable_frame_rate_is_sampled_by_time(tmp_path):
    times = [0, 0.02, 0.04, 0.5, 0.52, 1.7, 1.72, 1.9, 3.0]
    clip = read_clip(write_clip(tmp_path / "a.mp4", times=times))
    frames = list(clip.frames(fps=5))
    assert [f.time_s for f in frames] == pytest.approx([0, 0.5, 1.7, 1.9, 3.0], abs=1e-3)
    assert [index_of(f.image) for f in frames] == [0, 3, 5, 7, 8]
    assert 3.0 <= clip.duration_s < 3.1
    assert [f.time_s for f in clip.frames(fps=1000)] == pytest.approx(times, abs=1e-3)
    assert [f.time_s for f in clip.frames(fps=1)] == pytest.approx([0, 1.7, 3.0], abs=1e-3)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_frame_rate_must_be_positive(tmp_path, fps):
    clip = read_clip(write_clip(tmp_path / "a.mp4", times=SECOND[:2]))
    with pytest.raises(BadArgumentError):
        clip.frames(fps)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        # rows of (a b u, c d v, x y w): stored (x, y) appears at (a x + c y, b x + d y)
        ((UNIT, 0, 0, 0, UNIT, 0, 0, 0, 1 << 30), lambda stored: stored),
        ((0, UNIT, 0, -UNIT, 0, 0, 0, 0, 1 << 30), lambda stored: np.rot90(stored, -1)),  # a phone held upright
        ((-UNIT, 0, 0, 0, -UNIT, 0, 0, 0, 1 << 30), lambda stored: np.rot90(stored, 2)),
        ((0, -UNIT, 0, UNIT, 0, 0, 0, 0, 1 << 30), lambda stored: np.rot90(stored, 1)),
        ((-UNIT, 0, 0, 0, UNIT, 0, 0, 0, 1 << 30), np.fliplr),
        ((UNIT, 0, 0, 0, -UNIT, 0, 0, 0, 1 << 30), np.flipud),
    ],
)
def test_rotation_and_mirror(tmp_path, matrix, shown):
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32], stored[:24, 32:], stored[24:, :32] = 240, 160, 80
    clip = read_clip(write_clip(tmp_path / "a.mp4", times=[0], pictures=[stored], matrix=matrix))
    expected = shown(stored)
    (frame,) = clip.frames()
    assert frame.image.shape == expected.shape
    assert (clip.height, clip.width) == expected.shape[:2]
    assert np.abs(frame.image.astype(int) - expected).mean() < 8


def test_wide_pixels_are_shown_wide(tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.mp4", times=[0], aspect=Fraction(2, 1)))
    (frame,) = clip.frames()
    assert frame.image.shape == (48, 128, 3)


def test_large_frames_are_shrunk(tmp_path):
    big = {"size": (2560, 1440), "options": {"preset": "ultrafast"}}
    clip = read_clip(write_clip(tmp_path / "a.mp4", times=[0, 0.5], **big))
    assert [f.image.shape for f in clip.frames()] == [(720, 1280, 3)] * 2
    assert (clip.width, clip.height) == (1280, 720)


def test_one_frame_without_sound(tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.mp4", times=[0]))
    assert clip.kind == "video"
    assert clip.waveform is None
    assert [f.time_s for f in clip.frames()] == [0.0]


def test_silent_track(tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.mp4", times=SECOND, sound=np.zeros(48_000, np.float32)))
    assert clip.has_audio
    assert not clip.waveform.any()


def test_track_without_samples_counts_as_no_sound(tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.mov", times=SECOND, sound=np.zeros(0, np.float32), audio="pcm_s16le"))
    assert clip.kind == "video"
    assert clip.waveform is None


def test_late_and_interrupted_sound_keeps_the_clips_time(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        picture = out.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        for i in range(75):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = i
            out.mux(picture.encode(frame))
        for start in (1.0, 2.0):
            piece = av.AudioFrame.from_ndarray(np.full((1, 4000), 8000, np.int16), format="s16", layout="mono")
            piece.sample_rate, piece.pts = 16_000, round(start * 16_000)
            out.mux(stream.encode(piece))
        out.mux(picture.encode(None))
        out.mux(stream.encode(None))
    clip = read_clip(path)
    loud = clip.waveform > 0.1
    assert not loud[:15_900].any()
    assert loud[16_100:19_900].all()
    assert not loud[20_100:31_900].any()
    assert loud[32_100:35_900].all()


def test_cover_picture_of_a_sound_file_is_not_video(tmp_path):
    plain = write_clip(tmp_path / "plain.mp3", sound=tone(1.0), audio="libmp3lame")
    with av.open(str(tmp_path / "cover.png"), "w", format="image2") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        out.mux(stream.encode(av.VideoFrame(32, 32, "rgb24")))
    cover = (tmp_path / "cover.png").read_bytes()
    body = b"\0image/png\0\x03\0" + cover
    tag = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes((len(tag) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path = tmp_path / "a.mp3"
    path.write_bytes(b"ID3\x03\0\0" + size + tag + plain.read_bytes())
    with av.open(str(path)) as container:
        assert container.streams.video  # FFmpeg does offer the cover as a video stream
    assert read_clip(path).kind == "audio"


def test_limits_hold_while_frames_are_decoded(tmp_path):
    path = write_clip(tmp_path / "a.mkv", times=SECOND)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", 100.0)  # the header says 0.1 s
    path.write_bytes(data)
    clip = read_clip(path)
    clip.limits = Limits(frames=10)
    with pytest.raises(ClipError, match="limit of 10 frames"):
        list(clip.frames())
    clip.limits = Limits(seconds=0.5)
    frames = clip.frames()
    assert next(frames).time_s == 0.0
    with pytest.raises(ClipError, match=r"limit of 0\.5 s"):
        list(frames)


def test_clock_of_a_longer_recording_starts_at_zero(tmp_path):
    path = write_clip(tmp_path / "a.mkv", times=[60 + t for t in SECOND], options={"bf": "0"})
    clip = read_clip(path)
    assert clip.duration_s == pytest.approx(1.0, abs=0.1)
    assert clip.warnings == []
    assert [f.time_s for f in clip.frames(5)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=2e-3)
