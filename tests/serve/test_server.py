"""The whole server over HTTP, on the scripted checkpoint, as clients and operators meet it."""

import base64
import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import openai
import psutil
import pytest
import skimage.data
from media.conftest import write_clip
from PIL import Image
from serve.server_process import KEY, ServerProcess
from tiny import SCRIPT, make_speech

from emollm import EmoLLM, EmotionReport
from emollm.emotions import EMOTIONS
from emollm.errors import WeightsError
from emollm.weights import fetch

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")

THOUGHT = "".join(SCRIPT[1:4])
CONTENT = "".join(SCRIPT[5:])
ANSWER = "".join(SCRIPT[6:8])
ASK = "How does this person feel?"
SECRET = "a-word-that-is-in-no-log"


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    try:
        fetch("face_landmarker", progress=False)
    except WeightsError as error:
        pytest.skip(f"the face landmarker is not in reach: {error}")
    folder = tmp_path_factory.mktemp("clips")
    face = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    pair = np.concatenate([face, face[:, ::-1]], axis=1)
    times = np.arange(0, 1.0, 0.1).tolist()
    speech = {"sound": make_speech(1.0), "rate": 16000}
    Image.fromarray(face).save(folder / "portrait.png")
    return {
        "video": write_clip(folder / "film.mp4", times=times, pictures=[face] * 10, size=(256, 256), **speech),
        "two": write_clip(folder / "two.mp4", times=times, pictures=[pair] * 10, size=(512, 256), **speech),
        "image": folder / "portrait.png",
        "audio": write_clip(folder / "sound.wav", **speech, audio="pcm_s16le"),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory, scripted_folder):
    running = ServerProcess(tmp_path_factory.mktemp("server"), scripted_folder, "limits.media_parts=2")
    yield running
    running.end()


@pytest.fixture(scope="module")
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key=KEY, max_retries=0, timeout=300)


@pytest.fixture(scope="module")
def http(server) -> httpx.Client:
    return httpx.Client(base_url=server.address, headers={"Authorization": f"Bearer {KEY}"}, timeout=300)


def _part(kind: str, clip: Path) -> dict:
    types = {".mp4": "video/mp4", ".png": "image/png", ".wav": "audio/wav"}
    url = f"data:{types[clip.suffix]};base64,{base64.b64encode(clip.read_bytes()).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def _turn(*parts) -> dict:
    return {"role": "user", "content": [*parts, {"type": "text", "text": ASK}]}


def _count(http: httpx.Client, name: str) -> float:
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", http.get("/metrics").text, re.MULTILINE)
    assert found, f"there is no metric {name}"
    return sum(map(float, found))


def _error(response: httpx.Response) -> dict:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "code"}
    return body["error"]


def test_it_says_where_it_listens_and_gives_a_line_to_paste(server):
    assert server.said[0].startswith(f"Listening on {server.address}")
    assert server.said[1].startswith(f"curl {server.address}/v1/emotions ")
    assert KEY not in "".join(server.said)


def test_models_health_and_metrics(server, client, http):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert httpx.get(f"{server.address}/health").json() == {"status": "ok"}
    assert _count(http, "emollm_requests_in_progress") == 0


def test_thought_and_answer_come_apart(client):
    message = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": ASK}]).choices[0]
    assert message.message.reasoning == THOUGHT
    assert message.message.content == CONTENT
    assert message.finish_reason == "stop"


@pytest.mark.parametrize("kinds", [["video"], ["image"], ["audio"], ["video", "audio"]])
def test_a_streamed_answer_about_clips(client, clips, kinds):
    turn = _turn(*[_part(kind, clips[kind]) for kind in kinds])
    reasoning = content = ""
    for chunk in client.chat.completions.create(model="tiny", messages=[turn], stream=True):
        delta = chunk.choices[0].delta
        thought = getattr(delta, "reasoning", None) or ""
        assert not (content and thought)  # the end of one and the beginning of the other may come together
        reasoning += thought
        content += delta.content or ""
    assert (reasoning, content) == (THOUGHT, CONTENT)


def test_a_follow_up_question_reuses_the_encoded_clip_and_the_prefix(client, http, clips):
    first = _turn(_part("video", clips["two"]))
    client.chat.completions.create(model="tiny", messages=[first])
    before = _count(http, "vllm:prefix_cache_hits_total")
    messages = [first, {"role": "assistant", "content": CONTENT}, {"role": "user", "content": "Why?"}]
    client.chat.completions.create(model="tiny", messages=messages)
    # Tokens: the clip's placeholders and what stands before them. They can only be met again if the clip's hash is.
    assert _count(http, "vllm:prefix_cache_hits_total") - before >= 32


def test_an_answer_can_be_asked_for_as_json(client, http, clips):
    schema = http.get("/v1/emotions/schema").json()["response_format"]
    turn = _turn(_part("image", clips["image"]))
    for think in (False, True):
        reply = client.chat.completions.create(
            model="tiny",
            messages=[turn],
            response_format=schema,
            max_tokens=1000,
            extra_body={"chat_template_kwargs": {"enable_thinking": think}},
        )
        answer = json.loads(reply.choices[0].message.content)
        assert set(answer) == {"emotion", "answer"}
        assert answer["emotion"] in EMOTIONS


def _upload(http: httpx.Client, clip: Path, **fields: str) -> httpx.Response:
    return http.post("/v1/emotions", files={"file": (clip.name, clip.read_bytes())}, data=fields)


@pytest.mark.parametrize("kind", ["video", "image", "audio"])
def test_a_report_over_http_is_that_of_the_library(http, clips, scripted_folder, kind):
    response = _upload(http, clips[kind])
    assert response.status_code == 200, response.text
    report = EmotionReport.model_validate(response.json())
    expected = EmoLLM.from_pretrained(scripted_folder).analyze(clips[kind])
    assert report.clip.path == clips[kind].name
    assert (report.model, report.engine) == ("tiny", "vllm")
    assert report.answer == expected.answer == ANSWER
    (person,), (other,) = report.people, expected.people
    assert person.emotion.distribution == pytest.approx(other.emotion.distribution, abs=2e-4)
    assert person.emotion.label == other.emotion.label == "happiness"
    assert person.verification.claimed
    assert person.model_dump(exclude={"emotion"}) == other.model_dump(exclude={"emotion"})


def test_a_report_about_other_people_and_questions(http, clips):
    both = EmotionReport.model_validate(_upload(http, clips["two"], person="all", question="Why?").json())
    assert [person.id for person in both.people][:2] == [1, 2]
    assert both.question == "Why?"
    second = EmotionReport.model_validate(_upload(http, clips["two"], person="2", think="false").json())
    assert [person.id for person in second.people] == [2]


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"person": "7"}, 400, "There is no person 7"),
        ({"think": "maybe"}, 400, "'think' is true or false"),
        ({"fps": "3"}, 400, "'fps' is not a field"),
    ],
)
def test_wrong_fields_are_named(http, clips, fields, status, said):
    response = _upload(http, clips["image"], **fields)
    assert response.status_code == status
    assert said in _error(response)["message"]


def test_what_is_no_clip_is_refused_without_a_path(http, clips, tmp_path):
    for content in (b"", b"no clip at all", b"\x89PNG\r\n\x1a\n" + bytes(100)):
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(content)
        response = _upload(http, broken)
        assert response.status_code == 422
        assert "/" not in _error(response)["message"]
    lying = http.post("/v1/emotions", files={"file": ("clip.mp4", clips["image"].read_bytes())})
    assert lying.status_code == 415
    assert "another type" in _error(lying)["message"]
    missing = http.post("/v1/emotions", data={"question": "Why?"})
    assert missing.status_code == 400
    assert "no file" in _error(missing)["message"]


def test_errors_have_openais_shape(server, client, http):
    stranger = openai.OpenAI(base_url=f"{server.address}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"
    for body, status in (
        ({"messages": [{"role": "user", "content": ASK}], "model": "other"}, 404),
        ({"messages": [{"role": "user", "content": ASK}], "mm_processor_kwargs": {}}, 400),
        ({"messages": "nothing"}, 400),
        ({"messages": [{"role": "user", "content": "long " * 6000}]}, 400),
    ):
        response = http.post("/v1/chat/completions", json=body)
        assert response.status_code == status, response.text
        assert _error(response)["type"] == "invalid_request_error"
        assert "Traceback" not in response.text
    assert http.get("/v1/models").headers.get("access-control-allow-origin") is None


def test_the_log_has_a_line_for_each_request_and_nothing_of_what_was_sent(server, client, http, clips):
    turn = {"role": "user", "content": SECRET}
    answered = http.post("/v1/chat/completions", json={"messages": [turn]}, headers={"X-Request-Id": "trace-1"})
    assert answered.status_code == 200
    assert answered.headers["x-request-id"] == "trace-1"
    assert answered.json()["id"].startswith("chatcmpl-trace-1-")
    asked = time.monotonic()
    while '"trace-1"' not in (text := server.log.read_text()):  # written once the answer is out
        assert time.monotonic() - asked < 10, "no line after 10 s"
        time.sleep(0.1)
    time.sleep(0.5)  # for a second one, which there must not be
    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("request_id") == "trace-1"]
    assert (line["status"], line["route"]) == (200, "/v1/chat/completions")
    for secret in (SECRET, KEY, "base64,", clips["video"].name):
        assert secret not in text


def test_a_killed_engine_shows_on_the_health_check_and_ends_the_server(server, http):
    """The last test of this server."""
    engines = server.engines
    assert engines
    for engine in engines:
        engine.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    while (health := httpx.get(f"{server.address}/health", timeout=10)).status_code == 200:
        assert time.monotonic() - killed < 10, "the health check stayed green for 10 s"
        time.sleep(0.1)
    assert health.status_code == 503
    assert _error(health)["code"] == "engine_dead"
    refused = http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": ASK}]})
    assert refused.status_code == 503
    assert server.process.wait(120) == 1


def test_on_sigterm_streams_finish_or_end_with_an_event_and_the_exit_code_is_0(tmp_path, tiny):
    server = ServerProcess(tmp_path, tiny, "drain_timeout_s=5")
    client = openai.OpenAI(base_url=f"{server.address}/v1", api_key=KEY, max_retries=0, timeout=300)

    def read(number: int) -> str:
        turn = {"role": "user", "content": f"{number}: {ASK}"}
        try:
            for chunk in client.chat.completions.create(
                model="tiny", messages=[turn], stream=True, max_tokens=1500 if number % 2 else 40
            ):
                begun.add(number)
                if chunk.choices and chunk.choices[0].finish_reason:
                    return "finished"
        except openai.APIError as error:
            return f"event {error.code}"
        return "cut off"

    begun: set[int] = set()
    try:
        with ThreadPoolExecutor(8) as pool:
            streams = [pool.submit(read, number) for number in range(8)]
            while len(begun) < 8:
                assert not all(stream.done() for stream in streams)
                time.sleep(0.01)
            engines = server.engines
            server.process.send_signal(signal.SIGTERM)
            ends = [stream.result() for stream in streams]
        assert set(ends) <= {"finished", "event stopping"}
        assert "finished" in ends
        assert server.process.wait(120) == 0
        assert not psutil.wait_procs(engines, timeout=60)[1]  # nothing is left behind
    finally:
        server.end()
