"""Cards and folders to training records: what a record holds, splits by person, bad rows, broken-off runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from media.conftest import write_clip
from PIL import Image
from test_readers import make_card, put

from emollm.data import media_checks
from emollm.data.cards import DataCard
from emollm.data.media_checks import check_media
from emollm.data.prepare import journal_of, prepare
from emollm.data.schema import Record, mark_of, read_file, write_file
from emollm.errors import BadArgumentError

TABLE = {
    "kind": "table",
    "files": {"all": "labels.csv"},
    "clip": "{clip}",
    "columns": {"id": "clip", "emotion": "emotion", "speaker": "speaker", "transcript": "said"},
}
HEAD = "clip,emotion,speaker,said\n"


def card(**changes) -> DataCard:
    return make_card(TABLE, licence="CC0", terms="They were asked.", **changes)


def made(root: Path, card: DataCard, **how) -> list[Record]:
    prepare(card, root, root / "out.jsonl", **({"media": False} | how))
    return read_file(root / "out.jsonl")


def test_a_record_holds_labels_terms_and_a_dialogue_with_a_mark(tmp_path):
    put(tmp_path, "a.mp4", "b.wav", "c.jpg", labels__csv=HEAD + 'a.mp4,Happy,Ann,"Oh, <|face|> no!"\nb.wav,sad,Bo,\n')
    first, second = made(tmp_path, card())
    assert first.messages[0].content == '<video>said: "Oh,   no!"\nHow does this person feel?'
    assert first.messages[1].content == "<answer>happiness.</answer>"
    assert (first.videos, second.audios) == (["toy/a.mp4"], ["toy/b.wav"])
    assert first.labels.given() == ["emotion"]
    assert first.label_origin == {"emotion": "human"}
    assert (first.speaker, first.source, first.licence, first.terms) == ("Ann", "toy", "CC0", "They were asked.")
    assert first.transcript == "Oh, <|face|> no!"
    assert [part["type"] for part in first.chat()[0]["content"]] == ["video", "text"]


def test_a_label_that_is_none_of_ours_stays_as_an_open_word(tmp_path):
    put(tmp_path, "a.mp4", labels__csv=HEAD + "a.mp4,frustration,Ann,\n")
    (record,) = made(tmp_path, card())
    assert (record.labels.emotion, record.labels.emotions) == (None, ["frustration"])
    assert record.messages[1].content == "<answer>In a few words: frustration.</answer>"


@pytest.mark.parametrize(
    ("columns", "row", "answer"),
    [
        ({"valence": "x", "arousal": "y"}, "0.55,-0.8", "valence 0.6, arousal -0.8, on a scale of -1 to 1"),
        ({"sentiment": "x"}, "-1.5,", "The sentiment is -1.5."),
        ({"text": "x"}, "He smiles.,", "He smiles."),
    ],
)
def test_other_labels_are_asked_about_too(tmp_path, columns, row, answer):
    put(tmp_path, "a.mp4", labels__csv=f"clip,x,y\na.mp4,{row}\n")
    (record,) = made(tmp_path, make_card({**TABLE, "columns": columns}))
    assert answer in record.messages[1].content


@pytest.mark.parametrize(("value", "said"), [("3.6", "AU12 lip corner puller 4."), ("1", "AU12 lip corner puller.")])
def test_units_are_listed_with_their_intensity_where_it_is_coded(tmp_path, value, said):
    put(tmp_path, "a.jpg", labels__csv=f"clip,A,B\na.jpg,{value},0\n")
    (record,) = made(tmp_path, make_card({**TABLE, "columns": {}, "aus": {"AU12": "A", "AU4": "B"}}))
    assert record.messages[1].content == f"<answer>face: {said}</answer>"
    assert record.labels.au_scale == ("intensity" if value == "3.6" else "occurrence")


# Splits --------------------------------------------------------------------------------------------------------------


def people(root: Path, count: int, card: DataCard) -> dict[str, set[str]]:
    """Speakers of each split, of a set with three clips a speaker."""
    clips = [(f"{person}-{take}.mp4", f"P{person}") for person in range(count) for take in range(3)]
    put(root, *(clip for clip, _ in clips), labels__csv=HEAD + "".join(f"{clip},sad,{who},\n" for clip, who in clips))
    found: dict[str, set[str]] = {}
    for record in made(root, card):
        found.setdefault(record.split or "", set()).add(record.speaker or "")
    return found


@pytest.mark.parametrize("count", [3, 5, 10, 40])
def test_a_set_without_splits_is_split_by_person(tmp_path, count):
    splits = people(tmp_path, count, card())
    assert set(splits) == {"train", "valid", "test"}
    assert sum(map(len, splits.values())) == count == len(set.union(*splits.values()))
    assert len(splits["train"]) >= max(len(splits["valid"]), len(splits["test"]))
    if count == 40:
        assert {split: len(who) for split, who in splits.items()} == {"train": 32, "valid": 4, "test": 4}


def test_the_split_is_the_same_in_every_run_and_as_the_card_says(tmp_path):
    (tmp_path / "again").mkdir()
    assert people(tmp_path, 10, card()) == people(tmp_path / "again", 10, card())
    halves = people(tmp_path, 10, card(split_by={"shares": {"train": 1, "valid": 1}}))
    assert {split: len(who) for split, who in halves.items()} == {"train": 5, "valid": 5}
    assert set(people(tmp_path, 4, card(split_by={"shares": {"train": 1}}))) == {"train"}


def test_two_people_are_too_few_for_three_splits(tmp_path):
    assert set(people(tmp_path, 2, card())) <= {"train", "valid"}


def test_own_splits_win(tmp_path):
    splits = people(tmp_path, 3, card(splits={"test": {"speaker": ["P1"]}, "train": {}}))
    assert splits == {"test": {"P1"}, "train": {"P0", "P2"}}


# What is wrong -------------------------------------------------------------------------------------------------------


def test_bad_rows_are_named_and_the_rest_is_prepared(tmp_path):
    rows = "a.png,happy,Ann,\ngone.png,sad,Ann,\nbroken.png,sad,Bo,\na.png,happy,Ann,\nb.png,blue,Bo,\n"
    put(tmp_path, "broken.png", labels__csv=HEAD + rows)
    for name in ("a", "b"):
        Image.new("RGB", (64, 48)).save(tmp_path / "toy" / f"{name}.png")
    prepared = prepare(card(labels={"happy": "happiness", "sad": "sadness"}), tmp_path, tmp_path / "out.jsonl")
    problems = {problem.id: problem.text for problem in prepared.problems}
    assert [record.id for record in read_file(tmp_path / "out.jsonl")] == ["a.png"]
    assert set(problems) == {"gone.png", "broken.png", "a.png", "b.png"}
    assert "no file" in problems["gone.png"]
    assert "broken.png" in problems["broken.png"]
    assert "same id" in problems["a.png"]
    assert "'blue'" in problems["b.png"]


def test_a_set_without_a_usable_row_is_refused(tmp_path):
    put(tmp_path, labels__csv=HEAD + "gone.png,sad,Ann,\n")
    with pytest.raises(BadArgumentError, match=r"No row of Toy Set can be used: There is no file gone.png"):
        made(tmp_path, card())
    assert not (tmp_path / "out.jsonl").exists()


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadArgumentError, match="cannot be written"):
        write_file(tmp_path / "file" / "out.jsonl", [])


# Going on ------------------------------------------------------------------------------------------------------------


def test_clips_are_opened_once_and_again_when_they_change(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(media_checks, "media_problem", lambda path: opened.append(path.name) or "")
    paths = [tmp_path / f"{number}.wav" for number in range(3)]
    for path in paths:
        path.write_text("x")
    journal = tmp_path / "out.checked"
    assert check_media(paths, journal) == {}
    journal.write_text(journal.read_text() + '["torn')
    paths[1].write_text("changed")
    assert check_media([*paths, paths[0], tmp_path / "gone"], journal).keys() == {tmp_path / "gone"}
    assert sorted(opened) == ["0.wav", "1.wav", "1.wav", "2.wav"]


def test_a_killed_run_leaves_no_file_and_goes_on(tmp_path):
    clips = [write_clip(tmp_path / f"{number}.wav", sound=np.zeros(800, np.float32), rate=8000, audio="pcm_s16le")
             for number in range(4)]  # fmt: skip
    put(tmp_path, labels__csv=HEAD + "".join(f"{clip.name},sad,Ann,\n" for clip in clips))
    for clip in clips:
        clip.rename(tmp_path / "toy" / clip.name)
    program = f"""
import sys, time
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from pathlib import Path
from emollm.data import media_checks, prepare
from test_prepare import card
real = media_checks.media_problem
media_checks.media_problem = lambda path: (time.sleep(60) if path.name == "3.wav" else None) or real(path)
prepare.prepare(card(), Path(sys.argv[1]), Path(sys.argv[1]) / "out.jsonl")
"""
    run = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    out = tmp_path / "out.jsonl"
    deadline = time.monotonic() + 60
    while not (journal_of(out).exists() and journal_of(out).read_text().count(".wav") == 3):
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not out.exists()
    opened: list[str] = []
    real = media_checks.media_problem
    try:
        media_checks.media_problem = lambda path: opened.append(path.name) or real(path)
        assert len(made(tmp_path, card(), media=True)) == 4
    finally:
        media_checks.media_problem = real
    assert opened == ["3.wav"]


@pytest.mark.parametrize(
    ("name", "mark"), [("a.JPG", "<image>"), ("a.flac", "<audio>"), ("a.flv", "<video>"), ("a.webm", "<video>")]
)
def test_the_ending_says_what_a_file_is(name, mark):
    assert mark_of(Path(name)) == mark
