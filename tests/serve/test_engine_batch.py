"""Several requests at once: every row as if it were alone."""

import pytest
from tiny import SCRIPT, make_clip

from emollm.emotions import EMOTIONS
from emollm.reasoning.prompts import assistant_message, clip_message, user_message
from emollm.serve import transformers_engine as engine_module
from emollm.serve.engine import NO_CLIP, Generation, Request

ASK = [clip_message()]
THOUGHT = "".join(SCRIPT[:5])


@pytest.fixture
def requests(engine):
    """Clips with and without face and voice, of several lengths, a picture, a talk, a thought."""
    talk = [*ASK, assistant_message("happiness"), user_message("Why?")]
    return [
        Request(ASK, engine.encode(make_clip(2.0))),
        Request(ASK, engine.encode(make_clip(5.0, seed=1, voice=False))),
        Request([clip_message("What does the voice tell?")], engine.encode(make_clip(1.0, seed=2, face=False))),
        Request(talk, engine.encode(make_clip(0.0, seed=3))),
        Request(ASK, NO_CLIP, THOUGHT),
        Request(ASK, engine.encode(make_clip(3.0, seed=4))),
    ]


def alike(one: Generation, other: Generation) -> bool:
    return (one.text, one.prompt) == (other.text, other.prompt) and one.distribution == pytest.approx(
        other.distribution, abs=1e-4
    )


def test_replies_in_a_batch_equal_replies_alone(engine, requests, monkeypatch):
    monkeypatch.setattr(engine_module, "MAX_NEW_TOKENS", 60)
    alone = [engine.generate_batch([request], True)[0] for request in requests]
    assert len({reply.text for reply in alone}) == len(alone)
    for order in (range(6), (3, 4, 0, 5, 2, 1)):
        together = engine.generate_batch([requests[i] for i in order], True)
        assert all(alike(reply, alone[i]) for reply, i in zip(together, order))


def test_one_reply_is_a_batch_of_one_and_the_stream_joined(engine, requests, monkeypatch):
    monkeypatch.setattr(engine_module, "MAX_NEW_TOKENS", 60)
    request, streamed = requests[0], Generation()
    pieces = list(engine.stream(request.messages, request.clip, False, streamed))
    (batch,) = engine.generate_batch([request], False)
    assert engine.generate(request.messages, request.clip, False) == batch
    assert alike(streamed, batch)
    assert "".join(pieces) == batch.text


def test_rows_that_write_their_label_at_different_steps_each_have_its_probabilities(scripted):
    clips = [scripted.encode(make_clip(seconds, seed=round(seconds))) for seconds in (1.0, 4.0)]
    requests = [Request(ASK, clips[0]), Request(ASK, clips[0], THOUGHT), Request(ASK, clips[1])]
    together = scripted.generate_batch(requests, True)
    assert [reply.text for reply in together] == ["".join(SCRIPT)] * 3  # nothing behind the end of an early row
    for reply, request in zip(together, requests):
        assert tuple(reply.distribution) == EMOTIONS
        assert sum(reply.distribution.values()) == pytest.approx(1)
        assert alike(reply, scripted.generate_batch([request], True)[0])


def test_a_row_without_an_answer_has_no_probabilities_beside_one_that_has(engine, requests, monkeypatch):
    monkeypatch.setattr(engine_module, "MAX_NEW_TOKENS", 5)
    replies = engine.generate_batch([requests[0], Request(ASK, requests[0].clip, "<think>\n</think>\n<answer>")], True)
    assert replies[0].distribution == {}
    assert sum(replies[1].distribution.values()) == pytest.approx(1)


def test_a_thought_is_gone_on_from_with_the_clip_declared_missing(engine):
    (reply,) = engine.generate_batch([Request(ASK, NO_CLIP, THOUGHT)], True)
    assert "face: none\nvoice: none\n" in reply.prompt
    assert reply.prompt.endswith("<|im_start|>assistant\n")
    assert reply.text.startswith(THOUGHT)


def test_the_prompt_is_the_text_that_the_model_is_given(engine, requests):
    given = []
    engine.model.model.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs["input_ids"]), with_kwargs=True
    )
    (reply,) = engine.generate_batch(requests[:1], True)
    assert engine.processor.tokenizer.decode(given[0][0]) == reply.prompt
    assert "<|face|>" in reply.prompt
