"""Bytes that claim to be clips: lies and bombs are refused before they are queued."""

import base64
import io
import struct
import zipfile
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest
from media.conftest import tone, write_clip
from media.test_guard import png
from PIL import Image

from emollm.media.clip import CLIP_SUFFIXES
from emollm.serve.guard import media
from emollm.serve.guard.errors import Refused
from emollm.serve.guard.limits import PUBLIC, Limits
from emollm.serve.guard.media import SUFFIX_TYPES, check_media, check_upload, read_data_url

LIMITS = Limits()
TIMES = [0, 0.1, 0.2]


def refused(status: int, check, *args) -> str:
    with pytest.raises(Refused) as caught:
        check(*args)
    assert caught.value.status == status
    said = str(caught.value)
    assert said.endswith(".")
    assert not any(mark in said for mark in ("\n", "/tmp", "emollm-", "Traceback"))
    return said


def picture(format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 24)).save(file, format)
    return file.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A small file of every suffix that is served."""
    folder = tmp_path_factory.mktemp("files")
    film, gif = {"times": TIMES, "sound": tone(0.3)}, {"times": TIMES, "fps": 10, "video": "gif", "pix_fmt": "rgb8"}
    made = {
        ".mp4": write_clip(folder / "a.mp4", **film),
        ".m4v": write_clip(folder / "b.mp4", times=TIMES),
        ".mov": write_clip(folder / "a.mov", **film),
        ".webm": write_clip(folder / "a.webm", times=TIMES, video="libvpx", sound=tone(0.3), audio="libopus"),
        ".mkv": write_clip(folder / "a.mkv", **film),
        ".avi": write_clip(folder / "a.avi", times=TIMES, fps=10, video="mpeg4"),
        ".gif": write_clip(folder / "a.gif", **gif),
        ".wav": write_clip(folder / "a.wav", sound=tone(0.3), audio="pcm_s16le"),
        ".mp3": write_clip(folder / "a.mp3", sound=tone(0.3), audio="libmp3lame"),
        ".flac": write_clip(folder / "a.flac", sound=tone(0.3), audio="flac"),
        ".m4a": write_clip(folder / "sound.mp4", sound=tone(0.3)),
        ".aac": write_clip(folder / "a.aac", sound=tone(0.3)),
        ".ogg": write_clip(folder / "a.ogg", sound=tone(0.3), audio="libopus"),
        ".opus": write_clip(folder / "b.ogg", sound=tone(0.3), audio="libopus"),
    }
    stills = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
    return {suffix: path.read_bytes() for suffix, path in made.items()} | {
        suffix: picture(format) for suffix, format in stills.items()
    }


def test_every_kind_of_clip_is_served(files):
    assert SUFFIX_TYPES.keys() == CLIP_SUFFIXES == files.keys()
    for suffix, data in files.items():
        media = check_upload(f"My clip{suffix.upper()}", data, LIMITS)
        assert media.data == data
        assert media.kind == ("video" if suffix == ".gif" else SUFFIX_TYPES[suffix].partition("/")[0])
        assert (media.seconds > 0.2) == (media.kind != "image")
        assert check_media(data, None, LIMITS) == media
        assert check_media(*read_data_url(media.url, 1 << 20), LIMITS) == media


def test_a_lying_type(files):
    """Every file under the type of every other: only spellings of its own pass."""
    for suffix, data in files.items():
        if suffix not in (".mp4", ".webm", ".gif", ".m4a", ".wav", ".ogg", ".jpg", ".png"):
            continue
        own = check_media(data, None, LIMITS).mime
        for declared in set(SUFFIX_TYPES.values()):
            same = declared == own or {declared, own} == {"video/mp4", "video/quicktime"}
            matroska = {declared, own} == {"video/webm", "video/x-matroska"}
            if same or matroska:
                assert check_media(data, declared, LIMITS).mime == own
            else:
                assert f"which is {own}" in refused(415, check_media, data, declared, LIMITS)


@pytest.mark.parametrize(
    "declared",
    ["text/html", "video/jpeg", "image/svg+xml", "image/tiff", "application/octet-stream", "video/*", "", "x" * 999],
)
def test_types_that_are_not_served(files, declared):
    """``video/jpeg`` would make vLLM read a list of pictures, without any of these checks."""
    assert "does not take" in refused(415, check_media, files[".mp4"], declared, LIMITS)


@pytest.mark.parametrize("name", ["clip", "clip.exe", "clip.mp4.html", "", ".mp4", "clip.svg", "../../clip.m3u8"])
def test_names_that_are_not_served(files, name):
    refused(415, check_upload, name, files[".mp4"], LIMITS)


def test_no_clip_at_all(files):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("clip.mp4", bytes(100_000_000))
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1/secret.wav\n#EXT-X-ENDLIST\n"
    for data in (b"", b"<html>", archive.getvalue(), playlist, files[".mp4"][:200], files[".png"][:40]):
        assert refused(422, check_media, data, "video/mp4", LIMITS).startswith("The clip ")


def test_bytes():
    limits = Limits(clip=PUBLIC.__class__(file_bytes=10))
    assert "limit" in refused(413, check_media, bytes(11), "video/mp4", limits)


# Data URLs


def test_data_urls():
    assert read_data_url("data:video/mp4;base64,AAAA", 3) == (bytes(3), "video/mp4")
    assert read_data_url("DATA:Video/WebM;codecs=vp8,opus;BASE64,AAA=", 3) == (bytes(2), "video/webm")
    assert read_data_url('data:audio/webm;codecs="opus, x";base64,', 3) == (b"", "audio/webm")


@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:,hello",
        "data:video/mp4,hello",
        "data:;base64,AAAA",
        "data:video;base64,AAAA",
        "data:video/mp4;base64AAAA",
        "data:video/mp4;base64,A",
        "data:video/mp4;base64,AAA",
        "data:video/mp4;base64,AA AA",
        "data:video/mp4;base64,AAAA\n",
        "data:video/mp4;base64,AA-_",
        "data:video/mp4;base64,AA%3D",
        "data:video/mp4;base64,ＡＡＡＡ",
        "data:video/mp4;base64,AAAA====AAAA",
        "data:video/mp4;" + "a=b;" * 1000 + "base64,AAAA",
        "video/mp4;base64,AAAA",
    ],
)
def test_other_data_urls(url):
    refused(400, read_data_url, url, 1000)


def test_data_urls_of_another_type_and_size():
    refused(415, read_data_url, "data:text/html;base64,AAAA", 1000)
    assert read_data_url("data:video/mp4;base64," + base64.b64encode(bytes(1000)).decode(), 1000)[0] == bytes(1000)
    for size in (1001, 1002, 1003, 2000):
        refused(413, read_data_url, "data:video/mp4;base64," + base64.b64encode(bytes(size)).decode(), 1000)


# Bombs


def muxed(path, stream_of, packets) -> bytes:
    """A file of packets (bytes, pts), written as they are."""
    with av.open(str(path), "w") as out:
        stream, base = stream_of(out)
        for data, pts in packets:
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, base, True
            packet.pts = packet.dts = pts
            out.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(("step", "suffix"), [(5760, "ogg"), (5760, "mkv"), (0, "mkv")])
def test_a_sparse_opus_bomb(tmp_path, step, suffix):
    """25 MB that decode to two hours, with honest timestamps and with timestamps that all say 0."""
    silence = bytes([(3 << 3) | 4 | 3, 0x42, 255, 155]) + bytes(254 + 155)  # 2 x 60 ms, and padding

    def stream_of(out):
        return out.add_stream("libopus", rate=48_000, layout="stereo"), Fraction(1, 48_000)

    data = muxed(tmp_path / f"bomb.{suffix}", stream_of, [(silence, i * step) for i in range(60_000)])
    assert len(data) > 24e6
    declared = "audio/ogg" if suffix == "ogg" else "audio/webm"
    assert "limit of 5.0 minutes" in refused(422, check_media, data, declared, LIMITS)


def video_of(codec: str, side: int):
    def stream_of(out):
        stream = out.add_stream(codec, rate=1000)
        stream.width, stream.height, stream.pix_fmt = side, side, "rgb24"
        return stream, Fraction(1, 1000)

    return stream_of


def test_a_hundred_thousand_frames(tmp_path):
    frame = png(16, 16, rows=16)
    data = muxed(tmp_path / "a.mov", video_of("png", 16), [(frame, i) for i in range(100_000)])
    assert "limit of 36,000 frames" in refused(422, check_media, data, "video/quicktime", LIMITS)


@pytest.mark.parametrize("declared_side", [20_000, 64])
def test_vast_frames(tmp_path, declared_side):
    frame = png(20_000, 20_000, rows=20)
    data = muxed(tmp_path / "a.mov", video_of("png", 4660), [(frame, 0)])  # the encoder takes no larger side
    sides = struct.pack(">HH", 4660, 4660)
    assert sides in data
    data = data.replace(sides, struct.pack(">HH", declared_side, declared_side))
    refused(422, check_media, data, "video/quicktime", LIMITS)


def test_vast_pictures():
    assert "limit of 33 million" in refused(422, check_media, png(20_000, 20_000, rows=20), "image/png", LIMITS)
    screen = struct.pack("<HHBBB", 20_000, 20_000, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    gif = b"GIF89a" + screen + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00;"
    refused(422, check_media, gif, "image/gif", LIMITS)


def test_seconds_and_samples(tmp_path):
    data = write_clip(tmp_path / "a.wav", sound=tone(2.0), audio="pcm_s16le").read_bytes()
    short = Limits(clip=PUBLIC.__class__(seconds=1.0))
    assert "lasts 2.0 s" in refused(422, check_media, data, "audio/wav", short)
    few = Limits(clip=PUBLIC.__class__(audio_samples=1000))
    assert "1,000 sound samples" in refused(422, check_media, data, "audio/wav", few)


def test_limits_are_no_looser_than_those_of_the_command_line():
    usual = PUBLIC.__class__()
    for field in vars(usual):
        assert getattr(LIMITS.clip, field) <= getattr(usual, field)


def test_noise_never_raises_anything_else(files):
    dice = np.random.default_rng(0)
    for suffix in (".mp4", ".webm", ".wav", ".png", ".gif"):
        for _ in range(8):
            data = bytearray(files[suffix])
            for at in dice.integers(0, len(data), 30):
                data[at] = dice.integers(256)
            with suppress(Refused):
                check_media(bytes(data), SUFFIX_TYPES[suffix], LIMITS)


def test_a_good_clip_is_opened_once_and_a_bad_one_each_time(monkeypatch):
    opened = []
    read = media.read_clip
    monkeypatch.setattr(media, "read_clip", lambda path, **more: opened.append(path) or read(path, **more))
    good = picture("PNG") + b"never seen before"
    first = check_media(good, "image/png", LIMITS)
    assert check_media(good, "image/png", LIMITS) == first
    assert len(opened) == 1
    for _ in range(2):
        assert "another type" in refused(415, check_media, good, "image/jpeg", LIMITS)
    for _ in range(2):
        refused(422, check_media, good[:40], "image/png", LIMITS)
    assert len(opened) == 5
