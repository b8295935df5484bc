import dataclasses
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from fakes import make_face_states, make_voices

from emollm.data.compose import (
    PER_SECOND,
    READINGS,
    Composed,
    _cuts,
    compose,
    face_course,
    read_records,
    write_records,
)
from emollm.data.questions import PLAIN, QUESTIONS
from emollm.emotions import EMOTIONS
from emollm.facs import AU_CODES
from emollm.model.processing_emollm import MAX_WINDOWS
from emollm.reasoning.parse import parse_answer

FACES, VOICES = make_face_states(), make_voices()
MIX = dict.fromkeys(QUESTIONS, 1.0)


def records(count: int = 300, seed: int = 0, split: str = "train", **changes) -> list[Composed]:
    return list(compose(count, FACES, VOICES, split, seed, changes.pop("mix", MIX), **changes))


@pytest.fixture(scope="module")
def composed() -> list[Composed]:
    return records(drift_share=0.5, follow_up_share=0.3)


def test_the_same_seed_gives_the_same_records(composed):
    assert records(drift_share=0.5, follow_up_share=0.3) == composed
    assert records(seed=1, drift_share=0.5, follow_up_share=0.3) != composed


def test_recipes_of_before_draw_what_they_drew():
    """Written down before pairs of face and voice could be asked for."""
    mix = {"emotion": 1.0, "voice": 1.0, "change": 1.0}
    drawn = records(mix=mix, drift_share=0.5, follow_up_share=0.3)[-4:]
    assert [(one.faces, one.voice, one.windows, one.think, one.timed) for one in drawn] == [
        ([], 18, 4, False, True),
        ([[47, 15, 0, 13], [4, 12, 14, 21]], None, 22, True, True),
        ([[17, 17, 0, 0]], None, 1, True, False),
        ([[39, 39, 0, 3], [5, 5, 4, 19], [0, 40, 20, 35]], None, 36, True, True),
    ]


def test_records_survive_their_file(composed, tmp_path):
    assert write_records(tmp_path / "new" / "train.jsonl", iter(composed)) == len(composed)
    assert read_records(tmp_path / "new" / "train.jsonl") == composed
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["train.jsonl"]


def test_nothing_is_left_of_an_interrupted_file(composed, tmp_path):
    def interrupted():
        yield composed[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(tmp_path / "train.jsonl", interrupted())
    assert not (tmp_path / "train.jsonl").exists()


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_voices_come_from_their_split(split):
    rows = {record.voice for record in records(split=split)} - {None}
    assert rows
    assert {VOICES.split[row] for row in rows} == {split}
    assert {record.split for record in records(20, split=split)} == {split}


def test_records_hold_together(composed):
    for record in composed:
        assert record.messages[0]["role"] == "user"
        assert record.messages[-1]["role"] == "assistant"
        assert record.labels["emotion"] in EMOTIONS
        assert record.label_origin == {"emotion": "human", "aus": "pseudo"}
        assert record.faces or record.voice is not None
        assert 1 <= record.windows <= MAX_WINDOWS
        for start, end, first, last in record.faces:
            assert 0 <= min(start, end) <= max(start, end) < len(FACES.label)
            assert FACES.label[start] == FACES.label[end]
            assert 0 <= first <= last < record.windows
        spans = [(first, last) for *_, first, last in record.faces]
        if spans:  # phases cover the whole clip without gap or overlap
            assert (spans[0][0], spans[-1][1]) == (0, record.windows - 1)
            assert all(before[1] + 1 == after[0] for before, after in pairwise(spans))
        if record.voice is not None:
            assert record.windows == (~np.isnan(VOICES.states[record.voice]).any(-1)).sum()


def test_the_label_is_what_the_parts_were_labelled(composed):
    for record in composed:
        held = {str(FACES.label[row]) for row, *_ in record.faces}
        if record.voice is not None:
            held.add(str(VOICES.emotion[record.voice]))
        assert record.labels["emotion"] in held


def test_replies_are_well_formed_and_label_the_clip(composed):
    for record in composed:
        last = record.messages[-1]["content"]
        parsed = parse_answer(last)
        assert parsed.error is None, last
        question = record.messages[-2]["content"][-1]["text"]
        if question in QUESTIONS["emotion"]:
            assert parsed.label == record.labels["emotion"]
        refused = any(question in QUESTIONS[task] for task in PLAIN)
        assert (parsed.thought is not None) == (record.think and not refused)


def test_claims_are_measured_in_the_faces_of_their_phase(composed):
    """Every claimed unit rounds to its claimed intensity in the face shown at that time."""
    checked = 0
    for record in composed:
        for claim in parse_answer(record.messages[-1]["content"]).claims:
            measured = [
                5 * FACES.states[[start, end], -READINGS + AU_CODES.index(claim.code)].mean()
                for start, end, first, last in record.faces
                if claim.start_s is None or (first // PER_SECOND, last // PER_SECOND) == (claim.start_s, claim.end_s)
            ]
            assert measured
            assert any(
                value >= 0.5 and (claim.intensity is None or np.rint(value) == claim.intensity) for value in measured
            )
            checked += 1
    assert checked > 100


def test_the_marks_of_media_fit_what_there_is(composed):
    seen = Counter()
    for record in composed:
        (media,) = (
            p["type"] for m in record.messages for p in m["content"] if isinstance(p, dict) and p["type"] != "text"
        )
        seen[media] += 1
        if media == "image":
            assert record.voice is None
            assert not record.timed
        if media == "audio":
            assert not record.faces
    assert set(seen) == {"video", "image", "audio"}


def test_tasks_and_thinking_follow_the_recipe():
    only = records(60, mix={"voice": 1.0}, think_share=0.0)
    assert {record.messages[-2]["content"][-1]["text"] for record in only} == set(QUESTIONS["voice"])
    assert not any(record.think for record in only)
    assert all(record.think for record in records(20, think_share=1.0))


def test_why_is_asked_after_an_answer():
    for record in records(30, mix={"why": 1.0}):
        assert [message["role"] for message in record.messages] == ["user", "assistant", "user", "assistant"]
        assert record.messages[2]["content"][-1]["text"] in QUESTIONS["why"]
        assert parse_answer(record.messages[1]["content"]).label == record.labels["emotion"]


@pytest.mark.parametrize("seconds", range(2, 24))
def test_cuts_cover_the_clip_in_whole_seconds(seconds):
    for seed in range(20):
        for phases in (1, 2, 3):
            cuts = _cuts(seconds, phases, np.random.default_rng(seed))
            assert cuts[0][0] == 0
            assert cuts[-1][1] == seconds * PER_SECOND - 1
            assert all(last - first + 1 >= 2 * PER_SECOND for first, last in cuts)
            assert len(cuts) <= phases


def course_record(faces: list[list[int]], windows: int) -> Composed:
    return Composed([], False, faces, None, windows, {}, {}, "train", True)


def test_a_course_shows_its_faces_and_blends_where_they_meet():
    course = face_course(course_record([[3, 3, 0, 3], [5, 5, 4, 7]], 8), FACES)
    before, after = FACES.states[3], FACES.states[5]
    assert np.array_equal(course[:3], np.stack([before] * 3))
    assert np.allclose(course[3], 0.75 * before + 0.25 * after)
    assert np.allclose(course[4], 0.75 * after + 0.25 * before)
    assert np.array_equal(course[5:], np.stack([after] * 3))


def test_a_phase_drifts_from_its_first_face_to_its_last():
    course = face_course(course_record([[3, 5, 0, 4]], 5), FACES)
    for window, share in enumerate((0, 0.25, 0.5, 0.75, 1)):
        assert np.allclose(course[window], (1 - share) * FACES.states[3] + share * FACES.states[5])


def test_random_blends_are_longer_but_keep_the_cut_in_their_middle():
    """Readings flicker too little to hide which face is nearer, so the nearer one changes at the cut."""
    record = course_record([[3, 3, 0, 9], [5, 5, 10, 19]], 20)
    lengths = set()
    for seed in range(20):
        readings = face_course(record, FACES, np.random.default_rng(seed))[:, -READINGS:]
        distance = [np.abs(readings - FACES.states[row, -READINGS:]).mean(1) for row in (3, 5)]
        assert np.array_equal(distance[0] < distance[1], np.arange(20) < 10)
        pure = np.minimum(*distance) < 0.1 * np.abs(FACES.states[3, -READINGS:] - FACES.states[5, -READINGS:]).mean()
        lengths.add(int((~pure).sum()))
    assert max(lengths) >= 4


def test_follow_ups_come_after_an_answer():
    share = np.mean([len(record.messages) == 4 for record in records(200, mix={"units": 1.0}, follow_up_share=0.5)])
    assert 0.35 < share < 0.65
    assert all(len(record.messages) == 2 for record in records(50, mix={"units": 1.0}))


def test_flicker_moves_features_more_than_readings_and_leaves_gaps_empty():
    record = course_record([[3, 3, 0, 3]], 4)
    still, moved = face_course(record, FACES), face_course(record, FACES, np.random.default_rng(0))
    change = np.abs(moved - still) / FACES.spread
    assert change[:, :-READINGS].mean() > 3 * change[:, -READINGS:].mean() > 0
    empty = dataclasses.replace(record, faces=[])
    assert np.isnan(face_course(empty, FACES, np.random.default_rng(0))).all()
