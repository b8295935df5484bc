"""``emollm data prepare``: from a card and a folder to training records, one JSON object a line.

A record says what the set says and nothing more: its answer is the label. What can be seen and heard in the clip is
added by :mod:`emollm.data.instruct`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emollm.data.cards import DataCard
from emollm.data.explain import reply_to
from emollm.data.facts import Facts, Phase
from emollm.data.media_checks import OnProgress, check_media
from emollm.data.readers import Problem, Row, read_rows
from emollm.data.schema import Labels, Record, Turn, first_turn, mark_of, media_path, write_file
from emollm.data.splits import assign_splits, speaker_of
from emollm.emotions import EMOTIONS, canonical_emotion
from emollm.errors import BadArgumentError
from emollm.facs import AU_NAMES, MAX_INTENSITY
from emollm.model.course import MAX_NAMED
from emollm.reasoning.prompts import assistant_message
from emollm.reasoning.verify import PRESENT

QUESTIONS = {
    "emotion": "",  # the default question
    "aus": "List the facial Action Units.",
    "emotions": "Describe the feeling in a few words.",
    "affect": "How pleasant and how excited is the person?",
    "text": "Explain how the person feels.",
    "sentiment": "How negative or positive is what is expressed?",
}


@dataclass
class Prepared:
    """The records, what is wrong with rows that are left out, and how many the card leaves out on purpose."""

    records: list[Record]
    problems: list[Problem] = field(default_factory=list)
    left_out: int = 0


def prepare(
    card: DataCard, root: Path, out: Path, *, media: bool = True, on_progress: OnProgress | None = None
) -> Prepared:
    """Write the records of a data set to ``out``, whole or not at all; arguments as for :func:`collect`.

    Raises:
        BadArgumentError: also where no row is left, or ``out`` cannot be written.
    """
    prepared = collect(card, root, out, media=media, on_progress=on_progress)
    if not prepared.records:
        first = prepared.problems[0].text if prepared.problems else "The card leaves all of them out."
        raise BadArgumentError(f"No row of {card.title} can be used: {first}")
    write_file(out, prepared.records)
    return prepared


def collect(
    card: DataCard, root: Path, out: Path, *, media: bool = True, on_progress: OnProgress | None = None
) -> Prepared:
    """The records of a data set.

    Args:
        root: the folder that holds the folders of data sets.
        out: the file that they are meant for; pictures from inside parquet files are unpacked beside it.
        media: open every clip once and leave out those that cannot be read; what was found is kept beside ``out``, so
            that a run that was broken off goes on.

    Raises:
        BadArgumentError: the set is not there or not in the shape that its card says.
    """
    reading = read_rows(card, root, unpack=out.with_name(f"{out.name}.pictures"))
    wrong = check_media((row.clip for row in reading.rows), journal_of(out), on_progress) if media else {}
    rows = [row for row in reading.rows if row.clip not in wrong]
    problems = reading.problems + [Problem(row.id, wrong[row.clip]) for row in reading.rows if row.clip in wrong]
    return Prepared(list(_records(card, rows, out)), problems, reading.left_out)


def journal_of(file: Path) -> Path:
    """Where it is kept which clips of a file can be read."""
    return file.with_name(f"{file.name}.checked")


def _records(card: DataCard, rows: list[Row], out: Path) -> Iterator[Record]:
    splits = assign_splits(card, rows)
    graded = any(value > 1 for row in rows for value in row.labels.get("aus", {}).values())
    for row in rows:
        labels = _labels(row, graded)
        mark = "<image>" if card.layout.kind in ("parquet", "frames") else mark_of(row.clip)
        clip = [media_path(row.clip, out)]
        yield Record(
            id=row.id,
            messages=dialogue(labels, mark, row.transcript or ""),
            videos=clip if mark == "<video>" else [],
            images=clip if mark == "<image>" else [],
            audios=clip if mark == "<audio>" else [],
            labels=labels,
            label_origin=dict.fromkeys(labels.given(), card.label_origin),
            split=splits[row.id],
            speaker=speaker_of(row),
            source=card.name,
            licence=card.licence,
            terms=card.terms,
            transcript=row.transcript,
            start_s=row.start_s,
            end_s=row.end_s,
            face_crop=card.face_crop,
        )


def _labels(row: Row, graded: bool) -> Labels:
    """A word that is none of our labels stays as an open word; votes are kept where all of them are of ours."""
    given = dict(row.labels)
    words = list(given.pop("emotions", []))
    emotion = given.pop("emotion", None)
    label = canonical_emotion(emotion) if emotion else None
    if emotion and label is None:
        words.insert(0, emotion)
    votes: Counter[str] = Counter()
    for word, share in given.pop("votes", {}).items():
        votes[canonical_emotion(word) or word] += share
    if not set(votes) <= set(EMOTIONS):
        votes.clear()
    scale = "intensity" if graded or not given.get("aus") else "occurrence"
    return Labels(emotion=label, emotions=words, votes=dict(votes), au_scale=scale, **given)  # type: ignore[arg-type]


def labelled_units(labels: Labels) -> dict[str, int]:
    """The strongest labelled AUs in whole intensities, 0 where only their presence is coded."""
    present = {code: value for code, value in labels.aus.items() if value >= PRESENT and code in AU_NAMES}
    strongest = sorted(present, key=lambda code: -present[code])[:MAX_NAMED]
    level = {code: int(min(round(present[code]), MAX_INTENSITY)) for code in strongest}
    return level if labels.au_scale == "intensity" else dict.fromkeys(level, 0)


def dialogue(labels: Labels, mark: str, transcript: str) -> list[Turn]:
    """A question and its answer from the labels alone, the most telling one that there is."""
    if labels.emotion:
        kind, reply = "emotion", f"{labels.emotion}."
    elif labels.aus:
        facts = Facts("", [Phase("neutral", labelled_units(labels))], timed=False)
        kind, reply = "aus", reply_to("units", facts)
    elif labels.emotions:
        kind, reply = "emotions", f"In a few words: {', '.join(labels.emotions)}."
    elif labels.valence is not None or labels.arousal is not None:
        kind, reply = "affect", reply_to("affect", Facts("", valence=labels.valence, arousal=labels.arousal))
    elif labels.text:
        kind, reply = "text", labels.text
    else:
        kind, reply = "sentiment", f"The sentiment is {labels.sentiment:g}."
    return [
        first_turn(mark, QUESTIONS[kind], transcript),
        Turn(role="assistant", content=str(assistant_message(reply)["content"])),
    ]
