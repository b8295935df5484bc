"""Hostile input stops here: the caps on a clip, and the only door through which FFmpeg may see a file.

Headers lie, so a declared value is only ever a reason to refuse early; the same caps are checked again on what is
really decoded (see ``decode.py``).
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat

from emollm.errors import ClipError

# Containers that hold their own media. Playlists and scripts (concat, hls, dash, sdp, image sequences) are left out
# because they make FFmpeg open other files or addresses.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,wav,mp3,flac,ogg,aac"
_DECODING_PIXELS = 32_000_000  # over all threads, each of which holds whole frames
_KEPT_PIXELS = 14_600_000  # of a frame with 8-bit 4:2:0 colour; a stream may make a decoder keep 17, which is 0.5 GB


@dataclass(frozen=True)
class Limits:
    """The most a clip may cost. The defaults keep the whole process under 2 GB of memory."""

    file_bytes: int = 1 << 30
    seconds: float = 600.0
    frame_pixels: int = 8192 * 4320  # a video frame, as stored: 8K passes
    image_pixels: int = 65_000_000  # a still picture, as stored: phone cameras pass
    frames: int = 72_000  # 10 minutes at 120 frames per second
    audio_samples: int = 600 * 48_000 * 8  # over all channels, as stored

    def check_seconds(self, name: object, seconds: float) -> None:
        if not seconds <= self.seconds:
            raise ClipError(f"{name} lasts {_duration(seconds)}, over the limit of {_duration(self.seconds)}.")

    def check_frames(self, name: object, frames: int) -> None:
        if frames > self.frames:
            raise ClipError(f"{name} holds more than the limit of {self.frames:,} frames.")

    def check_audio_samples(self, name: object, samples: int) -> None:
        if samples > self.audio_samples:
            raise ClipError(f"{name} holds more than the limit of {self.audio_samples:,} sound samples.")

    def check_image(self, name: object, width: int, height: int, share: float = 1.0) -> None:
        if width * height > self.image_pixels * share:
            most = f"{self.image_pixels * share / 1e6:.0f} million"
            raise ClipError(f"{name} has {width} x {height} pixels, over the limit of {most}.")

    def check_frame(self, name: object, width: int, height: int, pixel_format: VideoFormat | None) -> None:
        # A decoder may hold 17 frames. Three bytes a pixel are enough for 8-bit colour in full and 16-bit 4:2:0.
        bits = max(24, pixel_format.padded_bits_per_pixel) if pixel_format else 24
        if width * height * bits > self.frame_pixels * 24:
            raise ClipError(
                f"{name} has frames of {width} x {height} pixels with {bits} bits each,"
                f" over the limit of {self.frame_pixels / 1e6:.0f} million pixels with 24 bits each."
            )


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"


class _Nameless:
    """A file without a name: FFmpeg can neither guess a format from it nor resolve other files beside it."""

    def __init__(self, file: io.FileIO):
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@contextmanager
def open_file(path: Path, limits: Limits) -> Iterator[io.FileIO]:
    """Open a regular local file of allowed size; ClipError if it is missing, a folder, empty, or too big."""
    try:
        if path.is_dir():
            raise ClipError(f"{path} is a folder, not a clip.")
        if not path.is_file():  # also devices and pipes, which might never end
            raise ClipError(f"There is no clip at {path}.")
        file = open(path, "rb", buffering=0)  # noqa: SIM115, the caller's own errors must not be caught here
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ClipError(f"{path} cannot be opened.") from error
    with file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ClipError(f"{path} is empty (0 bytes).")
        if size > limits.file_bytes:
            raise ClipError(f"{path} has {size / 2**20:,.0f} MiB, over the limit of {limits.file_bytes >> 20:,} MiB.")
        yield file


@contextmanager
def open_container(path: Path, limits: Limits) -> Iterator[InputContainer]:
    """Open a video or sound file with FFmpeg kept to that one file, its formats and its pixel budget.

    Raises ClipError if it is no such file or its header already declares more than a limit.
    """
    options = {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "none",  # nothing else can be opened, neither files nor the network
        "max_pixels": str(limits.frame_pixels),  # also binds the frames FFmpeg decodes to probe the streams
    }
    with open_file(path, limits) as file:
        try:
            container = av.open(_Nameless(file), "r", metadata_errors="replace", options=options)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise ClipError(
                f"{path} cannot be read as a video, picture or sound: it is cut short, damaged or something else."
            ) from error
        with container:
            _check_header(path, container, limits)
            for stream in container.streams.video:
                if context := stream.codec_context:
                    affordable = _DECODING_PIXELS // max(context.width * context.height, 1)
                    context.thread_count = max(1, min(4, os.cpu_count() or 1, affordable))
                    context.thread_type = "AUTO"
                    most = limits.frame_pixels if keys_only(context) else min(limits.frame_pixels, _KEPT_PIXELS)
                    context.options = {"max_pixels": str(most)}
            yield container


def keys_only(context: VideoCodecContext) -> bool:
    """Say whether the frames are too large to keep others to refer to: those of 8K are, those of 4K at 10 bits not."""
    bits = context.format.padded_bits_per_pixel if context.format else 24
    return context.width * context.height * (bits + 4) > _KEPT_PIXELS * (12 + 4)  # 4 are for motion vectors


def declared_seconds(container: InputContainer) -> float | None:
    """Return the duration the header declares, or None where FFmpeg only estimates it from the bit rate."""
    if container.duration is None or container.format.name in ("mp3", "aac"):
        return None
    return container.duration / av.time_base


def _check_header(path: Path, container: InputContainer, limits: Limits) -> None:
    if container.metadata.get("major_brand", "").strip() in ("heic", "heix", "mif1", "msf1"):
        raise ClipError(f"{path} is a HEIC picture, stored in tiles; save it as JPEG or PNG first.")
    limits.check_seconds(path, declared_seconds(container) or 0.0)
    for stream in container.streams.video:
        if context := stream.codec_context:
            limits.check_frame(path, context.width, context.height, context.format)
