import doctest

import pytest

from emollm.facs import AU_CODES
from emollm.reasoning import fit
from emollm.reasoning.fit import fitting, interpreted, unfitting
from emollm.reasoning.parse import parse_answer


def reply(interpretation: str, observed: str = "AU6 2, AU12 4"):
    thought = f"<think>\nObservations: face: {observed}.\nInterpretation: {interpretation}\n</think>\n"
    return parse_answer(f"{thought}<answer>happiness: x</answer>")


@pytest.mark.parametrize(
    "wording",
    ["AU6, AU12 fit happiness.", "Happiness shows in AU6, AU12.", "Signs of happiness: AU6 and AU12."],
)
def test_the_wording_does_not_matter(wording):
    assert interpreted(reply(wording)) == fitting(reply(wording)) == {("AU6", "happiness"), ("AU12", "happiness")}


def test_what_is_not_typical_or_was_not_observed_does_not_fit():
    assert fitting(reply("Happiness shows in AU6, AU4.", "AU6 2, AU4 2")) == {("AU6", "happiness")}
    assert fitting(reply("Happiness shows in AU6, AU25.", "AU6 2")) == {("AU6", "happiness")}


def test_what_does_not_fit_is_told_for_each_emotion():
    loose = reply("AU12, AU2, AU6 fit sadness. Happiness shows in AU25, AU6.", "AU12 2, AU6 2, AU2 3")
    assert unfitting(loose) == {"happiness": ["AU25"], "sadness": ["AU2", "AU6", "AU12"]}
    assert unfitting(reply("AU6, AU12 fit happiness.")) == unfitting(parse_answer("")) == {}


def test_a_sentence_pairs_with_its_own_emotion():
    both = reply("Happiness shows in AU12. Sadness shows in AU15.", "AU12 4, AU15 2")
    assert interpreted(both) == {("AU12", "happiness"), ("AU15", "sadness")}


def test_nothing_is_interpreted_without_a_thought_or_a_code():
    assert interpreted(parse_answer("<answer>happiness: AU12</answer>")) == set()
    assert interpreted(reply("The face is at rest.")) == fitting(reply("The voice sounds sad.")) == set()
    assert fitting(parse_answer("")) == fitting(parse_answer("<think>")) == set()


def test_naming_everything_mostly_does_not_fit():
    every = ", ".join(AU_CODES)
    spam = reply(f"{every} fit happiness, sadness, anger, fear, disgust, surprise and contempt.", every)
    assert len(fitting(spam)) < 0.3 * len(interpreted(spam))


def test_the_example_is_true():
    assert doctest.testmod(fit).failed == 0
