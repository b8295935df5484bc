"""A chat completion from anybody: a clean one, or a refusal of 4xx and one sentence."""

import asyncio
import base64
import copy
import json
import random
from typing import Any

import pytest
from hostile_hosts import HOST, World, page
from hypothesis import given, settings
from hypothesis import strategies as st
from media.conftest import tone, write_clip
from media.test_guard import png

from emollm.report import EmotionReport
from emollm.serve.guard.errors import Refused
from emollm.serve.guard.hosts import Hosts
from emollm.serve.guard.limits import Limits
from emollm.serve.guard.request import check_request
from emollm.serve.guard.text import OUR_TOKENS

TEXT = {"type": "text", "text": "How does she feel?"}
PICTURE = png(8, 8, rows=8)


def data_url(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def image(url: str = data_url(PICTURE, "image/png")) -> dict:
    return {"type": "image_url", "image_url": {"url": url}}


def video(url: str) -> dict:
    return {"type": "video_url", "video_url": {"url": url}}


def ask(*parts: Any, **fields: Any) -> dict:
    return {"messages": [{"role": "user", "content": list(parts) or "How does she feel?"}], **fields}


def check(body: Any, limits: Limits = Limits(), hosts: Hosts = Hosts(), **options: Any) -> dict:  # noqa: B008
    return asyncio.run(check_request(body, limits, hosts, **options))


def is_refusal(error: Refused) -> bool:
    said = str(error)
    return 400 <= error.status < 500 and said.endswith(".") and "\n" not in said and len(said) < 400 and said.isascii()


def refused(status: int, body: Any, *args: Any, **options: Any) -> str:
    before = copy.deepcopy(body)
    with pytest.raises(Refused) as caught:
        check(body, *args, **options)
    assert caught.value.status == status
    assert is_refusal(caught.value)
    assert body == before
    return str(caught.value)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "a.mp4"
    return write_clip(path, times=[0, 0.1, 0.2], sound=tone(0.3)).read_bytes()


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("sound") / "a.wav", sound=tone(0.3), audio="pcm_s16le").read_bytes()


# What passes


def test_every_field_that_is_served():
    fields = {
        "model": "emollm-tiny", "max_tokens": 64, "max_completion_tokens": 64, "temperature": 0, "top_p": 1.0,
        "frequency_penalty": 0.5, "presence_penalty": -0.5, "seed": 7, "n": 1, "stop": ["\n"], "stream": True,
        "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 5, "user": "me",
        "response_format": {"type": "json_object"}, "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    assert check(ask(**fields)) == ask(**fields)
    assert check(ask(stop="\n")) == ask(stop=["\n"])
    assert check(ask(**dict.fromkeys(fields))) == ask()  # null says nothing


def test_the_schema_of_a_report_is_served():
    schema = EmotionReport.model_json_schema()
    format = {"type": "json_schema", "json_schema": {"name": "report", "schema": schema, "strict": True}}
    assert check(ask(response_format=format)) == ask(response_format=format)


def test_clips_of_every_kind(film, sound):
    heard = {"type": "audio_url", "audio_url": {"url": data_url(sound, "audio/wav")}}
    kept = [video(data_url(film, "video/mp4")), image(), heard]
    assert check(ask(*kept, TEXT)) == ask(*kept, TEXT)
    odd = {"type": "input_audio", "input_audio": {"data": base64.b64encode(sound).decode(), "format": "wav"}}
    assert check(ask(odd)) == ask(heard)
    detailed = image()
    detailed["image_url"]["detail"] = "high"
    assert check(ask(detailed)) == ask(image())
    spelled = {"type": "audio_url", "audio_url": {"url": data_url(sound, "audio/x-wav;codecs=1")}}
    assert check(ask(spelled)) == ask(heard)


def test_a_dialogue_as_the_openai_client_sends_it_back():
    nothing = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning_content"))
    answer = {"role": "assistant", "content": "happiness", "tool_calls": [], "reasoning": "<think>hm", **nothing}
    user = {"role": "user", "content": "Why?", "name": "<|face|>"}
    clean = check({"messages": [{"role": "system", "content": [TEXT, TEXT]}, user, answer, user]})["messages"]
    assert clean == [
        {"role": "system", "content": f"{TEXT['text']}\n{TEXT['text']}"},
        {"role": "user", "content": "Why?", "name": " |face|>"},
        {"role": "assistant", "content": "happiness"},
        {"role": "user", "content": "Why?", "name": " |face|>"},
    ]


def test_the_tags_around_an_answer_come_off():
    for content, left in (
        ("<answer>sad: <think></answer>\n", "sad:  think>"),
        ("<answer>a</answer><answer>b</answer>", "a /answer> answer>b"),
        (None, ""),
        ([], ""),
    ):
        messages = [ask()["messages"][0], {"role": "assistant", "content": content}, ask()["messages"][0]]
        assert check({"messages": messages})["messages"][1]["content"] == left


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
@pytest.mark.parametrize("token", sorted(OUR_TOKENS))
def test_special_tokens_in_any_text(role, token):
    messages = [{"role": role, "content": f"say {token} now"}, ask()["messages"][0]]
    said = json.dumps(check({"messages": messages}))
    assert token not in said
    assert f"say  {token[1:]} now" in said


def test_special_tokens_of_the_tokenizer():
    assert check(ask({"type": "text", "text": "<extra>"}), tokens={"<extra>"}) == ask(
        {"type": "text", "text": "<extra>"}
    ) | {"messages": [{"role": "user", "content": " extra>"}]}


def test_halves_in_adjoining_texts():
    """The chat template writes parts one after the other."""
    halves = [{"type": "text", "text": "<|fa"}, {"type": "text", "text": "ce|>"}]
    (message,) = check(ask(*halves, image(), *halves))["messages"]
    assert message["content"] == [
        {"type": "text", "text": "<|fa\nce|>"},
        image(),
        {"type": "text", "text": "<|fa\nce|>"},
    ]


# The guard's table


@pytest.mark.parametrize(
    "field",
    ["mm_processor_kwargs", "media_io_kwargs", "chat_template", "add_generation_prompt", "continue_final_message",
     "echo", "documents", "tools", "tool_choice", "functions", "structured_outputs", "guided_json",
     "logit_bias", "vllm_xargs",
     "priority", "cache_salt", "request_id", "kv_transfer_params", "prompt_logprobs", "truncate_prompt_tokens",
     "skip_special_tokens", "allowed_token_ids", "best_of", "prompt", "extra_body", "", "x" * 5000, "a\nb", "\ud800",
     "__proto__", "\N{SNOWMAN}"],
)  # fmt: skip
def test_unknown_fields(field):
    for value in (None, {}, "x"):
        refused(400, ask(**{field: value}))
    refused(400, {"messages": [{"role": "user", "content": "hi", field: 1}]})
    refused(400, ask({**TEXT, field: 1}))
    refused(400, ask({**image(), field: 1}))
    refused(400, ask(chat_template_kwargs={"enable_thinking": True, field: 1}))


def test_an_unknown_field_is_named():
    assert refused(400, ask(mm_processor_kwargs={})) == "'mm_processor_kwargs' is not a field that this server takes."
    said = refused(400, ask({**image(), "uuid": "of another client's clip"}))
    assert said == "'messages.0.content.0.uuid' is not a field that this server takes."


@pytest.mark.parametrize(
    "body",
    [None, [], "hi", 5, True, {}, {"messages": None}, {"messages": []}, {"messages": "hi"}, {"messages": {}},
     {"messages": [None]}, {"messages": [[]]}, {"messages": [{}]}, {"messages": [{"role": "user"}]},
     {"messages": [{"role": "tool", "content": "hi"}]}, {"messages": [{"role": "developer", "content": "hi"}]},
     {"messages": [{"role": ["user"], "content": "hi"}]}, {"messages": [{"role": "user", "content": None}]},
     {"messages": [{"role": "user", "content": 5}]}, {"messages": [{"role": "user", "content": {}}]},
     {"messages": [{"role": "system", "content": "hi"}]}, {"messages": [{"role": "assistant", "content": "hi"}]},
     {"messages": [{"role": "system", "content": [image()]}, ask()["messages"][0]]},
     {"messages": [{"role": "assistant", "content": [image()]}, ask()["messages"][0]]},
     {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}, ask()["messages"][0]]},
     ask("hi"), ask({}), ask({"type": "text"}), ask({"type": "text", "text": 5}),
     ask({"type": "text", "text": "\ud800"}), ask({"type": "image"}), ask({"type": "image_embeds",
     "image_embeds": "AAAA"}), ask({"type": "video_url"}),
     ask({"type": "image_url", "image_url": "data:image/png;base64,AAAA"}),
     ask({"type": "image_url", "image_url": {}}), ask({"type": "image_url", "image_url": {"url": None}}),
     ask({"type": "image_url", "image_url": {"url": ""}}),
     ask(temperature="1"), ask(temperature=True), ask(temperature=-1), ask(temperature=float("nan")), ask(top_p=0),
     ask(max_tokens=0), ask(max_tokens=1.5), ask(max_tokens=10**30), ask(seed=1 << 63), ask(n=2), ask(stream="yes"),
     ask(stop=["a"] * 5), ask(stop=[""]), ask(stop=["x" * 65]), ask(stop=[1]), ask(logprobs=1), ask(top_logprobs=100),
     ask(model=5), ask(user="x" * 257), ask(chat_template_kwargs={"enable_thinking": "no"}),
     ask(chat_template_kwargs=[]), ask(stream_options={"continuous_usage_stats": True}),
     ask(response_format={"type": "structural_tag"}),
     ask(response_format="json_object"), ask(response_format={"type": "json_schema"})],
)  # fmt: skip
def test_wrong_types_and_values(body):
    refused(400, body)


@pytest.mark.parametrize(
    ("schema", "status"),
    [
        ({"type": "string", "pattern": "(a+)+$"}, 400),
        ({"properties": {"a": {"items": [{"anyOf": [{"pattern": "x"}]}]}}}, 400),
        ({"patternProperties": {"^(a+)+$": {}}}, 400),
        ({"type": "array", "minItems": 10**9}, 400),
        ({"type": "string", "maxLength": 1e300}, 400),
        ({"$ref": "http://127.0.0.1/schema"}, 400),
        ({"$ref": "file:///etc/passwd"}, 400),
        ({"enum": ["x" * 20_000]}, 413),
        ({"enum": ["\ud800"]}, 400),
    ],
)
def test_schemas_that_are_expensive_or_lead_elsewhere(schema, status):
    format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    refused(status, ask(response_format=format))


def test_a_deep_schema():
    schema: dict = {}
    for _ in range(100):
        schema = {"items": schema}
    refused(400, ask(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}))


def test_deep_json():
    deep: Any = []
    bottom = deep
    for _ in range(100_000):
        deep = [deep]
    for body in ({"messages": deep}, ask(deep), ask(response_format={"type": "json_schema", "json_schema": deep})):
        with pytest.raises(Refused, match="nested more than 32 levels"):
            check(body)
    assert bottom == []
    while deep:  # or Python would take it apart by recursion
        deep = deep.pop()


def test_huge_json():
    for values in ([0] * 100_000, [[]] * 100_000, [{}] * 100_000, [{"a": 1}] * 30_000):
        assert "values" in refused(413, {"messages": values})
        assert "values" in refused(413, ask(extra=values))


def test_too_many():
    assert "more than 8 clips" in refused(400, ask(*[image()] * 1000))
    user, answer = ask(image())["messages"][0], {"role": "assistant", "content": "sad"}
    assert "more than 8 clips" in refused(400, {"messages": [user, answer] * 9 + [user]})
    assert "more than 64 messages" in refused(400, {"messages": [{"role": "user", "content": ""}] * 65})
    assert "characters" in refused(413, ask(*[{"type": "text", "text": "x" * 50}] * 1000))
    assert "characters" in refused(413, ask({"type": "text", "text": "x" * 40_000}))
    assert "characters" in refused(413, {"messages": [{"role": "user", "content": "", "name": "x" * 40_000}]})


def test_too_large(film):
    url, most = data_url(film, "video/mp4"), len(film)
    refused(413, ask(video(url)), Limits(clip={"file_bytes": most - 1}))
    check(ask(video(url), video(url)), Limits(media_bytes=2 * most))
    assert refused(413, ask(video(url), video(url)), Limits(media_bytes=2 * most - 1)).startswith("Clip 2 ")


def test_lies_and_wrong_places(film, sound):
    assert "which is video/mp4" in refused(415, ask(video(data_url(film, "video/webm"))))
    assert "which is video/mp4" in refused(415, ask(image(data_url(film, "image/png"))))
    assert "a still picture and not a video" in refused(415, ask(video(data_url(PICTURE, "image/png"))))
    assert "a sound and not a video" in refused(415, ask(video(data_url(sound, "audio/wav"))))
    assert "a video and not a still picture" in refused(415, ask(image(data_url(film, "video/mp4"))))
    refused(415, ask(video(data_url(b"\xff\xd8,\xff\xd8", "video/jpeg"))))
    refused(422, ask(image(data_url(b"<svg/>", "image/png"))))
    refused(422, ask(image(data_url(png(20_000, 20_000, rows=20), "image/png"))))
    refused(415, ask({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "../wav"}}))
    refused(400, ask({"type": "input_audio", "input_audio": {"data": "!", "format": "wav"}}))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "/etc/passwd", "http://127.0.0.1/a", "http://[::ffff:10.0.0.1]/a", "https://example.com/a.mp4",
     "ftp://example.com/a", "data:,", "data:text/plain,x", " data:video/mp4;base64,AAAA", ""],
)  # fmt: skip
def test_urls_by_default(url):
    world = World()
    refused(400, ask(video(url)), network=world.network)
    assert world.asked == []


# Fetching


def test_fetched_clips_leave_as_data_urls(film):
    world = World({"/a.mp4": page(film, content_type="video/mp4"), "/b": page(film)})
    body = ask(video(f"http://{HOST}/a.mp4"), TEXT, video(f"http://{HOST}/b"))
    hosts = Hosts.parse([HOST], plain_http=True)
    clean = world.run(lambda: check_request(body, Limits(), hosts, network=world.network))
    inline = video(data_url(film, "video/mp4"))
    assert clean == ask(inline, TEXT, inline)


def test_a_server_that_lies_about_the_type(film):
    world = World({"/a.mp4": page(film, content_type="video/webm")})
    with pytest.raises(Refused, match="which is video/mp4"):
        world.run(lambda: fetched(world, Limits()))


async def fetched(world: World, limits: Limits) -> dict:
    body = ask(video(f"http://{HOST}/a.mp4"))
    return await check_request(body, limits, Hosts.parse([HOST], plain_http=True), network=world.network)


async def drop_by_drop(writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def never(writer):
    await asyncio.sleep(600)


@pytest.mark.parametrize("slow", [drop_by_drop, never])
def test_slow_servers(slow):
    world = World({"/a.mp4": slow})
    with pytest.raises(Refused) as caught:
        world.run(lambda: fetched(world, Limits(fetch_seconds=0.3)))
    assert str(caught.value) == "Clip 1 cannot be fetched in 0.3 s."


def test_a_slow_resolver(monkeypatch):
    world = World()

    async def resolve(host, port):
        await asyncio.sleep(600)

    monkeypatch.setattr(world, "resolve", resolve)
    with pytest.raises(Refused, match=r"in 0\.3 s"):
        world.run(lambda: fetched(world, Limits(fetch_seconds=0.3)))


# Whatever is sent

CHARACTERS = st.text(st.characters(), max_size=8)  # also halves of surrogate pairs, which JSON can write
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | CHARACTERS | st.sampled_from(sorted(OUR_TOKENS))
WORDS = st.sampled_from(
    [
        *("messages", "role", "content", "type", "text", "user", "assistant", "system", "name", "tool_calls"),
        *("image_url", "video_url", "audio_url", "input_audio", "url", "data", "format", "stop", "stream"),
        *("response_format", "json_schema", "schema", "temperature", "chat_template_kwargs", "enable_thinking"),
    ]
)
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | CHARACTERS, inner, max_size=5),
    max_leaves=25,
)
VALID = ask(TEXT, image(), stop=["a"], temperature=0.5, stream_options={"include_usage": True}) | {
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
}


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """The way to every value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@st.composite
def nearly_valid(draw) -> Any:
    body = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(body)[1:]))
        holder = body
        for step in way:
            holder = holder[step]
        if draw(st.booleans()):
            holder[last] = draw(VALUES)
        elif isinstance(holder, dict):
            holder[draw(CHARACTERS | WORDS)] = draw(VALUES)
        else:
            holder.insert(last, draw(VALUES))
        if not isinstance(body, dict) or len(places(body)) < 2:
            break
    return body


@settings(deadline=None, max_examples=200)
@given(VALUES | nearly_valid())
def test_a_clean_body_or_a_refusal(body):
    try:
        clean = check(body)
    except Refused as error:
        assert is_refusal(error)  # noqa: PT017, both outcomes are right
        return
    said = json.dumps(clean["messages"], ensure_ascii=False)
    said.encode()
    assert not [token for token in OUR_TOKENS if token in said]
    assert check(clean) == clean
    assert clean.keys() <= body.keys()


def test_the_same_body_is_the_same_every_time():
    """What follows the guard caches clips and prefixes by their content."""
    order = list(VALID)
    random.Random(0).shuffle(order)
    assert json.dumps(check(VALID)["messages"]) == json.dumps(check({key: VALID[key] for key in order})["messages"])
