"""Every hostile or broken input ends in one sentence, and costs little."""

import random
import struct
import subprocess
import sys
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest

from emollm.errors import ClipError
from emollm.media.clip import Limits, read_clip

from .conftest import tone, write_clip

SECOND = [i / 25 for i in range(25)]


def refusal(path, **kwargs) -> str:
    with pytest.raises(ClipError) as caught:
        list(read_clip(path, **kwargs).frames())
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    assert "\n" not in message
    return message


def patched(path, *changes):
    """Rewrite bytes after the first mark: (mark, offset after its end, new bytes)."""
    data = bytearray(path.read_bytes())
    for mark, offset, new in changes:
        at = data.index(mark) + len(mark) + offset
        data[at : at + len(new)] = new
    path.write_bytes(data)
    return path


def png(width, height, rows):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(1)
    row = bytes(1 + 3 * width)
    body = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def peak_mebibytes(path) -> tuple[str, float]:
    """Read a clip in a process of its own; return what was printed and the most memory it held (Linux only)."""
    # Not ru_maxrss, which a child inherits from the process that started it.
    if sys.platform != "linux":
        pytest.skip("measures memory through /proc")
    code = (
        "import re, sys\n"
        "from emollm.errors import ClipError\n"
        "from emollm.media.clip import read_clip\n"
        "try:\n"
        "    print([f.image.shape for f in read_clip(sys.argv[1]).frames()])\n"
        "except ClipError as error:\n"
        "    print(error)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    said, peak = result.stdout.strip().rsplit("\n", 1)
    return said, int(peak) / 1024


def test_missing_folder_and_empty(tmp_path):
    assert "no clip" in refusal(tmp_path / "nothing.mp4")
    assert "folder" in refusal(tmp_path)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "empty" in refusal(empty)
    assert "no clip" in refusal(type(tmp_path)("/dev/zero"))
    assert "no clip" in refusal(type(tmp_path)("http://127.0.0.1:9/clip.mp4"))


@pytest.mark.parametrize("suffix", [".mp4", ".mp3", ".png", ".gif", ".mkv"])
def test_text_under_a_media_name(tmp_path, suffix):
    path = tmp_path / f"text{suffix}"
    path.write_text("Dear diary, today nothing happened. " * 200)
    assert "cannot be read" in refusal(path)


def test_mp4_without_its_index(tmp_path):
    path = write_clip(tmp_path / "a.mp4", times=SECOND)
    path.write_bytes(path.read_bytes()[:-600])  # the moov box comes last
    assert "cut short" in refusal(path)


def test_truncated_clip_is_used_as_far_as_it_goes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (75, 48, 64, 3), np.uint8)
    times = [i / 25 for i in range(75)]
    front = {"movflags": "faststart"}
    for name, options in (("a.mp4", front), ("a.mkv", {})):
        path = write_clip(tmp_path / name, times=times, pictures=list(noise), container_options=options)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        clip = read_clip(path)
        assert 1 <= len(list(clip.frames())) < 12
        assert clip.duration_s < 2.5
        assert any("3.0 s" in warning for warning in clip.warnings)


def test_declared_three_hours_are_refused(tmp_path):
    path = write_clip(tmp_path / "a.mkv", times=SECOND)
    patched(path, (b"\x44\x89\x88", 0, struct.pack(">d", 3 * 3600 * 1000.0)))
    message = refusal(path)
    assert "180.0 minutes" in message
    assert "limit of 10.0 minutes" in message


def test_declared_tenth_of_a_second_does_not_hide_the_rest(tmp_path):
    times = [i / 5 for i in range(20)]
    path = patched(write_clip(tmp_path / "a.mkv", times=times), (b"\x44\x89\x88", 0, struct.pack(">d", 100.0)))
    clip = read_clip(path)
    assert clip.duration_s == pytest.approx(4.0, abs=0.25)
    assert len(list(clip.frames())) == 20
    assert any("0.1 s" in warning for warning in clip.warnings)
    assert "limit of 3.0 s" in refusal(path, limits=Limits(seconds=3))


def test_three_real_hours_are_refused(tmp_path):
    assert "limit of 10.0 minutes" in refusal(write_clip(tmp_path / "a.mp4", times=[0, 1, 3 * 3600]))


def test_last_frame_shown_for_eleven_minutes(tmp_path):
    path = write_clip(tmp_path / "a.gif", times=[0, 0.1], video="gif", pix_fmt="rgb8", fps=10)
    data = path.read_bytes()
    at = data.rindex(b"\x21\xf9\x04") + 4  # delay of the last picture, in hundredths of a second
    path.write_bytes(data[:at] + struct.pack("<H", 65_535) + data[at + 2 :])
    assert "limit of 10.0 minutes" in refusal(path)


def test_limits_name_themselves(tmp_path):
    path = write_clip(tmp_path / "a.mp4", times=SECOND, sound=tone(1.0))
    assert "limit of 10 frames" in refusal(path, limits=Limits(frames=10))
    assert "limit of 4,000 sound samples" in refusal(path, limits=Limits(audio_samples=4000))
    assert "over the limit" in refusal(path, limits=Limits(file_bytes=1000))
    assert "64 x 48" in refusal(path, limits=Limits(frame_pixels=1000))


def test_8k_frame_is_handled_in_little_memory(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (4320, 7680, 1), np.uint8).repeat(3, axis=2)
    path = write_clip(
        tmp_path / "8k.mp4",
        times=[0, 0.25],
        pictures=[noise] * 2,
        size=(7680, 4320),
        options={"preset": "ultrafast", "crf": "51", "g": "1"},
    )
    said, peak = peak_mebibytes(path)
    assert said == "[(720, 1280, 3), (720, 1280, 3)]"
    assert peak < 700


def test_8k_frames_that_refer_to_many_others_are_left_out(tmp_path):
    """Sixteen such pictures in the decoder would take a gigabyte."""
    grey = [np.full((4320, 7680, 3), 100 + 5 * i, np.uint8) for i in range(3)]
    options = {"preset": "ultrafast", "refs": "16", "g": "10"}
    path = write_clip(
        tmp_path / "8k.mp4",
        times=[i / 5 for i in range(20)],
        pictures=[grey[i % 3] for i in range(20)],
        size=(7680, 4320),
        options=options,
    )
    said, peak = peak_mebibytes(path)
    assert said == "[(720, 1280, 3), (720, 1280, 3)]"
    assert peak < 400
    assert any("key frames are looked at, 2 of 20" in warning for warning in read_clip(path).warnings)


def test_pixel_bombs_are_refused_before_they_unfold(tmp_path):
    picture = tmp_path / "bomb.png"
    picture.write_bytes(png(30_000, 30_000, rows=10))
    said, peak = peak_mebibytes(picture)
    assert "limit of 65 million" in said
    assert peak < 300

    video = tmp_path / "bomb.mov"  # the header says 64 x 48
    with av.open(str(video), "w") as out:
        stream = out.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        packet = av.Packet(png(14_000, 14_000, rows=14_000))  # unfolds to 588 MB
        packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
        packet.pts, packet.dts, packet.duration = 0, 0, 1
        out.mux(packet)
    said, peak = peak_mebibytes(video)
    assert str(video) in said
    assert peak < 300

    gif = tmp_path / "bomb.gif"
    screen = struct.pack("<HHBBB", 40_000, 40_000, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    gif.write_bytes(b"GIF89a" + screen + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00;")
    said, peak = peak_mebibytes(gif)
    assert str(gif) in said
    assert peak < 300


def test_the_largest_picture_is_held_once(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(8000, 8000, rows=8000))  # 256 MB as Pillow stores it
    said, peak = peak_mebibytes(path)
    assert said == "[(1280, 1280, 3)]"
    assert peak < 450


@pytest.mark.parametrize("step", [5760, 0])  # honest timestamps, and timestamps that all say 0
def test_sparse_opus_bomb(tmp_path, step):
    path = tmp_path / "bomb.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libopus", rate=48_000, layout="stereo")
        for i in range(60_000):  # two hours in half a megabyte
            packet = av.Packet(bytes([(3 << 3) | 4 | 3, 2]))  # 2 x 60 ms of silence
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 48_000), True
            packet.pts = packet.dts = i * step
            out.mux(packet)
    if not step:
        patched(path, (b"\x44\x89\x88", 0, struct.pack(">d", 100.0)))
    said, peak = peak_mebibytes(path)
    assert "limit of 10.0 minutes" in said
    assert peak < 300


def test_unknown_codec(tmp_path):
    path = write_clip(tmp_path / "a.wav", sound=tone(0.5), audio="pcm_s16le")
    assert "neither a picture nor a sound" in refusal(patched(path, (b"fmt ", 4, b"\x77\x77")))


def test_absurd_sample_rate_is_not_resampled(tmp_path):
    path = write_clip(tmp_path / "a.wav", sound=tone(0.5), audio="pcm_s16le")
    patched(path, (b"fmt ", 8, struct.pack("<I", 402_701_184)))
    said, peak = peak_mebibytes(path)
    assert "neither a picture nor a sound" in said
    assert peak < 300


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'secret.wav'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
def test_playlists_open_nothing(tmp_path, text, suffix):
    write_clip(tmp_path / "secret.wav", sound=tone(1.0), audio="pcm_s16le")
    path = tmp_path / f"list{suffix}"
    path.write_text(text)
    assert "cannot be read" in refusal(path)


def test_concat_would_open_another_file_without_the_guard(tmp_path):
    write_clip(tmp_path / "secret.wav", sound=tone(1.0), audio="pcm_s16le")
    path = tmp_path / "list.mp4"
    path.write_text("ffconcat version 1.0\nfile 'secret.wav'\n")
    with av.open(str(path)) as container:
        assert container.format.name == "concat"


def test_image_sequence_pattern_is_one_file(tmp_path):
    path = tmp_path / "frame%03d.gif"
    write_clip(tmp_path / "plain.gif", times=[0, 0.1], video="gif", pix_fmt="rgb8", fps=10).rename(path)
    assert len(list(read_clip(path).frames())) == 1


def test_damaged_bytes_never_escape_as_another_error(tmp_path):
    sources = [
        write_clip(tmp_path / "a.mp4", times=SECOND, sound=tone(1.0)),
        write_clip(tmp_path / "a.mkv", times=SECOND[:5], sound=tone(0.2), audio="libopus"),
        write_clip(tmp_path / "a.avi", times=SECOND[:5], video="mpeg4", sound=tone(0.2), audio="libmp3lame", fps=25),
        write_clip(tmp_path / "a.gif", times=[0, 0.1], video="gif", pix_fmt="rgb8", fps=10),
        write_clip(tmp_path / "a.wav", sound=tone(0.2), audio="pcm_s16le"),
        write_clip(tmp_path / "a.flac", sound=tone(0.2), audio="flac"),
    ]
    dice, read, refused = random.Random(0), 0, 0
    broken = tmp_path / "broken"
    for turn in range(240):
        data = bytearray(sources[turn % len(sources)].read_bytes())
        for _ in range(dice.choice([1, 5, 50])):
            data[dice.randrange(min(len(data), dice.choice([100, 1000, 1 << 30])))] = dice.choice([0, 1, 128, 255])
        broken.write_bytes(data[: dice.choice([len(data), len(data), dice.randrange(1, len(data))])])
        try:
            for frame in read_clip(broken).frames():
                assert frame.image.ndim == 3
            read += 1
        except ClipError:
            refused += 1
    assert read > 20
    assert refused > 20
