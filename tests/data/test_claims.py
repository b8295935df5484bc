"""What texts claim is checked; then every text that is written about any facts claims nothing beyond them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emollm.data import explain
from emollm.data.claims import false_claims
from emollm.data.explain import answer, conclusion, interpretation, observations, reply_to, thought
from emollm.data.facts import Facts, Phase, Span
from emollm.data.questions import QUESTIONS
from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES
from emollm.voice.prosody import Prosody

FACTS = Facts(
    "happiness",
    [Phase("sadness", {"AU4": 3, "AU15": 2}, 0, 7), Phase("happiness", {"AU12": 4, "AU6": 2}, 8, 19)],
    "high pitch, fast, few pauses",
    "anger",
    spans=[Span("AU12", 8.5, 18.0)],
    words=["relieved"],
    valence=0.6,
    arousal=-0.3,
    said="AU9 in 77 s, whisper",
)


@pytest.mark.parametrize(
    "true",
    [
        "The lip corner puller shows.",
        "face 8-19 s: AU12 lip corner puller 4, AU6.",
        "AU12 8.5-18 s; AU4 brow lowerer 0-7 s.",
        "There is no AU9 and no chin raiser.",
        "The voice is fast, with few pauses, and sounds angry.",
        "Sad at first, then happy and relieved.",
        "valence 0.6, arousal -0.3, from -1 to 1: pleasant and low in energy.",
        'The person says: "AU9 in 77 s, whisper"',
    ],
)
def test_what_the_facts_hold_may_be_said(true):
    assert false_claims(true, FACTS) == []


@pytest.mark.parametrize(
    "false",
    [
        "AU9 shows.", "The nose wrinkler moves.", "AU12 cheek raiser.", "AU12 lip corner puller 3.",
        "face 8-19 s: AU4 brow lowerer 3.", "face 0-7 s: AU12 lip corner puller 4.", "It lasts from 0 to 8 s.",
        "At 3 s she smiles.", "There is no AU12.", "The voice is slow.", "She whispers.", "A low pitch.",
        "She is afraid.", "The voice sounds sad.", "The face shows anger.", "There are 5 movements.",
        "No face is visible.", "No voice is heard.", "The face shows no clear action.",
        "valence 0.4 and arousal -0.3.", "It is unpleasant.", "It is high in energy.", "AU121 shows.",
    ],
)  # fmt: skip
def test_what_they_do_not_hold_is_found(false):
    assert false_claims(false, FACTS), false


def test_nothing_is_said_of_what_is_missing():
    voice_only = Facts("anger", [], "loud", "anger")
    assert false_claims("The face shows anger.", voice_only)
    assert false_claims("There is a face and a voice.", voice_only)
    face_only = Facts("anger", [Phase("anger", {})])
    assert false_claims("The voice sounds angry.", face_only)
    assert false_claims("It is loud.", face_only)
    assert false_claims("face 0-0 s: no clear action.", Facts("anger", [Phase("anger", {})], timed=False))


# Every text about any facts ------------------------------------------------------------------------------------------

whole_seconds = st.integers(0, 30)


@st.composite
def voices(draw):
    pitch = draw(st.none() | st.floats(60, 400))
    spread = None if pitch is None else draw(st.floats(0.2, 6))
    level, rate, pauses = draw(st.floats(-60, 0)), draw(st.floats(1, 9)), draw(st.floats(0, 0.9))
    return Prosody(pitch, spread, level, 6.0, rate, pauses, 0.6, 2.0).summary()


@st.composite
def facts(draw, of=("face", "voice", "both")):
    kind = draw(st.sampled_from(of))
    timed = draw(st.booleans())
    phases, start = [], 0
    for _ in range(0 if kind == "voice" else draw(st.integers(1, 3)) if timed else 1):
        codes = draw(st.lists(st.sampled_from(AU_CODES), max_size=4, unique=True))
        end = start + draw(st.integers(0, 9)) if timed else 0
        phases.append(
            Phase(draw(st.sampled_from(EXPRESSIONS)), {c: draw(st.integers(0, 5)) for c in codes}, start, end)
        )
        start = end + 1
    spans = []
    if timed and phases:
        for code in draw(st.lists(st.sampled_from(AU_CODES), max_size=4)):
            begin = draw(st.integers(0, 60)) / 2
            spans.append(Span(code, begin, begin + draw(st.integers(0, 20)) / 2))
    voice = None if kind == "face" else draw(voices())
    coordinate = st.none() | st.floats(-1, 1)
    voice_emotion = draw(st.sampled_from(EMOTIONS)) if voice else None
    return Facts(
        draw(st.sampled_from(EMOTIONS)), phases, voice, voice_emotion, timed, spans,
        draw(st.lists(st.sampled_from(["relieved", "torn between anger and hope", "proud"]), max_size=2)),
        draw(coordinate), draw(coordinate), draw(st.none() | st.sampled_from(["Wait 5 s!", "I am happy. AU12."])),
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(facts(), st.none() | st.integers(0, 2**32))
def test_no_text_claims_what_the_facts_do_not_hold(known, seed):
    random = None if seed is None else np.random.default_rng(seed)
    texts = [observations(known), interpretation(known, random), conclusion(known, random), answer(known, random)]
    texts += [thought(known, random), *(reply_to(task, known, random) for task in QUESTIONS)]
    for text in texts:
        assert false_claims(text, known) == [], text


def test_a_writer_that_makes_something_up_is_caught(monkeypatch):
    for name, lie in (("_unit", "AU9 nose wrinkler 2"), ("_span", "2 to 3 s"), ("_names", "chin raiser")):
        with monkeypatch.context() as patched:
            patched.setattr(explain, name, lambda *_, lie=lie: lie)
            single = Facts("happiness", FACTS.phases[1:], FACTS.voice, FACTS.voice_emotion)
            assert any(
                false_claims(text, known) for known in (FACTS, single) for text in (answer(known), thought(known))
            )
