"""Scores of runs made by hand, among them the traps of published evaluation code."""

from pathlib import Path

import numpy as np
import pytest
from replies import FAILED, SKIPPED, card, lines, sample, says

from emollm.emotions import EMOTIONS
from emollm.errors import BadArgumentError
from emollm.eval.lines import line_of
from emollm.eval.metrics.units import au_f1
from emollm.eval.schema import Line, Measured, Reply, Truth
from emollm.eval.score import Scores, fit_temperature, score
from emollm.report import Verification

ALL = ", ".join(EMOTIONS)
TRAPS = {
    "all emotions listed": f"<answer>{ALL}</answer>",
    "all emotions listed, a label first": f"<answer>{ALL}: all of them</answer>",
    "empty answer": "<answer></answer>",
    "blank answer": "<answer>  \n</answer>",
    "nothing": "",
    "unknown word": "<answer>melancholy: the mouth droops</answer>",
    "label as a substring": "<answer>unhappiness: the mouth droops</answer>",
    "label later in the text": "<answer>The person seems well. happiness</answer>",
    "unclosed answer": "<answer>happiness: smiling",
    "unclosed thought": "<think>Observations: a smile.\n<answer>happiness: smiling</answer>",
    "no tags": "happiness",
    "text outside": "happiness <answer>happiness: smiling</answer>",
    "two answers": "<answer>happiness: a</answer><answer>sadness: b</answer>",
    "a label of the model's that the benchmark lacks": "<answer>boredom: looks away</answer>",
}


def run(tmp_path: Path, truths: list[str | Truth | None], replies: list, bench=None, **options) -> Scores:
    bench = bench or card()
    samples = [sample(f"s{at}", truth) for at, truth in enumerate(truths)]
    return score(bench, samples, lines(bench, samples, replies, tmp_path / "run"), **options)


@pytest.mark.parametrize("reply", TRAPS.values(), ids=TRAPS)
@pytest.mark.parametrize("truth", ["happiness", "neutral"])
def test_a_trap_scores_nothing_and_is_counted(tmp_path, reply, truth):
    found = run(tmp_path, [truth] * 4, [reply] * 4)
    for name in ("war", "uar", "weighted_f1", "macro_f1"):
        assert (found[name].value, found[name].n) == (0.0, 4)
    assert found["parse_failures"].value + found["outside"].value == 1.0
    assert found.confusion.counts[found.confusion.truths.index(truth)][-1] == 4


def test_labels_by_hand(tmp_path):
    truths = ["happiness"] * 4 + ["sadness"] * 2 + ["neutral"] * 2
    replies = [says("happiness")] * 3 + [says("sadness"), says("sadness"), FAILED, "<answer>", says("neutral")]
    found = run(tmp_path, truths, replies)
    assert found["war"].value == 5 / 8
    assert found["uar"].value == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert found["failed"].value == found["parse_failures"].value == 1 / 8
    assert found["outside"].value == 0
    assert found.counts == {"ok": 6, "unparsed": 1, "failed": 1, "skipped": 0}
    assert {s.name: (s.value, s.n) for s in found.per_class["recall"]} == {
        "neutral": (0.5, 2), "happiness": (0.75, 4), "sadness": (0.5, 2),
    }  # fmt: skip
    table = found.confusion
    assert table.answers == ["neutral", "happiness", "sadness", "anger", "(no answer)"]
    assert table.counts[table.truths.index("happiness")] == [0, 3, 1, 0, 0]
    assert table.counts[table.truths.index("sadness")] == [0, 0, 1, 0, 1]
    assert found["war"].low <= 5 / 8 <= found["war"].high


def test_failing_instead_of_answering_right_lowers_every_score(tmp_path):
    truths = ["happiness", "sadness", "neutral", "anger"] * 2
    good = [says(truth) for truth in truths]
    good[1] = says("neutral")
    before = run(tmp_path / "a", truths, good)
    for at, broken in enumerate([FAILED, "<answer>", "happiness", says("boredom")]):
        replies = list(good)
        replies[4 + at] = broken
        after = run(tmp_path / f"b{at}", truths, replies)
        for name in ("war", "uar", "weighted_f1", "macro_f1"):
            assert after[name].value < before[name].value, (at, name)


def test_skipped_samples_are_left_out_and_said(tmp_path):
    found = run(tmp_path, ["happiness", "sadness"], [says("happiness"), SKIPPED])
    assert (found["war"].value, found["war"].n) == (1.0, 1)
    assert found.counts["skipped"] == 1
    assert "1 of 2 samples are skipped" in found.notes[0]


def test_answers_are_mapped_to_the_words_of_the_benchmark(tmp_path):
    bench = card(answers=["joy", "sadness"], answer_map={"happiness": "joy", "anger": None})
    found = run(tmp_path, ["joy", "sadness"], [says("happiness", happiness=0.9, anger=0.1), says("anger")], bench)
    assert found["war"].value == 0.5
    assert found["outside"].value == 0.5


def test_intervals_draw_whole_speakers(tmp_path):
    """All samples of a speaker are alike: drawn one by one the interval would be far too narrow."""
    samples = [sample(f"s{at}", "happiness", groups={"speaker": str(at // 20)}) for at in range(200)]
    replies = [says("happiness" if at < 100 else "sadness") for at in range(200)]
    found = score(card(), samples, lines(card(), samples, replies, tmp_path))
    assert found["war"].low < 0.3 < 0.7 < found["war"].high
    assert "whole speakers, of whom there are 10" in found.notes[0]
    alone = [one.model_copy(update={"groups": {}}) for one in samples]
    assert score(card(), alone, lines(card(), alone, replies, tmp_path / "b"))["war"].low > 0.4


def test_two_speakers_are_not_drawn_whole(tmp_path):
    """Two can be drawn in three ways; an interval of that would look sure of what it cannot know."""
    samples = [sample(f"s{at}", "happiness", groups={"speaker": str(at % 2)}) for at in range(100)]
    replies = [says("happiness" if at < 80 else "sadness") for at in range(100)]
    found = score(card(), samples, lines(card(), samples, replies, tmp_path))
    assert found["war"].low < 0.75 < 0.85 < found["war"].high
    assert found.notes[0].startswith("Only 2 speakers")


def test_a_perfect_share_of_few_is_not_certain(tmp_path):
    found = run(tmp_path, ["happiness"] * 3, [says("happiness")] * 3)
    recall = found.per_class["recall"][0]
    assert (recall.value, recall.high) == (1.0, 1.0)
    assert 0.3 < recall.low < 0.5
    assert found["failed"].high > 0.5


def test_scores_do_not_depend_on_the_order_of_lines(tmp_path):
    truths = ["happiness", "sadness", "neutral"] * 5
    samples = [sample(f"s{at}", truth) for at, truth in enumerate(truths)]
    made = lines(card(), samples, [says("happiness", happiness=0.6, sadness=0.4)] * 15, tmp_path)
    assert score(card(), samples, made) == score(card(), samples, made[::-1])


def test_samples_and_lines_must_belong_together(tmp_path):
    samples = [sample("a", "happiness"), sample("b", "sadness")]
    made = lines(card(), samples, [says("happiness")] * 2, tmp_path)
    with pytest.raises(ValueError, match="same ids"):
        score(card(), samples, made[:1])
    with pytest.raises(ValueError, match="same ids"):
        score(card(), samples, [*made, made[0]])


def test_an_unknown_metric_is_an_error(tmp_path):
    with pytest.raises(BadArgumentError, match="names the metric 'accuracy'"):
        run(tmp_path, ["happiness"], [says("happiness")], card(metrics=["accuracy"]))


# Action Units --------------------------------------------------------------------------------------------------------


def _aus(*present: str, codes=("AU4", "AU6", "AU12")) -> Truth:
    return Truth(aus={code: 3.0 if code in present else 0.0 for code in codes})


def test_claimed_aus_are_scored_and_the_tower_beside_them(tmp_path):
    bench = card(task="action_units", answers=[], metrics=["au_f1_macro", "au_f1_micro", "icc", "mse"])
    truths = [_aus("AU12", "AU6"), _aus("AU4"), _aus("AU12"), _aus()]
    replies = [
        Reply(
            text="<answer>happiness: AU12 lip corner puller 3.</answer>",
            measured=Measured(aus={"AU12": 3.0, "AU6": 2.5, "AU4": 0.1}),
        ),
        Reply(text="<answer>anger: no AU4, but AU12.</answer>", measured=Measured(aus={"AU4": 3.0})),
        "<answer>AU12",
        FAILED,
    ]
    found = run(tmp_path, truths, replies, bench)
    claims = [{"AU12": 3.0}, {"AU12": None}, {}, {}]
    expected = au_f1([truth.aus for truth in truths], claims)
    assert found["au_f1_macro"].value == pytest.approx(expected.macro)
    assert found["au_f1_micro"].value == pytest.approx(expected.micro)
    assert found["tower_au_f1_micro"].value == pytest.approx(6 / 7)  # AU12, AU6, AU4 found, one AU12 missed
    f1 = {each.name: each.value for each in found.per_class["au_f1"]}
    assert f1 == pytest.approx({"AU4": 0.0, "AU6": 0.0, "AU12": 0.5})
    # Named without a number is 1; no answer is the far end of the scale.
    # The answer is outside the observations, where the grammar reads no intensities: "AU12 3" there is present, so 1.
    squares = {"AU4": [0, 9, 25, 25], "AU6": [9, 0, 25, 25], "AU12": [4, 1, 9, 25]}
    assert found["mse"].value == pytest.approx(np.mean([np.mean(each) for each in squares.values()]))
    assert found["mse"].better == "lower"


def test_listing_every_au_is_not_the_way(tmp_path):
    bench = card(task="action_units", answers=[], metrics=["au_f1_macro"])
    truths = [_aus("AU12"), _aus("AU4"), _aus("AU6")] * 3
    every = run(tmp_path / "a", truths, ["<answer>all: AU4, AU6, AU12.</answer>"] * 9, bench)
    right = ["<answer>a: AU12.</answer>", "<answer>a: AU4.</answer>", "<answer>a: AU6.</answer>"] * 3
    assert every["au_f1_macro"].value == pytest.approx(0.5)
    assert run(tmp_path / "b", truths, right, bench)["au_f1_macro"].value == 1.0


def test_no_action_unit_present_has_no_score(tmp_path):
    bench = card(task="action_units", answers=[], metrics=["au_f1_macro"])
    found = run(tmp_path, [_aus(), _aus()], ["<answer>a: nothing.</answer>"] * 2, bench)
    assert found["au_f1_macro"].value is None


def test_the_threshold_of_presence(tmp_path):
    bench = card(task="action_units", answers=[], metrics=["au_f1_micro"])
    truth, claim = Truth(aus={"AU12": 1.5}), "<answer>a: AU12.</answer>"
    assert run(tmp_path / "a", [truth], [claim], bench)["au_f1_micro"].value == 1.0
    assert run(tmp_path / "b", [truth], [claim], bench, au_present=2.0)["au_f1_micro"].value is None


# What the towers read, numbers, sentiment ----------------------------------------------------------------------------


def test_the_towers_own_labels_stand_beside_the_answers(tmp_path):
    bench = card(answer_map={"contempt": None})
    tower = [{"happiness": 0.8, "sadness": 0.2}, {"happiness": 0.3, "sadness": 0.7}, {"contempt": 0.9, "anger": 0.1}]
    replies = [Reply(text="<answer>anger: x</answer>", measured=Measured(expression=shares)) for shares in tower]
    found = run(tmp_path, ["happiness", "sadness", "anger", "anger"], [*replies, FAILED], bench)
    assert found["war"].value == 0.25
    assert found["tower_war"].value == 0.5
    assert found["tower_uar"].value == pytest.approx(2 / 3)


def test_valence_without_a_reading_is_as_wrong_as_can_be(tmp_path):
    bench = card(task="valence_arousal", answers=[], metrics=["ccc_valence", "ccc_arousal"])
    truths = [Truth(valence=v, arousal=-v) for v in (-0.5, 0.0, 0.5, 0.8)]
    read = [
        Reply(text="<answer>a: b</answer>", measured=Measured(valence=t.valence, arousal=t.arousal)) for t in truths
    ]
    whole = run(tmp_path / "a", truths, read, bench)
    assert whole["ccc_valence"].value == whole["ccc_arousal"].value == pytest.approx(1.0)
    broken = run(tmp_path / "b", truths, [*read[:3], FAILED], bench)
    assert broken["ccc_valence"].n == 4
    assert broken["ccc_valence"].value < 0.5


def test_mer2023_takes_both(tmp_path):
    bench = card(metrics=["mer2023", "weighted_f1"])
    truths = [Truth(emotion="happiness", valence=0.5), Truth(emotion="sadness", valence=-0.5)]
    replies = [
        Reply(text=f"<answer>{t.emotion}: x</answer>", measured=Measured(valence=t.valence + 0.2)) for t in truths
    ]
    assert run(tmp_path, truths, replies, bench)["mer2023"].value == pytest.approx(1 - 0.25 * 25 * 0.04)


def test_sentiment(tmp_path):
    bench = card(
        task="sentiment", answers=["negative", "neutral", "positive"], metrics=["sentiment_waf"],
        answer_map={"happiness": "positive", "sadness": "negative"},
    )  # fmt: skip
    truths = [Truth(sentiment=value) for value in (1.0, -2.0, 0.0, -1.0)]
    found = run(tmp_path, truths, [says("happiness"), says("neutral"), says("neutral"), "<answer>"], bench)
    assert found["sentiment_waf"].n == 3
    assert found["sentiment_waf"].value == pytest.approx((1 + 2 * (2 / 3)) / 3)
    assert found["sentiment_waf3"].value == pytest.approx((1 + 2 * 0 + 1 * 2 / 3) / 4)
    assert found["parse_failures"].value == 0.25


# Open answers --------------------------------------------------------------------------------------------------------


def test_a_long_list_costs_the_penalised_hit_rate(tmp_path):
    bench = card(task="open_vocabulary", answers=[], metrics=["hit_rate"])
    truths = ["happiness", "sadness", "anger", "fear"]
    short = run(tmp_path / "a", truths, [says(truth) for truth in truths], bench)
    every = run(tmp_path / "b", truths, [f"<answer>{ALL}</answer>"] * 4, bench)
    assert short["hit_rate"].value == short["hit_rate_penalised"].value == 1.0
    assert every["hit_rate"].value == 1.0
    assert every["hit_rate_penalised"].value < 0.4
    assert every["list_length"].value > 7


@pytest.mark.parametrize("reply", [FAILED, "<answer>", "<answer></answer>", "", "<answer>qwertzy: hm.</answer>",
                                   "<answer>He is not happy.</answer>", "<answer>happy"])  # fmt: skip
@pytest.mark.parametrize("metric", ["hit_rate", "ew"])
def test_no_word_no_hit(tmp_path, metric, reply):
    bench = card(task="open_vocabulary", answers=[], metrics=[metric])
    found = run(tmp_path, [Truth(emotions=["happy", "cheerful"])] * 3, [reply] * 3, bench)
    assert (found[metric].value, found[metric].n) == (0.0, 3)


def test_a_neutral_truth_is_skipped_and_words_without_a_place_are_reported(tmp_path):
    bench = card(task="open_vocabulary", answers=[], metrics=["ew"])
    truths = [Truth(emotions=["happy"]), Truth(emotions=["qwertzy"])]
    found = run(tmp_path, truths, [says("happiness"), says("happiness")], bench)
    assert (found["ew"].value, found["ew"].n) == (1.0, 1)
    assert found["oov_truth"].value == 0.5


def test_explanations(tmp_path):
    bench = card(task="explanation", answers=[], metrics=["rouge_l", "cider", "order", "judge"])
    texts = ["She smiles, then she is sad.", "He frowns in anger.", "Surprise, then fear."]
    replies = [f"<answer>{texts[0]}</answer>", "<answer>", f"<answer>{texts[2]}</answer>"]
    found = run(tmp_path, [Truth(text=text) for text in texts], replies, bench)
    assert found["rouge_l"].value == pytest.approx(2 / 3)
    assert found["order"].value == pytest.approx(2 / 3)
    assert found["cider"].value > 3
    assert not any(each.name.startswith("judge") for each in found.scores)
    assert any("judge" in note for note in found.notes)


def test_a_judge_without_a_verdict_is_counted(tmp_path):
    class Marks:
        name, model, prompt = "marks", "none", ""

        def score(self, reference: str, answer: str) -> int | None:
            return 1 if not answer else None if "unclear" in answer else 8

    bench = card(task="explanation", answers=[], metrics=["judge"])
    replies = ["<answer>good</answer>", "<answer>unclear</answer>", FAILED]
    found = run(tmp_path, [Truth(text="x")] * 3, replies, bench, judges=[Marks()])
    assert (found["judge_marks"].value, found["judge_marks"].n) == (4.5, 2)
    assert found["unclear_marks"].value == pytest.approx(1 / 3)


# Confidence, support, groups -----------------------------------------------------------------------------------------


def test_abstaining(tmp_path):
    replies = [
        says("happiness", happiness=0.9, sadness=0.1),
        says("happiness", happiness=0.6, sadness=0.4),
        says("sadness", happiness=0.2, sadness=0.8),
        FAILED,
        "<answer>happiness",
    ]
    truths = ["happiness", "sadness", "sadness", "happiness", "happiness"]
    found = run(tmp_path, truths, replies, abstain_below=0.7)
    assert found["war"].value == 0.4
    assert found.abstention.coverage.value == 0.4
    assert found.abstention.selective_accuracy.value == 1.0
    assert found["ece"].n == 3  # only what was answered can be over- or under-confident
    assert found["brier"].n == found["aurc"].n == 5
    assert found.calibration.coverage[-1] == 1.0
    assert found.calibration.risk[-1] == pytest.approx(0.6)


def test_an_answer_outside_is_a_confident_mistake(tmp_path):
    found = run(tmp_path, ["happiness"] * 2, [says("boredom", boredom=0.9, happiness=0.1)] * 2)
    assert found["ece"].value == pytest.approx(0.9)
    assert found["brier"].value == pytest.approx(0.9**2 + 0.9**2)


def test_without_confidence_there_is_nothing_to_abstain_by(tmp_path):
    found = run(tmp_path / "a", ["happiness"], [says("happiness")])
    assert found.calibration is None
    assert all(each.name not in ("ece", "brier", "aurc") for each in found.scores)
    with pytest.raises(BadArgumentError, match="no confidence"):
        run(tmp_path / "b", ["happiness"], [says("happiness")], abstain_below=0.5)


def test_a_temperature_cools_overconfidence_and_changes_no_answer(tmp_path):
    sure = says("happiness", happiness=0.99, sadness=0.01)
    truths = ["happiness", "happiness", "sadness", "happiness", "sadness"] * 4
    samples = [sample(f"s{at}", truth) for at, truth in enumerate(truths)]
    made = lines(card(), samples, [sure] * 20, tmp_path)
    temperature = fit_temperature(card(), samples, made)
    before, after = score(card(), samples, made), score(card(), samples, made, temperature=temperature)
    assert temperature > 5
    assert after["ece"].value < 0.01 < 0.3 < before["ece"].value
    assert after["war"] == before["war"]
    with pytest.raises(BadArgumentError, match="no confidences"):
        fit_temperature(card(), samples, lines(card(), samples, [says("anger")] * 20, tmp_path / "b"))


def test_support(tmp_path):
    checked = [
        Verification(claimed=["AU12", "AU4"], supported=["AU12"], unsupported=["AU4"], omitted=["AU6"]),
        Verification(omitted=["AU1", "AU2"]),
    ]
    replies = [Reply(text="<answer>happiness: x</answer>", verification=each) for each in checked]
    found = run(tmp_path, ["happiness"] * 2, replies)
    assert found["support_precision"].value == 0.5
    assert found["support_recall"].value == 0.25


def test_interpretations_are_held_against_prototypes(tmp_path):
    def thinks(id: str, observed: str, interpretation: str) -> Line:
        thought = f"<think>\nObservations: face: {observed}.\nInterpretation: {interpretation}\n</think>\n"
        return line_of(card(), id, Reply(text=f"{thought}<answer>happiness: x</answer>"))

    made = [
        thinks("a", "AU6, AU12", "Happiness shows in AU6, AU12."),
        thinks("b", "AU12, AU4", "AU12, AU4, AU6 fit happiness."),  # AU4 is not typical, AU6 was not observed
        thinks("c", "AU25", "The face is at rest."),  # AU25 would have fit
        thinks("d", "AU4", "The face as a whole shows happiness."),
        Line(id="e", status="failed"),
    ]
    found = score(card(), [sample(line.id, "happiness") for line in made], made)
    assert found["interpretation_fit"].value == pytest.approx(3 / 5)
    assert found["interpretation_recall"].value == pytest.approx(3 / 4)
    without = run(tmp_path, ["anger"], [says("anger")])
    assert without["interpretation_fit"].value is without["interpretation_recall"].value is None


def test_groups_and_their_gap(tmp_path):
    samples, replies = [], []
    for group, right, count in (("a", 12, 12), ("b", 6, 12), ("c", 0, 3)):
        for at in range(count):
            samples.append(sample(f"{group}{at}", "happiness", groups={"sex": group}))
            replies.append(says("happiness" if at < right else "sadness"))
    samples.append(sample("unknown", "happiness"))
    made = lines(card(), samples, [*replies, FAILED], tmp_path)
    found = score(card(metrics=["war"]), samples, made, groups=["sex"]).subgroups
    assert [(part.field, part.metric, part.small) for part in found] == [("sex", "war", ["c"])]
    assert {name: (each.value, each.n) for name, each in found[0].groups.items()} == {
        "a": (1.0, 12), "b": (0.5, 12), "c": (0.0, 3),
    }  # fmt: skip
    assert found[0].gap.value == 0.5  # the three samples of c say too little
    assert 0 < found[0].gap.low < 0.5 < found[0].gap.high
    with pytest.raises(BadArgumentError, match="no group 'age'; they have sex"):
        score(card(), samples, made, groups=["age"])


def test_a_line_of_any_status_keeps_its_raw_reply_out_of_the_labels():
    """A label in the raw text, or even in the line, counts only where the reply was read."""
    samples = [sample("a", "happiness"), sample("b", "happiness")]
    made = [
        Line(id="a", status="unparsed", raw="happiness", label="happiness", error="no <answer>"),
        Line(id="b", status="failed", label="happiness"),
    ]
    assert score(card(), samples, made)["war"].value == 0.0
