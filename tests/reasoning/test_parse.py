from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from emollm.emotions import EMOTIONS
from emollm.facs import ACTION_UNITS
from emollm.reasoning.parse import Claim, ParsedAnswer, StreamSplitter, parse_answer
from emollm.reasoning.spans import describe_time

FULL = """<think>
Observations: face 0-8 s: AU4 brow lowerer 2.5, AU15 lip corner depressor 3; face 11-19 s: AU6 cheek raiser 2, \
AU12 lip corner puller 4. voice: high pitch, loud, fast.
Interpretation: The lowered brows with AU15 suggest distress.
Conclusion: Distress gives way to a smile with AU25.
</think>
<answer>happiness: distress from 0 to 8 s turns into a smile from 11 to 19 s.</answer>
"""
THOUGHT = FULL.split("<think>")[1].split("</think>")[0].strip()


def answer(text: str) -> ParsedAnswer:
    return parse_answer(f"<answer>{text}</answer>")


def observed(text: str) -> ParsedAnswer:
    return parse_answer(f"<think>\nObservations: {text}\n</think><answer>neutral</answer>")


def codes(parsed: ParsedAnswer) -> list[str]:
    return [claim.code for claim in parsed.claims]


def test_full_answer():
    parsed = parse_answer(FULL, expect_thought=True)
    assert parsed.error is None
    assert parsed.label == "happiness"
    assert parsed.thought == THOUGHT
    assert parsed.answer == "happiness: distress from 0 to 8 s turns into a smile from 11 to 19 s."
    assert parsed.voice == "high pitch, loud, fast"
    assert parsed.reasoning.observations.startswith("face 0-8 s: AU4")
    assert parsed.reasoning.interpretation == "The lowered brows with AU15 suggest distress."
    assert parsed.reasoning.conclusion == "Distress gives way to a smile with AU25."
    assert parsed.claims == (
        Claim("AU4", 2.5, 0, 8),
        Claim("AU15", 3, 0, 8),
        Claim("AU6", 2, 11, 19),
        Claim("AU12", 4, 11, 19),
        Claim("AU25"),  # named in the conclusion only; AU15 is already claimed with its time
    )


def test_still_image_has_no_times():
    parsed = observed("face: AU6 cheek raiser 2, AU12 lip corner puller 4.")
    assert parsed.claims == (Claim("AU6", 2.0), Claim("AU12", 4.0))
    assert parsed.voice is None


@pytest.mark.parametrize(
    ("heading", "span"),
    [
        ("face 2.5-3 s", (2.5, 3)),
        ("face 2 to 3 s", (2, 3)),
        ("face 2–3s", (2, 3)),
        ("face 3 s", (3, 3)),
        ("face at the start", (None, None)),
    ],
)
def test_span_headings(heading, span):
    (claim,) = observed(f"{heading}: AU12 lip corner puller 4.").claims
    assert (claim.start_s, claim.end_s) == span


@given(st.sampled_from(ACTION_UNITS), st.floats(0.5, 5), st.floats(0, 3600), st.floats(0, 3600))
def test_what_the_grammar_writes_is_read_back(unit, intensity, one, other):
    start, end = sorted((one, other))
    (claim,) = observed(f"face {describe_time(start, end)}: {unit.code} {unit.name} {intensity:.1f}.").claims
    assert claim == Claim(
        unit.code, round(intensity, 1), pytest.approx(start, abs=0.051), pytest.approx(end, abs=0.051)
    )


def test_voice_before_face():
    parsed = observed("voice: low pitch, slow; face 1-2 s: AU4 brow lowerer 2.")
    assert parsed.voice == "low pitch, slow"
    assert parsed.claims == (Claim("AU4", 2.0, 1, 2),)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("happiness", "happiness"),
        ("happiness.", "happiness"),
        (" Happiness : she smiles", "happiness"),
        ("SADNESS: x", "sadness"),
        ("angry: loud voice", "anger"),
        ("sadness: not happiness: really", "sadness"),
        # not exactly one label
        (", ".join(EMOTIONS), None),
        (" ".join(EMOTIONS) + ": all of them", None),
        ("happiness or sadness: either", None),
        ("happinessless", None),
        ("unhappiness: x", None),
        ("not happiness", None),
        ("flabbergasted: x", None),
        ("She looks away because the light is strong.", None),
        ("The person feels: happiness", None),
        (": happiness", None),
        ("happiness..", None),
        ("**happiness**", None),
    ],
)
def test_label(text, label):
    parsed = answer(text)
    assert parsed.error is None
    assert parsed.label == label
    assert parsed.answer == text.strip()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no <answer>"),
        ("happiness", "no <answer>"),
        ("<think>a</think>", "no <answer>"),
        ("<ANSWER>happiness</ANSWER>", "no <answer>"),
        ("<answer></answer>", "empty answer"),
        ("<answer> \n </answer>", "empty answer"),
        ("<think>a<answer>happiness</answer>", "unclosed <think>"),
        ("<think>a", "unclosed <think>"),
        ("<answer>happiness", "unclosed <answer>"),
        ("happiness</answer>", "</answer> without <answer>"),
        ("a</think><answer>happiness</answer>", "</think> without <think>"),
        ("<answer>happiness</answer><answer>sadness</answer>", "two answers"),
        ("<answer>a<answer>happiness</answer></answer>", "two answers"),
        ("<think>a</think><think>b</think><answer>happiness</answer>", "two thoughts"),
        ("<answer>happiness</answer><think>a</think>", "tags out of order"),
        ("<think><answer>happiness</answer></think>", "tags out of order"),
        ("<answer><think>a</think>happiness</answer>", "tags out of order"),
        ("</answer>happiness<answer>", "tags out of order"),
        ("Sure! <answer>happiness</answer>", "text outside tags"),
        ("<think>a</think> so <answer>happiness</answer>", "text outside tags"),
        ("<answer>happiness</answer> done", "text outside tags"),
        ("<THINK>a</THINK><answer>happiness</answer>", "text outside tags"),
        ("<think>Conclusion: a\nConclusion: b</think><answer>fear</answer>", "two sections of one name"),
        ("<answer>fear \ud800</answer>", "not valid Unicode"),
    ],
)
def test_broken_grammar_gives_reason_and_nothing_else(text, error):
    assert parse_answer(text) == ParsedAnswer(error=error)


def test_expect_thought():
    direct = "<answer>fear</answer>"
    assert parse_answer(direct, expect_thought=False).label == "fear"
    assert parse_answer(direct, expect_thought=True).error == "no <think>"
    assert parse_answer("<think></think>" + direct, expect_thought=True).label == "fear"
    assert parse_answer("<think></think>" + direct, expect_thought=False).error == "unexpected <think>"


def test_headings_count_only_at_line_starts():
    parsed = parse_answer("<think>My Conclusion: none\nInterpretation: a Conclusion: b</think><answer>fear</answer>")
    assert parsed.reasoning.conclusion == ""
    assert parsed.reasoning.interpretation == "a Conclusion: b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AU12 and AU 6", ["AU12", "AU6"]),
        ("AU012", ["AU12"]),
        ("au4 and AU004", ["AU4"]),
        ("AU99 is odd", ["AU99"]),
        ("AU0, AU1234, BEAU12, AU12th", []),
        ("no AU12", []),
        ("AU6 without AU4", ["AU6"]),
        ("without AU4 or AU15", []),
        ("neither AU4 nor AU15", []),
        ("no AU4, AU12", ["AU12"]),
        ("no AU4 but AU12", ["AU12"]),
        ("without AU4 and with AU12", ["AU12"]),
        ("no AU4. AU12", ["AU12"]),
        ("there isn't AU4", []),
        ("AU12 is absent", []),
        ("AU4 and AU15 are not seen, AU2", ["AU2"]),
        ("AU4 brow lowerer and AU15 are absent", []),
        ("AU12 present and AU6 absent", ["AU12"]),
        ("AU12 does not look sincere", ["AU12"]),
        ("not only AU12 but AU6", ["AU12", "AU6"]),
        ("the face shows lip corner puller and Lips Part", ["AU12", "AU25"]),
        ("AU12 lip corner puller, brow lowerer", ["AU12", "AU4"]),
        ("no brow lowerer, dimplers", []),
    ],
)
def test_which_mentions_are_claims(text, expected):
    assert codes(answer(f"fear: {text}.")) == expected
    assert codes(observed(text + ".")) == expected


@pytest.mark.parametrize(
    ("text", "intensity"),
    [
        ("AU12 lip corner puller 4.", 4.0),
        ("AU12 lip corner puller 2.5,", 2.5),
        ("AU12 3", 3.0),
        ("AU12 lip corner puller", None),
        ("AU12 3 s", None),
        ("AU12 lip corner puller 13-15 s", None),
        ("AU12 3 to 5 s", None),
        ("AU12 lip corner puller 40", 40.0),
        ("lip corner puller 4", 4.0),
    ],
)
def test_claimed_intensity(text, intensity):
    assert observed("face: " + text).claims == (Claim("AU12", intensity),)


def test_intensity_zero_is_not_a_claim():
    assert observed("face: AU12 lip corner puller 0, AU4 brow lowerer 0.3.").claims == ()


def test_repeated_claims_count_once_and_contradictions_stay():
    assert observed("face: " + "AU12 4, " * 50).claims == (Claim("AU12", 4.0),)
    assert observed("face: AU12 1, AU12 4.").claims == (Claim("AU12", 1.0), Claim("AU12", 4.0))


def test_numbers_in_free_text_are_not_read():
    assert answer("fear: AU12 lip corner puller 4 from 2 to 3 s").claims == (Claim("AU12"),)


def test_spam_is_read():
    spam = "AU1 and " * 30_000 + "AU2 " + "9" * 30_000
    assert codes(answer("fear: " + spam)) == ["AU1", "AU2"]


# Text made of the grammar's own parts reaches far deeper than random letters do.
PARTS = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", "<", "</", "answer>", "Observations:", "Conclusion:", "\n", " ",
    "face 0-8 s:", "face:", "voice:", "AU12", "AU4 brow lowerer 2.5", "no ", "happiness", ":", ".", ",", "9" * 400]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PARTS, st.text(max_size=3)), max_size=25).map("".join))
BODIES = TEXTS.map(lambda text: text.replace("<", "")).filter(str.strip)


@given(TEXTS)
def test_parse_never_raises(text):
    parsed = parse_answer(text)
    assert parsed.label is None or parsed.label in EMOTIONS
    if parsed.error is not None:
        assert parsed == ParsedAnswer(error=parsed.error)


def split(text: str, cuts: list[int]) -> list[tuple[str, str]]:
    splitter = StreamSplitter()
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    out = [part for a, b in pairwise(edges) for part in splitter.feed(text[a:b])]
    return out + splitter.close()


def joined(parts: list[tuple[str, str]]) -> dict[str, str]:
    return {name: "".join(piece for channel, piece in parts if channel == name) for name in ("thought", "answer")}


@given(TEXTS, st.lists(st.integers(0, 500), max_size=20))
@example("<think>a</think>\n<answer>b</answer>", list(range(40)))
def test_streamed_equals_whole(text, cuts):
    parts = split(text, cuts)
    assert all(piece for _, piece in parts)
    assert joined(parts) == joined(split(text, []))


@given(BODIES, BODIES, st.lists(st.integers(0, 500), max_size=20))
def test_streamed_equals_parsed(thought, reply, cuts):
    text = f"<think>{thought}</think>\n<answer>{reply}</answer>\n"
    parsed = parse_answer(text)
    streamed = joined(split(text, cuts))
    assert streamed == {"thought": thought.strip(), "answer": reply.strip()}
    if parsed.error is None:
        assert (parsed.thought, parsed.answer) == (streamed["thought"], streamed["answer"])


def test_pieces_come_as_soon_as_they_are_settled():
    splitter = StreamSplitter()
    assert splitter.feed("<thi") == []
    assert splitter.feed("nk>Brows ") == [("thought", "Brows")]
    assert splitter.feed("down</think") == [("thought", " down")]
    assert splitter.feed("><answer>1 < 2") == [("answer", "1 < 2")]
    assert splitter.feed(" <") == []
    assert splitter.close() == [("answer", " <")]


def test_text_without_tags_goes_to_the_answer():
    assert joined(split("She looks away.", [3])) == {"thought": "", "answer": "She looks away."}
