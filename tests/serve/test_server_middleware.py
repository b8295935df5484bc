"""The layers around the app, on a plain FastAPI app: no model and no vLLM."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from emollm.errors import BadArgumentError
from emollm.serve.logs import JsonLines
from emollm.serve.middleware.access import OPEN, ApiKeys, OpenRoutes, read_keys
from emollm.serve.middleware.errors import Errors, Refusal, explain_errors
from emollm.serve.middleware.load import Admission, Body
from emollm.serve.middleware.log import RequestLog

CHAT = "/v1/chat/completions"


class _Question(BaseModel):
    messages: list[str]


class _Server:
    """An app with the routes that the tests need, in all layers."""

    def __init__(self, *, keys=(), most=8, per_client=8, timeout_s=5.0, most_bytes=1000, silence_s=5.0, opened=()):
        self.gone: list[str] = []
        self.may_end = asyncio.Event()
        app = FastAPI(openapi_url=None)
        explain_errors(app)
        app.post(CHAT)(self._chat)
        app.post("/v1/emotions")(self._ask)
        app.get("/health")(lambda: {"status": "ok"})
        app.get("/metrics")(lambda: 1 / 0)
        app.get("/v1/models")(self._leak)
        app.post("/tokenize")(lambda: {"open": True})
        app.get("/v1/models/{name}")(lambda name: {"open": name})
        layered = Body(app, most_bytes, silence_s)
        self.admission = Admission(layered, most, per_client, timeout_s, 2)
        layers = ApiKeys(OpenRoutes(self.admission, list(opened)), list(keys))
        self.app = RequestLog(Errors(layers), frozenset(OPEN))

    async def _chat(self, request: Request):
        body = await request.json()
        if body.get("stream"):
            return StreamingResponse(self._events(request), media_type="text/event-stream")
        if body.get("fail"):
            raise RuntimeError("secret of /srv/models/private/file.bin")
        waiting = asyncio.ensure_future(self.may_end.wait())
        listening = asyncio.ensure_future(_left(request))
        await asyncio.wait({waiting, listening}, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            self.gone.append("whole")
        listening.cancel()
        return {"id": request.headers["x-request-id"]}

    async def _events(self, request: Request) -> AsyncIterator[str]:
        try:
            yield "data: {}\n\n"
            await self.may_end.wait()
            yield "data: [DONE]\n\n"
        except BaseException:
            self.gone.append("stream")
            raise

    async def _ask(self, question: _Question):
        return {"asked": question.messages}

    async def _leak(self):
        content = {"error": {"message": "No file at /srv/models/private/x.bin\nTraceback", "type": "X", "code": 400}}
        return JSONResponse(content, 400)

    def client(self, **options) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, **options)
        return httpx.AsyncClient(transport=transport, base_url="http://server")


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _error(response: httpx.Response) -> dict:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "code"}
    assert "/srv" not in response.text
    assert "Traceback" not in response.text
    return body["error"]


async def _until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_everything_but_the_listed_routes_is_closed():
    async def run():
        async with _Server().client() as client:
            for path in ("/tokenize", "/v1/models/x", "/docs", "/openapi.json", "/", "/v1/chat/completions/"):
                for method in ("GET", "POST", "OPTIONS", "HEAD"):
                    assert (await client.request(method, path)).status_code == 404, path
            assert _error(await client.get("/tokenize"))["code"] == "not_found"
            wrong = await client.get(CHAT)
            assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
            assert (await client.get("/health")).json() == {"status": "ok"}

    asyncio.run(run())


def test_an_operator_opens_routes():
    async def run():
        async with _Server(opened=["/tokenize", "/v1/models/*"]).client() as client:
            assert (await client.post("/tokenize")).json() == {"open": True}
            assert (await client.get("/v1/models/x")).json() == {"open": "x"}
            assert (await client.get("/docs")).status_code == 404

    asyncio.run(run())


def test_web_sockets_are_closed():
    sent = []

    async def send(message):
        sent.append(message)

    async def run():
        await OpenRoutes(None, ["/open"])({"type": "websocket", "path": "/v1/realtime"}, None, send)

    asyncio.run(run())
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer ", "Basic first-key", "first-key", "Bearer first-key-and-more"]
)
def test_without_a_right_key_there_is_no_way_in(header):
    async def run():
        async with _Server(keys=["first-key", "second-key"]).client() as client:
            response = await client.post("/v1/emotions", headers={"Authorization": header} if header else {})
            assert response.status_code == 401
            assert _error(response)["code"] == "invalid_api_key"
            assert (await client.get("/health")).status_code == 200

    asyncio.run(run())


def test_each_key_opens():
    async def run():
        async with _Server(keys=["first-key", "second-key"]).client() as client:
            for key in ("first-key", "second-key"):
                headers = {"Authorization": f"Bearer {key}"}
                response = await client.post("/v1/emotions", json={"messages": ["a"]}, headers=headers)
                assert response.json() == {"asked": ["a"]}

    asyncio.run(run())


def test_keys_are_read_from_a_file(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("# of the team\n\n first-key \nsecond-key\n")
    assert read_keys(file) == ["first-key", "second-key"]
    file.write_text("# nobody\n")
    with pytest.raises(BadArgumentError, match="holds no key"):
        read_keys(file)
    with pytest.raises(BadArgumentError, match="cannot be read"):
        read_keys(tmp_path / "none")


def test_errors_have_one_shape_and_say_nothing_of_the_inside():
    async def run():
        async with _Server().client() as client:
            crash = await client.post(CHAT, json={"fail": True})
            assert crash.status_code == 500
            assert _error(crash)["code"] == "internal_error"
            assert "secret" not in crash.text
            assert (await client.get("/metrics")).status_code == 500
            leak = await client.get("/v1/models")
            assert leak.status_code == 400
            assert _error(leak)["message"] == "No file at (path)"
            assert leak.headers["content-length"] == str(len(leak.content))
            invalid = await client.post("/v1/emotions", json={"messages": "clip content"})
            assert invalid.status_code == 400
            assert _error(invalid)["message"].startswith("The request is wrong at 'messages': ")
            assert "clip content" not in invalid.text

    asyncio.run(run())


def test_requests_have_ids_and_vllm_never_sees_one_twice():
    async def run():
        server = _Server()
        server.may_end.set()
        async with server.client() as client:
            given = [await client.post(CHAT, json={}, headers={"X-Request-Id": "trace-7"}) for _ in range(2)]
            assert [r.headers["x-request-id"] for r in given] == ["trace-7", "trace-7"]
            inner = {r.json()["id"] for r in given}
            assert len(inner) == 2
            assert all(i.startswith("trace-7-") for i in inner)
            for odd in ("a b", "x" * 100, "", "new\tline"):
                made = (await client.get("/health", headers={"X-Request-Id": odd})).headers["x-request-id"]
                assert made != odd
                assert len(made) == 32
            assert len((await client.get("/nowhere")).headers["x-request-id"]) == 32

    asyncio.run(run())


def test_the_log_is_json_lines_without_content(caplog):
    async def run():
        async with _Server(keys=["first-key"]).client() as client:
            headers = {"Authorization": "Bearer first-key", "X-Request-Id": "trace-7"}
            await client.post(CHAT, json={"fail": True, "clip": "clip content"}, headers=headers)
            await client.get("/secret-path?key=first-key")

    with caplog.at_level(logging.INFO, logger="emollm.serve"):
        asyncio.run(run())
    ours = [record for record in caplog.records if record.name.startswith("emollm.serve")]
    lines = [JsonLines().format(record) for record in ours]
    failed, request, closed = (json.loads(line) for line in lines)
    assert (failed["error"], failed["request_id"]) == ("RuntimeError", "trace-7")
    assert any("_chat" in frame for frame in failed["frames"])
    assert request["message"] == "request"
    assert {k: request[k] for k in ("request_id", "method", "route", "status")} == {
        "request_id": "trace-7",
        "method": "POST",
        "route": CHAT,
        "status": 500,
    }
    assert request["client"].startswith("key-")
    assert (closed["route"], closed["status"]) == ("other", 401)
    for secret in ("clip content", "secret", "first-key"):
        assert secret not in "".join(lines)


def test_a_full_queue_and_a_greedy_client_are_told_to_wait():
    async def run():
        server = _Server(most=3, per_client=2)
        one, other, third = (server.client(client=(address, 1)) for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"))
        first = [asyncio.create_task(one.post(CHAT, json={})) for _ in range(2)]
        await _until(lambda: len(server.admission._running) == 2)
        greedy = await one.post(CHAT, json={})
        assert (greedy.status_code, greedy.headers["retry-after"]) == (429, "2")
        assert _error(greedy)["code"] == "too_many_requests"
        first.append(asyncio.create_task(other.post(CHAT, json={})))
        await _until(lambda: len(server.admission._running) == 3)
        full = await third.post(CHAT, json={})
        assert (full.status_code, full.headers["retry-after"]) == (429, "2")
        assert _error(full)["code"] == "queue_full"
        assert (await one.get("/health")).status_code == 200
        server.may_end.set()
        assert {(await response).status_code for response in first} == {200}
        assert (await one.post(CHAT, json={})).status_code == 200
        assert not server.admission._clients

    asyncio.run(run())


def test_what_takes_too_long_is_ended_and_its_work_freed():
    async def run():
        server = _Server(timeout_s=0.2)
        async with server.client() as client:
            whole = await client.post(CHAT, json={})
            assert whole.status_code == 504
            assert _error(whole)["code"] == "timeout"
            stream = await client.post(CHAT, json={"stream": True})
            assert stream.status_code == 200
            events = stream.text.strip().split("\n\n")
            assert json.loads(events[-2].removeprefix("data: "))["error"]["code"] == "timeout"
            assert events[-1] == "data: [DONE]"
        await _until(lambda: server.gone == ["whole", "stream"] and not server.admission._running)

    asyncio.run(run())


def test_a_stopping_server_finishes_what_it_has_and_takes_nothing_new():
    async def run():
        server = _Server()
        client = server.client()
        kept = [asyncio.create_task(client.post(CHAT, json={"stream": stream})) for stream in (False, True)]
        await _until(lambda: len(server.admission._running) == 2)
        server.admission.stop()
        late = await client.post(CHAT, json={})
        assert (late.status_code, late.headers["retry-after"], late.headers["connection"]) == (503, "2", "close")
        assert _error(late)["code"] == "stopping"
        server.may_end.set()
        assert [(await response).status_code for response in kept] == [200, 200]
        assert "error" not in (await kept[1]).text

    asyncio.run(run())


def test_at_the_end_of_its_patience_a_stopping_server_ends_streams_with_a_clear_event():
    async def run():
        server = _Server()
        client = server.client()
        kept = [asyncio.create_task(client.post(CHAT, json={"stream": stream})) for stream in (False, True)]
        await _until(lambda: len(server.admission._running) == 2)
        await asyncio.sleep(0.1)  # the stream has begun
        server.admission.stop()
        server.admission.end_all()
        whole, stream = [await response for response in kept]
        assert whole.status_code == 503
        assert _error(whole)["code"] == "stopping"
        events = stream.text.strip().split("\n\n")
        assert [json.loads(e.removeprefix("data: ")) for e in events[:-1]][-1]["error"]["code"] == "stopping"
        assert events[-1] == "data: [DONE]"
        await _until(lambda: sorted(server.gone) == ["stream", "whole"])

    asyncio.run(run())


def test_bodies_are_capped_whether_they_declare_their_size_or_not():
    async def run():
        server = _Server(most_bytes=100)
        server.may_end.set()

        async def drip():
            for _ in range(20):
                yield b" " * 10

        async with server.client() as client:
            for content in (b" " * 101, drip()):
                response = await client.post(CHAT, content=content)
                assert response.status_code == 413
                assert _error(response)["code"] == "too_large"
            assert (await client.post(CHAT, content=b" " * 98 + b"{}")).status_code == 200

    asyncio.run(run())


def test_a_client_that_stops_sending_is_let_go():
    async def run():
        server = _Server(silence_s=0.1)

        async def stall():
            yield b"{"
            await asyncio.sleep(30)

        async with server.client() as client:
            response = await client.post(CHAT, content=stall())
            assert response.status_code == 408
            assert _error(response)["code"] == "upload_too_slow"

    asyncio.run(run())


def test_refusals_from_anywhere_are_answered():
    async def refuse(scope, receive, send):
        raise Refusal(415, "This is no clip.", headers={"X-Why": "bytes"})

    async def run():
        transport = httpx.ASGITransport(Errors(refuse))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            response = await client.post("/any")
            assert (response.status_code, response.headers["x-why"]) == (415, "bytes")
            assert _error(response) == {
                "message": "This is no clip.",
                "type": "invalid_request_error",
                "code": "unsupported_media_type",
            }

    asyncio.run(run())
