"""``emollm data explain``: from labelled clips to varied dialogues about what is seen and heard in them.

Every record keeps the facts that its text was made of; a text that claims anything else is not written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from emollm.data.claims import false_claims
from emollm.data.clip_states import ClipEncoder, ClipStates
from emollm.data.explain import reply_to, thought
from emollm.data.facts import Facts
from emollm.data.measure import facts_of
from emollm.data.media_checks import OnProgress
from emollm.data.questions import PLAIN, question_for
from emollm.data.readers import Problem
from emollm.data.schema import Labels, Record, Turn, first_turn, media_path
from emollm.emotions import ADJECTIVES
from emollm.errors import EmoLLMError
from emollm.reasoning.prompts import assistant_message

#: How often each kind of question is drawn, besides the emotion, which every labelled clip is asked about.
WEIGHTS = {
    "units": 0.13, "times": 0.08, "voice": 0.13, "change": 0.13, "why": 0.1, "words": 0.07, "affect": 0.06,
    "agree": 0.08, "modality": 0.06, "missing": 0.04, "said": 0.02, "identity": 0.04, "mind": 0.04, "other": 0.02,
}  # fmt: skip
FOLLOW_UP = 0.3  # share of the other questions that come after the emotion was asked for
HELD_BACK = 0.15  # share of records about a clip with face and voice that hold one of them back
Modality = Literal["face", "voice"]


def explain(
    records: list[Record],
    folder: Path,
    out: Path,
    encoder: ClipEncoder,
    problems: list[Problem],
    *,
    per_clip: int = 4,
    think_share: float = 0.5,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Iterator[Record]:
    """Dialogues about the clips of ``records``, one after the other.

    Args:
        folder, out: folder of the file that the records are from, and the file that the new ones are for.
        problems: gets the clips that nothing can be said of, by name.
        per_clip: dialogues about each clip.
        think_share: share of those that think before they answer, where thinking helps.
        seed: with a record's id it decides what is asked and how it is worded.
    """
    for record, states in encoder.all(records, folder, on_progress):
        if isinstance(states, EmoLLMError):
            problems.append(Problem(record.id, str(states)))
            continue
        field = next(name for name in ("videos", "images", "audios") if getattr(record, name))
        moved = record.model_copy(update={field: [media_path(folder / record.media[0], out)]})
        digest = hashlib.sha256(f"{seed}/{record.id}".encode()).digest()
        for made in _explain_one(moved, states, np.random.default_rng(list(digest)), per_clip, think_share):
            wrong = [text for turn in made.messages if turn.role == "assistant" for text in _claims(turn, made.facts)]
            if wrong:
                problems.append(Problem(made.id, wrong[0]))
            else:
                yield made


def _claims(turn: Turn, facts: Facts | None) -> list[str]:
    assert facts is not None
    return false_claims(turn.content, facts)


def _explain_one(
    record: Record, states: ClipStates, random: np.random.Generator, per_clip: int, think_share: float
) -> Iterator[Record]:
    facts = facts_of(record, states)
    tasks = ["emotion"] if facts.label else []
    possible = [task for task in WEIGHTS if _possible(task, facts)]
    weights = np.array([WEIGHTS[task] for task in possible])
    count = min(per_clip - len(tasks), len(possible))
    tasks += random.choice(possible, max(count, 0), replace=False, p=weights / weights.sum()).tolist()
    for number, task in enumerate(tasks[:per_clip]):
        think = bool(random.random() < think_share)
        known, without = _held_back(record, states, facts, random)
        if not _possible(task, known):
            known, without = facts, None
        yield _record(record, states, f"{record.id}#{number}", task, known, without, think, random)


def explained(facts: Facts) -> bool:
    """Whether face or voice show what the clip is labelled, so that the label can be argued for."""
    return facts.label in {facts.voice_emotion, *(phase.emotion for phase in facts.phases)}


def _possible(task: str, facts: Facts) -> bool:
    match task:
        case "emotion":
            return bool(facts.label)
        case "why" | "agree" | "modality":
            return explained(facts)
        case "times" | "change":
            return bool(facts.phases) and facts.timed
        case "words":
            return bool(facts.label or facts.words)
        case "affect":
            return facts.valence is not None or facts.arousal is not None
        case "said":
            return facts.said is not None
    return True


def _held_back(
    record: Record, states: ClipStates, facts: Facts, random: np.random.Generator
) -> tuple[Facts, Modality | None]:
    """At times the same clip without its face or its voice, where what is left still shows the label."""
    if not (facts.phases and facts.voice) or random.random() >= HELD_BACK:
        return facts, None
    without: Modality = "face" if random.random() < 0.5 else "voice"
    less = facts_of(record, states, without)
    return (less, without) if not facts.label or explained(less) else (facts, None)


def _record(
    record: Record,
    states: ClipStates,
    id: str,
    task: str,
    facts: Facts,
    without: Modality | None,
    think: bool,
    random: np.random.Generator,
) -> Record:
    mark = next(mark for mark, count in zip(("<video>", "<image>", "<audio>"), record.marks().values()) if count)
    said = "" if without == "voice" else states.said
    argued = explained(facts)
    think = think and argued and task not in PLAIN
    first = task
    if task == "why" or (task != "emotion" and facts.label and random.random() < FOLLOW_UP):
        first = "emotion"
    turns = [first_turn(mark, question_for(first, random, varied=True), said)]
    if first != task:
        turns.append(Turn(role="assistant", content=_reply(first, facts, random)))
        turns.append(Turn(role="user", content=question_for(task, random, varied=True)))
    reply = _reply(task, facts, random)
    turns.append(Turn(role="assistant", content=(thought(facts, random) if think else "") + reply))
    return record.model_copy(
        update={
            "id": id,
            "messages": turns,
            "think": think,
            "transcript": said or None,
            "without": without,
            "facts": facts,
            "label_origin": record.label_origin | _origins(record.labels, facts),
        }
    )


def _reply(task: str, facts: Facts, random: np.random.Generator) -> str:
    if task == "emotion" and not explained(facts):
        adjective = ADJECTIVES[facts.label]
        text = f"{facts.label}." if random.random() < 0.5 else f"{facts.label}: the person seems {adjective}."
    else:
        text = reply_to(task, facts, random)
    return str(assistant_message(text)["content"])


def _origins(labels: Labels, facts: Facts) -> dict[str, Literal["pseudo"]]:
    """What is said of face and voice was measured by models, unless it is labelled."""
    origins: dict[str, Literal["pseudo"]] = {}
    if facts.phases:
        origins["facts.expression"] = "pseudo"
        if not (labels.aus or labels.au_spans):
            origins["facts.aus"] = "pseudo"
    if facts.voice:
        origins["facts.voice"] = "pseudo"
    return origins
