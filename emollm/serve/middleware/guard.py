"""A chat completion is read, checked and cleaned before vLLM sees it."""

from __future__ import annotations

import json
from collections.abc import Collection

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emollm.reasoning.prompts import assistant_message
from emollm.serve.guard.body import read_json
from emollm.serve.guard.hosts import Hosts
from emollm.serve.guard.limits import Limits
from emollm.serve.guard.request import check_request

CHAT = "/v1/chat/completions"


class Guard:
    """Replaces the body of a chat completion by the one that the guard made of it.

    Args:
        limits: of one request.
        hosts: that clips may be fetched from.
        tokens: special tokens of the model, which a user may not type.
    """

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Hosts, tokens: Collection[str]):
        self.app, self.limits, self.hosts, self.tokens = app, limits, hosts, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != CHAT:
            return await self.app(scope, receive, send)
        try:
            sent = await read_json(scope, receive, self.limits)
        except ClientDisconnect:
            return None
        checked = await check_request(sent, self.limits, self.hosts, self.tokens)
        for message in checked["messages"]:
            if message["role"] == "assistant":  # as the model wrote it, which is how it was trained on dialogues
                message["content"] = assistant_message(message["content"])["content"]
        body: bytes | None = json.dumps(checked).encode()
        del sent, checked  # they may hold clips, and the answer may take a while
        headers = [(k, v) for k, v in scope["headers"] if k.lower() not in (b"content-length", b"transfer-encoding")]
        length = (b"content-length", str(len(body or b"")).encode())

        async def receive_checked() -> Message:
            nonlocal body
            if body is None:
                return await receive()
            message, body = {"type": "http.request", "body": body, "more_body": False}, None
            return message

        return await self.app({**scope, "headers": [*headers, length]}, receive_checked, send)
