"""Training records: one JSON object a line, in the form that ms-swift reads, with labels and where they come from.

``messages`` are turns of plain text in which ``<video>``, ``<image>`` and ``<audio>`` stand for the files of
``videos``, ``images`` and ``audios`` in order. Paths are absolute or relative to the folder of the file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emollm.data.cards import Origin
from emollm.data.facts import Facts
from emollm.errors import BadArgumentError
from emollm.reasoning.prompts import clip_message

MARKS = {"<video>": "videos", "<image>": "images", "<audio>": "audios"}
_MARK = re.compile("|".join(MARKS))


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AuSpan(_Part):
    """One AU (0-5) held from ``start_s`` to ``end_s`` seconds."""

    code: str
    intensity: float
    start_s: float
    end_s: float


class Labels(_Part):
    """What is known of a clip. Words are those of :data:`emollm.emotions.EMOTIONS`, except ``emotions``.

    Attributes:
        emotions: open-vocabulary words.
        votes: label -> share of the raters.
        aus: AU code -> intensity 0-5 over the clip; 0 and 1 where ``au_scale`` is occurrence.
        valence, arousal: in [-1, 1].
        sentiment: negative to positive, 0 is neutral.
        text: an explanation that people wrote.
    """

    emotion: str | None = None
    emotions: list[str] = Field(default_factory=list)
    votes: dict[str, float] = Field(default_factory=dict)
    aus: dict[str, float] = Field(default_factory=dict)
    au_scale: Literal["intensity", "occurrence"] = "intensity"
    au_spans: list[AuSpan] = Field(default_factory=list)
    valence: float | None = None
    arousal: float | None = None
    sentiment: float | None = None
    text: str | None = None

    def given(self) -> list[str]:
        """Names of the labels that are there."""
        return sorted(set(self.model_dump(exclude_defaults=True)) - {"au_scale"})


class Turn(_Part):
    role: Literal["user", "assistant"]
    content: str


class Record(_Part):
    """One dialogue about one clip.

    Attributes:
        messages: ends with a turn of the assistant, the one that is learned.
        think: the assistant is asked to think before it answers.
        label_origin: label -> human | exact | pseudo, for every label that is there.
        terms: what the people shown agreed to, and what the licence asks.
        start_s, end_s: the part of the clip that is meant, None for its start and end.
        face_crop: its picture is a cut-out face.
        without: a modality that is held back, so that the model learns to do without it.
        facts: what the clip shows, as measured and labelled; the dialogue claims nothing beyond it.
        scores, written_by: of a dialogue that a model wrote, what the filter found (each in [0, 1]), and which model,
            code and settings wrote it.
    """

    id: str
    messages: list[Turn]
    think: bool = False
    videos: list[str] = Field(default_factory=list)
    images: list[str] = Field(default_factory=list)
    audios: list[str] = Field(default_factory=list)
    labels: Labels = Field(default_factory=Labels)
    label_origin: dict[str, Origin] = Field(default_factory=dict)
    split: str | None = None
    speaker: str | None = None
    source: str = ""
    licence: str = ""
    terms: str = ""
    transcript: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    face_crop: bool = False
    without: Literal["face", "voice"] | None = None
    facts: Facts | None = None
    scores: dict[str, float] = Field(default_factory=dict)
    written_by: dict[str, str] = Field(default_factory=dict)

    @property
    def media(self) -> list[str]:
        return [*self.videos, *self.images, *self.audios]

    def marks(self) -> dict[str, int]:
        """How often each mark stands in what the user says."""
        said = [mark for turn in self.messages if turn.role == "user" for mark in _MARK.findall(turn.content)]
        return {field: said.count(mark) for mark, field in MARKS.items()}

    def chat(self) -> list[dict[str, Any]]:
        """The messages as the chat template takes them, marks turned into parts."""
        return [{"role": turn.role, "content": _parts(turn)} for turn in self.messages]


def _parts(turn: Turn) -> str | list[dict[str, str]]:
    if turn.role == "assistant":
        return turn.content
    media = [{"type": mark.strip("<>")} for mark in _MARK.findall(turn.content)]
    return [*media, {"type": "text", "text": _MARK.sub("", turn.content)}]


def first_turn(mark: str, question: str, transcript: str) -> Turn:
    """What the user asks about a clip, as the model is asked: what is said in it comes first."""
    asked = clip_message(question, transcript)["content"][1]["text"]
    return Turn(role="user", content=mark + _MARK.sub(" ", asked))


def mark_of(path: Path) -> str:
    """The mark of a media file, by its ending."""
    from emollm.media.clip import AUDIO_SUFFIXES, IMAGE_SUFFIXES

    ending = path.suffix.lower()
    return "<image>" if ending in IMAGE_SUFFIXES else "<audio>" if ending in AUDIO_SUFFIXES else "<video>"


def media_path(path: Path, file: Path) -> str:
    """How a record in ``file`` names a clip: relative to its folder where the clip lies below it."""
    whole, folder = os.path.abspath(path), os.path.abspath(file.parent)
    return os.path.relpath(whole, folder) if os.path.commonpath([whole, folder]) == folder else whole


def read_lines(file: Path) -> Iterator[tuple[int, Record | str]]:
    """Number of each line from 1, and its record or, in one sentence, what is wrong with it; empty lines are skipped.

    Raises:
        BadArgumentError: the file cannot be read.
    """
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _record(line)
    except OSError as error:
        raise BadArgumentError(f"The file {file} cannot be read ({error.strerror}).") from error


def _record(line: bytes) -> Record | str:
    try:
        return Record.model_validate(json.loads(line))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the record"
        return f"It is no training record at '{where}': {first['msg']}."
    except ValueError:
        return "It is no JSON object."


def read_file(file: Path) -> list[Record]:
    """All records of a file. Raises BadArgumentError that names the first line which is none."""
    records = []
    for number, record in read_lines(file):
        if isinstance(record, str):
            raise BadArgumentError(f"Line {number} of {file}: {record} Run 'emollm data validate {file}'.")
        records.append(record)
    if not records:
        raise BadArgumentError(f"The file {file} holds no record.")
    return records


def write_file(file: Path, records: Iterable[Record]) -> int:
    """Write records as JSON lines, whole or not at all; returns how many.

    Raises:
        BadArgumentError: the file cannot be written.
    """
    part, count = file.with_name(f"{file.name}.part"), 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as lines:
            for record in records:
                lines.write(record.model_dump_json(exclude_defaults=True) + "\n")
                count += 1
        part.replace(file)
    except OSError as error:
        raise BadArgumentError(f"The file {file} cannot be written ({error.strerror}).") from error
    return count
