"""From labels and tower states to facts, and from facts to dialogues that hold nothing else."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emollm.data import instruct
from emollm.data.claims import false_claims
from emollm.data.clip_states import ClipStates
from emollm.data.facts import Phase, Span
from emollm.data.instruct import WEIGHTS, explain
from emollm.data.measure import facts_of
from emollm.data.questions import QUESTIONS
from emollm.data.readers import Problem
from emollm.data.schema import Labels, Record, Turn, read_file, write_file
from emollm.data.validate import validate_file
from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.errors import ClipError
from emollm.facs import AU_CODES, AU_NAMES, MAX_INTENSITY
from emollm.model.course import MAX_NAMED, MAX_PHASES, read_course
from emollm.model.symbols import PHASE_SYMBOLS, SYMBOLS, UNIT_SYMBOLS, face_symbols
from emollm.reasoning.parse import parse_answer
from emollm.reasoning.verify import verify

READINGS = len(AU_CODES) + len(EXPRESSIONS) + 2


def states(
    course: list[tuple[str, float] | None] = (),  # type: ignore[assignment]
    units: dict[str, list[float]] | None = None,
    voice: tuple[str, float] | None = None,
    still: bool = False,
    said: str = "",
) -> ClipStates:
    """``course``: expression and its probability per window of half a second, None without a face."""
    face = np.full((len(course), 4 + READINGS), 0.0, np.float32)
    for window, shown in enumerate(course):
        if shown is None:
            face[window] = np.nan
            continue
        face[window, 4 + len(AU_CODES) + EXPRESSIONS.index(shown[0])] = shown[1]
        for code, values in (units or {}).items():
            face[window, 4 + AU_CODES.index(code)] = values[min(window, len(values) - 1)] / MAX_INTENSITY
    readings = np.zeros(len(EMOTIONS) + 2, np.float32)
    if voice:
        readings[EMOTIONS.index(voice[0])] = voice[1]
    sound = np.zeros((4 if voice else 0, 8), np.float32)
    words = "high pitch, fast, few pauses" if voice else None
    seconds = 0.0 if still else max(len(course), len(sound)) / 2
    return ClipStates(face, sound, np.zeros(8, np.float32), readings, READINGS, 0.5, seconds, words, said)


def record(emotion: str | None = None, mark: str = "<video>", **labels) -> Record:
    known = Labels(emotion=emotion, **labels)
    return Record(
        id="a",
        messages=[Turn(role="user", content=f"{mark}?"), Turn(role="assistant", content="<answer>x</answer>")],
        videos=["a.mp4"] if mark == "<video>" else [],
        images=["a.mp4"] if mark == "<image>" else [],
        audios=["a.mp4"] if mark == "<audio>" else [],
        labels=known,
        label_origin=dict.fromkeys(known.given(), "human"),
        split="train",
        speaker="Ann",
        source="toy",
    )


SMILE = [("happiness", 0.9)] * 8


def test_a_steady_face_is_one_phase_with_what_is_measured_in_it():
    facts = facts_of(record("happiness"), states(SMILE, {"AU12": [3.2], "AU6": [1.6], "AU4": [0.4]}))
    (phase,) = facts.phases
    assert (phase.emotion, phase.aus, phase.start_s, phase.end_s) == ("happiness", {"AU12": 3, "AU6": 2}, 0, 3)
    assert facts.spans == [Span("AU6", 0.0, 4.0), Span("AU12", 0.0, 4.0)]
    assert (facts.voice, facts.voice_emotion, facts.timed) == (None, None, True)


def test_a_change_is_found_and_a_blip_is_not():
    course = [("sadness", 0.9)] * 6 + [("happiness", 0.9)] * 6
    phases = facts_of(record("happiness"), states(course)).phases
    assert [(phase.emotion, phase.start_s, phase.end_s) for phase in phases] == [
        ("sadness", 0, 2), ("happiness", 3, 5),
    ]  # fmt: skip
    course[8:10] = [("anger", 0.9)] * 2
    phases = facts_of(record("happiness"), states(course)).phases
    assert [phase.emotion for phase in phases] == ["sadness", "happiness"]


def test_there_are_few_phases_and_they_cover_the_clip():
    course = [(EXPRESSIONS[(window // 4) % 5], 0.9) for window in range(40)]
    phases = facts_of(record("happiness"), states(course)).phases
    assert 1 < len(phases) <= MAX_PHASES
    assert (phases[0].start_s, phases[-1].end_s) == (0, 19)
    assert all(before.end_s + 1 == after.start_s for before, after in pairwise(phases))


def symbols_of(seen: ClipStates) -> list[list[str]]:
    """What the symbols that the model is given for these states say of each phase."""
    window_s = torch.tensor([seen.window_s if seen.duration_s else 0.0])
    states = torch.from_numpy(seen.face)[None]
    course = read_course(states[..., -READINGS:], ~states.isnan().any(-1), window_s)
    said = [SYMBOLS[index] for index in face_symbols(course, window_s)[0].tolist()]
    phases = [said[start : start + PHASE_SYMBOLS] for start in range(0, len(said), PHASE_SYMBOLS)]
    return [phase for phase in phases if phase[0] != "none"]


def as_symbols(phase: Phase, end: str) -> list[str]:
    """The symbols that a phase of a text, which ends with a mark, is copied from, but for its expression."""
    told = [["AU", *code.removeprefix("AU"), *AU_NAMES[code].split(), str(level)] for code, level in phase.aus.items()]
    told = told or [["no", "clear", "action"]]
    said = [*f"{phase.start_s:03}{phase.end_s:03}"]
    for words, mark in zip(told, [","] * (len(told) - 1) + [end]):
        said += words + [mark] * (UNIT_SYMBOLS - len(words))
    return said + ["none"] * UNIT_SYMBOLS * (MAX_NAMED - len(told))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.sampled_from([0.5, 33 / 64, 0.7, 1.3, 399 / 64]),
    st.sampled_from([None, *EMOTIONS]),
    st.booleans(),
)
def test_phases_are_those_of_the_symbols_that_the_model_is_given(seed, runs, window_s, label, still):
    random = np.random.default_rng(seed)
    face = random.uniform(0, 1, (1 if still else sum(runs), 4 + READINGS)).astype(np.float32)
    held = np.repeat(random.integers(len(EXPRESSIONS), size=len(runs)), runs)[: len(face)]
    logits = random.normal(size=(len(face), len(EXPRESSIONS))) + random.uniform(0, 6) * np.eye(len(EXPRESSIONS))[held]
    face[:, -READINGS + len(AU_CODES) : -2] = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    face[:, -READINGS : -READINGS + len(AU_CODES)] *= random.uniform(0, 1, len(AU_CODES))
    face[1:][random.random(len(face) - 1) < 0.2] = np.nan
    seen = replace(states(still=True), face=face, window_s=window_s, duration_s=0.0 if still else len(face) * window_s)
    phases = facts_of(record(label), seen).phases
    symbols = symbols_of(seen)
    marks = [";"] * (len(phases) - 1) + ["."]
    assert [as_symbols(*pair) for pair in zip(phases, marks)] == [[*said[:6], *said[7:]] for said in symbols]
    assert all(before.emotion != after.emotion for before, after in pairwise(phases))


def test_a_course_starts_and_ends_with_its_face_and_may_turn_within_a_second():
    course = [None, None, *[("sadness", 0.9)] * 5, *[("happiness", 0.9)] * 5, None, None]
    phases = facts_of(record("happiness"), states(course)).phases
    assert [(phase.emotion, phase.start_s, phase.end_s) for phase in phases] == [
        ("sadness", 1, 3), ("happiness", 3, 5),
    ]  # fmt: skip


def test_what_is_read_stands_where_the_label_would_make_neighbours_alike():
    course = [("sadness", 0.45)] * 6 + [("happiness", 0.45)] * 6
    emotions = [phase.emotion for phase in facts_of(record("anger"), states(course)).phases]
    assert emotions == ["sadness", "happiness"]
    course[:6] = [("sadness", 0.9)] * 6
    emotions = [phase.emotion for phase in facts_of(record("anger"), states(course)).phases]
    assert emotions == ["sadness", "anger"]
    course += [("fear", 0.45)] * 6
    emotions = [phase.emotion for phase in facts_of(record("anger"), states(course)).phases]
    assert emotions == ["sadness", "happiness", "fear"]


def test_what_the_towers_are_not_sure_of_goes_with_the_label():
    unsure, sure = states([("anger", 0.4)] * 8, voice=("fear", 0.5)), states([("anger", 0.8)] * 8, voice=("fear", 0.8))
    facts = facts_of(record("sadness"), unsure)
    assert (facts.face_emotion, facts.voice_emotion, facts.conflict) == ("sadness", "sadness", False)
    facts = facts_of(record("sadness"), sure)
    assert (facts.face_emotion, facts.voice_emotion, facts.conflict) == ("anger", "fear", True)
    facts = facts_of(record("boredom"), unsure)
    assert (facts.face_emotion, facts.voice_emotion) == ("neutral", "boredom")
    facts = facts_of(record(None, emotions=["wistful"]), unsure)
    assert (facts.label, facts.face_emotion, facts.voice_emotion, facts.words) == ("", "anger", "fear", ["wistful"])


def test_labelled_units_win_over_measured_ones():
    seen = states(SMILE, {"AU4": [4.0]})
    assert facts_of(record("happiness", aus={"AU12": 2.4, "AU4": 0.0}), seen).phases[0].aus == {"AU12": 2}
    assert facts_of(record("happiness", aus={"AU12": 1}, au_scale="occurrence"), seen).phases[0].aus == {"AU12": 0}
    spans = [{"code": "AU12", "intensity": 3, "start_s": 0, "end_s": 4}]
    facts = facts_of(record("happiness", au_spans=spans), seen)
    assert facts.phases[0].aus == {"AU12": 3}
    assert facts.spans == [Span("AU12", 0.0, 4.0)]


def test_labelled_units_over_time_are_told_of_the_phases_that_they_are_in():
    spans = [
        {"code": "AU4", "intensity": 2, "start_s": 0, "end_s": 3},
        {"code": "AU12", "intensity": 4, "start_s": 3, "end_s": 6},
    ]
    seen = states([("sadness", 0.9)] * 6 + [("happiness", 0.9)] * 6, {"AU9": [5.0]})
    assert [phase.aus for phase in facts_of(record("happiness", au_spans=spans), seen).phases] == [
        {"AU4": 2}, {"AU12": 4},
    ]  # fmt: skip


def test_a_short_labelled_peak_is_not_told_as_the_usual_intensity():
    spans = [
        {"code": "AU12", "intensity": 1.2, "start_s": 0, "end_s": 3.5},
        {"code": "AU12", "intensity": 4.9, "start_s": 3.5, "end_s": 4},
    ]
    assert facts_of(record("happiness", au_spans=spans), states(SMILE)).phases[0].aus == {}


def test_measured_units_are_told_as_a_fifth_of_the_phase_reaches_them():
    facts = facts_of(record("happiness"), states(SMILE, {"AU12": [1.2] * 7 + [4.9], "AU6": [0.2] * 7 + [5.0]}))
    assert facts.phases[0].aus == {"AU12": 1}


def test_a_modality_that_is_held_back_is_not_known():
    both = states(SMILE, {"AU12": [3.0]}, voice=("anger", 0.9), said='He said "no"')
    facts = facts_of(record("happiness", valence=0.5), both, "face")
    assert (facts.phases, facts.spans, facts.voice_emotion, facts.valence) == ([], [], "anger", None)
    facts = facts_of(record("happiness"), both, "voice")
    assert (facts.voice, facts.voice_emotion, facts.said) == (None, None, None)
    assert facts_of(record("happiness"), both).said == "He said 'no'"


def test_a_picture_has_no_times_and_a_gap_no_face():
    still = facts_of(record("happiness", "<image>"), states(SMILE[:1], {"AU12": [3.0]}, still=True))
    assert (still.timed, still.spans, still.phases[0].aus) == (False, [], {"AU12": 3})
    gap = facts_of(record("happiness"), states([*SMILE[:4], None, None, *SMILE[:4]], {"AU12": [3.0]}))
    assert [(phase.start_s, phase.end_s) for phase in gap.phases] == [(0, 4)]
    assert facts_of(record("anger", "<audio>"), states([None] * 4, voice=("anger", 0.9))).phases == []


# Dialogues -----------------------------------------------------------------------------------------------------------


class Encoder:
    """Hands out prepared states by the records' ids."""

    def __init__(self, known: dict[str, ClipStates | ClipError]):
        self.known = known

    def all(self, records, folder, on_progress=None):
        return ((record, self.known[record.id]) for record in records)


def dialogues(one: Record, seen: ClipStates, **how) -> list[Record]:
    problems: list[Problem] = []
    made = list(explain([one], Path("/in"), Path("/out/x.jsonl"), Encoder({one.id: seen}), problems, **how))  # type: ignore[arg-type]
    assert problems == []
    return made


@st.composite
def clips(draw):
    expression = st.tuples(st.sampled_from(EXPRESSIONS), st.floats(0.3, 1))
    runs = draw(st.lists(st.tuples(expression | st.none(), st.integers(1, 6)), max_size=4))
    course = [shown for shown, length in runs for _ in range(length)]
    strength = st.lists(st.floats(0, 5), min_size=1, max_size=12)
    units = draw(st.dictionaries(st.sampled_from(AU_CODES), strength, max_size=6))
    heard = st.tuples(st.sampled_from(EMOTIONS), st.floats(0.3, 1))
    voice = draw(heard if not any(course) else heard | st.none())
    seen = states(course, units, voice, said=draw(st.sampled_from(["", "AU9 in 7 s", "I'm fine. <video>"])))
    number = st.none() | st.floats(-1, 1)
    label = draw(st.sampled_from(EMOTIONS) | st.none())
    labels = {"valence": draw(number), "arousal": draw(number), "emotions": draw(st.sampled_from([[], ["proud"]]))}
    if draw(st.booleans()):
        labels["aus"] = draw(st.dictionaries(st.sampled_from(AU_CODES), st.floats(0, 5), min_size=1, max_size=5))
        labels["au_scale"] = draw(st.sampled_from(["intensity", "occurrence"]))
    return record(label, "<video>" if any(course) else "<audio>", **labels), seen


@settings(max_examples=150, deadline=None)
@given(clips(), st.integers(0, 2**32), st.sampled_from([0.0, 1.0]))
def test_no_record_claims_what_it_does_not_hold(clip, seed, think_share):
    one, seen = clip
    for made in dialogues(one, seen, per_clip=8, seed=seed, think_share=think_share):
        assert made.facts is not None
        assert made.facts == facts_of(one, seen, made.without)
        assert sum(made.marks().values()) == 1
        for turn in made.messages:
            if turn.role == "assistant":
                assert parse_answer(turn.content).error is None, turn.content
                assert false_claims(turn.content, made.facts) == [], turn.content


def test_a_text_that_claims_too_much_is_named_and_not_written(monkeypatch):
    monkeypatch.setattr(instruct, "reply_to", lambda task, facts, random: "AU9 nose wrinkler in 77 s.")
    problems: list[Problem] = []
    one = record("happiness")
    made = list(explain([one], Path("/in"), Path("/x"), Encoder({"a": states(SMILE)}), problems))  # type: ignore[arg-type]
    assert made == []
    assert problems[0].text == "It names a time that nothing has: 77-77 s."


def test_every_kind_of_question_comes_up():
    one = record("happiness", valence=0.4, emotions=["proud"])
    seen = states(SMILE * 2, {"AU12": [3.0]}, voice=("anger", 0.9), said="Well.")
    asked = {turn.content for seed in range(30) for made in dialogues(one, seen, per_clip=8, seed=seed)
             for turn in made.messages if turn.role == "user"}  # fmt: skip
    for task in {"emotion", *WEIGHTS}:
        assert any(question in text for question in QUESTIONS[task] for text in asked), task
    assert set(WEIGHTS) | {"emotion"} == set(QUESTIONS)


def test_dialogues_follow_seed_and_shares():
    one, seen = record("happiness"), states(SMILE, {"AU12": [3.0]}, voice=("happiness", 0.9))
    assert dialogues(one, seen, seed=3) == dialogues(one, seen, seed=3)
    assert dialogues(one, seen, seed=3) != dialogues(one, seen, seed=4)
    assert len(dialogues(one, seen, per_clip=6)) == 6
    many = [made for seed in range(40) for made in dialogues(one, seen, seed=seed)]
    assert {made.without for made in many} == {None, "face", "voice"}
    assert {len(made.messages) for made in many} == {2, 4}
    assert not any(made.think for seed in range(9) for made in dialogues(one, seen, seed=seed, think_share=0.0))
    for made in many:
        thoughts = parse_answer(made.messages[-1].content).thought
        assert (thoughts is not None) == made.think
    assert dialogues(one, seen)[0].messages[0].content.startswith("<video>")
    assert dialogues(one, seen)[0].videos == ["/in/a.mp4"]


def test_a_label_that_neither_face_nor_voice_shows_is_not_argued_for():
    seen = states([("neutral", 0.9)] * 8, voice=("neutral", 0.9))
    for seed in range(20):
        for made in dialogues(record("anger"), seen, seed=seed, think_share=1.0):
            assert not made.think
            reply = made.messages[1].content
            if made.id.endswith("#0"):
                assert reply in ("<answer>anger.</answer>", "<answer>anger: the person seems angry.</answer>")


def test_what_models_measured_is_said_to_be_pseudo():
    seen = states(SMILE, {"AU12": [3.0]}, voice=("happiness", 0.9))
    made = next(made for made in dialogues(record("happiness"), seen) if made.without is None)
    assert made.label_origin == {
        "emotion": "human", "facts.expression": "pseudo", "facts.aus": "pseudo", "facts.voice": "pseudo",
    }  # fmt: skip
    coded = dialogues(record("happiness", aus={"AU12": 3}), states(SMILE))[0]
    assert coded.label_origin == {"emotion": "human", "aus": "human", "facts.expression": "pseudo"}


def test_most_measured_claims_are_borne_out_by_verification():
    random, claimed, supported = np.random.default_rng(0), 0, 0
    for seed in range(40):
        course = [(str(random.choice(EXPRESSIONS)), 0.7)] * 12
        units = {str(code): random.uniform(0, 5) + random.normal(0, 0.3, 12)
                 for code in random.choice(AU_CODES[:-1], 5, False)}  # fmt: skip
        seen = states(course, {code: values.clip(0, 5).tolist() for code, values in units.items()})
        times = np.stack([np.arange(12) / 2, np.arange(12) / 2 + 0.5], axis=1)
        measured = MAX_INTENSITY * seen.face[:, -READINGS : -READINGS + len(AU_CODES)]
        for made in dialogues(record("happiness"), seen, seed=seed, think_share=1.0):
            verdict, _ = verify(parse_answer(made.messages[-1].content).claims, times, measured)
            claimed, supported = claimed + len(verdict.claimed), supported + len(verdict.supported)
    assert claimed > 100
    assert supported == claimed


def test_unreadable_clips_are_named_and_records_survive_their_file(tmp_path):
    one, other = record("happiness"), record("anger").model_copy(update={"id": "b"})
    problems: list[Problem] = []
    encoder = Encoder({"a": states(SMILE, {"AU12": [3.0]}), "b": ClipError("It is broken.")})
    made = list(explain([one, other], tmp_path, tmp_path / "x.jsonl", encoder, problems))  # type: ignore[arg-type]
    assert problems == [Problem("b", "It is broken.")]
    (tmp_path / "a.mp4").write_text("")
    write_file(tmp_path / "x.jsonl", made)
    assert read_file(tmp_path / "x.jsonl") == made
    assert validate_file(tmp_path / "x.jsonl", media=False).faults == []


@pytest.mark.parametrize("still", [True, False])
def test_states_survive_their_file(tmp_path, still):
    one = states([*SMILE, None], {"AU12": [3.0]}, None if still else ("anger", 0.9), still, "Well?")
    one.save(tmp_path / "new" / "a.safetensors")
    again = ClipStates.load(tmp_path / "new" / "a.safetensors")
    for name, value in vars(one).items():
        assert np.array_equal(value, getattr(again, name), equal_nan=isinstance(value, np.ndarray)), name
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.safetensors"]
