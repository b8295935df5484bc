"""Decoding under limits: one pass that reads the sound and measures the clip, and lazy frames by timestamp."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.subtitle import AssSubtitle
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from emollm.errors import ClipError
from emollm.media.guard import Limits, declared_seconds, keys_only, open_container
from emollm.media.sound import SAMPLE_RATE, Sound
from emollm.media.transcript import Segment, subtitle_text

MAX_SIDE = 1280  # px, of the frames handed on

_TIME_SLACK_S = 1e-3  # webm and mkv round timestamps to a millisecond
_LATE_START_S = 1.0
_MAX_PACKETS = 1_000_000
_MAX_SUBTITLE_BYTES = 1 << 16


@dataclass(frozen=True)
class Picture:
    """How stored frames become upright RGB pictures of one fixed size; ``width`` and ``height`` are the result's."""

    width: int
    height: int
    transpose: bool
    flip_x: bool
    flip_y: bool

    @classmethod
    def of(cls, frame: VideoFrame, aspect: float) -> "Picture":
        """Measure a frame whose pixels are ``aspect`` times as wide as they are high."""
        width, height = frame.width * aspect, float(frame.height)
        scale = min(1.0, MAX_SIDE / max(width, height))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        # The display matrix sends stored (x, y) to shown (a x + c y, b x + d y): quarter turns and mirrors of phones.
        a, b, c, d = 1, 0, 0, 1
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        if matrix is not None:
            a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        if abs(b) > abs(a):
            return cls(height, width, True, flip_x=c < 0, flip_y=b < 0)
        return cls(width, height, False, flip_x=a < 0, flip_y=d < 0)

    def render(self, frame: VideoFrame) -> np.ndarray:
        """Return the frame as (height, width, 3) uint8 RGB; swscale shrinks it before Python ever sees its pixels."""
        width, height = (self.height, self.width) if self.transpose else (self.width, self.height)
        image = frame.to_ndarray(format="rgb24", width=width, height=height)
        if self.transpose:
            image = image.swapaxes(0, 1)
        image = image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.ascontiguousarray(image)


@dataclass
class Survey:
    """What one pass over the whole file found."""

    duration_s: float = 0.0
    picture: Picture | None = None
    waveform: np.ndarray | None = None
    subtitles: list[Segment] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def survey(path: Path, limits: Limits) -> Survey:
    """Demux the whole file once: decode its sound and subtitles, the first picture, and take every timestamp.

    Raises ClipError if it holds neither picture nor sound, or as soon as it exceeds a limit.
    """
    found = Survey()
    sound = Sound(path, limits)
    frames, keys, last_s, shown_s = 0, 0, 0.0, 0.0
    with open_container(path, limits) as container:
        reader = _Reader(path, container)
        if reader.video:
            reader.video.codec_context.thread_count = 1  # more would begin further pictures beside the one wanted
        for packet in reader.packets():
            stamp_s = reader.seconds(packet, packet.stream) or 0.0
            if packet.stream is reader.video:
                frames += 1
                keys += packet.is_keyframe
                limits.check_frames(path, frames)
                limits.check_seconds(path, stamp_s)
                if stamp_s >= last_s:
                    last_s, shown_s = stamp_s, float((packet.duration or 0) * packet.time_base)
                if found.picture is None:
                    found.picture = _first_picture(reader.pictures(reader.video, packet), reader.video)
            elif packet.stream is reader.audio:
                for frame in reader.decode(reader.audio, packet):
                    sound.add(frame, reader.seconds(frame, reader.audio))
            elif packet.size <= _MAX_SUBTITLE_BYTES:
                end_s = stamp_s + float((packet.duration or 0) * packet.time_base)
                for rect in reader.decode(reader.subtitles, packet):
                    if isinstance(rect, AssSubtitle) and (text := subtitle_text(rect.dialogue)):
                        found.subtitles.append(Segment(stamp_s, end_s, text))
        if reader.video and found.picture is None:
            found.picture = _first_picture(reader.decode(reader.video, None), reader.video)
        if reader.audio:
            for frame in reader.decode(reader.audio, None):
                sound.add(frame, reader.seconds(frame, reader.audio))
        declared = (declared_seconds(container) or 0.0) - reader.start_s

    found.waveform = sound.waveform()
    if found.picture is not None:
        # With variable frame rate a packet's own duration can overshoot; a header that covers the frame knows better.
        end_s = last_s + shown_s
        found.duration_s = min(end_s, declared) if declared >= max(last_s, 1e-3) else end_s
    elif found.waveform is None:
        raise ClipError(f"{path} holds neither a picture nor a sound that can be decoded.")
    elif reader.video:
        found.warnings.append("The picture could not be decoded; only the sound is used.")
    if found.waveform is not None:
        found.duration_s = max(found.duration_s, len(found.waveform) / SAMPLE_RATE)
    limits.check_seconds(path, found.duration_s)
    if reader.keys_only and keys < frames:
        found.warnings.append(f"The frames are so large that only the key frames are looked at, {keys} of {frames}.")
    if broken := reader.broken + sound.broken:
        found.warnings.append(f"Damaged pieces of the file were skipped: {broken}.")
    if declared > 0 and abs(declared - found.duration_s) > max(1.0, 0.05 * declared):
        found.warnings.append(
            f"The header says {declared:.1f} s, but {found.duration_s:.1f} s were found; what was found is used."
        )
    return found


def video_frames(path: Path, picture: Picture, limits: Limits, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds, image) of the first frame in each cell of a 1/fps grid, going by timestamps.

    Raises ClipError as soon as more than a limit has been decoded.
    """
    with open_container(path, limits) as container:
        reader = _Reader(path, container)
        if reader.video is None:
            raise ClipError(f"{path} has changed while it was being read.")
        step_s = 1 / float(reader.video.average_rate or 25)
        time_s, last_cell = -step_s, -1
        for count, frame in enumerate(reader.frames(reader.video), start=1):
            limits.check_frames(path, count)
            limits.check_frame(path, frame.width, frame.height, frame.format)
            stamp_s = reader.seconds(frame, reader.video)
            time_s = time_s + step_s if stamp_s is None else max(0.0, stamp_s)
            limits.check_seconds(path, time_s)
            cell = math.floor((time_s + _TIME_SLACK_S) * fps)
            if cell > last_cell:
                last_cell = cell
                try:
                    image = picture.render(frame)
                except (av.error.FFmpegError, ValueError) as error:
                    raise ClipError(f"{path} holds frames that cannot be turned into pictures.") from error
                yield time_s, image


class _Reader:
    """Demuxes and decodes past damage, counting it: a file that breaks off is used as far as it goes."""

    def __init__(self, path: Path, container: InputContainer):
        self.path, self.container = path, container
        # A cover picture in a sound file is a video stream too, but not part of the clip.
        videos = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
        self.video = next((s for s in videos if s.codec_context), None)
        self.audio = next((s for s in container.streams.audio if s.codec_context), None)
        self.subtitles = next((s for s in container.streams.subtitles if s.codec_context), None)
        self.keys_only = self.video is not None and keys_only(self.video.codec_context)
        self.start_s = 0.0
        self.broken = 0

    def packets(self) -> Iterator[Packet]:
        """Yield the packets of the three streams, counted against a limit; stop where the file cannot be read on."""
        streams: list[Any] = [s for s in (self.video, self.audio, self.subtitles) if s]
        if not streams:  # PyAV would take that as "all streams"
            return
        count, started = 0, False
        try:
            for packet in self.container.demux(streams):
                count += 1
                if count > _MAX_PACKETS:
                    raise ClipError(f"{self.path} holds more than the limit of {_MAX_PACKETS:,} packets.")
                if not packet.size:  # an empty packet would tell the decoder that the stream has ended
                    continue
                if not started and packet.stream is not self.subtitles:
                    started, first_s = True, self.seconds(packet, packet.stream) or 0.0
                    # Cut from a longer recording that kept its clock. Small offsets are a stream's own late start.
                    self.start_s = first_s if abs(first_s) > _LATE_START_S else 0.0
                yield packet
        except av.error.FFmpegError:
            self.broken += 1

    def seconds(self, item: Packet | VideoFrame | AudioFrame, stream: Stream) -> float | None:
        """Return when a packet or frame is due, in seconds of the clip."""
        # By the stream's clock: a frame that comes out when the decoder is flushed carries none of its own.
        stamp = item.pts if item.pts is not None else item.dts
        return None if stamp is None else float(stamp * (stream.time_base or 0)) - self.start_s

    def decode(self, stream: Any, packet: Packet | None) -> list:
        """Decode one packet, or with None what the decoder still holds; nothing if it is damaged."""
        try:
            return stream.decode(packet)
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError):
            self.broken += 1
            return []

    def pictures(self, video: VideoStream, packet: Packet) -> list[VideoFrame]:
        """Decode a packet of the video; if its frames are too large to keep, key frames alone, each by itself."""
        if not self.keys_only:
            return self.decode(video, packet)
        if not packet.is_keyframe:
            return []
        frames = self.decode(video, packet) + self.decode(video, None)
        video.codec_context.flush_buffers()
        return frames

    def frames(self, video: VideoStream) -> Iterator[VideoFrame]:
        for packet in self.packets():
            if packet.stream is video:
                yield from self.pictures(video, packet)
        yield from self.decode(video, None)


def _first_picture(frames: list[VideoFrame], video: VideoStream) -> Picture | None:
    if not frames:
        return None
    aspect = float(video.sample_aspect_ratio or 1)
    return Picture.of(frames[0], aspect if 0.25 <= aspect <= 4 else 1.0)
