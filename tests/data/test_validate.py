"""Every fault of a training file is named with its line."""

import json
from pathlib import Path

import pytest
from PIL import Image

from emollm.cli import main
from emollm.data.schema import read_file
from emollm.data.validate import validate_file
from emollm.errors import BadArgumentError

FACTS = {"label": "happiness", "phases": [{"emotion": "happiness", "aus": {"AU12": 3}, "start_s": 0, "end_s": 4}]}


def record(**changes) -> dict:
    basis = {
        "id": "a",
        "messages": [
            {"role": "user", "content": "<image>How does this person feel?"},
            {"role": "assistant", "content": "<answer>happiness.</answer>"},
        ],
        "images": ["a.png"],
        "labels": {"emotion": "happiness"},
        "label_origin": {"emotion": "human"},
        "split": "train",
        "speaker": "Ann",
        "source": "toy",
    }
    return basis | changes


def say(question: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture
def file(tmp_path) -> Path:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    return tmp_path / "train.jsonl"


def faults(file: Path, *records: dict | str, **how) -> list[tuple[int, str]]:
    file.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return [(fault.line, fault.text) for fault in validate_file(file, **how).faults]


def test_a_good_file_has_no_fault(file):
    assert faults(file, record(), "", record(id="b", facts=FACTS, split="train")) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": ["gone.png"]}, "There is no file"),
        ({"labels": {"emotion": "joyful"}}, "'joyful' is none of"),
        ({"labels": {"emotion": "happiness", "votes": {"glee": 1.0}}}, "'glee' is none of"),
        ({"labels": {"aus": {"AU12": 7}}, "label_origin": {"aus": "human"}}, "AU12 is 7"),
        ({"labels": {"aus": {"smile": 1}}, "label_origin": {"aus": "human"}}, "'smile' is no Action Unit"),
        ({"labels": {"valence": 2.0}, "label_origin": {"valence": "human"}}, "valence 2 is outside"),
        (
            {
                "labels": {"au_spans": [{"code": "AU4", "intensity": 2, "start_s": 3, "end_s": 1}]},
                "label_origin": {"au_spans": "exact"},
            },
            "AU4 lasts from 3 to 1",
        ),
        ({"label_origin": {}}, "where these labels come from: emotion"),
        ({"label_origin": {"emotion": "guess"}}, "label_origin.emotion"),
        ({"messages": say("How?", "<answer>happiness.</answer>")}, "0 marks"),
        ({"messages": say("<image><image>?", "<answer>happiness.</answer>")}, "2 marks"),
        ({"messages": say("<image>?", "happiness")}, "breaks the grammar"),
        ({"messages": say("<image>?", "<answer>sadness.</answer>")}, "answers sadness, but is labelled happiness"),
        ({"messages": []}, "dialogue"),
        ({"images": []}, "about 0 clips"),
        ({"start_s": 3, "end_s": 2}, "ends before it starts"),
        ({"facts": FACTS, "messages": say("<image>?", "<answer>happiness: AU4 in 9 s.</answer>")}, "It claims AU4"),
        ({"surprise": 1}, "no training record at 'surprise'"),
    ],
)
def test_a_fault_is_named_with_its_line(file, changes, words):
    found = faults(file, record(id="first"), record(**changes))
    assert {line for line, _ in found} == {2}
    assert any(words in text for _, text in found), found


def test_lines_that_are_no_records(file):
    assert [line for line, _ in faults(file, record(), "{", "[1]", '"x"')] == [2, 3, 4]
    with pytest.raises(BadArgumentError, match="Line 2 of"):
        read_file(file)


def test_an_id_twice_and_people_and_clips_in_two_splits(file):
    Image.new("RGB", (64, 48)).save(file.parent / "b.png")
    other = record(id="b", split="valid", images=["b.png"])
    found = faults(file, record(), record(), other)
    assert found == [
        (2, "Line 1 has the same id."), (3, "Speaker Ann is in split valid, but in train on line 1."),
    ]  # fmt: skip
    assert faults(file, record(), other, shared_people=True) == []
    assert faults(file, record(), other | {"source": "another set, another Ann"}) == []
    ((line, text),) = faults(file, record(), record(id="b", speaker="Bo", split="test"))
    assert (line, text) == (2, "Its clip is in split test, but in train on line 1.")


def test_unreadable_media_is_found_by_opening_it(file):
    (file.parent / "broken.png").write_text("no picture")
    broken = record(id="b", images=["broken.png"])
    ((line, text),) = faults(file, record(), broken)
    assert line == 2
    assert "broken.png" in text
    assert faults(file, record(), broken, media=False) == []
    assert len(faults(file, record(), broken)) == 1  # from the journal


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["data", *map(str, arguments)])
    return int(stop.value.code or 0)


def test_the_command_names_lines_and_fails(file, capfd):
    file.write_text(json.dumps(record()) + "\n")
    assert command("validate", file) == 0
    assert "1 of 1 rows are good" in capfd.readouterr().err
    file.write_text(json.dumps(record(images=["gone.png"])) + "\n")
    assert command("validate", file, "--problems", file.parent / "wrong.txt") == 1
    assert "line 1: a: There is no file" in capfd.readouterr().err.replace("\n", " ")
    assert (file.parent / "wrong.txt").read_text().startswith("line 1: a: ")
    assert command("validate", file.parent / "none.jsonl") == 2


def test_a_card_is_validated_with_its_data(file, capfd):
    folder = file.parent / "RAVDESS"
    folder.mkdir()
    (folder / "01-01-06-01-02-01-12.mp4").write_text("no film")
    assert command("validate", "ravdess", "--root", file.parent, "--no-media") == 0
    assert command("validate", "ravdess", "--root", file.parent) == 1
    assert "01-01-06-01-02-01-12: " in capfd.readouterr().err
    assert command("validate", "ravdess") == 2
    assert "--root" in capfd.readouterr().err
