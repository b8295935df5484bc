import re

import numpy as np
import pytest

from emollm.data.explain import (
    MAX_NAMED,
    QUESTIONS,
    Facts,
    Phase,
    answer,
    named_units,
    observations,
    question_for,
    reply_to,
    thought,
)
from emollm.emotions import ADJECTIVES, EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES, PROTOTYPES
from emollm.reasoning.fit import fitting, interpreted
from emollm.reasoning.parse import Claim, parse_answer
from emollm.reasoning.prompts import assistant_message, neutralise
from emollm.reasoning.verify import PRESENT
from emollm.voice.prosody import Prosody

SEEDS = range(80)


def random_facts(seed: int) -> Facts:
    random = np.random.default_rng(seed)
    phases, start = [], 0
    for _ in range(random.integers(0, 4)):
        end = start + int(random.integers(0, 9))
        emotion = str(random.choice([e for e in EXPRESSIONS if not phases or e != phases[-1].emotion]))
        phases.append(Phase(emotion, named_units(random.uniform(-3, 5, 17).clip(0)), start, end))
        start = end + 1
    voice = voice_emotion = None
    if not phases or random.random() < 0.5:
        numbers = [random.uniform(80, 350), random.uniform(0.5, 5), random.uniform(-45, -8), 6.0, random.uniform(3, 8)]
        voice = Prosody(*numbers, random.uniform(0, 0.5), 0.6, 2.0).summary()
        voice_emotion = str(random.choice(EMOTIONS))
    timed = len(phases) != 1 or random.random() < 0.7
    facts = Facts("", phases, voice, voice_emotion, timed)
    return Facts(facts.face_emotion or voice_emotion or "neutral", phases, voice, voice_emotion, timed)


def true_claims(facts: Facts) -> set[Claim]:
    return {
        Claim(code, float(level), *((float(p.start_s), float(p.end_s)) if facts.timed else (None, None)))
        for p in facts.phases
        for code, level in p.aus.items()
    }


def every_text(facts: Facts) -> list[str]:
    return [thought(facts) + f"<answer>{reply_to(task, facts)}</answer>" for task in QUESTIONS]


@pytest.mark.parametrize("seed", SEEDS)
def test_thought_and_answer_claim_exactly_the_facts(seed):
    facts = random_facts(seed)
    parsed = parse_answer(f"{thought(facts)}<answer>{answer(facts)}</answer>", expect_thought=True)
    assert parsed.error is None
    assert parsed.label == facts.label
    assert set(parsed.claims) == true_claims(facts)
    assert parsed.voice == (facts.voice or "not heard")
    assert all((parsed.reasoning.observations, parsed.reasoning.interpretation or not facts.phases))
    assert parsed.reasoning.conclusion


@pytest.mark.parametrize("seed", SEEDS)
def test_interpretations_give_what_is_typical_of_the_emotion(seed):
    facts = random_facts(seed)
    for random in (None, np.random.default_rng(seed)):
        parsed = parse_answer(f"{thought(facts, random)}<answer>{facts.label}</answer>")
        assert fitting(parsed) == interpreted(parsed)
        assert {emotion for _, emotion in interpreted(parsed)} == {
            phase.emotion for phase in facts.phases if set(phase.aus) & set(PROTOTYPES[phase.emotion])
        }


@pytest.mark.parametrize("task", QUESTIONS)
def test_every_reply_is_well_formed_and_claims_only_facts(task):
    for seed in SEEDS:
        facts = random_facts(seed)
        reply = reply_to(task, facts)
        assert reply == neutralise(reply)  # nothing that would be taken out on its way
        parsed = parse_answer(assistant_message(reply)["content"])
        assert parsed.error is None, reply
        assert {claim.code for claim in parsed.claims} <= {code for phase in facts.phases for code in phase.aus}, reply
        assert parsed.label == (facts.label if task == "emotion" else None), reply


@pytest.mark.parametrize("seed", SEEDS)
def test_no_emotion_is_named_that_the_facts_do_not_hold(seed):
    facts = random_facts(seed)
    held = {facts.label, facts.voice_emotion, *(phase.emotion for phase in facts.phases)} - {None}
    allowed = held | {word for label in held for word in re.findall("[a-z]+", ADJECTIVES[label])}
    emotional = set(EMOTIONS) | {word for adjective in ADJECTIVES.values() for word in adjective.split()} - {"and"}
    for text in every_text(facts):
        assert set(re.findall("[a-z]+", text.lower())) & emotional <= allowed, text


@pytest.mark.parametrize("seed", SEEDS)
def test_no_time_is_named_that_the_facts_do_not_hold(seed):
    facts = random_facts(seed)
    held = {time for phase in facts.phases for time in (phase.start_s, phase.end_s)}
    for text in every_text(facts):
        spans = re.findall(r"(\d+)(?:(?:-| to )(\d+))? s\b", text)
        named = {int(time) for span in spans for time in span if time}
        assert named <= held, text


@pytest.mark.parametrize("seed", SEEDS)
def test_a_voice_is_described_only_where_one_is_heard(seed):
    facts = random_facts(seed)
    for text in every_text(facts):
        if facts.voice:
            assert facts.voice in text
        else:
            assert "pitch" not in text
            assert "sounds" not in text


@pytest.mark.parametrize("task", ["identity", "mind"])
def test_refusals_say_nothing_about_the_clip(task):
    replies = {reply_to(task, random_facts(seed)) for seed in SEEDS}
    assert len(replies) == 1
    assert not parse_answer(assistant_message(replies.pop())["content"]).claims


def test_the_strongest_units_are_named_in_whole_numbers():
    intensities = np.zeros(17)
    for code, value in (("AU1", 1.4), ("AU4", 4.6), ("AU12", 2.5), ("AU25", 3.2), ("AU26", 5.0), ("AU45", 2.4)):
        intensities[AU_CODES.index(code)] = value
    assert named_units(intensities) == {"AU26": 5, "AU4": 5, "AU25": 3, "AU12": 2}
    assert named_units(intensities.clip(0, 2.6)) == {"AU4": 3, "AU25": 3, "AU26": 3, "AU12": 2}
    assert len(named_units(np.full(17, 3.0))) == MAX_NAMED
    assert named_units(np.zeros(17)) == {}


def test_only_units_that_verification_finds_present_are_named():
    intensities = np.zeros(17)
    intensities[AU_CODES.index("AU12")] = PRESENT - 0.2
    assert named_units(intensities) == {}


def test_an_example_word_for_word():
    facts = Facts(
        "happiness",
        [Phase("sadness", {"AU4": 3, "AU15": 2}, 0, 7), Phase("happiness", {"AU12": 4, "AU6": 2}, 8, 19)],
        "high pitch, fast",
        "happiness",
    )
    assert observations(facts) == (
        "face 0-7 s: AU4 brow lowerer 3, AU15 lip corner depressor 2; "
        "face 8-19 s: AU12 lip corner puller 4, AU6 cheek raiser 2. voice: high pitch, fast."
    )
    assert (
        answer(facts)
        == "happiness: sadness from 0 to 7 s turns into happiness from 8 to 19 s, the voice sounds happy."
    )


def test_face_and_voice_may_disagree():
    facts = Facts("happiness", [Phase("happiness", {"AU12": 4}, 0, 3)], "low pitch", "anger")
    assert facts.conflict
    assert "Face and voice disagree: the face shows happiness, the voice anger." in thought(facts)
    assert answer(facts).endswith("but the voice sounds angry.")


@pytest.mark.parametrize("task", QUESTIONS)
def test_questions_are_drawn_from_their_kind(task):
    random = np.random.default_rng(0)
    assert {question_for(task, random) for _ in range(60)} == set(QUESTIONS[task])
