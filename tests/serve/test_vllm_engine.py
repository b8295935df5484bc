"""The vLLM engine says what the transformers engine says (float32): one start for all tests, inside this process."""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import SCRIPT, make_clip

from emollm.emotions import EMOTIONS
from emollm.errors import BadArgumentError
from emollm.reasoning.prompts import assistant_message, clip_message, user_message
from emollm.serve import load as load_module
from emollm.serve import transformers_engine, vllm_setup
from emollm.serve.engine import NO_CLIP, Generation, Request
from emollm.serve.load import load_engine
from emollm.serve.transformers_engine import TransformersEngine
from emollm.serve.vllm_setup import vllm_version

ASK = [clip_message()]
THOUGHT = "".join(SCRIPT[:5])
TOKENS = 40

needs_vllm = pytest.mark.skipif(vllm_version() is None, reason="vLLM is not installed")


@pytest.fixture(scope="module")
def vllm(tiny: Path) -> Iterator:
    from emollm.serve.vllm_engine import VllmEngine

    engine = VllmEngine(tiny, max_model_len=1024)
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    monkeypatch.setattr(transformers_engine, "MAX_NEW_TOKENS", TOKENS)
    if vllm_version() is not None:
        monkeypatch.setattr("emollm.serve.vllm_engine.MAX_NEW_TOKENS", TOKENS)


def requests(engine) -> list[Request]:
    """Face and voice, either, a picture, a talk, no clip, thoughts to go on from, one up to the label."""
    talk = [*ASK, assistant_message("happiness"), user_message("Why?")]
    both = engine.encode(make_clip(2.0))
    return [
        Request(ASK, both),
        Request(ASK, engine.encode(make_clip(5.0, seed=1, voice=False))),
        Request([clip_message("What does the voice tell?")], engine.encode(make_clip(1.0, seed=2, face=False))),
        Request(talk, engine.encode(make_clip(0.0, seed=3))),
        Request(ASK, NO_CLIP, THOUGHT),
        Request(ASK, both, "<think>\n</think>\n<answer>"),
        Request(ASK, engine.encode(make_clip(3.0, seed=4)), f"{THOUGHT}<answer>"),
    ]


def assert_alike(one: Generation, other: Generation) -> None:
    assert one.prompt == other.prompt
    assert one.text == other.text
    assert one.distribution == pytest.approx(other.distribution, abs=1e-3)


@needs_vllm
@pytest.mark.parametrize("think", [True, False])
def test_replies_prompts_and_distributions_are_those_of_transformers(think, vllm, engine: TransformersEngine):
    expected = [engine.generate_batch([request], think)[0] for request in requests(engine)]
    assert len({reply.text for reply in expected}) == len(expected)
    assert [bool(reply.distribution) for reply in expected][-2:] == [True, True]
    together = vllm.generate_batch(requests(vllm), think)
    for mine, theirs in zip(together, expected, strict=True):
        assert_alike(mine, theirs)
        assert tuple(mine.distribution) in ((), EMOTIONS)
    alone = vllm.generate_batch(requests(vllm)[2:3], think)
    assert_alike(alone[0], expected[2])


@needs_vllm
def test_measurements_and_states_are_those_of_transformers(vllm, engine):
    mine, theirs = vllm.encode(make_clip()), engine.encode(make_clip())
    assert mine.placeholders == theirs.placeholders
    for one, other in (
        (mine.face_readings, theirs.face_readings),
        (mine.voice_readings, theirs.voice_readings),
        *((mine.states[name], theirs.states[name]) for name in theirs.states),
    ):
        assert torch.allclose(one, other, atol=1e-5, equal_nan=True)


@needs_vllm
def test_a_stream_is_the_reply_in_pieces(vllm):
    clip, streamed = vllm.encode(make_clip()), Generation()
    pieces = list(vllm.stream(ASK, clip, True, streamed))
    assert len(pieces) > 10
    assert "".join(pieces) == streamed.text
    (whole,) = vllm.generate_batch([Request(ASK, clip)], True)
    assert_alike(streamed, whole)


@needs_vllm
def test_streams_are_read_side_by_side_and_a_reader_may_leave(vllm):
    clip = vllm.encode(make_clip())
    one, other = vllm.stream(ASK, clip, True), vllm.stream(ASK, clip, False)
    begun = [next(one), *islice(other, 2), next(one)]
    (whole,) = vllm.generate_batch([Request(ASK, clip)], True)  # while both are under way
    assert whole.text.startswith(begun[0] + begun[3])
    other.close()
    assert "".join([begun[0], begun[3], *one]) == whole.text
    assert not vllm.engine.has_unfinished_requests()


@needs_vllm
def test_a_draw_depends_on_its_seed(vllm):
    clip = vllm.encode(make_clip())
    asked = [Request(ASK, clip, temperature=0.7, seed=seed) for seed in (1, 2, 1)]
    one, other, again = vllm.generate_batch([*asked, Request(ASK, clip)], True)[:3]
    assert one.text == again.text != other.text
    assert vllm.generate_batch(asked[1:2], True)[0].text == other.text
    assert vllm.generate_batch([Request(ASK, clip)], True)[0].text not in (one.text, other.text)


@needs_vllm
def test_what_answered_is_described(vllm, engine):
    mine, theirs = vllm.describe(), engine.describe()
    assert (mine["engine"], mine["vllm"]) == ("vllm", vllm_version())
    for name in ("checkpoint_sha256", "device", "dtype", "decoding", "torch", "transformers"):
        assert mine[name] == theirs[name]


def test_without_vllm_one_sentence_says_how_to_get_it(tiny, monkeypatch):
    monkeypatch.setattr(vllm_setup, "find_spec", lambda name: None)
    with pytest.raises(BadArgumentError, match="pip install"):
        load_engine("vllm", tiny)


@pytest.mark.parametrize(
    ("gpu", "version", "chosen"),
    [(False, "0.31.0", "transformers"), (True, None, "transformers"), (True, "0.31.0", "vllm")],
)
def test_auto_takes_vllm_where_it_and_a_gpu_are(gpu, version, chosen, tiny, monkeypatch):
    monkeypatch.setattr(load_module, "vllm_version", lambda: version)
    monkeypatch.setattr(load_module.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(transformers_engine, "TransformersEngine", lambda folder: "transformers")
    room = SimpleNamespace(VllmEngine=lambda folder: "vllm")
    monkeypatch.setitem(sys.modules, "emollm.serve.vllm_engine", room)
    assert load_engine("auto", tiny) == chosen
