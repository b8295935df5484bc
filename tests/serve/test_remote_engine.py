"""The remote engine against a real server on this machine."""

from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from fake_server import ANSWER, THOUGHT, FakeServer, choice
from media.conftest import colour, index_of, tone, write_clip
from PIL import Image
from tiny import make_clip, make_speech, make_track

from emollm import EmoLLM
from emollm.emotions import EMOTIONS
from emollm.errors import BadArgumentError, ClipError, EngineError, WeightsError
from emollm.eval.predict import CannotAnswerError, EmoLLMPredictor
from emollm.media.clip import read_clip
from emollm.media.cut import cut
from emollm.model.processing_emollm import ClipInputs
from emollm.reasoning.parse import parse_answer
from emollm.reasoning.prompts import assistant_message, clip_message, user_message
from emollm.serve import media_part as media_part_module
from emollm.serve import remote_engine as remote_module
from emollm.serve.engine import NO_CLIP, Generation, Request
from emollm.serve.load import load_engine
from emollm.serve.media_part import media_part
from emollm.serve.remote_engine import RemoteEngine
from emollm.serve.transformers_engine import TransformersEngine
from emollm.weights import fetch

pytest.importorskip("openai", reason="the package openai is not installed")

ASK = [clip_message("How is she?", "hello")]
REPLY = f"<think>{THOUGHT}</think>\n<answer>{ANSWER}</answer>"


@pytest.fixture
def server(monkeypatch) -> FakeServer:
    for name in (*remote_module.KEYS, "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return FakeServer()


@pytest.fixture
def url(server) -> Iterator[str]:
    with server.running() as url:
        yield url


@pytest.fixture
def connect(url, tiny) -> Callable[..., RemoteEngine]:
    return lambda model=None: RemoteEngine(url, tiny, model)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Two seconds, five pictures a second that tell their number, a tone."""
    pictures = [colour(number, 64, 48) for number in range(10)]
    return write_clip(
        tmp_path_factory.mktemp("film") / "film.mp4",
        times=[number / 5 for number in range(10)],
        pictures=pictures,
        sound=tone(2.0, rate=16_000),
        rate=16_000,
    )


@pytest.fixture
def clip(film) -> ClipInputs:
    return replace(make_clip(2.0), source=read_clip(film))


def file_of(part: dict[str, Any], path: Path) -> Path:
    url = part[part["type"]]["url"]
    path.write_bytes(b64decode(url.partition(";base64,")[2]))
    return path


# What is sent


def test_the_clip_goes_with_the_question(server, connect, clip, film, tmp_path):
    engine = connect()
    engine.generate_batch([Request(ASK, engine.encode(clip))], True)
    (body,) = server.requests
    system, user = body["messages"]
    assert system["role"] == "system"
    assert "<think>" in system["content"]
    assert all(label in system["content"] for label in EMOTIONS)
    part, text = user["content"]
    assert part["video_url"]["url"].startswith("data:video/mp4;base64,")
    assert file_of(part, tmp_path / "sent.mp4").read_bytes() == film.read_bytes()
    assert text == {"type": "text", "text": 'said: "hello"\nHow is she?'}
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("emollm-tiny", 0, 320)


@pytest.mark.parametrize("think", [True, False])
def test_thinking_is_switched_where_the_server_knows_the_switch(think, server, connect, clip):
    engine = connect()
    list(engine.stream(ASK, engine.encode(clip), think))
    assert server.requests[0]["chat_template_kwargs"] == {"enable_thinking": think}
    assert ("<think>" in server.requests[0]["messages"][0]["content"]) == think
    assert server.requests[0]["stream"] is True

    server.models[0]["owned_by"] = "somebody"
    engine = connect()
    engine.generate_batch([Request(ASK, engine.encode(clip))], think)
    assert not {"chat_template_kwargs", "logprobs", "top_logprobs"} & server.requests[1].keys()


def test_a_talk_takes_its_clip_along_once(server, connect, clip):
    engine = connect()
    talk = [*ASK, assistant_message("happiness"), user_message("Why?")]
    list(engine.stream(talk, engine.encode(clip), True))
    _, first, answer, question = server.requests[0]["messages"]
    assert [part["type"] for part in first["content"]] == ["video_url", "text"]
    assert answer == {"role": "assistant", "content": "<answer>happiness</answer>"}
    assert question["content"] == [{"type": "text", "text": "Why?"}]


def test_a_draw_is_asked_for_with_its_seed(server, connect):
    connect().generate_batch([Request(ASK, NO_CLIP, temperature=0.7, seed=5)], True)
    assert (server.requests[0]["temperature"], server.requests[0]["seed"]) == (0.7, 5)


def test_without_a_clip_only_the_text_is_sent(server, connect):
    connect().generate_batch([Request(ASK, NO_CLIP)], True)
    assert [part["type"] for part in server.requests[0]["messages"][1]["content"]] == ["text"]


def test_the_towers_here_measure_what_transformers_measures(connect, clip, tiny):
    ours, theirs = connect().encode(clip), TransformersEngine(tiny).encode(clip)
    assert ours.placeholders == theirs.placeholders
    assert np.allclose(ours.face_readings, theirs.face_readings)
    assert np.allclose(ours.voice_readings, theirs.voice_readings)


def test_only_the_main_person_can_be_asked_about(connect, film):
    other = ClipInputs(2.0, make_track([0.0, 0.2], id=2), source=read_clip(film))
    with pytest.raises(BadArgumentError, match="main person only"):
        connect().encode(other)


def test_a_part_of_a_clip_is_sent_as_a_film_of_its_own(film, tmp_path):
    sent = read_clip(file_of(media_part(cut(read_clip(film), 0.4, 1.4)), tmp_path / "part.mp4"))
    assert [index_of(frame.image) for frame in sent.frames(5.0)] == [2, 3, 4, 5, 6]
    assert [frame.time_s for frame in sent.frames(5.0)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=0.01)
    assert sent.duration_s == pytest.approx(1.0, abs=0.1)
    assert len(sent.waveform) == pytest.approx(16000, abs=2048)
    assert np.abs(sent.waveform[2000:14000]).mean() == pytest.approx(np.abs(tone(1.0)).mean(), rel=0.1)


def test_a_silent_part_and_odd_sides(tmp_path):
    path = write_clip(tmp_path / "odd.mkv", times=[0, 0.5, 1.0, 1.5], size=(63, 47), pix_fmt="yuv444p")
    sent = read_clip(file_of(media_part(cut(read_clip(path), 0.5, 1.6)), tmp_path / "part.mp4"))
    assert (sent.width, sent.height, sent.has_audio) == (62, 46, False)
    assert [index_of(frame.image) for frame in sent.frames(5.0)] == [1, 2, 3]


def test_a_large_or_rare_film_is_made_smaller(film, tmp_path, monkeypatch):
    gif = tmp_path / "moves.gif"
    shown = [Image.fromarray(colour(number, 64, 48)) for number in range(3)]
    shown[0].save(gif, save_all=True, append_images=shown[1:], duration=400)
    assert media_part(read_clip(gif))["video_url"]["url"].startswith("data:video/mp4;")
    monkeypatch.setattr(media_part_module, "MAX_SENT", film.stat().st_size - 1)
    noise = write_clip(tmp_path / "big.mp4", times=np.arange(0, 2, 0.02).tolist(), pictures=np.random.default_rng(0)
                       .integers(0, 256, (100, 48, 64, 3), np.uint8))  # fmt: skip
    monkeypatch.setattr(media_part_module, "MAX_SENT", noise.stat().st_size - 1)
    assert file_of(media_part(read_clip(noise)), tmp_path / "less.mp4").stat().st_size < noise.stat().st_size
    monkeypatch.setattr(media_part_module, "MAX_SENT", 1000)
    with pytest.raises(ClipError, match="too large to be sent"):
        media_part(read_clip(noise))


def test_a_sound_and_a_picture_are_sent_as_such(tmp_path):
    speech = make_speech(1.0)
    sound = media_part(read_clip(write_clip(tmp_path / "a.flac", sound=speech, rate=16000, audio="flac")))
    assert sound["input_audio"]["format"] == "wav"
    (tmp_path / "sent.wav").write_bytes(b64decode(sound["input_audio"]["data"]))
    assert np.allclose(read_clip(tmp_path / "sent.wav").waveform, speech, atol=1e-3)
    Image.fromarray(colour(3, 40, 30)).save(tmp_path / "still.bmp")
    picture = media_part(read_clip(tmp_path / "still.bmp"))
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    with Image.open(file_of(picture, tmp_path / "sent.png")) as sent:
        assert np.array_equal(np.asarray(sent), colour(3, 40, 30))


# What comes back


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (choice(THOUGHT, f"<answer>{ANSWER}</answer>"), REPLY),
        (choice(THOUGHT, ANSWER), REPLY),
        (choice(None, REPLY), REPLY),
        (choice(None, f"\n\n{ANSWER}"), f"<answer>{ANSWER}</answer>"),
        (choice("hm", f"<think>{THOUGHT}</think><answer>{ANSWER}</answer>"),
         f"<think>hm\n{THOUGHT}</think><answer>{ANSWER}</answer>"),
        (choice(None, "<a"), "<answer><a</answer>"),
        (choice("hm", ""), "<think>hm</think>"),
        (choice(None, None), ""),
        (choice("hm", None, finish_reason="length"), "<think>hm"),
        (choice("hm", "cut of", finish_reason="length"), "<think>hm</think>\n<answer>cut of"),
    ],
)  # fmt: skip
def test_thought_and_content_come_back_in_one_grammar(reply, text, server, connect, clip):
    engine, server.reply = connect(), reply
    encoded, streamed = engine.encode(clip), Generation()
    pieces = list(engine.stream(ASK, encoded, True, streamed))
    (whole,) = engine.generate_batch([Request(ASK, encoded)], True)
    assert whole.text == "".join(pieces) == streamed.text == text
    assert whole == streamed
    if ANSWER in text:
        assert len(pieces) > 3
        assert parse_answer(text).label == "happiness"


def test_the_older_name_of_the_thought_is_known(server, connect, clip):
    server.reply = {"index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT}}  # fmt: skip
    engine = connect()
    assert engine.generate_batch([Request(ASK, engine.encode(clip))], True)[0].text == REPLY


def scored(token: str, **top: float) -> dict[str, Any]:
    listed = [{"token": name, "logprob": log(share), "bytes": None} for name, share in top.items()]
    return {"token": token, "logprob": -0.1, "bytes": None, "top_logprobs": listed}


def test_the_shares_of_the_labels_are_read_behind_the_answer_tag(server, connect, clip):
    tokens = [scored("happiness", fear=0.9), scored("<answer>")]
    tokens += [scored("happiness", happiness=0.6, sadness=0.2, The=0.1), scored("</answer>")]
    server.reply = choice(None, f"<answer>{ANSWER}</answer>", logprobs={"content": tokens})
    engine, streamed = connect(), Generation()
    encoded = engine.encode(clip)
    list(engine.stream(ASK, encoded, False, streamed))
    (whole,) = engine.generate_batch([Request(ASK, encoded)], False)
    assert tuple(whole.distribution) == EMOTIONS
    assert whole.distribution == pytest.approx(dict.fromkeys(EMOTIONS, 0.0) | {"happiness": 0.75, "sadness": 0.25})
    assert streamed.distribution == whole.distribution


def test_a_batch_is_asked_at_once_and_answered_in_order(server, connect, clip):
    server.wait_s = 0.2
    server.reply = lambda body: choice(None, body["messages"][-1]["content"][-1]["text"])
    engine = connect()
    encoded = engine.encode(clip)
    requests = [Request([clip_message(f"Question {number}?")], encoded) for number in range(40)]
    replies = engine.generate_batch(requests, False)
    assert [reply.text for reply in replies] == [f"<answer>Question {number}?</answer>" for number in range(40)]
    assert 4 <= server.most <= remote_module.AT_ONCE


def test_the_prompt_tells_clips_apart_without_holding_them(connect, clip, film):
    engine = connect()
    other = replace(clip, source=cut(clip.source, 0.0, 1.0))
    prompts = [
        engine.generate_batch([Request(ASK, engine.encode(one))], True)[0].prompt for one in (clip, clip, other)
    ]
    assert prompts[0] == prompts[1] != prompts[2]
    assert len(prompts[0]) < 4000
    assert "How is she?" in prompts[0]


# What goes wrong


def test_a_server_that_is_not_there(tiny):
    with FakeServer().running() as url:
        pass
    with pytest.raises(EngineError, match=r"^The server at http://127.0.0.1:\d+/v1 cannot be reached\.$"):
        RemoteEngine(url, tiny)


def test_the_key_comes_from_the_environment_and_is_asked_for(server, connect, monkeypatch):
    server.key = "secret"
    with pytest.raises(EngineError, match=r"wants a valid API key; put it into .* EMOLLM_API_KEY"):
        connect()
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    connect()
    monkeypatch.setenv("EMOLLM_API_KEY", "wrong")
    with pytest.raises(EngineError, match="API key") as refused:
        connect()
    assert "wrong" not in str(refused.value)


def test_a_name_and_password_in_the_address_are_refused_unseen(server, url, tiny):
    with pytest.raises(BadArgumentError, match="without a name or password") as refused:
        RemoteEngine(url.replace("http://", "http://user:word@"), tiny)
    assert "user:word" not in str(refused.value)
    assert server.keys == []


def test_a_folder_is_not_run_by_a_server(url, tiny):
    with pytest.raises(BadArgumentError, match="not run by a server"):
        load_engine(url, tiny)


def test_the_model_is_chosen(server, connect):
    assert connect().model == "emollm-tiny"
    with pytest.raises(BadArgumentError, match="has no model 'other'; it has emollm-tiny"):
        connect("other")
    server.models.append({"id": "other", "object": "model"})
    with pytest.raises(BadArgumentError, match="has emollm-tiny, other; name one with --model"):
        connect()
    assert connect("other").describe()["served_model"] == "other"
    server.models = None
    assert connect("unlisted").model == "unlisted"
    with pytest.raises(EngineError, match="name one with --model"):
        connect()


def test_a_busy_server_is_asked_again_when_it_says(server, connect, clip):
    engine = connect()
    busy = (429, {"Retry-After": "0.05"}, {"error": {"message": "Too many requests."}})
    server.first = [busy] * 3
    assert engine.generate_batch([Request(ASK, engine.encode(clip))], True)[0].text == REPLY
    assert len(server.requests) == 4
    server.first = [busy] * 10
    with pytest.raises(EngineError, match="is busy, also after 4 more tries"):
        list(engine.stream(ASK, NO_CLIP, True))


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (400, BadArgumentError, "refuses the request: the reason of 400."),
        (413, BadArgumentError, "refuses the request: the reason of 413."),
        (422, BadArgumentError, "refuses the request: the reason of 422."),
        (500, EngineError, r"failed \(status 500\)."),
        ("<html>Welcome</html>", EngineError, "does not answer as OpenAI's API does."),
        ([1], EngineError, "does not answer as OpenAI's API does."),
    ],
)
def test_every_refusal_is_one_sentence(reply, error, said, streamed, server, connect, monkeypatch):
    monkeypatch.setattr(remote_module, "TRIES", 0)
    engine, server.reply = connect(), reply
    with pytest.raises(error, match=said) as refused:
        list(engine.stream(ASK, NO_CLIP, True)) if streamed else engine.generate_batch([Request(ASK, NO_CLIP)], True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("pieces", [1, 40])
def test_a_server_that_hangs_up_in_its_reply(pieces, server, connect):
    engine, server.cut = connect(), pieces
    with pytest.raises(EngineError, match="broke off in the middle of its reply"):
        list(engine.stream(ASK, NO_CLIP, True))


def test_a_server_that_takes_too_long(server, connect, monkeypatch):
    monkeypatch.setattr(remote_module, "TRIES", 0)
    monkeypatch.setattr(remote_module, "REPLY_S", 0.2)
    engine, server.wait_s = connect(), 1.0
    with pytest.raises(EngineError, match="did not answer in time"):
        engine.generate_batch([Request(ASK, NO_CLIP)], True)


def test_a_server_cannot_go_on_from_a_thought(connect):
    predictor = EmoLLMPredictor(EmoLLM(connect(), "remote"))
    with pytest.raises(CannotAnswerError):
        predictor.prepare_thought("Why?", "<think></think>")


# The whole way


def test_claims_of_a_server_are_held_against_what_is_measured_here(server, url, tiny, tmp_path, monkeypatch):
    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")
    monkeypatch.setattr("emollm.api.default_model", lambda progress: tiny)
    face = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    path = write_clip(tmp_path / "face.mp4", times=[0, 0.2, 0.4, 0.6], pictures=[face] * 4, size=(256, 256))
    model = EmoLLM.from_pretrained(engine=url)
    report = model.analyze(path)
    assert (report.model, report.engine, report.answer) == ("emollm-tiny", url, ANSWER)
    checked = report.people[0].verification
    assert checked.claimed == ["AU12"]
    here = EmoLLM.from_pretrained(tiny, engine="transformers").analyze(path).people[0]
    assert report.people[0].timeline == here.timeline
    talk = model.chat(path)
    assert "".join(talk.ask("Why?")) == ANSWER
    assert talk.thought == THOUGHT.strip()
