"""Drawn clips with exact AU tracks: a face that moves, blinks, looks around and speaks, as mp4 files with records."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from emollm.data.expressions import glance, show, weigh
from emollm.data.head import Array, Head
from emollm.data.looks import Looks
from emollm.data.render import Renderer
from emollm.data.scene import Pose, Scene
from emollm.data.speech import babble, loudness, mouth
from emollm.data.tracks import draw_events, glances, levels, wander
from emollm.errors import BadArgumentError
from emollm.facs import AU_CODES
from emollm.media.sound import SAMPLE_RATE

SOUNDS = (".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus")


class ClipRecipe(BaseModel):
    """How many clips, how long, and with what sound."""

    model_config = ConfigDict(extra="forbid")
    per_identity: int = Field(2, ge=1)
    seconds: tuple[float, float] = (2.5, 6.0)
    fps: int = Field(15, ge=5, le=60)
    speech_share: float = Field(0.5, ge=0, le=1)
    sounds: Path | None = None

    def sound_files(self) -> list[Path]:
        """The sounds to speak, in the order of their names; none: babble.

        Raises:
            BadArgumentError: the folder holds no sound.
        """
        if self.sounds is None:
            return []
        files = sorted(file for file in self.sounds.rglob("*") if file.suffix.lower() in SOUNDS)
        if not files:
            raise BadArgumentError(f"{self.sounds} holds no sound file ({', '.join(SOUNDS)})")
        return files


@dataclass(frozen=True)
class Course:
    """All that decides the frames of one clip."""

    times: Array  # (T,) seconds
    weights: list[dict[str, float]]  # of the head's expressions, for every frame
    scenes: list[Scene]
    waveform: Array | None  # (N,) at 16 kHz
    sound: Path | None  # where the waveform is from; None: made here


@dataclass(frozen=True)
class Drawn:
    """The tracks of one clip."""

    times: Array  # (T,)
    intensities: Array  # (T, 17), columns as ``facs.AU_CODES``
    poses: Array  # (T, 3) yaw, pitch, roll in degrees


def plan_clip(
    head: Head, recipe: ClipRecipe, shares: tuple[float, float], rng: np.random.Generator, sounds: list[Path]
) -> Course:
    """Draw everything that happens in one clip; ``shares`` are those of neutral faces and of prototypes."""
    seconds = float(rng.uniform(*recipe.seconds))
    waveform, sound = None, None
    if rng.random() < recipe.speech_share:
        waveform, sound = _sound(rng, seconds, sounds)
        if sound:
            seconds = max(1.0, min(seconds, len(waveform) / SAMPLE_RATE))
        waveform = np.pad(waveform, (0, SAMPLE_RATE))[: int(seconds * SAMPLE_RATE)]
    times = np.arange(max(2, round(seconds * recipe.fps))) / recipe.fps
    faces = levels(draw_events(rng, seconds, *shares), times)
    gaze = glances(rng, times, 0.2)
    spoken = mouth(loudness(waveform, times), times, rng) if waveform is not None else {}
    weights = []
    for index in range(len(times)):
        now = weigh(head, {code: tuple(both[index]) for code, both in faces.items()})
        for action, course in spoken.items():
            for name in head.sides(action):
                now[name] = max(now.get(name, 0.0), float(course[index]))
        weights.append(now | glance(head, *gaze[index]))
    return Course(times, weights, _scenes(rng, times, waveform is not None), waveform, sound)


def _sound(rng: np.random.Generator, seconds: float, sounds: list[Path]) -> tuple[Array, Path | None]:
    from emollm.media.clip import read_clip

    if not sounds:
        return babble(rng, seconds), None
    file = sounds[rng.integers(len(sounds))]
    waveform = read_clip(file).waveform
    if waveform is None:
        raise BadArgumentError(f"{file} holds no sound")
    return waveform, file


def _scenes(rng: np.random.Generator, times: Array, speaks: bool) -> list[Scene]:
    """One scene whose head wanders, more so in speech, before a camera that is held still or in a hand."""
    scene = Scene.random(rng)
    lively = rng.uniform(0.3, 1.3) * (1.6 if speaks else 1)
    turns = np.stack([wander(rng, times, size * lively) for size in (4.0, 2.5, 1.5)], axis=1)
    shake = np.stack([wander(rng, times, rng.uniform(0, 0.008), 2.0) for _ in range(2)], axis=1)
    base = scene.pose
    return [
        replace(
            scene,
            pose=Pose(base.yaw + float(yaw), base.pitch + float(pitch), base.roll + float(roll)),
            offset=(scene.offset + shift).astype(np.float32),
            grain=scene.grain + index,
        )
        for index, ((yaw, pitch, roll), shift) in enumerate(zip(turns, shake))
    ]


def draw_clip(renderer: Renderer, person: Array, looks: Looks, course: Course, size: int, file: Path) -> Drawn:
    """Draw and write one clip; its tracks say what every frame shows."""
    intensities = np.zeros((len(course.times), len(AU_CODES)), np.float32)

    def frames() -> Iterator[NDArray[np.uint8]]:
        for index, (weights, scene) in enumerate(zip(course.weights, course.scenes)):
            vertices, aus, sides = show(renderer.head, person, weights)
            intensities[index] = [aus[code] for code in AU_CODES]
            yield renderer.draw(vertices, sides, looks, scene, size)

    step = course.times[1] - course.times[0]
    write_mp4(file, frames(), round(1 / step), size, course.waveform, course.scenes[0].quality)
    poses = np.array([(s.pose.yaw, s.pose.pitch, s.pose.roll) for s in course.scenes], np.float32)
    return Drawn(course.times, intensities, poses)


def write_mp4(
    file: Path, frames: Iterator[NDArray[np.uint8]], fps: int, size: int, waveform: Array | None, quality: int
) -> None:
    """H.264 and, where there is a sound (N,) at 16 kHz, AAC; ``quality`` as for JPEG."""
    with av.open(str(file), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=Fraction(fps))
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1  # the clips are spread over the cores already
        # Without mbtree: with it x264 reads memory that it never wrote, and the same pictures may give other bytes.
        crf = str(round(np.interp(quality, [45, 98], [34, 17])))
        video.options = {"crf": crf, "preset": "veryfast", "mbtree": "0"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if waveform is not None else None
        for picture in frames:
            # Converted here: left to the encoder, the same picture does not always give the same bytes.
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and waveform is not None:
            sound = av.AudioFrame.from_ndarray(waveform.astype(np.float32)[None], format="fltp", layout="mono")
            sound.sample_rate = SAMPLE_RATE
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))


def tracks_json(drawn: Drawn) -> str:
    """A clip's tracks as text that keeps them to a thousandth."""
    return json.dumps({name: np.round(values, 3).tolist() for name, values in vars(drawn).items()})


def read_tracks(text: str) -> Drawn:
    return Drawn(**{name: np.array(values, np.float32) for name, values in json.loads(text).items()})
