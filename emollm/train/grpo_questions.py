"""Records to questions for GRPO: the prompt, and what the rewards have to know of the clip."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache

import numpy as np

from emollm.data.compose import READINGS, Composed
from emollm.data.schema import Record
from emollm.emotions import canonical_emotion
from emollm.facs import AU_CODES, MAX_INTENSITY
from emollm.reasoning.parse import parse_answer
from emollm.train.collate import ClipCollator, ComposedCollator, Example
from emollm.train.material import Material


@dataclass(frozen=True)
class Truth:
    """Labels and measurements of one clip, None or empty where there are none.

    Attributes:
        think: the reply is to think before it answers.
        votes: label -> share or number of the raters.
        words: every emotion that a good reply may name.
        units: AU code -> intensity 0-5, of every labelled AU.
        graded: ``units`` are intensities, not mere occurrence (0 and 1).
        present: those of ``face`` and ``voice`` that the clip has.
        carrier: the one of them that alone carries the label, None where both do or nobody knows.
        times: ``(W, 2)`` start and end in seconds of the windows that show the face.
        measured: ``(W, 17)`` what the face tower measures in them, intensities 0-5.
    """

    think: bool
    emotion: str | None = None
    votes: dict[str, float] | None = None
    words: list[str] = field(default_factory=list)
    units: dict[str, float] | None = None
    graded: bool = True
    present: list[str] = field(default_factory=list)
    carrier: str | None = None
    times: list[list[float]] = field(default_factory=list)
    measured: list[list[float]] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    @lru_cache(maxsize=4096)
    def from_json(line: str) -> Truth:
        return Truth(**json.loads(line))


def questions(material: Material) -> list[dict[str, str]]:
    """Those records whose own answer opens with a label, as ``prompt`` (placeholders expanded), ``record``, ``truth``.

    Other answers (a list of AUs, a refusal) cannot be told right from wrong by a label, and the format that the
    rewards ask for is not theirs.
    """
    collate, rows = material.collate, []
    assert isinstance(collate, ComposedCollator | ClipCollator)
    for line in material.rows:
        example = collate.example({"record": line})
        if parse_answer(example.messages[-1]["content"]).label is None:
            continue
        prompt = material.processor.apply_chat_template(
            example.messages[:-1], tokenize=False, add_generation_prompt=True, enable_thinking=example.think
        )
        [prompt] = material.processor.expand([prompt], [example.placeholders])
        truth = _of_composed(line, example, collate) if isinstance(collate, ComposedCollator) else _of(line, example)
        rows.append({"prompt": prompt, "record": line, "truth": truth.to_json()})
    return rows


def _of_composed(line: str, example: Example, collate: ComposedCollator) -> Truth:
    """AUs are the towers' measure of the faces that the clip is composed of (label_origin: pseudo)."""
    record, faces = Composed.from_json(line), collate.faces
    label = record.labels["emotion"]
    seen = [str(faces.label[start]) for start, *_ in record.faces]
    heard = [] if record.voice is None else [str(collate.voices.emotion[record.voice])]
    units = None
    if record.faces:
        readings = MAX_INTENSITY * example.face[:, -READINGS:][:, : len(AU_CODES)]
        peaks = np.max([readings[first : last + 1].mean(0) for *_, first, last in record.faces], axis=0)
        units = dict(zip(AU_CODES, peaks.tolist()))
    carriers = [name for name, said in (("face", seen), ("voice", heard)) if label in said]
    return Truth(
        think=record.think,
        emotion=label,
        words=list(dict.fromkeys([label, *seen, *heard])),
        units=units,
        carrier=carriers[0] if len(carriers) == 1 else None,
        **_measured(example),
    )


def _of(line: str, example: Example) -> Truth:
    record = Record.model_validate_json(line)
    labels, facts, measured = record.labels, record.facts, _measured(example)
    carriers = measured["present"]
    if len(carriers) > 1 and facts is not None and facts.face_emotion and facts.voice_emotion:
        said = {"face": facts.face_emotion, "voice": facts.voice_emotion}
        carriers = [name for name in carriers if said[name] == labels.emotion]
    named = [canonical_emotion(word) for word in (labels.emotion or "", *labels.emotions)]
    return Truth(
        think=record.think,
        emotion=labels.emotion,
        votes=labels.votes or None,
        words=[word for word in dict.fromkeys(named) if word],
        units=labels.aus or None,
        graded=labels.au_scale == "intensity",
        carrier=carriers[0] if len(carriers) == 1 else None,
        **measured,
    )


def _measured(example: Example) -> dict:
    """Keys ``present``, ``times`` and ``measured`` of :class:`Truth`: the states end with the tower's readings."""
    shown = example.placeholders.face
    readings = example.face[shown, -READINGS:][:, : len(AU_CODES)]
    length = example.window_s if example.timed else 0.0
    return {
        "present": [name for name, there in (("face", shown), ("voice", len(example.sound))) if there],
        "times": [[window * example.window_s, window * example.window_s + length] for window in shown],
        "measured": np.round(MAX_INTENSITY * readings.astype(float), 3).tolist(),
    }
