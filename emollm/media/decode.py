"""Decoding under limits: one pass that reads the sound and measures the clip, and lazy picture frames by timestamp."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from emollm.errors import ClipError
from emollm.media.guard import Limits, declared_seconds, open_container
from emollm.media.transcript import Segment, segment

SAMPLE_RATE = 16_000
MAX_SIDE = 1280  # px, of the frames handed on

_GAP_S = 0.1  # longer holes in the sound are filled with silence, so that sample / 16000 stays the clip's time
_TIME_SLACK_S = 1e-3  # webm and mkv round timestamps to a millisecond
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
    with open_container(path, limits) as container:
        start_s = _start(container)
        video, audio, subtitles = _video(container), _audio(container), _subtitles(container)
        sound = _Sound(path, limits, start_s)
        reader = _Reader(path, container)
        frames = 0
        for packet in reader.packets(video, audio, subtitles):
            stream = packet.stream
            if stream is video:
                frames += 1
                limits.check_frames(path, frames)
                found.duration_s = max(found.duration_s, _end(packet) - start_s)
                limits.check_seconds(path, found.duration_s)
                if found.picture is None:
                    found.picture = _first_picture(reader.decode(video, packet), video)
            elif stream is audio:
                for frame in reader.decode(audio, packet):
                    sound.add(frame, audio)
            else:
                found.subtitles += _texts(reader.decode(subtitles, packet), packet, start_s)
        if video and found.picture is None:
            found.picture = _first_picture(reader.decode(video, None), video)
        if audio:
            for frame in reader.decode(audio, None):
                sound.add(frame, audio)
            found.waveform = sound.waveform()
        declared = declared_seconds(container)

    if found.picture is None and found.waveform is None:
        raise ClipError(f"{path} holds neither a picture nor a sound that can be decoded.")
    if found.picture is None and video:
        found.warnings.append("The picture could not be decoded; only the sound is used.")
        found.duration_s = 0.0
    if found.waveform is not None:
        found.duration_s = max(found.duration_s, len(found.waveform) / SAMPLE_RATE)
    if reader.broken:
        found.warnings.append(f"{reader.broken} damaged pieces of the file were skipped.")
    if declared and abs(declared - found.duration_s) > max(1.0, 0.05 * declared):
        found.warnings.append(
            f"The header says {declared:.1f} s, but {found.duration_s:.1f} s were found; what was found is used."
        )
    return found


def video_frames(path: Path, picture: Picture, limits: Limits, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds, image) of the first frame in each cell of a 1/fps grid, going by timestamps.

    Raises ClipError as soon as more than a limit has been decoded.
    """
    with open_container(path, limits) as container:
        start_s, video = _start(container), _video(container)
        if video is None:
            raise ClipError(f"{path} has changed while it was being read.")
        reader = _Reader(path, container)
        step_s = 1 / float(video.average_rate or 25)
        time_s, last_cell = -step_s, -1
        for count, frame in enumerate(reader.frames(video), start=1):
            limits.check_frames(path, count)
            stamp_s = _seconds(frame, video)
            time_s = time_s + step_s if stamp_s is None else max(0.0, stamp_s - start_s)
            limits.check_seconds(path, time_s)
            cell = math.floor((time_s + _TIME_SLACK_S) * fps)
            if cell > last_cell:
                last_cell = cell
                yield time_s, picture.render(frame)


class _Reader:
    """Demuxes and decodes past damage, counting it: a file that breaks off is used as far as it goes."""

    def __init__(self, path: Path, container: InputContainer):
        self.path, self.container = path, container
        self.broken = 0

    def packets(self, *streams: VideoStream | AudioStream | SubtitleStream | None) -> Iterator[Packet]:
        wanted = [stream for stream in streams if stream is not None]
        count = 0
        try:
            for packet in self.container.demux(wanted):
                count += 1
                if count > _MAX_PACKETS:
                    raise ClipError(f"{self.path} holds more than the limit of {_MAX_PACKETS:,} packets.")
                if packet.size:  # an empty packet would tell the decoder that the stream has ended
                    yield packet
        except av.error.FFmpegError:
            self.broken += 1

    def decode(self, stream, packet: Packet | None) -> list:
        """Decode one packet, or with None what the decoder still holds; nothing if it is damaged."""
        try:
            return stream.decode(packet)
        except av.error.EOFError:
            return []
        except (av.error.FFmpegError, ValueError):
            self.broken += 1
            return []

    def frames(self, video: VideoStream) -> Iterator[VideoFrame]:
        for packet in self.packets(video):
            yield from self.decode(video, packet)
        yield from self.decode(video, None)


class _Sound:
    """Builds the 16 kHz mono waveform from decoded frames, on the clip's own clock."""

    def __init__(self, path: Path, limits: Limits, start_s: float):
        self.path, self.limits, self.start_s = path, limits, start_s
        self.chunks: list[np.ndarray] = []
        self.filled = 0  # samples at 16 kHz
        self.decoded = 0  # samples as stored, all channels
        self.end_s = 0.0
        self.setup: tuple = ()
        self.resampler: av.AudioResampler | None = None

    def add(self, frame: AudioFrame, stream: AudioStream) -> None:
        begin_s, stamp_s = self.end_s, _seconds(frame, stream)
        if stamp_s is not None and stamp_s - self.start_s > self.end_s + _GAP_S:
            begin_s = stamp_s - self.start_s
        # Checked before resampling: a header may declare 1 Hz, and each sample would become 16,000.
        self.limits.check_seconds(self.path, begin_s + frame.samples / max(frame.sample_rate, 1))
        self.decoded += frame.samples * len(frame.layout.channels)
        self.limits.check_audio_samples(self.path, self.decoded)
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if begin_s > self.end_s or setup != self.setup:
            self._flush()
            self._append(np.zeros(max(0, round(begin_s * SAMPLE_RATE) - self.filled), np.int16))
            # 16-bit output, because swresample only keeps a mix of channels within full scale for integer formats.
            self.resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            self.setup = setup
        self.end_s = begin_s + frame.samples / frame.sample_rate
        frame.pts = None
        self._resample(frame)

    def waveform(self) -> np.ndarray | None:
        """Return (N,) float32 in [-1, 1], or None if the stream held no samples."""
        self._flush()
        if not self.decoded:
            return None
        return np.concatenate(self.chunks).astype(np.float32) / 32768

    def _flush(self) -> None:
        if self.resampler:
            self._resample(None)
            self.resampler = None

    def _resample(self, frame: AudioFrame | None) -> None:
        assert self.resampler
        for piece in self.resampler.resample(frame):
            self._append(piece.to_ndarray()[0])

    def _append(self, samples: np.ndarray) -> None:
        self.chunks.append(samples)
        self.filled += len(samples)


def _start(container: InputContainer) -> float:
    return (container.start_time or 0) / av.time_base


def _seconds(frame: VideoFrame | AudioFrame, stream: VideoStream | AudioStream) -> float | None:
    # The stream's clock: a frame that comes out as the decoder is flushed carries none of its own.
    return None if frame.pts is None else float(frame.pts * (stream.time_base or 0))


def _end(packet: Packet) -> float:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return float(((stamp or 0) + (packet.duration or 0)) * packet.time_base)


def _video(container: InputContainer) -> VideoStream | None:
    # A cover picture in a sound file is a video stream too, but not part of the clip.
    streams = (s for s in container.streams.video if s.codec_context and not s.disposition & Disposition.attached_pic)
    return next(streams, None)


def _audio(container: InputContainer) -> AudioStream | None:
    return next((s for s in container.streams.audio if s.codec_context), None)


def _subtitles(container: InputContainer) -> SubtitleStream | None:
    return next((s for s in container.streams.subtitles if s.codec_context), None)


def _first_picture(frames: list[VideoFrame], video: VideoStream) -> Picture | None:
    if not frames:
        return None
    aspect = float(video.sample_aspect_ratio or 1)
    return Picture.of(frames[0], aspect if 0.25 <= aspect <= 4 else 1.0)


def _texts(rects: list, packet: Packet, start_s: float) -> list[Segment]:
    if packet.pts is None or packet.size > _MAX_SUBTITLE_BYTES:
        return []
    begin_s = float(packet.pts * packet.time_base) - start_s
    texts = [r.dialogue.decode("utf-8", "replace") for r in rects if isinstance(r, AssSubtitle)]
    segments = [segment(begin_s, _end(packet) - start_s, text) for text in texts]
    return [s for s in segments if s.text]
