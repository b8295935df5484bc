"""Makers of small clips, so that the tests need no files of their own."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pysubs2
from av.subtitles.subtitle import SubtitleSet


def colour(index: int, width: int, height: int) -> np.ndarray:
    """Return a (height, width, 3) picture whose grey level tells its index: 10, 20, 30, ..."""
    return np.full((height, width, 3), 10 + 10 * (index % 24), np.uint8)


def index_of(image: np.ndarray) -> int:
    return round((float(image.mean()) - 10) / 10)


def tone(seconds: float, hertz: float = 440.0, rate: int = 48_000, amplitude: float = 0.5) -> np.ndarray:
    """Return a (N,) float32 sine."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_clip(
    path: Path,
    *,
    times: Sequence[float] = (),
    pictures: Sequence[np.ndarray] | None = None,
    size: tuple[int, int] = (64, 48),
    video: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    fps: int = 1000,
    matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    sound: np.ndarray | None = None,
    audio: str = "aac",
    rate: int = 48_000,
    layout: str = "mono",
    subtitles: Sequence[tuple[float, float, str]] = (),
    subtitle_codec: str = "subrip",
) -> Path:
    """Encode pictures shown at ``times`` (s, on a 1/fps grid), ``sound`` ((N,) or (channels, N)) and subtitles."""
    with av.open(str(path), "w", options=container_options or {}) as out:
        picture_stream = sound_stream = text_stream = None
        if len(times):
            picture_stream = out.add_stream(video, rate=fps, options=options or {})
            picture_stream.width, picture_stream.height = size
            picture_stream.pix_fmt = pix_fmt
            picture_stream.codec_context.time_base = Fraction(1, fps)
            if aspect:
                picture_stream.codec_context.sample_aspect_ratio = aspect
            if matrix:
                picture_stream.set_display_matrix(matrix)
        if sound is not None:
            sound_stream = out.add_stream(audio, rate=rate, layout=layout)
        if subtitles:
            text_stream = out.add_stream(subtitle_codec)
            text_stream.codec_context.time_base = Fraction(1, 1000)
            text_stream.codec_context.subtitle_header = pysubs2.SSAFile().to_string("ass").encode()
        for i, time in enumerate(times):
            picture = colour(i, *size) if pictures is None else pictures[i]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time * fps), Fraction(1, fps)
            out.mux(picture_stream.encode(frame))
        if picture_stream:
            out.mux(picture_stream.encode(None))
        if sound_stream:
            channels = np.atleast_2d(sound).astype(np.float32)
            for begin in range(0, channels.shape[1], 1024):
                piece = np.ascontiguousarray(channels[:, begin : begin + 1024])
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
                out.mux(sound_stream.encode(frame))
            out.mux(sound_stream.encode(None))
        for start, end, text in subtitles:
            begin, length = round(start * 1000), round((end - start) * 1000)
            event = SubtitleSet.create(text=f"0,0,Default,,0,0,0,,{text}".encode(), start=0, end=length, pts=begin)
            packet = text_stream.codec_context.encode_subtitle(event)
            packet.stream, packet.time_base = text_stream, Fraction(1, 1000)
            packet.pts, packet.dts, packet.duration = begin, begin, length
            out.mux(packet)
    return path
