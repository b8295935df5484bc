"""The rewards as TRL calls them: batches of texts against the truth about their clips."""

import numpy as np
import pytest
from fakes import make_face_states, make_voices

from emollm.data.compose import READINGS, compose
from emollm.data.facts import Facts, Phase
from emollm.data.schema import Record
from emollm.facs import AU_CODES
from emollm.model.symbols import FACE_SYMBOLS, STILL_SYMBOLS
from emollm.reasoning import parse
from emollm.train import grpo_questions, reward_functions
from emollm.train.collate import ComposedCollator, Example
from emollm.train.grpo_questions import Truth, questions
from emollm.train.material import Material
from emollm.train.reward_functions import REWARDS, read_reply, reply_statistics, reward_function

THOUGHT = (
    "<think>\nObservations: face 0-1 s: AU6 cheek raiser 2, AU12 lip corner puller 4.\n"
    "Interpretation: AU6, AU12 fit happiness.\nConclusion: The person seems happy.\n</think>\n"
)
ANSWER = "<answer>happiness: the face shows AU12.</answer>"
MEASURED = [[0.0] * len(AU_CODES), [0.0] * len(AU_CODES)]
MEASURED[0][AU_CODES.index("AU12")] = 3.5
MEASURED[0][AU_CODES.index("AU6")] = 2.5
TRUTH = Truth(
    think=True, emotion="happiness", votes={"happiness": 3, "neutral": 1}, words=["happiness"],
    units=dict.fromkeys(AU_CODES, 0.0) | {"AU6": 2.0, "AU12": 4.0}, present=["face"], carrier="face",
    times=[[0.0, 0.5], [0.5, 1.0]], measured=MEASURED,
)  # fmt: skip
DIRECT = Truth(**{**vars(TRUTH), "think": False})


def scores(name, texts, truths, tokens=None):
    ids = [[0] * count for count in tokens or [10] * len(texts)]
    return reward_function(name, 100, 200)(
        completions=texts, completion_ids=ids, truth=[one.to_json() for one in truths], prompts=texts, log_metric=None
    )


@pytest.mark.parametrize("name", REWARDS)
def test_a_perfect_reply(name):
    assert scores(name, [THOUGHT + ANSWER], [TRUTH]) == [0.0 if name == "length" else 1.0]


@pytest.mark.parametrize("name", [name for name in REWARDS if name != "length"])
def test_an_unreadable_reply_earns_the_least(name):
    assert scores(name, ["happiness", "<answer>"], [TRUTH, TRUTH]) == [-1.0, -1.0]


@pytest.mark.parametrize("name", REWARDS)
def test_rewards_without_a_label_are_left_out(name):
    # It claims AUs where no face is.
    there = {"format": 1.0, "support": -1.0, "alignment": 1.0, "fit": -1.0, "length": 0.0}
    assert scores(name, [THOUGHT + ANSWER], [Truth(think=True)]) == [there.get(name)]


def test_who_may_not_think_must_not():
    assert scores("label", [THOUGHT + ANSWER, ANSWER], [DIRECT, DIRECT]) == [-1.0, 1.0]
    assert scores("format", [ANSWER, ANSWER], [TRUTH, DIRECT]) == [-1.0, 1.0]


def test_support_is_measured_where_the_claim_says():
    claims = "<think>\nObservations: face 0-0.4 s: {}\n</think>\n<answer>happiness</answer>"
    texts = [claims.format(text) for text in ("AU6 2.5, AU12 3.5.", "AU6 2.5, AU12 0.5.", "AU4 3.")]
    texts.append(texts[0].replace("0-0.4 s", "0.6-0.9 s"))  # nothing is measured there
    found = scores("support", texts, [TRUTH] * 4)
    assert found[0] == 1.0
    assert -1 < found[1] < 1
    assert found[2:] == [-1.0, -1.0]


def test_occurrence_labels_have_no_intensities():
    truth = Truth(**{**vars(TRUTH), "graded": False})
    assert scores("intensities", [ANSWER], [truth]) == [None]
    assert scores("units", [THOUGHT + ANSWER], [truth]) == [1.0]


def test_length():
    assert scores("length", [ANSWER] * 3, [DIRECT] * 3, [100, 150, 400]) == [0.0, -0.5, -1.0]


def test_each_reply_is_parsed_once(monkeypatch):
    parsed = []
    monkeypatch.setattr(
        reward_functions, "parse_answer", lambda text, **mode: parsed.append(text) or parse.parse_answer(text, **mode)
    )
    read_reply.cache_clear()
    texts = [ANSWER, THOUGHT + ANSWER]
    for name in REWARDS:
        scores(name, texts, [TRUTH, TRUTH])
    reply_statistics(texts, [1, 1], [TRUTH.to_json()] * 2)
    assert parsed == texts


def test_statistics():
    spam = "<answer>happiness: anger, fear, AU1, AU2, AU4.</answer>"
    found = reply_statistics(
        [THOUGHT + ANSWER, "nonsense", spam, ANSWER.replace("happiness", "anger")],
        [60, 10, 20, 30],
        [TRUTH.to_json(), TRUTH.to_json(), DIRECT.to_json(), DIRECT.to_json()],
    )
    assert found == pytest.approx(
        {
            "unreadable": 0.25, "emotions_named": (1 + 3 + 1) / 3, "units_claimed": (2 + 3 + 1) / 3,
            "commonest_label": 2 / 3, "think/tokens": 35, "think/unreadable": 0.5, "no_think/tokens": 25,
            "no_think/unreadable": 0.0,
        }
    )  # fmt: skip
    assert reply_statistics(["", ""], [0, 0], [DIRECT.to_json()] * 2) == {
        "unreadable": 1.0, "no_think/tokens": 0.0, "no_think/unreadable": 1.0
    }  # fmt: skip


def test_the_truth_about_composed_clips(processor):
    faces, voices = make_face_states(), make_voices()
    collate = ComposedCollator(processor, faces, voices)
    records = list(compose(80, faces, voices, "train", 0, {"emotion": 0.7, "identity": 0.3}, drift_share=0.5))
    material = Material(None, processor, [record.to_json() for record in records], collate)
    rows = questions(material)
    asked = [record for record in records if ":" in record.messages[-1]["content"].split("<answer>")[-1]]
    assert [row["record"] for row in rows] == [record.to_json() for record in asked]
    assert 0 < len(rows) < len(records)
    carriers = set()
    for row, record in zip(rows, asked):
        truth = Truth.from_json(row["truth"])
        clip = collate.example(row)
        assert truth.emotion == record.labels["emotion"]
        assert truth.emotion in truth.words
        assert truth.present == ["face"] * bool(record.faces) + ["voice"] * (record.voice is not None)
        assert len(truth.measured) == len(truth.times) == len(clip.placeholders.face)
        assert (truth.units is None) == (not record.faces)
        if record.faces:
            _, _, first, last = record.faces[0]
            assert truth.measured[0] == pytest.approx(5 * clip.face[first, -READINGS:][:17], abs=1e-3)
            assert set(truth.units) == set(AU_CODES)
            mean = 5 * clip.face[first : last + 1, -READINGS:][:, :17].mean(0)
            assert all(truth.units[code] >= value - 1e-4 for code, value in zip(AU_CODES, mean))
        if truth.carrier == "voice":
            assert str(voices.emotion[record.voice]) == truth.emotion
        carriers.add((tuple(truth.present), truth.carrier))
        assert row["prompt"].endswith("<|im_start|>assistant\n")
        symbols = FACE_SYMBOLS if record.timed else STILL_SYMBOLS
        assert row["prompt"].count("<|face|>") == len(truth.times) + (3 + symbols) * bool(truth.times)
        assert ("/no_think" in row["prompt"]) != truth.think
        assert "<answer>" not in row["prompt"]
    assert {(("face",), "face"), (("voice",), "voice"), (("face", "voice"), None)} <= carriers


@pytest.mark.parametrize(("said", "carrier"), [("happiness", None), ("sadness", "face"), (None, None)])
def test_the_truth_about_ones_own_clips(said, carrier):
    record = Record(
        id="a", messages=[{"role": "user", "content": "<video>?"}, {"role": "assistant", "content": ANSWER}],
        videos=["a.mp4"],
        labels={"emotion": "happiness", "emotions": ["joyful", "sadness", "xyzzy"], "votes": {"happiness": 1.0},
                "aus": {"AU12": 1, "AU4": 0}, "au_scale": "occurrence"},
        facts=Facts("happiness", [Phase("happiness", {"AU12": 3})], "loud", said),
    )  # fmt: skip
    face = np.full((3, 40), np.nan, np.float32)
    face[1] = 0.2
    example = Example(record.chat(), False, face, np.zeros((2, 4), np.float32), np.zeros(8, np.float32), True, 0.5)
    truth = grpo_questions._of(record.model_dump_json(), example)
    assert truth.carrier == carrier
    assert (truth.emotion, truth.votes, truth.graded) == ("happiness", {"happiness": 1.0}, False)
    assert truth.words[0] == "happiness"
    assert "sadness" in truth.words
    assert "xyzzy" not in truth.words
    assert truth.units == {"AU12": 1, "AU4": 0}
    assert truth.times == [[0.5, 1.0]]
    assert truth.measured == [[1.0] * 17]
    assert truth.present == ["face", "voice"]
