"""Our chat template through vLLM's chat: parts as clients send them, in the order in which they send them."""

import base64

import pytest
from reference import NEW_TOKENS, Case
from tiny import make_clip

CLIPS = {b"clip": make_clip(), b"silent": make_clip(4.0, seed=1, voice=False), b"picture": make_clip(0.0, seed=2)}


def part(kind, data):
    return {"type": f"{kind}_url", f"{kind}_url": {"url": f"data:{kind}/x;base64,{base64.b64encode(data).decode()}"}}


def text(words):
    return {"type": "text", "text": words}


@pytest.fixture
def uploads(monkeypatch):
    """Uploads are names of clips here; how files are read is tested elsewhere."""
    read = []

    def read_upload(data):
        read.append(data)
        return CLIPS[data]

    monkeypatch.setattr("emollm.serve.video_loader.read_upload", read_upload)
    return read


def ask(engine, messages):
    (output,) = engine.llm.chat(messages, engine.sampling, use_tqdm=False)
    return list(output.prompt_token_ids), list(output.outputs[0].token_ids)


def test_one_video(engine, reference, uploads):
    messages = [{"role": "user", "content": [part("video", b"clip"), text("How does she feel?")]}]
    expected = reference.reply(Case(messages, [("video", CLIPS[b"clip"])]))
    assert ask(engine, messages) == (expected.prompt, expected.tokens)
    assert uploads == [b"clip"]


def test_several_clips_in_several_turns(engine, reference, uploads):
    messages = [
        {
            "role": "user",
            "content": [text("First: "), part("video", b"silent"), text("then: "), part("video", b"clip")],
        },
        {"role": "assistant", "content": "<answer>fear</answer>"},
        {"role": "user", "content": [text("And "), part("video", b"silent")]},
    ]
    clips = [("video", CLIPS[name]) for name in (b"silent", b"clip", b"silent")]
    expected = reference.reply(Case(messages, clips))
    assert ask(engine, messages) == (expected.prompt, expected.tokens)


def test_a_further_question_on_the_same_clip_reuses_clip_and_prefix(engine, uploads, monkeypatch):
    model = engine.llm.llm_engine.model_executor.driver_worker.worker.model_runner.model
    embedded = []
    embed = model._embed
    monkeypatch.setattr(model, "_embed", lambda item: embedded.append(1) or embed(item))
    CLIPS[b"new"] = make_clip(2.5, seed=9)
    words = "How does she feel, and how do people show anger? " * 8  # the cache is kept in blocks of 128 tokens
    first = [{"role": "user", "content": [part("video", b"new"), text(words)]}]
    ask(engine, first)
    more = [{"role": "assistant", "content": "fear"}, {"role": "user", "content": "Why?"}]
    (output,) = engine.llm.chat([*first, *more], engine.sampling, use_tqdm=False)
    assert embedded == [1]
    assert output.num_cached_tokens >= 128


def test_a_sound(engine, reference, tmp_path):
    import soundfile
    from tiny import make_speech

    soundfile.write(tmp_path / "a.wav", make_speech(), 16000)
    messages = [{"role": "user", "content": [part("audio", (tmp_path / "a.wav").read_bytes()), text("What now?")]}]
    prompt, tokens = ask(engine, messages)
    words = reference.processor.tokenizer.decode(prompt)
    assert "face" not in words.split("voice: 0s<|audio|><|audio|> 1s")[0].split("user\n")[1]
    assert words.count("<|audio|>") == 6 + 3 + 6
    assert len(tokens) == NEW_TOKENS


@pytest.mark.parametrize("content", ["", "How do people show anger?"])
def test_text_alone(engine, reference, content):
    messages = [{"role": "user", "content": content}]
    expected = reference.reply(Case(messages, []))
    assert ask(engine, messages) == (expected.prompt, expected.tokens)


def test_a_placeholder_typed_beside_a_clip_is_refused(engine, uploads):
    messages = [{"role": "user", "content": [part("video", b"clip"), text("and <|face|> too")]}]
    with pytest.raises(ValueError, match="1 places for a clip of kind image, but 0 came with it"):
        ask(engine, messages)
