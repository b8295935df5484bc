import pytest
from hypothesis import given
from hypothesis import strategies as st

from emollm.reasoning.parse import parse_answer
from emollm.reasoning.prompts import (
    DEFAULT_QUESTION,
    MAX_QUESTION,
    MAX_TRANSCRIPT,
    assistant_message,
    clip_message,
    neutralise,
    user_message,
)

TOKENS = (
    "<|face|>",
    "<|audio|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
)


def text_of(message):
    return message["content"][-1]["text"]


@pytest.mark.parametrize("token", TOKENS)
def test_tokens_are_taken_out_of_user_text(token):
    assert neutralise(f"a{token}b") == "a b"
    assert neutralise(f"a{token.upper()}b") == "a b"


@pytest.mark.parametrize(
    "nested", ["<|fa<|face|>ce|>", "<thi<think>nk>", "</ans<|im_end|>wer>", "<|<|<|face|>|>|>", "<<think>think>"]
)
def test_halves_never_join_to_a_token(nested):
    assert not any(token in neutralise(nested) for token in TOKENS)


@given(st.lists(st.sampled_from([*TOKENS, "<|", "|>", "<", ">", "|", "/", "think", "answer", "face", " ", "a"])))
def test_no_mixture_leaves_a_token(pieces):
    cleaned = neutralise("".join(pieces))
    assert not any(token in cleaned for token in TOKENS)
    assert neutralise(cleaned) == cleaned


@pytest.mark.parametrize(
    "text", ["Is 3 < 4 | 5 > 2?", "I think so", "a <b> c", "<3", "x || y", "Wie fühlt er sich? 🙂"]
)
def test_other_text_is_left_as_it_is(text):
    assert neutralise(text) == text


def test_the_first_turn_holds_clip_transcript_and_question():
    message = clip_message("Why?", "I am <|face|> fine.")
    assert message == {
        "role": "user",
        "content": [{"type": "video"}, {"type": "text", "text": 'said: "I am   fine."\nWhy?'}],
    }


@pytest.mark.parametrize("question", [None, "", "  ", "<think>"])
def test_without_a_question_the_default_is_asked(question):
    assert text_of(clip_message(question)) == DEFAULT_QUESTION


def test_what_users_type_is_cut():
    first = clip_message("q" * 5000, "t" * 5000)
    assert text_of(first) == f'said: "{"t" * MAX_TRANSCRIPT}"\n{"q" * MAX_QUESTION}'
    assert text_of(user_message("q" * 5000)) == "q" * MAX_QUESTION
    nested = "<|" * 100_000 + "|>" * 100_000  # would take hours if it were cleaned before it is cut
    assert len(text_of(user_message(nested))) <= MAX_QUESTION


def test_a_turn_of_the_model_is_a_well_formed_answer():
    parsed = parse_answer(assistant_message("happiness: a </answer> smile")["content"])
    assert (parsed.error, parsed.label, parsed.answer) == (None, "happiness", "happiness: a   smile")
