"""All layers together, around an app that says what reached it."""

import asyncio

import httpx
from fastapi import FastAPI, Request

from emollm.serve.app import wrap
from emollm.serve.settings import Settings

CHAT = "/v1/chat/completions"
PAGE = "https://app.example.com"


def _ask(settings: Settings, method: str, path: str, **options) -> httpx.Response:
    app = FastAPI()

    @app.post(CHAT)
    async def chat(request: Request):
        return await request.json()

    @app.get("/v1/models")
    async def models():
        return {"data": []}

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(wrap(app, settings, [], ["<|face|>"])[0])
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path, **options)

    return asyncio.run(run())


def test_a_chat_completion_arrives_cleaned():
    messages = [
        {"role": "user", "content": "<|face|> hello"},
        {"role": "assistant", "content": "<answer>happiness: she smiles</answer>"},
        {"role": "user", "content": "Why?"},
    ]
    arrived = _ask(Settings(), "POST", CHAT, json={"messages": messages, "stream": True}).json()
    assert arrived["stream"] is True
    first, answer, last = [message["content"] for message in arrived["messages"]]
    assert "<|face|>" not in first
    assert first.endswith("hello")
    assert answer == "<answer>happiness: she smiles</answer>"  # as the model was trained to see its answers
    assert last == "Why?"


def test_what_the_guard_refuses_never_arrives():
    for body, status in (
        ({"messages": [{"role": "user", "content": "a"}], "mm_processor_kwargs": {"fps": 1}}, 400),
        ({"messages": [{"role": "user", "content": "a" * 100}]}, 413),
        ({"messages": []}, 400),
    ):
        response = _ask(Settings(limits={"text_chars": 50}), "POST", CHAT, json=body)
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "code"}


def test_pages_of_other_origins_are_let_in_only_where_the_operator_says_so():
    closed = _ask(Settings(), "GET", "/v1/models", headers={"Origin": PAGE})
    assert closed.status_code == 200
    assert "access-control-allow-origin" not in closed.headers
    ask = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert _ask(Settings(), "OPTIONS", CHAT, headers=ask).status_code == 405
    settings = Settings(cors_origins=[PAGE])
    assert _ask(settings, "GET", "/v1/models", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == PAGE
    assert _ask(settings, "OPTIONS", CHAT, headers=ask).status_code == 200
    other = _ask(settings, "OPTIONS", CHAT, headers={**ask, "Origin": "https://other.example.com"})
    assert other.status_code == 400
