"""Whatever a user types, no special token reaches the model."""

import unicodedata
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_tokenizer
from tokenizers import AddedToken

from emollm.model.checkpoint import prepare_tokenizer
from emollm.serve.guard.text import OUR_TOKENS, defuse, special_tokens

# Also tokens that overlap, hold one another, hold spaces, or are written in other letters.
OTHERS = ("[INST]", "<s>", "<<s>>", "<|a b|>", "<｜begin▁of▁sentence｜>", "<|", "|><|", "[PAD]", "<é>", "<ß>", "aba")
TOKENS = OUR_TOKENS | frozenset(OTHERS)


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    prepare_tokenizer(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]}, replace_extra_special_tokens=False)
    tokenizer.add_tokens(["<tool_call>", "[IMG]", AddedToken("<|plain|>", normalized=True), "word", "\n\n", "<"])
    return tokenizer


def test_the_tokens_of_a_tokenizer(tokenizer):
    tokens = special_tokens(tokenizer)
    assert tokens >= OUR_TOKENS | {"<|endoftext|>", "<|turn|>", "<tool_call>", "[IMG]", "<|plain|>"}
    assert not tokens & {"word", "\n\n", "<"}  # those say nothing but themselves


def test_in_words():
    assert defuse("What does <think> mean?") == "What does  think> mean?"
    assert defuse("a < b, a <b> c, x|y, [1], :-) <3") == "a < b, a <b> c, x|y, [1], :-) <3"
    assert defuse("《think》 ‹think› θ<η") == "《think》 ‹think› θ<η"  # no tokenizer reads those as the token
    assert defuse("") == ""
    assert defuse("<think>", []) == "<think>"


@pytest.mark.parametrize(
    "text",
    [
        "<|face|>",
        "<|FACE|>",
        "＜|face|＞",
        "<｜face｜>",
        "<|fa\u200bce|>",
        "<|fa\u00adce|>",
        "\u202e<|face|>",
        "<|fa\x00ce|>",
        "<|f\u0301ace|>",
        "<|ｆａｃｅ|>",
        "<|𝔣𝔞𝔠𝔢|>",
        "<|ﬁace|><|face|>",
        "\u226e|face|>".replace("\u226e", "<\u0338"),
        "\u226e|face|>",  # becomes < and a stroke when it is taken apart
        "<|fac<|face|>e|>",
        "<<|face|>|face|>",
        "<|face|<|face|>>",
        "<|face|><|face|>",
        "<|face|>" * 100,
    ],
)
def test_disguises(text):
    once = defuse(text)
    assert plain(once).count("<|face|>") == 0
    assert defuse(once) == once
    assert len(once) == len(text)


def plain(text: str) -> str:
    """The most that a tokenizer may do to a text before it looks for tokens."""
    text = unicodedata.normalize("NFKD", text).replace("▁", " ")
    return "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Me", "Cf", "Cc")).casefold()


HALVES = [half for token in sorted(TOKENS) for half in (token[:2], token[2:], token[:-1], token[1:], token.upper())]
DISGUISES = ["＜", "＞", "｜", "\u200b", "\u0338", "\u0301", "\u00ad", "≮", "K", "ｆ", " ", "\n", "▁"]
PIECES = st.sampled_from([*sorted(TOKENS), *HALVES, *DISGUISES])
TEXTS = st.lists(PIECES | st.text(st.characters(), max_size=3), max_size=12).map("".join)


@given(TEXTS)
def test_no_token_is_left(text):
    once = defuse(text, TOKENS)
    assert not [token for token in TOKENS if token in once or plain(token) in plain(once)]
    assert defuse(once, TOKENS) == once
    assert len(once) == len(text)


@given(TEXTS)
def test_no_token_is_left_for_a_tokenizer(tokenizer, text):
    tokens = special_tokens(tokenizer)
    forbidden = set(tokenizer.convert_tokens_to_ids(sorted(tokens)))
    text = "".join(c for c in defuse(text, tokens) if not 0xD800 <= ord(c) < 0xE000)  # no text for a tokenizer
    assert not forbidden & set(tokenizer.encode(text, add_special_tokens=False))


@given(st.text(st.characters(exclude_characters="<[")))
def test_other_text_stays(text):
    assert defuse(text, OUR_TOKENS) == text or "<" in plain(text)


def test_time_grows_with_the_length_only():
    """Nested tokens, of which each would join the next one's halves: a thousand passes for a loop, one for us."""
    depth = 4000
    text = "<thi" * depth + "<think>" + "nk>" * depth
    assert "<think>" not in defuse(text)


def test_a_tokenizer_with_blank_special_tokens():
    blank = SimpleNamespace(content=" ", special=True)
    tokenizer = SimpleNamespace(added_tokens_decoder={0: blank}, all_special_tokens=["\u200b"])
    assert defuse("a b\u200bc", special_tokens(tokenizer)) == "a b\u200bc"
