"""Instruction data without clips: labelled faces and voices, encoded once, are composed into clips of tower states.

A composed clip is a course of one to three faces held for some seconds, a voice, or both. Its text is written from the
human labels of its parts and from what the towers *measure* in it, so that what the model learns to claim is what
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
from emollm.data.facts import Facts, Phase, named_units
from emollm.data.pairing import Pairing
from emollm.data.questions import PLAIN
from emollm.data.voices import Voices
from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES, MAX_INTENSITY
from emollm.model.processing_emollm import MAX_WINDOWS, WINDOW_SECONDS
from emollm.reasoning.prompts import assistant_message, clip_message, user_message

PER_SECOND = round(1 / WINDOW_SECONDS)
MAX_BLEND = 4  # windows on each side of a cut over which one expression turns into the next
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

    def units(self, rows: list[int]) -> np.ndarray:
        """Mean measured AU intensities ``(17,)`` of some rows."""
        return MAX_INTENSITY * self.states[rows, -READINGS : -READINGS + len(AU_CODES)].mean(0)


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
) -> Iterator[Composed]:
    """Make ``count`` records.

    Args:
        faces, voices: encoded parts; of the voices those of ``split`` are used.
        mix: weights of the tasks, keys of :data:`emollm.data.explain.QUESTIONS`.
        think_share: share of records that think before they answer.
        drift_share: share of video phases that drift from one face to another of the same emotion.
        follow_up_share: share of records whose question comes after another question and its answer.
        agree_share, conflict_share, clear: see :class:`emollm.data.pairing.Pairing`; where both shares are 0, faces
            and voices meet by chance alone.

    Raises:
        BadArgumentError: there is nothing to make pairs of.
    """
    random = np.random.default_rng(seed)
    voice_rows = np.flatnonzero(voices.split == split)
    by_emotion = {e: voice_rows[voices.emotion[voice_rows] == e] for e in EMOTIONS}
    tasks, weights = list(mix), np.array(list(mix.values()), float)
    # Between natural frequency (fair to accuracy) and uniform (fair to rare emotions): square roots.
    natural = np.sqrt([(faces.label == e).sum() for e in EXPRESSIONS])
    spoken = {e: rows for e, rows in by_emotion.items() if len(rows)}
    pairing = None
    if agree_share or conflict_share:
        pairing = Pairing(agree_share, conflict_share, {e: faces.clear(e, clear) for e in faces.labels}, spoken)
    for _ in range(count):
        task = str(random.choice(tasks, p=weights / weights.sum()))
        think = random.random() < think_share
        yield _compose_one(
            task,
            think,
            faces,
            voices,
            spoken,
            pairing,
            natural / natural.sum(),
            split,
            random,
            drift_share,
            follow_up_share,
        )


def _compose_one(
    task: str,
    think: bool,
    faces: FaceStates,
    voices: Voices,
    spoken: dict[str, np.ndarray],
    pairing: Pairing | None,
    frequency: np.ndarray,
    split: str,
    random: np.random.Generator,
    drift_share: float,
    follow_up_share: float,
) -> Composed:
    kind = str(random.choice(["image", "video", "speech", "sound"], p=[0.36, 0.24, 0.2, 0.2]))
    kind = {"voice": "speech" if kind == "image" else kind, "change": "video"}.get(task, kind)
    emotions = [str(e) for e in random.choice(EXPRESSIONS, size=3, p=frequency)]
    pair = pairing.draw(random) if pairing else None
    if pair:
        kind, emotions = "speech", [pair.face_emotion]
    voice, voice_emotion, windows = None, None, 1
    if kind in ("speech", "sound"):
        if pair:
            voice_emotion = pair.voice_emotion
        elif kind == "sound":
            voice_emotion = str(random.choice(list(spoken)))
        else:
            agree = emotions[0] in spoken and random.random() < 0.85
            voice_emotion = emotions[0] if agree else str(random.choice(list(spoken)))
        voice = int(random.choice(spoken[voice_emotion]))
        windows = int((~np.isnan(voices.states[voice]).any(-1)).sum())
    phases: list[Phase] = []
    parts: list[list[int]] = []
    if kind != "sound":
        cuts = [(0, windows - 1)]
        if kind == "video":
            seconds = int(random.integers(2, 24))
            windows = min(seconds * PER_SECOND, MAX_WINDOWS)
            cuts = _cuts(seconds, int(random.choice([1, 2, 3], p=[0.35, 0.4, 0.25])), random)
        for emotion, (first, last) in zip(emotions, cuts):
            if phases and phases[-1].emotion == emotion:
                emotion = str(random.choice([e for e in EXPRESSIONS if e != emotion and e in faces.labels]))
            row = end = pair.face if pair else faces.pick(emotion, random)
            if kind == "video" and drift_share and random.random() < drift_share:
                end = faces.pick(emotion, random)
            parts.append([row, end, first, last])
            units = named_units(faces.units([row, end]))
            phases.append(Phase(emotion, units, first // PER_SECOND, last // PER_SECOND))
    facts = Facts("", phases, voices.prosody_of(voice).summary() if voice is not None else None, voice_emotion)
    label = facts.face_emotion or voice_emotion or "neutral"
    if label == "neutral" and voice_emotion:
        label = voice_emotion  # a face at rest does not contradict a moved voice
    facts = Facts(label, phases, facts.voice, voice_emotion, timed=kind != "image")
    media = {"image": "image", "sound": "audio"}.get(kind, "video") if random.random() < 0.4 else "video"
    return Composed(
        messages=_dialogue(task, think, facts, media, random, follow_up_share),
        think=think,
        faces=parts,
        voice=voice,
        windows=windows,
        labels={"emotion": label, "aus": phases[0].aus if phases else {}},
        label_origin={"emotion": "human", "aus": "pseudo"},
        split=split,
        timed=kind != "image",
    )


def _cuts(seconds: int, phases: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """First and last window of each phase, cut at whole seconds, each phase at least two seconds long."""
    phases = max(1, min(phases, seconds // 3))
    while True:
        marks = [0, *sorted(int(m) for m in random.choice(range(2, max(seconds - 1, 3)), phases - 1, False)), seconds]
        if phases == 1 or min(np.diff(marks)) >= 2:
            return [(a * PER_SECOND, b * PER_SECOND - 1) for a, b in pairwise(marks)]


def _dialogue(
    task: str, think: bool, facts: Facts, media: str, random: np.random.Generator, follow_up_share: float
) -> list[dict]:
    """One question and its answer; ``why``, and others at times, after an answer given before."""
    earlier = "emotion" if task == "why" else None
    if earlier is None and follow_up_share and random.random() < follow_up_share:
        earlier = str(random.choice(["emotion", "units", "change"]))
    if earlier is None:
        turns = [clip_message(question_for(task, random), media=media)]
    else:
        turns = [clip_message(question_for(earlier, random), media=media), assistant_message(reply_to(earlier, facts))]
        turns.append(user_message(question_for(task, random)))
    reply = assistant_message(reply_to(task, facts))
    if think and task not in PLAIN:
        reply = {"role": "assistant", "content": thought(facts) + str(reply["content"])}
    return [*turns, reply]


def face_course(record: Composed, faces: FaceStates, random: np.random.Generator | None = None) -> np.ndarray:
    """States ``(windows, feature_size)`` of a composed clip's face, NaN where there is none.

    Neighbouring phases blend evenly around the cut between them, over two windows; with ``random`` over up to eight,
    and states also flicker a little as real frames do.
    """
    size = faces.states.shape[1]
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
