"""Rewards of the same questions, early and late in a run."""

import json

import pytest

from emollm.train.asked_again import changes


def asked(run, step: int, question: str, *rewards: dict[str, float], process: int = 0):
    """A group of replies, added to the file of a step."""
    (run / "replies").mkdir(exist_ok=True)
    with (run / "replies" / f"{step:05d}-{process}.jsonl").open("a") as file:
        for each in rewards:
            file.write(json.dumps({"question": question, "reply": "", "rewards": each}) + "\n")


def test_the_first_and_the_last_time_of_each_question_are_held_against_each_other(tmp_path):
    asked(tmp_path, 1, "a", {"label": 0.0}, {"label": 1.0})
    asked(tmp_path, 1, "b", {"label": -1.0}, {"label": -1.0}, process=1)
    asked(tmp_path, 2, "c", {"label": 1.0})  # never again
    asked(tmp_path, 9, "a", {"label": -1.0})  # neither first nor last
    asked(tmp_path, 10, "a", {"label": 1.0}, {"label": 1.0})
    asked(tmp_path, 10, "b", {"label": 0.0}, {"label": 0.0})
    [change] = changes(tmp_path)
    assert (change.reward, change.questions) == ("label", 2)
    assert (change.first, change.last) == (pytest.approx(-0.25), pytest.approx(0.5))
    assert (change.low, change.high) == (pytest.approx(0.5), pytest.approx(1.0))  # the differences of the two


def test_rewards_count_where_they_apply(tmp_path):
    asked(tmp_path, 1, "a", {"label": 1.0, "fit": 0.5}, {"label": 1.0})
    asked(tmp_path, 2, "a", {"label": 1.0}, {"label": 1.0})
    asked(tmp_path, 3, "a", {"label": 0.0, "fit": 0.0}, {"label": 0.0, "words": 1.0})
    assert {change.reward: (change.first, change.last) for change in changes(tmp_path)} == {
        "fit": (0.5, 0.0), "label": (1.0, 0.0),
    }  # fmt: skip


def test_replies_of_before_questions_were_noted_say_nothing(tmp_path):
    (tmp_path / "replies").mkdir()
    (tmp_path / "replies" / "00001-0.jsonl").write_text('{"reply": "", "rewards": {"label": 1.0}}\n')
    assert changes(tmp_path) == []
