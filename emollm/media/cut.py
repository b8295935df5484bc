"""A part of a clip, as data sets name it by its start and end."""

from __future__ import annotations

from collections.abc import Iterator

from emollm.errors import ClipError
from emollm.media.clip import SAMPLE_RATE, Clip, Frame, Segment


def cut(clip: Clip, start_s: float, end_s: float | None) -> Clip:
    """The part of a clip from ``start_s`` to ``end_s`` (None: its end) as a clip of its own.

    Raises:
        ClipError: the clip has no such part.
    """
    until = clip.duration_s if end_s is None else min(end_s, clip.duration_s)
    if not 0 <= start_s < until:
        raise ClipError(f"{clip.path} has no part from {start_s:g} s to {until:g} s.")

    class Part(Clip):
        def frames(self, fps: float = 5.0) -> Iterator[Frame]:
            for frame in clip.frames(fps):
                if frame.time_s >= until:
                    return
                if frame.time_s >= start_s:
                    yield Frame(frame.time_s - start_s, frame.image)

    said = [s for s in clip.transcript if s.end_s > start_s and s.start_s < until]
    return Part(
        path=clip.path,
        kind=clip.kind,
        duration_s=until - start_s,
        width=clip.width,
        height=clip.height,
        waveform=None
        if clip.waveform is None
        else clip.waveform[round(start_s * SAMPLE_RATE) : round(until * SAMPLE_RATE)],
        transcript=[Segment(max(s.start_s - start_s, 0.0), min(s.end_s, until) - start_s, s.text) for s in said],
        warnings=clip.warnings,
        limits=clip.limits,
        source=clip.source,
    )
