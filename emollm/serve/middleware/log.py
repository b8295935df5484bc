"""Every request has an id, and leaves one line in the log and one count in the metrics."""

from __future__ import annotations

import logging
import re
import time
from uuid import uuid4

from prometheus_client import Counter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)
RESPONSES = Counter("emollm_responses_total", "Responses by route and status, refusals included.", ["route", "status"])
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ID_HEADER = b"x-request-id"


class RequestLog:
    """Outermost layer. The id is the client's ``X-Request-Id`` if that is a plain word, else made; responses carry it.

    vLLM names its own work after this header and must not see one name twice, so it gets the id with a random end.

    Args:
        routes: the paths that are counted under their own name; all others count as ``other``, because a label per
            path that somebody made up would fill the memory.
    """

    def __init__(self, app: ASGIApp, routes: frozenset[str]):
        self.app, self.routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _GIVEN_ID.fullmatch(given) else uuid4().hex
        inner = (_ID_HEADER, f"{request_id}-{uuid4().hex[:8]}".encode())
        headers = [*((k, v) for k, v in scope["headers"] if k.lower() != _ID_HEADER), inner]
        state = {**scope.get("state", {}), "request_id": request_id}
        started, first, status, sent = time.perf_counter(), None, 0, 0

        async def watch(message: Message) -> None:
            nonlocal first, status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(raw=message.setdefault("headers", []))["X-Request-Id"] = request_id
            elif message["type"] == "http.response.body":
                first = first or time.perf_counter()
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app({**scope, "headers": headers, "state": state}, receive, watch)
        finally:
            route = scope["path"] if scope["path"] in self.routes else "other"
            RESPONSES.labels(route, str(status)).inc()
            fields = {
                "request_id": request_id,
                "method": scope["method"],
                "route": route,
                "status": status,  # 0: the client left before there was one
                "client": state.get("client"),
                "seconds": round(time.perf_counter() - started, 4),
                "first_byte_seconds": round(first - started, 4) if first else None,
                "bytes_out": sent,
                "ended": state.get("ended"),
            }
            log.info("request", extra={"fields": {k: v for k, v in fields.items() if v is not None}})
        return None
