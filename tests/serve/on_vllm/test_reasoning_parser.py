"""Thought and content are told apart, whole and however the stream is cut."""

import pytest
from tiny import make_tokenizer

from emollm.model.checkpoint import prepare_tokenizer

REPLIES = {
    "<think>\nAU12.\n</think>\n<answer>happiness</answer>": ("\nAU12.\n", "\n<answer>happiness</answer>"),
    "<answer>happiness</answer>": (None, "<answer>happiness</answer>"),
    "no tags at all": (None, "no tags at all"),
    "<think>cut off": ("cut off", None),
    "<think></think>fear": (None, "fear"),
    "fear</think>": (None, "fear</think>"),
    "<think>a</think>b<think>c": ("a", "b<think>c"),
}


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make_tokenizer()
    prepare_tokenizer(tokenizer)
    return tokenizer


@pytest.fixture
def parser(tokenizer):
    from vllm.reasoning import ReasoningParserManager

    from emollm.serve.plugin import register

    register()
    return ReasoningParserManager.get_reasoning_parser("emollm")(tokenizer)


@pytest.mark.parametrize("reply", REPLIES)
def test_whole(parser, reply):
    assert parser.extract_reasoning(reply, None) == REPLIES[reply]


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("reply", REPLIES)
def test_streamed(parser, tokenizer, reply, step):
    ids = tokenizer.encode(reply, add_special_tokens=False)
    reasoning = content = ""
    for start in range(0, len(ids), step):
        old, new = ids[:start], ids[: start + step]
        old_text, new_text = tokenizer.decode(old), tokenizer.decode(new)
        delta = parser.extract_reasoning_streaming(
            old_text, new_text, new_text[len(old_text) :], old, new, new[len(old) :]
        )
        if delta is not None:
            assert delta.reasoning or delta.content
            reasoning, content = reasoning + (delta.reasoning or ""), content + (delta.content or "")
    assert (reasoning or None, content or None) == REPLIES[reply]


def test_where_the_thought_ends(parser, tokenizer):
    ids = {reply: tokenizer.encode(reply, add_special_tokens=False) for reply in REPLIES}
    closed = {"<think>\nAU12.\n</think>\n<answer>happiness</answer>", "<think></think>fear", "fear</think>"}
    assert {reply for reply in REPLIES if parser.is_reasoning_end(ids[reply])} == closed
    assert parser.extract_content_ids(ids["<think>cut off"]) == []
    assert tokenizer.decode(parser.extract_content_ids(ids["<think></think>fear"])) == "fear"
    assert parser.extract_content_ids(ids["no tags at all"]) == ids["no tags at all"]


@pytest.mark.parametrize("thinks", [True, False])
def test_behind_a_prompt_comes_a_thought_or_content(parser, tokenizer, thinks):
    """vLLM asks of the prompt whether all that follows is content."""
    parser = type(parser)(tokenizer, chat_template_kwargs={"enable_thinking": thinks})
    assert parser.is_reasoning_end(tokenizer.encode("user How? assistant")) == (not thinks)
