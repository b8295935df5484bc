"""A clip as a file that can be sent: what was looked at of it, encoded again."""

from __future__ import annotations

import io
import wave
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from emollm.media.clip import SAMPLE_RATE, Clip

_PIECE = 1024  # samples in a frame of AAC
_TICKS = 1000  # of the timestamps, in a second


def mp4(clip: Clip, fps: float) -> bytes:
    """A video clip as H.264 and AAC: ``fps`` pictures a second at their own times, mono sound at 16 kHz.

    Raises ClipError if the clip cannot be decoded.
    """
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        picture = out.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        picture.options = {"crf": "18", "preset": "veryfast"}
        picture.width, picture.height = clip.width // 2 * 2 or 2, clip.height // 2 * 2 or 2  # 4:2:0 wants even sides
        picture.pix_fmt = "yuv420p"
        picture.codec_context.time_base = Fraction(1, _TICKS)
        sound = out.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if clip.has_audio else None
        for shown in clip.frames(fps):
            frame = av.VideoFrame.from_ndarray(shown.image, format="rgb24")
            frame = frame.reformat(picture.width, picture.height, "yuv420p")
            frame.pts, frame.time_base = round(shown.time_s * _TICKS), Fraction(1, _TICKS)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        if sound is not None and clip.waveform is not None:
            for begin in range(0, len(clip.waveform), _PIECE):
                piece = np.ascontiguousarray(clip.waveform[None, begin : begin + _PIECE], np.float32)
                samples = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = SAMPLE_RATE, begin, Fraction(1, SAMPLE_RATE)
                out.mux(sound.encode(samples))
            out.mux(sound.encode(None))
    return file.getvalue()


def wav(waveform: np.ndarray) -> bytes:
    """Sound ``(N,)`` in [-1, 1] at 16 kHz as 16-bit WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes((np.clip(waveform, -1, 1) * 32767).round().astype("<i2").tobytes())
    return file.getvalue()


def png(image: np.ndarray) -> bytes:
    """A picture ``(H, W, 3)`` uint8 RGB as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
