"""Instruction data without clips: labelled faces and voices, encoded once, are composed into clips of tower states.

A composed clip is a course of one to three faces held for some seconds, a voice, or both. Its text is written from the
human labels of its parts and from what the towers *measure* in it: Action Units and the course over time are those
that the model itself is given in reading symbols (:mod:`emollm.model.course`), so that what it learns to claim is what
verification will later find.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from emollm.data.explain import question_for, reply_to, thought
from emollm.data.facts import Facts, Phase, phases_as_read
from emollm.data.pairing import Pairing
from emollm.data.questions import PLAIN
from emollm.data.voices import Voices
from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES
from emollm.model.processing_emollm import MAX_WINDOWS, WINDOW_SECONDS
from emollm.reasoning.prompts import assistant_message, clip_message, user_message

PER_SECOND = round(1 / WINDOW_SECONDS)
MAX_BLEND = 4  # windows on each side of a cut over which one expression turns into the next
LONG_S = (33, 400)  # seconds of a clip whose windows have to be longer
KINDS = {"image": 0.36, "video": 0.24, "speech": 0.2, "sound": 0.2}  # weights of what a record shows
READINGS = len(AU_CODES) + len(EXPRESSIONS) + 2


@dataclass
class FaceStates:
    """Face-tower states of single pictures, ``(N, feature_size)``, and their majority labels, ``(N,)``."""

    states: np.ndarray
    label: np.ndarray

    def __post_init__(self) -> None:
        self.spread = self.states.std(0)
        self._by_label = {e: np.flatnonzero(self.label == e) for e in EXPRESSIONS}

    @property
    def labels(self) -> set[str]:
        return {emotion for emotion, rows in self._by_label.items() if len(rows)}

    def pick(self, emotion: str, random: np.random.Generator) -> int:
        return int(random.choice(self._by_label[emotion]))

    def clear(self, emotion: str, probability: float) -> np.ndarray:
        """Rows labelled ``emotion`` in which the tower itself reads it with at least this probability."""
        rows = self._by_label[emotion]
        read = self.states[rows, -READINGS + len(AU_CODES) + EXPRESSIONS.index(emotion)]
        return rows[read >= probability]


@dataclass
class Composed:
    """One training record: dialogue, the recipe of its clip, labels and their origin."""

    messages: list[dict]
    think: bool
    faces: list[list[int]]  # of each phase: row of FaceStates at its start and at its end, first and last window
    voice: int | None  # row of Voices
    windows: int
    labels: dict
    label_origin: dict
    split: str
    timed: bool
    window_s: float = WINDOW_SECONDS
    flicker: int | None = None  # seed of the frame-to-frame flicker of its face; None leaves it still

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Composed:
        return cls(**json.loads(line))


def compose(
    count: int,
    faces: FaceStates,
    voices: Voices,
    split: str,
    seed: int,
    mix: dict[str, float],
    think_share: float = 0.5,
    drift_share: float = 0.0,
    follow_up_share: float = 0.0,
    agree_share: float = 0.0,
    conflict_share: float = 0.0,
    clear: float = 0.0,
    varied_share: float = 0.0,
    long_share: float = 0.0,
    kinds: dict[str, float] = KINDS,
) -> Iterator[Composed]:
    """Make ``count`` records.

    Args:
        faces, voices: encoded parts; of the voices those of ``split`` are used.
        mix: weights of the tasks, keys of :data:`emollm.data.explain.QUESTIONS`.
        think_share: share of records that think before they answer.
        drift_share: share of video phases that drift from one face to another of the same emotion.
        follow_up_share: share of records whose question comes after another question and its answer.
        agree_share, conflict_share, clear: see :class:`emollm.data.pairing.Pairing`; where both shares are 0, faces
            and voices meet by chance alone. ``clear`` goes for all other faces, too.
        varied_share: share of questions that may be worded in more ways than those the weights know best.
        long_share: share of videos so long that their windows are longer than half a second.
        kinds: weights of what a record shows: an image, a video of a face that may change, a face that speaks, a sound
            alone.

    Raises:
        BadArgumentError: there is nothing to make pairs of.
    """
    draw = _Draw(
        np.random.default_rng(seed),
        faces,
        voices,
        split,
        drift_share,
        follow_up_share,
        clear,
        varied_share,
        long_share,
        kinds,
    )
    if agree_share or conflict_share:
        shown = {emotion: faces.clear(emotion, clear) for emotion in faces.labels}
        draw.pairing = Pairing(agree_share, conflict_share, shown, draw.spoken)
    tasks, weights = list(mix), np.array(list(mix.values()), float)
    for _ in range(count):
        task = str(draw.random.choice(tasks, p=weights / weights.sum()))
        yield draw.record(task, draw.random.random() < think_share)


@dataclass
class _Draw:
    """Draws records one after the other."""

    random: np.random.Generator
    faces: FaceStates
    voices: Voices
    split: str
    drift_share: float
    follow_up_share: float
    clear: float
    varied_share: float
    long_share: float
    kinds: dict[str, float]
    pairing: Pairing | None = None

    def __post_init__(self) -> None:
        rows = np.flatnonzero(self.voices.split == self.split)
        by_emotion = {emotion: rows[self.voices.emotion[rows] == emotion] for emotion in EMOTIONS}
        self.spoken = {emotion: found for emotion, found in by_emotion.items() if len(found)}
        # Between natural frequency (fair to accuracy) and uniform (fair to rare emotions): square roots.
        natural = np.sqrt([(self.faces.label == emotion).sum() for emotion in EXPRESSIONS])
        self.frequency = natural / natural.sum()

    def record(self, task: str, think: bool) -> Composed:
        random = self.random
        weights = np.array(list(self.kinds.values()))
        kind = str(random.choice(list(self.kinds), p=weights / weights.sum()))
        kind = {"voice": "speech" if kind == "image" else kind, "change": "video"}.get(task, kind)
        emotions = [str(emotion) for emotion in random.choice(EXPRESSIONS, size=3, p=self.frequency)]
        pair = self.pairing.draw(random) if self.pairing else None
        if pair:
            kind, emotions = "speech", [pair.face_emotion]
        voice = voice_emotion = None
        if kind in ("speech", "sound"):
            voice_emotion = (
                pair.voice_emotion if pair else self._voice_emotion(emotions[0] if kind == "speech" else "")
            )
            voice = int(random.choice(self.spoken[voice_emotion]))
        parts, windows, window_s = [], 1, WINDOW_SECONDS
        if voice is not None:
            windows = int((~np.isnan(self.voices.states[voice]).any(-1)).sum())
        if pair:
            parts = [[pair.face, pair.face, 0, windows - 1]]
        elif kind == "video":
            parts, windows, window_s = self._course(emotions)
        elif kind != "sound":
            row = self._face(emotions[0])
            parts = [[row, row, 0, windows - 1]]
        made = Composed(
            messages=[],
            think=think,
            faces=parts,
            voice=voice,
            windows=windows,
            labels={},
            label_origin={"emotion": "human", "aus": "pseudo"},
            split=self.split,
            timed=kind != "image",
            window_s=window_s,
            flicker=int(random.integers(2**31)) if parts else None,
        )
        phases = phases_of(made, self.faces)
        heard = self.voices.prosody_of(voice).summary() if voice is not None else None
        facts = Facts("", phases, heard, voice_emotion)
        label = facts.face_emotion or voice_emotion or "neutral"
        if label == "neutral" and voice_emotion:
            label = voice_emotion  # a face at rest does not contradict a moved voice
        facts = Facts(label, phases, heard, voice_emotion, timed=kind != "image")
        media = {"image": "image", "sound": "audio"}.get(kind, "video") if random.random() < 0.4 else "video"
        made.messages = self._dialogue(task, think, facts, media)
        made.labels = {"emotion": label, "aus": phases[0].aus if phases else {}}
        return made

    def _voice_emotion(self, face: str) -> str:
        """The face's own emotion most of the time, where there are voices of it."""
        agree = face in self.spoken and self.random.random() < 0.85
        return face if agree else str(self.random.choice(list(self.spoken)))

    def _course(self, emotions: list[str]) -> tuple[list[list[int]], int, float]:
        """Faces of one to three phases, the number of windows and their length."""
        random = self.random
        seconds, window_s = int(random.integers(2, 24)), WINDOW_SECONDS
        windows = seconds * PER_SECOND
        cuts = _cuts(seconds, int(random.choice([1, 2, 3], p=[0.35, 0.4, 0.25])), random)
        if random.random() < self.long_share:
            cuts = [(first * MAX_WINDOWS // windows, (last + 1) * MAX_WINDOWS // windows - 1) for first, last in cuts]
            windows, window_s = MAX_WINDOWS, int(random.integers(*LONG_S)) / MAX_WINDOWS
        parts: list[list[int]] = []
        last_emotion = ""
        for emotion, (first, last) in zip(emotions, cuts):
            if emotion == last_emotion:
                emotion = str(random.choice([e for e in EXPRESSIONS if e != emotion and e in self.faces.labels]))
            rows = [self._face(emotion), self._face(emotion)]
            drifts = random.random() < self.drift_share
            parts.append([rows[0], rows[int(drifts)], first, last])
            last_emotion = emotion
        return parts, windows, window_s

    def _face(self, emotion: str) -> int:
        """A face in which the tower reads the label too, since texts tell what it reads."""
        if self.clear and len(clear := self.faces.clear(emotion, self.clear)):
            return int(self.random.choice(clear))
        return self.faces.pick(emotion, self.random)

    def _dialogue(self, task: str, think: bool, facts: Facts, media: str) -> list[dict]:
        """One question and its answer; ``why``, and others at times, after an answer given before."""
        random = self.random
        earlier = "emotion" if task == "why" else None
        if earlier is None and self.follow_up_share and random.random() < self.follow_up_share:
            earlier = str(random.choice(["emotion", "units", "change"]))
        asked = [question_for(kind, random, random.random() < self.varied_share) for kind in (earlier, task) if kind]
        turns = [clip_message(asked[0], media=media)]
        if earlier is not None:
            turns += [assistant_message(reply_to(earlier, facts)), user_message(asked[1])]
        reply = assistant_message(reply_to(task, facts))
        if think and task not in PLAIN:
            reply = {"role": "assistant", "content": thought(facts) + str(reply["content"])}
        return [*turns, reply]


def phases_of(record: Composed, faces: FaceStates) -> list[Phase]:
    """The phases of a composed clip's face as the model will be given them.

    Times and Action Units are what is read in the course. The emotion of a phase is the human label of the faces that
    fill most of it, or what is read there where two phases in a row would have the same label.
    """
    if not record.faces:
        return []
    readings = face_course(record, faces)[:, -READINGS:]
    return phases_as_read(
        readings,
        np.ones(len(readings), bool),
        record.window_s if record.timed else 0.0,
        lambda first, last: _label_within(record, faces, first, last),
    )


def _label_within(record: Composed, faces: FaceStates, first: int, last: int) -> str:
    shares = [min(last, end) - max(first, start) for _, _, start, end in record.faces]
    return str(faces.label[record.faces[int(np.argmax(shares))][0]])


def _cuts(seconds: int, phases: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """First and last window of each phase, cut at whole seconds, each phase at least two seconds long."""
    phases = max(1, min(phases, seconds // 3))
    while True:
        marks = [0, *sorted(int(m) for m in random.choice(range(2, max(seconds - 1, 3)), phases - 1, False)), seconds]
        if phases == 1 or min(np.diff(marks)) >= 2:
            return [(a * PER_SECOND, b * PER_SECOND - 1) for a, b in pairwise(marks)]


def face_course(record: Composed, faces: FaceStates) -> np.ndarray:
    """States ``(windows, feature_size)`` of a composed clip's face, NaN where there is none.

    Neighbouring phases blend evenly around the cut between them, over two windows; where the record flickers over up
    to eight, and its states differ a little from window to window, as those of real frames do.
    """
    size = faces.states.shape[1]
    random = None if record.flicker is None else np.random.default_rng(record.flicker)
    course = np.full((record.windows, size), np.nan, np.float32)
    for start, end, first, last in record.faces:
        share = np.linspace(0, 1, last + 1 - first)[:, None]
        course[first : last + 1] = (1 - share) * faces.states[start] + share * faces.states[end]
    for (_, before, first, _), (after, _, cut, last) in pairwise(record.faces):
        reach = 1 if random is None else int(random.integers(0, MAX_BLEND + 1))
        reach = min(reach, (cut - first) // 2, (last + 1 - cut) // 2)
        share = ((np.arange(2 * reach) + 0.5) / max(2 * reach, 1))[:, None]
        course[cut - reach : cut + reach] = (1 - share) * faces.states[before] + share * faces.states[after]
    if random is not None and record.faces:
        flicker = random.normal(0, 0.15, course.shape).astype(np.float32) * faces.spread
        flicker[:, -READINGS:] *= 0.2
        course = course + flicker
    return course


def write_records(path: Path, records: Iterator[Composed]) -> int:
    """Write JSON lines atomically; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.to_json() + "\n")
            count += 1
    partial.replace(path)
    return count


def read_records(path: Path) -> list[Composed]:
    return [Composed.from_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
