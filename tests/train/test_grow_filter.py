"""Each reason for which an explanation is rejected, and which of those that pass is kept."""

import numpy as np
import pytest

from emollm.data.clip_states import ClipStates
from emollm.data.explain import answer, thought
from emollm.data.facts import Facts, Phase
from emollm.data.schema import Labels, Record
from emollm.emotions import EMOTIONS, EXPRESSIONS
from emollm.facs import AU_CODES, MAX_INTENSITY
from emollm.train.grow_filter import (
    CLAIMS,
    DIFFER,
    DISAGREE,
    GRAMMAR,
    LABEL,
    MISSING,
    OMITTED,
    PARTS,
    REASONS,
    UNFIT,
    UNITS,
    Demands,
    best_of,
    judge_all,
    weak_labels,
)

VOICE = "high pitch, fast"


def states(units: dict[str, float] | None, voice: str | None = VOICE, windows: int = 4) -> ClipStates:
    """Half-second windows of a happy face with these AUs, None: no face; and a happy voice."""
    face = np.zeros((0 if units is None else windows, len(AU_CODES) + len(EXPRESSIONS) + 2), np.float32)
    for code, intensity in (units or {}).items():
        face[:, AU_CODES.index(code)] = intensity / MAX_INTENSITY
    face[:, len(AU_CODES) + EXPRESSIONS.index("happiness")] = 1.0
    readings = np.zeros(len(EMOTIONS) + 2, np.float32)
    readings[EMOTIONS.index("happiness")] = 1.0
    sound = np.zeros((windows if voice else 0, 4), np.float32)
    return ClipStates(
        face, sound, np.zeros(8, np.float32), readings if voice else readings[:0], face.shape[1], 0.5, 0.5 * windows,
        voice,
    )  # fmt: skip


SMILE = {"AU6": 3.0, "AU12": 4.0}
CLIP = states(SMILE)
LABELLED = Record(id="a", messages=[], videos=["a.mp4"], labels=Labels(emotion="happiness"))
FREE = LABELLED.model_copy(update={"labels": Labels()})
TRUE = Facts("happiness", [Phase("happiness", {"AU12": 4, "AU6": 3}, 0, 1)], VOICE, "happiness")


def written(facts: Facts = TRUE) -> str:
    """A whole reply as training data has it."""
    return f"{thought(facts)}<answer>{answer(facts)}</answer>"


def judged(text: str, record: Record = LABELLED, clip: ClipStates = CLIP, demands: Demands = Demands()):  # noqa: B008
    (verdict,) = judge_all([text], [0.9], record, clip, demands)
    assert verdict.reason in (None, *REASONS)
    return verdict


def test_what_training_data_says_of_a_clip_passes_with_full_marks():
    verdict = judged(written())
    assert verdict.reason is None, verdict
    assert verdict.scores == {
        "agreement": 1.0, "confidence": 0.9, "support_rate": 1.0, "named_share": 1.0, "fit_rate": 1.0,
        "fit_recall": 1.0, "score": 0.9833,
    }  # fmt: skip
    only_voice = Facts("happiness", [], VOICE, "happiness")
    assert judged(written(only_voice), clip=states(None)).scores == {
        "agreement": 1.0, "confidence": 0.9, "score": 0.95,
    }  # fmt: skip
    only_face = Facts("happiness", TRUE.phases)
    assert judged(written(only_face), clip=states(SMILE, voice=None)).reason is None


@pytest.mark.parametrize(
    "text",
    [
        written().removesuffix("</answer>"),
        f"{written()} And so on.",
        written().split("</think>\n")[1],  # an answer without a thought
        written().replace("happy.\n</think>", "happy.<|im_end|>\n</think>"),
        "",
    ],
)
def test_a_reply_outside_the_grammar_is_rejected(text):
    assert judged(text).reason == GRAMMAR


@pytest.mark.parametrize(
    "text",
    [
        written().replace("<answer>happiness:", "<answer>The person is happy:"),
        written().replace("Interpretation: ", ""),
        written().replace("Observations:", "Let me see.\nObservations:"),
    ],
)
def test_a_reply_without_label_or_section_is_rejected(text):
    assert text != written()
    assert judged(text).reason == PARTS


def test_thought_and_answer_must_name_the_same_label():
    verdict = judged(written().replace("The person seems happy", "The person seems sad"))
    assert (verdict.reason, verdict.detail) == (DIFFER, "sadness in the conclusion, happiness")
    assert judged(written().replace("The person seems happy", "The person smiles")).reason == DIFFER


def test_the_label_must_be_the_clips():
    for labels in (
        Labels(emotion="sadness"),
        Labels(votes={"sadness": 0.6, "happiness": 0.4}),
        Labels(emotions=["sad"]),
    ):
        verdict = judged(written(), LABELLED.model_copy(update={"labels": labels}))
        assert (verdict.reason, verdict.detail) == (LABEL, "happiness, not sadness")
    tied = Labels(votes={"sadness": 0.5, "happiness": 0.5})
    assert judged(written(), LABELLED.model_copy(update={"labels": tied})).reason is None


def test_without_a_label_the_candidates_must_agree():
    other = Facts("surprise", [Phase("surprise", {"AU12": 4, "AU6": 3}, 0, 1)], VOICE, "surprise")
    texts = [written(), written(), written(other), "not even readable"]
    verdicts = judge_all(texts, [0.9] * 4, FREE, CLIP, Demands(agreement=0.6))
    assert [verdict.reason for verdict in verdicts] == [DISAGREE, DISAGREE, DISAGREE, GRAMMAR]
    verdicts = judge_all(texts, [0.9] * 4, FREE, CLIP, Demands(agreement=0.5))
    assert [verdict.reason for verdict in verdicts] == [None, None, DISAGREE, GRAMMAR]
    assert verdicts[0].scores["agreement"] == 0.5
    assert [v.reason for v in judge_all(texts, [0.9] * 4, LABELLED, CLIP, Demands())] == [None, None, LABEL, GRAMMAR]


def test_what_is_given_for_an_emotion_must_be_typical_of_it():
    clip = states({**SMILE, "AU4": 3.0})
    also = TRUE.phases[0].aus | {"AU4": 3}
    text = written(Facts("happiness", [Phase("happiness", also, 0, 1)], VOICE, "happiness"))
    assert judged(text, clip=clip).reason is None  # it was observed, and the interpretation leaves it out
    loose = text.replace("Interpretation: ", "Interpretation: AU4 fits happiness. ")
    verdict = judged(loose, clip=clip)
    assert (verdict.reason, verdict.detail) == (UNFIT, "AU4 for happiness")
    assert verdict.scores["fit_rate"] == pytest.approx(2 / 3)
    assert judged(loose, clip=clip, demands=Demands(fit_rate=0.6)).reason is None


def test_nothing_may_be_said_of_a_missing_face_or_voice():
    assert judged(written(), clip=states(None)).reason == MISSING
    assert judged(written(), clip=states(SMILE, voice=None)).reason == MISSING
    quiet = written(Facts("happiness", TRUE.phases)).replace("not heard", "high pitch")
    assert judged(quiet, clip=states(SMILE, voice=None)).reason == MISSING


def test_named_units_must_be_measured():
    lower = Facts("happiness", [Phase("happiness", {"AU12": 4, "AU4": 3}, 0, 1)], VOICE, "happiness")
    verdict = judged(written(lower))
    assert (verdict.reason, verdict.detail, verdict.scores["support_rate"]) == (UNITS, "AU4", 0.5)
    assert judged(written(lower), demands=Demands(support_rate=0.5, named_share=0.5)).reason == CLAIMS
    weak = Facts("happiness", [Phase("happiness", {"AU12": 2, "AU6": 3}, 0, 1)], VOICE, "happiness")
    assert judged(written(weak)).detail == "AU12"  # two letters off
    near = Facts("happiness", [Phase("happiness", {"AU12": 5, "AU6": 2}, 0, 1)], VOICE, "happiness")
    assert judged(written(near)).reason is None  # one letter off is how far human coders differ


def test_units_that_are_measured_may_be_named_beyond_the_strongest():
    weak = dict.fromkeys(AU_CODES[-5:-1], 1.0)
    named = Facts("happiness", [Phase("happiness", dict.fromkeys(weak, 1), 0, 1)], VOICE, "happiness")
    verdict = judged(
        written(named), clip=states(dict.fromkeys(AU_CODES[:7], 2.0) | weak), demands=Demands(named_share=0.0)
    )
    assert (verdict.reason, verdict.scores["support_rate"]) == (None, 1.0)


def test_clear_units_must_be_named():
    one = written(Facts("happiness", [Phase("happiness", {"AU12": 4}, 0, 1)], VOICE, "happiness"))
    assert judged(one).scores["named_share"] == 0.5
    verdict = judged(one, demands=Demands(named_share=0.6))
    assert (verdict.reason, verdict.detail) == (OMITTED, "AU6")
    many = states(dict.fromkeys(AU_CODES[:8], 4.0) | SMILE)  # more than any explanation names
    four = Facts("happiness", [Phase("happiness", dict.fromkeys(AU_CODES[:4], 4), 0, 1)], VOICE, "happiness")
    assert judged(written(four), clip=many, demands=Demands(named_share=1.0)).reason is None


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        ("voice: high pitch, fast", "voice: low pitch, fast", "It claims a tone: low pitch."),
        ("voice: high pitch, fast", "voice: not heard", "It says that no voice is heard."),
        ("the voice sounds happy.", "the voice sounds angry.", "It claims an emotion: angry."),
        ("The voice sounds happy.", "The voice sounds happy for 7 s.", "It names a time that nothing has: 7-7 s."),
    ],
)
def test_other_false_claims_are_found(old, new, detail):
    text = written().replace(old, new, 1)
    assert text != written()
    verdict = judged(text)
    assert (verdict.reason, verdict.detail) == (CLAIMS, detail)


def test_a_visible_face_may_not_be_denied():
    blind = written(Facts("happiness", [], VOICE, "happiness"))
    assert judged(blind, clip=states({"AU6": 0.5})).detail == "It says that no face is visible."


def test_the_best_scored_is_kept_and_the_first_of_equals():
    one = written(Facts("happiness", [Phase("happiness", {"AU12": 4}, 0, 1)], VOICE, "happiness"))
    verdicts = judge_all([one, "bad", written(), written()], [1.0, 1.0, 0.8, 0.8], LABELLED, CLIP, Demands())
    scores = [verdict.scores.get("score") for verdict in verdicts]  # agreement, confidence, support, named, twice fit
    assert scores == [pytest.approx(np.mean([0.75, 1.0, 1.0, 0.5, 1.0, 1.0]), abs=1e-4), None, 0.925, 0.925]
    assert best_of(verdicts) is verdicts[2]
    assert best_of(verdicts[1:2]) is None


def test_an_interpretation_that_gives_all_signs_is_better_than_one_that_gives_some():
    whole = written()
    part = whole.replace("AU12, AU6 fit happiness", "AU12 fits happiness")
    assert part != whole
    verdicts = judge_all([part, whole], [0.9, 0.9], LABELLED, CLIP, Demands())
    assert [verdict.reason for verdict in verdicts] == [None, None]
    assert [verdict.scores["fit_recall"] for verdict in verdicts] == [0.5, 1.0]
    assert best_of(verdicts) is verdicts[1]


def test_weak_labels():
    assert weak_labels(Labels(emotion="fear", votes={"anger": 1.0})) == {"fear"}
    assert weak_labels(Labels(emotions=["Happy", "wistful"])) == {"happiness"}
    assert weak_labels(Labels(valence=0.5)) == set()
