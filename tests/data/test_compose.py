import dataclasses
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from fakes import make_face_states, make_voices

from emollm.data.compose import (
    PER_SECOND,
    READINGS,
    Composed,
    _cuts,
    compose,
    face_course,
    phases_of,
    read_records,
    write_records,
)
from emollm.data.questions import PLAIN, QUESTIONS
from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES
from emollm.model.course import named, read_course
from emollm.model.processing_emollm import MAX_WINDOWS
from emollm.reasoning.parse import parse_answer

FACES, VOICES = make_face_states(), make_voices()
MIX = dict.fromkeys(QUESTIONS, 1.0)


def records(count: int = 300, seed: int = 0, split: str = "train", **changes) -> list[Composed]:
    return list(compose(count, FACES, VOICES, split, seed, changes.pop("mix", MIX), **changes))


@pytest.fixture(scope="module")
def composed() -> list[Composed]:
    return records(drift_share=0.5, follow_up_share=0.3)


def test_kinds_are_drawn_by_weight():
    images = records(60, mix={"emotion": 1.0}, kinds={"image": 1.0})
    assert all(record.faces and record.voice is None and not record.timed for record in images)
    mixed = records(400, mix={"emotion": 1.0}, kinds={"sound": 3.0, "image": 1.0})
    assert 0.65 < np.mean([not record.faces for record in mixed]) < 0.85


def test_clear_faces_are_those_in_which_the_tower_reads_their_label():
    faces = make_face_states(64)
    sharp = np.arange(64) % 3 == 0
    for row, label in enumerate(faces.label):
        faces.states[row, -READINGS + 17 : -READINGS + 25] = np.eye(8)[EXPRESSIONS.index(label)] * (
            0.9 if sharp[row] else 0.5
        )
    drawn = compose(80, faces, VOICES, "train", 0, {"emotion": 1.0}, clear=0.6, kinds={"image": 1.0, "video": 1.0})
    some = {label for label, is_sharp in zip(faces.label, sharp) if is_sharp}
    shown = [row for record in drawn for part in record.faces for row in part[:2] if faces.label[row] in some]
    assert shown
    assert sharp[shown].all()


def test_the_same_seed_gives_the_same_records(composed):
    assert records(drift_share=0.5, follow_up_share=0.3) == composed
    assert records(seed=1, drift_share=0.5, follow_up_share=0.3) != composed


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


def test_the_label_is_one_of_its_phases_or_of_its_voice(composed):
    for record in composed:
        held = {phase.emotion for phase in phases_of(record, FACES)}
        if record.voice is not None:
            held.add(str(VOICES.emotion[record.voice]))
        assert record.labels["emotion"] in held


def test_phases_are_those_of_the_symbols_that_the_model_is_given(composed):
    """Times and Action Units of a text, against :func:`read_course` of the very states that the collator hands on."""
    several = 0
    for record in composed:
        if not record.faces:
            continue
        readings = torch.from_numpy(face_course(record, FACES)[None, :, -READINGS:])
        window_s = record.window_s if record.timed else 0.0
        course = read_course(readings, torch.ones(readings.shape[:2], dtype=torch.bool), torch.tensor([window_s]))
        phases = phases_of(record, FACES)
        several += len(phases) > 1
        assert len(phases) == int((course.first >= 0).sum())
        for number, phase in enumerate(phases):
            assert phase.start_s == int(course.first[0, number] * window_s + 1e-4)
            assert phase.end_s == int(course.last[0, number] * window_s + 1e-4)
            order, level = named(course.units[0, number])
            codes = {AU_CODES[unit]: int(one) for unit, one in zip(order.tolist(), level.tolist()) if unit >= 0}
            assert phase.aus == codes
        assert all(one.emotion != other.emotion for one, other in pairwise(phases))
    assert several > 10


def test_a_phase_has_the_human_label_of_the_face_that_fills_it():
    clear = make_face_states(64)
    for row, label in enumerate(clear.label):  # the tower reads what the raters saw, but for face 9
        read = EXPRESSIONS.index(label) if row != 9 else EXPRESSIONS.index("anger")
        clear.states[row, -READINGS + 17 : -READINGS + 25] = np.eye(8)[read]
    record = course_record([[8, 8, 0, 9], [10, 10, 10, 19]], 20)
    told = [(phase.emotion, phase.start_s, phase.end_s) for phase in phases_of(record, clear)]
    assert told == [(clear.label[8], 0, 4), (clear.label[10], 5, 9)]
    (misread,) = phases_of(course_record([[9, 9, 0, 9]], 10), clear)
    assert misread.emotion == clear.label[9]
    same = phases_of(course_record([[9, 17, 0, 19]], 20), clear)  # one label, in which the tower reads a change
    assert [phase.emotion for phase in same] == ["anger", clear.label[17]]


def test_long_clips_have_long_windows():
    long = [record for record in records(80, mix={"change": 1.0}, long_share=0.5) if record.window_s > 0.5]
    assert 20 < len(long) < 60
    for record in long:
        assert record.windows == MAX_WINDOWS
        seconds = [phase.end_s for phase in phases_of(record, FACES)]
        assert seconds[-1] == int(63 * record.window_s + 1e-4) > 30


def test_varied_questions_are_worded_in_more_ways():
    def asked(share: float) -> set[str]:
        return {r.messages[-2]["content"][-1]["text"] for r in records(200, mix={"emotion": 1.0}, varied_share=share)}

    assert asked(0.0) <= set(QUESTIONS["emotion"])
    assert len(asked(0.5)) > len(set(QUESTIONS["emotion"])) + 10


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


def course_record(faces: list[list[int]], windows: int, flicker: int | None = None) -> Composed:
    return Composed([], False, faces, None, windows, {}, {}, "train", True, flicker=flicker)


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
    lengths = set()
    for seed in range(20):
        record = course_record([[3, 3, 0, 9], [5, 5, 10, 19]], 20, flicker=seed)
        readings = face_course(record, FACES)[:, -READINGS:]
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
    still, moved = face_course(record, FACES), face_course(dataclasses.replace(record, flicker=0), FACES)
    assert np.array_equal(moved, face_course(dataclasses.replace(record, flicker=0), FACES))
    change = np.abs(moved - still) / FACES.spread
    assert change[:, :-READINGS].mean() > 3 * change[:, -READINGS:].mean() > 0
    empty = dataclasses.replace(record, faces=[], flicker=0)
    assert np.isnan(face_course(empty, FACES)).all()
