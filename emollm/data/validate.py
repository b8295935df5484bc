"""``emollm data validate``: what is wrong with a file of training records, by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emollm.data.claims import false_claims
from emollm.data.media_checks import OnProgress, check_media
from emollm.data.prepare import journal_of
from emollm.data.schema import Labels, Record, read_lines
from emollm.emotions import EMOTIONS
from emollm.facs import MAX_INTENSITY
from emollm.reasoning.parse import parse_answer


@dataclass(frozen=True)
class Fault:
    """What is wrong with the record of a line, in one sentence."""

    line: int
    id: str
    text: str


@dataclass
class Validation:
    """How many records were read, and their faults by line."""

    records: int
    faults: list[Fault]


def validate_file(
    file: Path, *, media: bool = True, shared_people: bool = False, on_progress: OnProgress | None = None
) -> Validation:
    """Check every line of a file.

    Args:
        media: open every clip; what was found is kept beside the file, so that a check that was broken off goes on.
        shared_people: people may be in several splits, as they are in MELD.

    Raises:
        BadArgumentError: the file cannot be read.
    """
    faults: list[Fault] = []
    ids: dict[str, int] = {}
    people: dict[tuple[str, str], tuple[str, int]] = {}
    clips: dict[Path, list[tuple[int, str]]] = {}
    splits: dict[Path, tuple[str, int]] = {}
    count = 0
    for number, record in read_lines(file):
        count += 1
        if isinstance(record, str):
            faults.append(Fault(number, "", record))
            continue
        found = list(record_faults(record))
        if record.id in ids:
            found.append(f"Line {ids[record.id]} has the same id.")
        ids.setdefault(record.id, number)
        if record.split and record.speaker and not shared_people:
            split, line = people.setdefault((record.source, record.speaker), (record.split, number))
            if split != record.split:
                found.append(f"Speaker {record.speaker} is in split {record.split}, but in {split} on line {line}.")
        for path in (file.parent / name for name in record.media):
            split, line = splits.setdefault(path, (record.split or "", number))
            if split != (record.split or ""):
                found.append(f"Its clip is in split {record.split}, but in {split} on line {line}.")
            clips.setdefault(path, []).append((number, record.id))
        faults += [Fault(number, record.id, text) for text in found]
    absent = {path for path in clips if not path.is_file()}
    wrong = dict.fromkeys(absent, "")
    if media:
        wrong |= check_media(clips.keys() - absent, journal_of(file), on_progress)
    for path, text in wrong.items():
        faults += [Fault(line, id, text or f"There is no file {path}.") for line, id in clips[path]]
    return Validation(count, sorted(faults, key=lambda fault: fault.line))


def record_faults(record: Record) -> Iterator[str]:
    """What is wrong with a record by itself."""
    if not record.messages or record.messages[-1].role != "assistant" or record.messages[0].role != "user":
        yield "Its dialogue does not go from a user to an assistant."
    marks = record.marks()
    for field, count in marks.items():
        if count != len(getattr(record, field)):
            yield f"It has {len(getattr(record, field))} {field} and {count} marks for them."
    if len(record.media) != 1:
        yield f"It is about {len(record.media)} clips, not one."
    if (record.start_s or 0) < 0 or (record.end_s is not None and record.end_s <= (record.start_s or 0)):
        yield "Its part of the clip ends before it starts."
    yield from _label_faults(record.labels)
    if missing := [name for name in record.labels.given() if name not in record.label_origin]:
        yield f"It does not say where these labels come from: {', '.join(missing)}."
    for turn in record.messages:
        if turn.role == "assistant":
            yield from _answer_faults(record, turn.content)


def _label_faults(labels: Labels) -> Iterator[str]:
    for word in dict.fromkeys([*([labels.emotion] if labels.emotion is not None else []), *labels.votes]):
        if word not in EMOTIONS:
            yield f"Its label '{word}' is none of {', '.join(EMOTIONS)}."
    if any(share < 0 for share in labels.votes.values()):
        yield "It has negative votes."
    for name in ("valence", "arousal"):
        number = getattr(labels, name)
        if number is not None and not -1 <= number <= 1:
            yield f"Its {name} {number:g} is outside -1 to 1."
    units = [*labels.aus.items(), *((span.code, span.intensity) for span in labels.au_spans)]
    for code, intensity in units:
        if not re.fullmatch(r"AU[1-9][0-9]?", code):
            yield f"'{code}' is no Action Unit."
        elif not 0 <= intensity <= MAX_INTENSITY:
            yield f"Its {code} is {intensity:g}, which is no intensity from 0 to {MAX_INTENSITY:g}."
    for span in labels.au_spans:
        if not 0 <= span.start_s <= span.end_s:
            yield f"Its {span.code} lasts from {span.start_s:g} to {span.end_s:g} s."


def _answer_faults(record: Record, content: str) -> Iterator[str]:
    parsed = parse_answer(content)
    if parsed.error:
        yield f"What the assistant says breaks the grammar of answers ({parsed.error})."
    elif parsed.label and record.labels.emotion and parsed.label != record.labels.emotion:
        yield f"It answers {parsed.label}, but is labelled {record.labels.emotion}."
    if record.facts is not None:
        yield from false_claims(content, record.facts)
