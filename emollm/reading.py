"""The half of an analysis that needs no model: a clip opened, its people found, its voice measured."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from emollm.errors import BadArgumentError
from emollm.face.track import FaceTrack
from emollm.media.clip import read_clip
from emollm.perceive import Perception, Stage, perceive


@dataclass
class Reading:
    """A clip that was read. ``people``: those who are asked about, ``[None]`` where there is a voice only.

    ``path`` is as the user gave it, ``seconds`` is what reading took.
    """

    path: str
    perception: Perception
    people: list[FaceTrack | None]
    seconds: float

    @property
    def said(self) -> str:
        return " ".join(segment.text for segment in self.perception.clip.transcript)


def read(
    clip: str | Path,
    *,
    person: str = "main",
    transcript: str = "auto",
    face_crop: bool = False,
    on_stage: Stage | None = None,
) -> Reading:
    """Read one clip; arguments and errors as in :meth:`emollm.api.EmoLLM.analyze`. Threads may read side by side."""
    started = time.perf_counter()
    if on_stage:
        on_stage("decode", 0, None)
    perception = perceive(read_clip(clip, transcript=transcript), face_crop=face_crop, on_stage=on_stage)
    people = choose_people(perception, person)
    return Reading(str(clip), perception, people, time.perf_counter() - started)


def choose_people(perception: Perception, person: str) -> list[FaceTrack | None]:
    """The tracks that ``person`` names; ``[None]`` for a clip with a voice only.

    Raises:
        BadArgumentError: no such person.
    """
    if person not in ("main", "all") and not re.fullmatch("[0-9]{1,9}", person):
        raise BadArgumentError(f"'{person}' is no person; say main, all, or a number from 1.")
    people = perception.people
    if not people:
        return [None]
    if person == "all":
        return list(people)
    number = 1 if person == "main" else int(person)
    if not 1 <= number <= len(people):
        seen = "1 person is" if len(people) == 1 else f"{len(people)} people are"
        raise BadArgumentError(f"There is no person {number}; {seen} seen in the clip.")
    return [people[number - 1]]
