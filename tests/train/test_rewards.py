"""Each reward for perfect, wrong, empty, malformed, spammed and unlabelled replies."""

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emollm.emotions import ADJECTIVES, EMOTIONS
from emollm.facs import AU_CODES, PROTOTYPES
from emollm.reasoning.parse import parse_answer
from emollm.train import rewards
from emollm.train.rewards import (
    alignment_reward,
    fit_reward,
    format_reward,
    label_reward,
    length_reward,
    modality_reward,
    support_reward,
    unit_reward,
    votes_reward,
    words_reward,
)

THOUGHT = (
    "<think>\nObservations: face 0-3 s: AU6 cheek raiser 2, AU12 lip corner puller 4. voice: high pitch, loud.\n"
    "Interpretation: AU6, AU12 fit happiness. The voice sounds happy.\nConclusion: The person seems happy.\n</think>\n"
)
PERFECT = THOUGHT + "<answer>happiness: the face shows a smile and the voice sounds happy.</answer>"
DIRECT = "<answer>happiness: AU6 and AU12.</answer>"
ALL_EMOTIONS = ", ".join(EMOTIONS)
ALL_UNITS = ", ".join(f"{code} 3" for code in AU_CODES)
SPAM = (
    f"<think>\nObservations: face: {ALL_UNITS}.\nInterpretation: {ALL_EMOTIONS}.\nConclusion: {ALL_EMOTIONS}.\n"
    "</think>\n"
    f"<answer>happiness: {ALL_EMOTIONS}, {ALL_UNITS}.</answer>"
)
EMPTY, UNCLOSED, TALK = "", "<think>\nObservations: AU12 4.\n<answer>happiness", "I think she is happy."
MALFORMED = [EMPTY, UNCLOSED, TALK, PERFECT + "<answer>happiness</answer>", "<answer></answer>"]
TRUE_UNITS = dict.fromkeys(AU_CODES, 0.0) | {"AU6": 2.0, "AU12": 4.0, "AU25": 3.0, "AU45": 5.0}
VOTES = {"happiness": 8.0, "neutral": 2.0}

# Everything that is said about a reply when all of its labels are there.
ALL = {
    "format": lambda reply: format_reward(reply, think=True),
    "label": lambda reply: label_reward(reply, "happiness"),
    "votes": lambda reply: votes_reward(reply, VOTES),
    "words": lambda reply: words_reward(reply, ["happiness"]),
    "units": lambda reply: unit_reward(reply, TRUE_UNITS),
    "intensities": lambda reply: unit_reward(reply, TRUE_UNITS, intensities=True),
    "alignment": alignment_reward,
    "fit": lambda reply: fit_reward(reply, face=True),
    "modality": lambda reply: modality_reward(reply, ["face", "voice"], "voice"),
}


def test_the_examples_in_the_docstrings():
    found = doctest.testmod(rewards, extraglobs={"parse_answer": parse_answer})
    assert found.attempted >= 8
    assert found.failed == 0


@pytest.mark.parametrize("name", ALL)
def test_perfect(name):
    expected = {"units": 0.6, "intensities": 0.6}  # two of three AUs, both with the right intensity: F1 0.8
    assert ALL[name](parse_answer(PERFECT)) == pytest.approx(expected.get(name, 1.0))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_earns_the_least(name, text):
    assert ALL[name](parse_answer(text)) == -1.0


@pytest.mark.parametrize("name", ["label", "votes", "words", "alignment"])
def test_wrong_label(name):
    wrong = parse_answer(THOUGHT.replace("happ", "zz") + "<answer>anger: the voice sounds angry.</answer>")
    assert ALL[name](wrong) == -1.0


def test_missing_labels_give_no_reward():
    reply = parse_answer(PERFECT)
    assert label_reward(reply, None) is None
    assert votes_reward(reply, None) is None
    assert votes_reward(reply, {"happiness": 0.0}) is None
    assert words_reward(reply, None) is None
    assert words_reward(reply, []) is None
    assert unit_reward(reply, None) is None
    assert modality_reward(reply, ["face"], None) is None
    assert alignment_reward(parse_answer(DIRECT)) is None
    assert fit_reward(parse_answer(DIRECT), face=True) is None
    assert support_reward([], [], []) is None


PARTIAL = {
    "words": "<answer>happiness: or else surprise.</answer>",
    "units": "<answer>happiness: AU12.</answer>",
    "intensities": "<answer>happiness: AU12.</answer>",
    "alignment": THOUGHT.replace("sounds happy", "sounds sad") + "<answer>happiness: a smile.</answer>",
    "fit": THOUGHT.replace("AU12", "AU12, AU4") + "<answer>happiness: a smile.</answer>",
}


@pytest.mark.parametrize("name", PARTIAL)
def test_spam_never_beats_an_honest_partial_answer(name):
    assert ALL[name](parse_answer(SPAM)) < ALL[name](parse_answer(PARTIAL[name]))


def test_spam_of_labels_earns_nothing_before_or_behind_the_colon():
    assert label_reward(parse_answer(f"<answer>{ALL_EMOTIONS}</answer>"), "happiness") == -1.0
    assert votes_reward(parse_answer(f"<answer>{ALL_EMOTIONS}</answer>"), VOTES) == -1.0
    assert label_reward(parse_answer(f"<answer>sadness: {ALL_EMOTIONS}</answer>"), "happiness") == -1.0


def test_spam_of_units_loses_by_measurement_too():
    supported = ["AU6", "AU12", "AU25"]
    spam = support_reward(AU_CODES, supported, ["AU12", "AU25"])
    assert spam < support_reward(["AU12"], ["AU12"], ["AU12", "AU25"])
    assert support_reward(["AU12", "AU25"], ["AU12", "AU25"], ["AU12", "AU25"]) == 1.0
    assert support_reward(["AU4"], [], ["AU12"]) == -1.0
    assert support_reward([], [], ["AU12"]) == -1.0


def test_format_wants_what_was_asked_for():
    assert format_reward(parse_answer(DIRECT), think=False) == 1.0
    assert format_reward(parse_answer(DIRECT), think=True) == -1.0
    assert format_reward(parse_answer(PERFECT), think=False) == -1.0
    assert (
        format_reward(parse_answer(PERFECT.replace("Conclusion: The person seems happy.\n", "")), think=True) == -1.0
    )
    assert format_reward(parse_answer("<answer>The face shows a smile.</answer>"), think=False) == -1.0


def test_a_face_at_rest_wants_no_claims():
    rest = dict.fromkeys(AU_CODES, 0.4)
    assert unit_reward(parse_answer("<answer>neutral: no clear action.</answer>"), rest) == 1.0
    assert unit_reward(parse_answer(DIRECT), rest) == -1.0
    assert unit_reward(parse_answer("<answer>neutral: AU45.</answer>"), rest) == 1.0  # blinks come and go


def test_units_without_a_label_do_not_count():
    assert unit_reward(parse_answer("<answer>happiness: AU12 and AU6.</answer>"), {"AU12": 3.0}) == 1.0
    assert unit_reward(parse_answer("<answer>happiness: AU12 and AU99.</answer>"), {"AU12": 3.0}) < 1.0  # no such AU


def test_intensities_count_by_how_near_they_are():
    def reward(claim):
        text = f"<think>\nObservations: face: {claim}.\n</think>\n<answer>happiness</answer>"
        return unit_reward(parse_answer(text), {"AU12": 4.0}, intensities=True)

    assert reward("AU12 4") == 1.0
    assert reward("AU12 4") > reward("AU12 3") > reward("AU12") > reward("AU12 1") > reward("AU4 4")


def fit(interpretation, label="happiness", observed="AU6 2, AU12 4", face=True):
    thought = f"<think>\nObservations: face: {observed}.\nInterpretation: {interpretation}\n</think>\n"
    return fit_reward(parse_answer(f"{thought}<answer>{label}</answer>"), face)


def test_units_fit_what_they_are_typical_of_in_any_wording():
    for emotion, codes in PROTOTYPES.items():
        if codes:
            listed = ", ".join(codes)
            for wording in (f"{listed} fit {emotion}.", f"{listed} are typical of {emotion}.",
                            f"{emotion.capitalize()} is what {listed} point to."):  # fmt: skip
                assert fit(wording, emotion, listed) == 1.0
    assert fit("AU6, AU12 fit happiness. The voice sounds sad.") == 1.0
    assert fit("AU12 fits happiness. AU15, AU6 fit sadness.", observed="AU6, AU12, AU15") == pytest.approx(1 / 3)


def test_units_that_are_not_typical_or_not_observed_fit_nothing():
    assert fit("AU6, AU12 fit anger.") == -1.0
    assert fit("AU12 fits neutral.") == fit("AU12 fits boredom.", "boredom") == -1.0
    assert fit("AU6, AU12 fit happiness.", observed="AU12 4") == pytest.approx(1 / 9)  # half fits, nothing is missing
    assert fit("AU6 and AU4 fit happiness.") == 0.0  # half fits, half is missing
    assert fit("AU6, AU12 fit happiness.", observed="no AU6, no AU12") == -1.0
    assert fit("AU6, AU12 fit happiness.", face=False) == -1.0
    assert fit("AU99, AU45 fit happiness.", observed="AU99 3, AU45 3") == -1.0


def test_units_that_are_left_out_cost_less_than_those_that_do_not_fit():
    observed = "AU6 2, AU12 4, AU25 2, AU4 1"
    every, some, one = (f"{units} fit happiness." for units in ("AU6, AU12, AU25", "AU6, AU12", "AU12"))
    assert fit(every, observed=observed) == 1.0
    assert 1.0 > fit(some, observed=observed) > fit(one, observed=observed) > 0.0
    loose = fit("AU6, AU12, AU25, AU4 fit happiness.", observed=observed)
    assert fit(some, observed=observed) > loose > fit("AU12, AU4 fit happiness.", observed=observed)
    two = "AU4 fits sadness. AU6, AU12, AU25 fit happiness."
    assert fit(two, "happiness", observed) == fit(two, "sadness", observed) == 1.0
    assert fit("AU4 fits sadness.", "anger", observed) == 1.0  # given for what it fits, so not missing


def test_silence_is_right_only_where_nothing_could_fit():
    whole = "The face as a whole shows happiness."
    assert fit(whole) == fit("") == -1.0
    assert fit(whole, observed="AU4 2") == fit(whole, face=False) == 0.0 > fit("AU4 fits happiness.", observed="AU4 2")
    assert fit("The face is at rest.", "neutral") is fit("The voice sounds bored.", "boredom") is None


def test_spam_of_fitting_units_earns_less_than_one_unit_that_fits():
    units = ", ".join(AU_CODES)
    each = " ".join(f"{units} fit {emotion}." for emotion in EMOTIONS)
    for label, (first, *_) in ((emotion, codes) for emotion, codes in PROTOTYPES.items() if codes):
        for spam in (f"{units} fit {ALL_EMOTIONS}.", each, f"{units} fit {label}."):
            assert fit(spam, label, ALL_UNITS) < -0.1 < fit(f"{first} fits {label}.", label, ALL_UNITS)
    wrong = "AU6, AU12, AU4, AU9 fit happiness."
    assert fit(f"{wrong} {'AU12 fits happiness. ' * 20}") == fit(wrong)  # one pair is one pair


def test_modalities():
    voice_only = parse_answer("<answer>sadness: the voice sounds sad.</answer>")
    face_only = parse_answer("<answer>sadness: the brows are drawn together.</answer>")
    missing = parse_answer("<answer>sadness: the face is not visible, no voice is heard.</answer>")
    assert modality_reward(voice_only, ["face", "voice"], "voice") == 1.0
    assert modality_reward(face_only, ["face", "voice"], "voice") == 0.0
    assert modality_reward(voice_only, ["face"], "face") == -1.0
    assert modality_reward(face_only, ["voice"], "voice") == -1.0
    assert modality_reward(missing, [], "voice") == 0.0  # saying that something is missing is not citing it


def test_length():
    assert [length_reward(n, 100, 200) for n in (0, 100, 150, 200, 900)] == [0.0, 0.0, -0.5, -1.0, -1.0]
    assert length_reward(5, 4, 4) == -1.0


words = st.sampled_from(
    [*EMOTIONS, *ADJECTIVES.values(), *AU_CODES, "<think>", "</think>", "<answer>", "</answer>", "Observations:",
     "Interpretation:", "Conclusion:", "face 0-3 s:", "voice:", "no", "lip corner puller", "3", "9" * 12, "\n", ":",
     "\ud800"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(words, max_size=30).map(" ".join)))
def test_no_reply_crashes_a_reward_or_leaves_its_range(text):
    reply = parse_answer(text)
    for reward in ALL.values():
        value = reward(reply)
        assert value is None or -1.0 <= value <= 1.0
    claimed = [claim.code for claim in reply.claims]
    value = support_reward(claimed, claimed[::2], ["AU12"])
    assert value is None or -1.0 <= value <= 1.0


said = st.lists(
    st.sampled_from([*EMOTIONS, *AU_CODES, "lip corner puller", "fit", "fits", "not", "3", ".", ";", "\n"]),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(said, said, st.sampled_from(EMOTIONS), st.booleans())
def test_no_interpretation_leaves_the_range_of_fit(interpretation, observed, label, face):
    value = fit(" ".join(interpretation), label, " ".join(observed), face)
    assert -1.0 <= value <= 1.0 if value is not None else label in ("neutral", "boredom")
